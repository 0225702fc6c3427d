//! Subscriptions: an allocation on each billing date, and the charges that pay for it (M6, M7).
//!
//! A period is identified by its number. Its bounds are calendar months from the first day. So billing day 31 is the
//! last day of a shorter month, and 31 again after it. The number determines the bounds, so a renewal that runs twice,
//! late, or from two places can't create two periods.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, OutOfRange};
use crate::id::Id;
use crate::purchase::Goods;
use crate::renewal::{PaidAhead, RenewalStep};

pub use crate::purchase::Terms;

/// How long before a period begins the sweep charges for it.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// When a declined charge is retried, counted from the first decline. After the last retry the subscription is
/// cancelled.
const TRIES_AFTER: [SignedDuration; 3] =
    [SignedDuration::from_hours(24), SignedDuration::from_hours(72), SignedDuration::from_hours(120)];

/// The status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The first checkout is not paid yet.
    Pending,
    /// The period is paid.
    Active,
    /// A charge was declined and will be retried.
    PastDue,
    /// The subscription has ended.
    Cancelled,
}

/// A subscription, from its first paid period on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub subscription_id: Id,
    /// When the first period began: a whole second.
    pub anchor: Timestamp,
    /// The latest period that is paid, from 1. It may begin within the next hour.
    pub period: u64,
    /// The terms of that period.
    pub terms: Terms,
    /// The terms of the period before, until a sweep has seen the latest one begin.
    pub before: Option<Terms>,
    /// The payments for the latest period, until it begins.
    #[serde(default)]
    pub paid_ahead: Vec<PaidAhead>,
    /// The terms of the next period, if they differ.
    pub then: Option<Terms>,
    pub status: Status,
    pub cancel_at_period_end: bool,
    /// The declines of the charge that is due.
    pub declines: Option<Declines>,
    /// The number of periods without a charge, because nothing renewed the subscription while they ran.
    pub skipped: u64,
    /// The number of upgrades, which gives each upgrade a unique name.
    pub upgrades: u64,
}

/// The declines of a due charge so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declines {
    /// When the first decline came.
    pub first_at: Timestamp,
    pub count: u64,
    /// When the charge is retried.
    pub next_at: Timestamp,
}

/// The price and credits of an upgrade for the rest of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade {
    /// The credits added to the running period.
    pub credits: Amount,
    /// The price in minor units.
    pub amount_minor: u64,
}

/// Whether the workspace's plan allows a subscription to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanRule {
    AllowsSubscriptions,
    EndsSubscriptions,
}

impl Subscription {
    /// Returns when a period begins.
    #[must_use]
    pub fn start_of(&self, period: u64) -> Timestamp {
        let months = i32::try_from(period.saturating_sub(1)).unwrap_or(i32::MAX);
        months_after(self.anchor, months)
    }

    /// Returns when a period ends and the next one begins.
    #[must_use]
    pub fn end_of(&self, period: u64) -> Timestamp {
        self.start_of(period.saturating_add(1))
    }

    /// Returns the period that contains an instant, but at least the latest paid one.
    #[must_use]
    pub fn period_at(&self, at: Timestamp) -> u64 {
        let mut period = self.period;
        while self.end_of(period) <= at && self.end_of(period) < crate::balance::NEVER {
            period = period.saturating_add(1);
        }
        period
    }

    /// Returns whether the subscription is neither pending nor cancelled.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Active | Status::PastDue)
    }

    /// Returns whether the latest period is paid and has not begun.
    #[must_use]
    pub fn is_paid_ahead(&self, now: Timestamp) -> bool {
        self.before.is_some() && now < self.start_of(self.period)
    }

    /// Returns the period and terms in force at an instant. The latest paid period may not have begun yet.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> (u64, &Terms) {
        match &self.before {
            Some(before) if now < self.start_of(self.period) => (self.period.saturating_sub(1), before),
            _ => (self.period, &self.terms),
        }
    }

    /// Returns the terms by which the next period is charged.
    #[must_use]
    pub fn next_terms(&self) -> &Terms {
        self.then.as_ref().unwrap_or(&self.terms)
    }

    /// Returns the charge for the period that is due at an instant. Periods that have passed without a charge are
    /// skipped.
    #[must_use]
    pub fn due_period(&self, now: Timestamp, terms: &Terms) -> Goods {
        let next = self.period.saturating_add(1);
        Goods::Period {
            subscription_id: self.subscription_id.clone(),
            period: next.max(self.period_at(now)),
            terms: terms.clone(),
        }
    }

    /// Quotes an upgrade to higher terms for the rest of the paid period. A period that is paid ahead counts in full.
    ///
    /// The amount is rounded down to one that Stripe can charge. Returns `None` if there is no such amount, or no
    /// credits are left to add; then the change starts with the next period.
    pub fn upgrade(&self, to: &Terms, now: Timestamp) -> Result<Option<Upgrade>, OutOfRange> {
        let (start, end) = (self.start_of(self.period), self.end_of(self.period));
        let now = now.max(start);
        let millis = |from: Timestamp, to: Timestamp| {
            u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
        };
        let (left, whole) = (millis(now, end), millis(start, end).max(1));
        let more = to.monthly_credits.credits().minus(self.terms.monthly_credits.credits())?;
        let dearer = u128::from(to.price.amount_minor.saturating_sub(self.terms.price.amount_minor));
        let part = dearer.checked_mul(u128::from(left)).and_then(|all| all.checked_div(u128::from(whole)));
        let share_minor = part.and_then(|minor| u64::try_from(minor).ok()).ok_or(OutOfRange)?;
        let chargeable = to.price.currency.round_down_to_chargeable(share_minor);
        let credits = Amount::new(more.or_zero().share(left, whole)?).ok();
        Ok(credits.zip(chargeable).map(|(credits, amount_minor)| Upgrade { credits, amount_minor }))
    }

    /// Returns whether a change of terms is an upgrade, which takes effect at once.
    #[must_use]
    pub fn is_upgrade(&self, to: &Terms) -> bool {
        to.monthly_credits > self.terms.monthly_credits
            && to.price.currency == self.terms.price.currency
            && to.price.amount_minor >= self.terms.price.amount_minor
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let end = self.end_of(self.period);
        match (self.status, self.declines) {
            (Status::Active, _) if self.before.is_some() => Some(self.start_of(self.period)),
            (Status::Active, _) if self.cancel_at_period_end => Some(end),
            (Status::Active, _) => Some(end.saturating_sub(AHEAD).unwrap_or(end)),
            (Status::PastDue, Some(declines)) => Some(declines.next_at),
            (Status::PastDue, None) => Some(end),
            (Status::Pending | Status::Cancelled, _) => None,
        }
    }

    pub(crate) fn step(&self, now: Timestamp, plan: PlanRule) -> RenewalStep {
        if !self.is_running() || self.next_due().is_none_or(|due| now < due) {
            return RenewalStep::Wait;
        }
        let over = now >= self.end_of(self.period);
        if self.status == Status::Active && self.before.is_some() && !over {
            return RenewalStep::Begin;
        }
        match (self.cancel_at_period_end || plan == PlanRule::EndsSubscriptions, over) {
            (true, true) => RenewalStep::End,
            (true, false) => RenewalStep::EndWithPeriod,
            (false, _) => RenewalStep::Charge(self.due_period(now, self.next_terms())),
        }
    }

    pub(crate) fn ended(&self) -> Self {
        Self {
            status: Status::Cancelled,
            then: None,
            before: None,
            paid_ahead: Vec::new(),
            declines: None,
            ..self.clone()
        }
    }
}

pub(crate) fn months_after(anchor: Timestamp, months: i32) -> Timestamp {
    let start = anchor.to_zoned(TimeZone::UTC).checked_add(Span::new().months(months.min(100_000)));
    start.map_or(crate::balance::NEVER, |start| start.timestamp())
}

impl Subscription {
    /// Returns the subscription after a decline of the due charge: the next retry is scheduled, or the subscription is
    /// cancelled.
    pub(crate) fn declined(&self, now: Timestamp) -> Self {
        let first_at = self.declines.map_or(now, |declines| declines.first_at);
        let count = self.declines.map_or(0, |declines| declines.count).saturating_add(1);
        let tries = TRIES_AFTER.iter().filter_map(|after| first_at.checked_add(*after).ok());
        match tries.into_iter().find(|next_at| *next_at > now) {
            Some(next_at) => {
                let declines = Some(Declines { first_at, count, next_at });
                Self { status: Status::PastDue, declines, ..self.clone() }
            }
            None => Self { declines: Some(Declines { first_at, count, next_at: now }), ..self.ended() },
        }
    }
}
