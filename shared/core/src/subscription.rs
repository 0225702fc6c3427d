//! Subscriptions: a month's allocation on each billing date, and the charges that pay for it (M6, M7).
//!
//! A period is named by its number. Its bounds are calendar months from the first day, so billing day 31 is the last
//! day of a shorter month and 31 again after it. Whoever knows the number knows the bounds, so firing a renewal twice,
//! late, or from two places can't make two of it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, OutOfRange};
use crate::enrolment::{PaidAhead, RenewalStep};
use crate::id::Id;
use crate::planted::{Slip, slips};
use crate::price::Price;
use crate::purchase::Goods;

/// How long before a period begins it is charged for.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// How long after the first decline a charge is tried again; after the last, the subscription is cancelled.
const TRIES_AFTER: [SignedDuration; 3] =
    [SignedDuration::from_hours(24), SignedDuration::from_hours(72), SignedDuration::from_hours(120)];

/// What a period grants and costs. A subscription keeps the terms that it was made under until it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The tier.
    pub tier: Id,
    /// What each period starts with.
    pub monthly_credits: Amount,
    /// What a period costs.
    pub price: Price,
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its first checkout waits to be paid.
    Pending,
    /// Its period is paid.
    Active,
    /// A charge was declined, and will be tried again.
    PastDue,
    /// It has ended.
    Cancelled,
}

/// A subscription, from its first paid period on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub subscription_id: Id,
    /// When its first period began: a whole second.
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
    /// The terms of the next period, where they differ.
    pub then: Option<Terms>,
    /// How it stands.
    pub status: Status,
    /// Whether it ends with its period.
    pub cancel_at_period_end: bool,
    /// The declines of the charge that is due.
    pub declines: Option<Declines>,
    /// How many periods nobody was charged for, since nothing renewed it while they ran.
    pub skipped: u64,
    /// How many upgrades there were, so that each has a name of its own.
    pub upgrades: u64,
}

/// What became of a due charge so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declines {
    /// When the first was.
    pub first_at: Timestamp,
    /// How many there were.
    pub count: u64,
    /// When the charge is tried again.
    pub next_at: Timestamp,
}

/// What an upgrade costs and grants for the rest of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade {
    /// What it adds to the running period.
    pub credits: Amount,
    /// What it costs, in minor units.
    pub amount_minor: u64,
}

impl Subscription {
    /// When a period begins.
    #[must_use]
    pub fn start_of(&self, period: u64) -> Timestamp {
        let months = i32::try_from(period.saturating_sub(1)).unwrap_or(i32::MAX);
        if slips(Slip::BillingDayLate) && months > 0 {
            let late = self.anchor.saturating_add(SignedDuration::from_hours(24));
            return months_after(late.unwrap_or(self.anchor), months);
        }
        if slips(Slip::ShortMonthSticks) {
            return (0..months).fold(self.anchor, |start, _| months_after(start, 1));
        }
        months_after(self.anchor, months)
    }

    /// When a period ends, and the next begins.
    #[must_use]
    pub fn end_of(&self, period: u64) -> Timestamp {
        self.start_of(period.saturating_add(1))
    }

    /// The period in which an instant lies, at least the latest paid one.
    #[must_use]
    pub fn period_at(&self, at: Timestamp) -> u64 {
        let mut period = self.period;
        while self.end_of(period) <= at && self.end_of(period) < crate::balance::NEVER {
            period = period.saturating_add(1);
        }
        period
    }

    /// Whether it is neither pending nor ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Active | Status::PastDue)
    }

    /// Whether the latest period is paid and has not begun.
    #[must_use]
    pub fn is_paid_ahead(&self, now: Timestamp) -> bool {
        self.before.is_some() && now < self.start_of(self.period)
    }

    /// The period and terms that hold at an instant, where the latest paid ones may not have begun yet.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> (u64, &Terms) {
        match &self.before {
            Some(before) if now < self.start_of(self.period) => (self.period.saturating_sub(1), before),
            _ => (self.period, &self.terms),
        }
    }

    /// What the next period is charged by.
    #[must_use]
    pub fn next_terms(&self) -> &Terms {
        self.then.as_ref().unwrap_or(&self.terms)
    }

    /// The charge for the period that is due at an instant. Months that have passed meanwhile are not charged for.
    #[must_use]
    pub fn due_period(&self, now: Timestamp, terms: &Terms) -> Goods {
        let next = self.period.saturating_add(1);
        Goods::Period {
            subscription_id: self.subscription_id.clone(),
            period: next.max(self.period_at(now)),
            terms: terms.clone(),
        }
    }

    /// Quotes a change to higher terms for the time that is left of what is paid. Of a period that is paid ahead all is
    /// left. The amount is rounded down to what Stripe can charge; `None` if that is nothing, so that the change starts
    /// with the next period.
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

    /// Whether a change of terms is upward, and so takes effect at once.
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

    pub(crate) fn step(&self, now: Timestamp, plan_allows: bool) -> RenewalStep {
        if !self.is_running() || self.next_due().is_none_or(|due| now < due) {
            return RenewalStep::Wait;
        }
        let over = now >= self.end_of(self.period);
        if self.status == Status::Active && self.before.is_some() && !over {
            return RenewalStep::Begin;
        }
        match (self.cancel_at_period_end || !plan_allows, over) {
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
    /// After a decline of the charge that is due: tried again on the next of its days, or ended.
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
