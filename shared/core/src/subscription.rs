//! Subscriptions: a month's allocation on each billing date, and the charges that pay for it (M6, M7).
//!
//! A period is named by its number. Its bounds are calendar months from the first day, so billing day 31 is the last
//! day of a shorter month and 31 again after it. Whoever knows the number knows the bounds, so firing a renewal twice,
//! late, or from two places can't make two of it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, OutOfRange};
use crate::id::Id;
use crate::price::Price;
use crate::purchase::{Goods, Purchase};

/// How long before a period begins it is charged for.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// How long after the first decline a charge is tried again; after the last, the subscription is cancelled.
const TRIES_AFTER: [SignedDuration; 3] =
    [SignedDuration::from_hours(24), SignedDuration::from_hours(72), SignedDuration::from_hours(120)];

/// How long a charge without an answer is left alone before a sweep asks for its outcome.
const UNANSWERED_FOR: SignedDuration = SignedDuration::from_mins(2);

/// What the provider charges at least, in minor units: an upgrade of less begins with the next period.
const LEAST_CHARGE_MINOR: u64 = 50;

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

/// A first period whose checkout waits to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The purchase with the checkout.
    pub purchase_id: Id,
    /// What it will be.
    pub terms: Terms,
}

/// A charge that was begun and whose outcome is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCharge {
    /// The purchase that is charged for.
    pub purchase_id: Id,
    /// When it was begun.
    pub begun_at: Timestamp,
}

/// All that a workspace has of subscriptions: the latest one, one that waits for its payer, and a charge that is open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enrolment {
    /// The latest subscription that was ever paid for.
    pub subscription: Option<Subscription>,
    /// One that waits for its checkout.
    pub pending: Option<Pending>,
    /// The charge whose outcome has to be asked for before anything else is done.
    pub charge: Option<OpenCharge>,
}

/// What a sweep does next for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due.
    Wait,
    /// Ask the provider what became of the open charge.
    Finish(Id),
    /// The period that was paid ahead has begun: the balance is closed, and the terms before are forgotten.
    Begin,
    /// Charge for a period.
    Charge(Goods),
    /// The plan has no subscriptions any more: it ends with its period.
    EndWithPeriod,
    /// It ends now.
    End,
}

/// The grant that a paid purchase of a subscription comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidPeriod {
    /// Of which subscription.
    pub subscription_id: Id,
    /// In which period.
    pub period: u64,
    /// At which tier.
    pub tier: Id,
    /// When it may be spent.
    pub starts_at: Timestamp,
    /// When the rest of it is gone.
    pub expires_at: Timestamp,
}

/// A purchase that no longer fits the subscription that it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscription has moved on")]
pub struct MovedOn;

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
        let start = self.anchor.to_zoned(TimeZone::UTC).checked_add(Span::new().months(months.min(100_000)));
        start.map_or(crate::balance::NEVER, |start| start.timestamp())
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

    /// What a change to higher terms comes to for the time that is left of what is paid; `None` where that is less than
    /// can be charged.
    pub fn upgrade(&self, to: &Terms, now: Timestamp) -> Result<Option<Upgrade>, OutOfRange> {
        let (start, end) = (self.start_of(self.period), self.end_of(self.period));
        let millis = |from: Timestamp, to: Timestamp| {
            u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
        };
        let (left, whole) = (millis(now, end), millis(start, end).max(1));
        let more = to.monthly_credits.credits().minus(self.terms.monthly_credits.credits())?;
        let dearer = u128::from(to.price.amount_minor.saturating_sub(self.terms.price.amount_minor));
        let part = dearer.checked_mul(u128::from(left)).and_then(|all| all.checked_div(u128::from(whole)));
        let amount_minor = part.and_then(|minor| u64::try_from(minor).ok()).ok_or(OutOfRange)?;
        let credits = Amount::new(more.or_zero().share(left, whole)?).ok();
        let credits = credits.filter(|_| amount_minor >= LEAST_CHARGE_MINOR);
        Ok(credits.map(|credits| Upgrade { credits, amount_minor }))
    }

    /// Whether a change of terms is upward, and so takes effect at once.
    #[must_use]
    pub fn is_upgrade(&self, to: &Terms) -> bool {
        to.monthly_credits > self.terms.monthly_credits
            && to.price.currency == self.terms.price.currency
            && to.price.amount_minor >= self.terms.price.amount_minor
    }

    fn next_due(&self) -> Option<Timestamp> {
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

    fn step(&self, now: Timestamp, plan_allows: bool) -> Step {
        if !self.is_running() || self.next_due().is_none_or(|due| now < due) {
            return Step::Wait;
        }
        let over = now >= self.end_of(self.period);
        if self.status == Status::Active && self.before.is_some() && !over {
            return Step::Begin;
        }
        match (self.cancel_at_period_end || !plan_allows, over) {
            (true, true) => Step::End,
            (true, false) => Step::EndWithPeriod,
            (false, _) => Step::Charge(self.due_period(now, self.next_terms())),
        }
    }

    fn ended(&self) -> Self {
        Self { status: Status::Cancelled, then: None, before: None, declines: None, ..self.clone() }
    }
}

impl Enrolment {
    /// When a sweep has to look at it; `None` where it has not.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match &self.charge {
            Some(charge) => charge.begun_at.checked_add(UNANSWERED_FOR).ok(),
            None => self.subscription.as_ref()?.next_due(),
        }
    }

    /// What a sweep does next, on a plan that allows subscriptions or doesn't.
    #[must_use]
    pub fn step(&self, now: Timestamp, plan_allows: bool) -> Step {
        match (&self.charge, &self.subscription) {
            (Some(charge), _) => Step::Finish(charge.purchase_id.clone()),
            (None, Some(subscription)) => subscription.step(now, plan_allows),
            (None, None) => Step::Wait,
        }
    }

    /// The subscription, if it runs.
    #[must_use]
    pub fn running(&self) -> Option<&Subscription> {
        self.subscription.as_ref().filter(|subscription| subscription.is_running())
    }

    /// With a charge that is begun.
    #[must_use]
    pub fn charging(&self, purchase: &Purchase) -> Self {
        let open = OpenCharge { purchase_id: purchase.purchase_id.clone(), begun_at: purchase.begun_at };
        Self { charge: Some(open), ..self.clone() }
    }

    /// With its subscription changed.
    #[must_use]
    pub fn with(&self, subscription: Subscription) -> Self {
        Self { subscription: Some(subscription), ..self.clone() }
    }

    /// After a step of a sweep that asks nobody.
    #[must_use]
    pub fn stepped(&self, step: &Step) -> Self {
        let Some(subscription) = &self.subscription else { return self.clone() };
        match step {
            Step::Begin => self.with(Subscription { before: None, ..subscription.clone() }),
            Step::EndWithPeriod => {
                self.with(Subscription { cancel_at_period_end: true, ..subscription.clone() })
            }
            Step::End => self.with(subscription.ended()),
            Step::Wait | Step::Finish(_) | Step::Charge(_) => self.clone(),
        }
    }

    /// After it was asked to end: at the end of what is paid, or at once where nothing is.
    #[must_use]
    pub fn cancelled(&self) -> Self {
        let subscription = self.subscription.clone().map(|subscription| match subscription.status {
            Status::PastDue => subscription.ended(),
            _ => Subscription { cancel_at_period_end: subscription.is_running(), ..subscription },
        });
        Self { subscription, pending: None, charge: self.charge.clone() }
    }

    /// After a purchase of it was paid, with the grant that this comes to.
    pub fn paid(&self, purchase: &Purchase, now: Timestamp) -> Result<(Self, PaidPeriod), MovedOn> {
        let subscription = match &purchase.goods {
            Goods::Pack { .. } => return Err(MovedOn),
            Goods::Period { subscription_id, period: 1, terms } => {
                self.started(subscription_id, terms, now)?
            }
            Goods::Period { subscription_id, period, terms } => {
                self.renewed((subscription_id, *period), terms, now)?
            }
            Goods::Upgrade { subscription_id, period, terms, .. } => {
                self.upgraded((subscription_id, *period), terms, now)?
            }
        };
        let (start, end) =
            (subscription.start_of(subscription.period), subscription.end_of(subscription.period));
        let upgrade = matches!(purchase.goods, Goods::Upgrade { .. });
        let paid = PaidPeriod {
            subscription_id: subscription.subscription_id.clone(),
            period: subscription.period,
            tier: subscription.terms.tier.clone(),
            starts_at: if upgrade { now } else { start },
            expires_at: end,
        };
        let waits = |pending: &Pending| pending.purchase_id != purchase.purchase_id;
        let open = |charge: &OpenCharge| charge.purchase_id != purchase.purchase_id;
        let after = Self {
            subscription: Some(subscription),
            pending: self.pending.clone().filter(waits),
            charge: self.charge.clone().filter(open),
        };
        Ok((after, paid))
    }

    /// After the provider declined a charge.
    #[must_use]
    pub fn declined(&self, purchase: &Purchase, now: Timestamp) -> Self {
        let after = Self { charge: None, ..self.clone() };
        let (Goods::Period { subscription_id, period: 2.., .. }, Some(subscription)) =
            (&purchase.goods, self.running())
        else {
            return after;
        };
        if subscription.subscription_id == *subscription_id {
            after.with(subscription.declined(now))
        } else {
            after
        }
    }

    fn started(&self, subscription_id: &Id, terms: &Terms, now: Timestamp) -> Result<Subscription, MovedOn> {
        if self.running().is_some() {
            return Err(MovedOn);
        }
        Ok(Subscription {
            subscription_id: subscription_id.clone(),
            anchor: Timestamp::from_second(now.as_second()).unwrap_or(now),
            period: 1,
            terms: terms.clone(),
            before: None,
            then: None,
            status: Status::Active,
            cancel_at_period_end: false,
            declines: None,
            skipped: 0,
            upgrades: 0,
        })
    }

    fn renewed(
        &self,
        (subscription_id, period): (&Id, u64),
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Subscription, MovedOn> {
        let old = self.running().filter(|old| old.subscription_id == *subscription_id).ok_or(MovedOn)?;
        if period <= old.period {
            return Err(MovedOn);
        }
        // A charge whose answer came after its month had passed pays for the month that runs.
        let period = period.max(old.period_at(now));
        let ahead = now < old.start_of(period);
        let passed = period.saturating_sub(old.period).saturating_sub(1);
        Ok(Subscription {
            period,
            terms: terms.clone(),
            before: ahead.then(|| old.terms.clone()),
            then: None,
            status: Status::Active,
            declines: None,
            skipped: old.skipped.saturating_add(passed),
            ..old.clone()
        })
    }

    fn upgraded(
        &self,
        (subscription_id, period): (&Id, u64),
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Subscription, MovedOn> {
        let fits = |old: &&Subscription| {
            old.subscription_id == *subscription_id && old.period == period && now < old.end_of(period)
        };
        let old = self.running().filter(fits).ok_or(MovedOn)?;
        Ok(Subscription {
            terms: terms.clone(),
            then: None,
            cancel_at_period_end: false,
            upgrades: old.upgrades.saturating_add(1),
            ..old.clone()
        })
    }
}

impl Subscription {
    /// After a decline of the charge that is due: tried again on the next of its days, or ended.
    fn declined(&self, now: Timestamp) -> Self {
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

#[cfg(test)]
mod tests {
    use super::{Enrolment, Status, Step, Subscription, Terms};
    use crate::purchase::{Goods, Purchase};
    use jiff::{SignedDuration, Timestamp};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn terms(tier: &str, credits: &str, minor: u64) -> Terms {
        let price = crate::price::Price { amount_minor: minor, currency: "USD".parse().unwrap() };
        Terms { tier: tier.parse().unwrap(), monthly_credits: credits.parse().unwrap(), price }
    }

    fn purchase(goods: Goods, now: Timestamp) -> Purchase {
        let price = crate::price::Price { amount_minor: 1600, currency: "USD".parse().unwrap() };
        let (purchase_id, workspace_id) = ("p1".parse().unwrap(), "acme".parse().unwrap());
        Purchase { purchase_id, workspace_id, goods, price, begun_at: now }
    }

    fn first(terms: &Terms) -> Goods {
        Goods::Period { subscription_id: "sub_1".parse().unwrap(), period: 1, terms: terms.clone() }
    }

    fn subscribed(now: &str) -> Enrolment {
        let buy = purchase(first(&terms("tier_2k", "2000", 1600)), at(now));
        Enrolment::default().paid(&buy, at(now)).unwrap().0
    }

    fn subscription(enrolment: &Enrolment) -> &Subscription {
        enrolment.subscription.as_ref().unwrap()
    }

    #[test]
    fn m06_billing_day_31_is_the_last_day_of_a_shorter_month_and_31_again() {
        let enrolment = subscribed("2027-01-31T10:00:00.250Z");
        let starts: Vec<String> =
            (1..=5).map(|period| subscription(&enrolment).start_of(period).to_string()).collect();
        assert_eq!(
            starts,
            [
                "2027-01-31T10:00:00Z",
                "2027-02-28T10:00:00Z",
                "2027-03-31T10:00:00Z",
                "2027-04-30T10:00:00Z",
                "2027-05-31T10:00:00Z"
            ]
        );
    }

    #[test]
    fn m06_a_renewal_is_charged_up_to_an_hour_ahead_and_begins_on_its_second() {
        let enrolment = subscribed("2027-01-31T10:00:00Z");
        assert_eq!(enrolment.step(at("2027-02-28T08:59:59Z"), true), Step::Wait);
        let ahead = at("2027-02-28T09:00:00Z");
        let Step::Charge(goods) = enrolment.step(ahead, true) else { panic!("it is due") };
        let (renewed, paid) = enrolment.paid(&purchase(goods.clone(), ahead), ahead).unwrap();
        assert_eq!((paid.period, paid.starts_at), (2, at("2027-02-28T10:00:00Z")));
        assert_eq!(subscription(&renewed).current(ahead).0, 1, "the first period runs on");
        assert_eq!(renewed.step(ahead, true), Step::Wait);
        assert!(renewed.paid(&purchase(goods, ahead), ahead).is_err(), "a period is granted once");
        let begun = at("2027-02-28T10:00:00Z");
        assert_eq!(renewed.step(begun, true), Step::Begin);
        let renewed = renewed.stepped(&Step::Begin);
        assert_eq!(renewed.next_due(), Some(at("2027-03-31T09:00:00Z")));
    }

    #[test]
    fn m06_after_a_long_outage_only_the_month_that_runs_is_charged() {
        let enrolment = subscribed("2027-01-31T10:00:00Z");
        let late = at("2027-06-15T00:00:00Z");
        let Step::Charge(goods) = enrolment.step(late, true) else { panic!("it is due") };
        assert!(matches!(goods, Goods::Period { period: 5, .. }));
        let (renewed, paid) = enrolment.paid(&purchase(goods, late), late).unwrap();
        assert_eq!((subscription(&renewed).skipped, paid.expires_at), (3, at("2027-06-30T10:00:00Z")));
    }

    #[test]
    fn m06_a_declined_charge_is_tried_after_1_3_and_5_days_and_then_given_up() {
        let mut enrolment = subscribed("2027-01-31T10:00:00Z");
        let first = at("2027-02-28T09:00:00Z");
        for (days, next) in [(0, 1), (1, 3), (3, 5)] {
            let now = first + DAY * days;
            let Step::Charge(goods) = enrolment.step(now, true) else { panic!("day {days}") };
            enrolment = enrolment.declined(&purchase(goods, now), now);
            assert_eq!(subscription(&enrolment).status, Status::PastDue);
            assert_eq!(enrolment.next_due(), Some(first + DAY * next));
        }
        let now = first + DAY * 5;
        let Step::Charge(goods) = enrolment.step(now, true) else { panic!("day 5") };
        enrolment = enrolment.declined(&purchase(goods, now), now);
        assert_eq!((subscription(&enrolment).status, enrolment.next_due()), (Status::Cancelled, None));
    }

    #[test]
    fn m06_a_recovered_subscription_keeps_its_billing_day() {
        let enrolment = subscribed("2027-01-31T10:00:00Z");
        let first = at("2027-02-28T09:00:00Z");
        let Step::Charge(goods) = enrolment.step(first, true) else { panic!("it is due") };
        let declined = enrolment.declined(&purchase(goods.clone(), first), first);
        let (recovered, paid) = declined.paid(&purchase(goods, first), first + DAY * 3).unwrap();
        assert_eq!((paid.period, paid.expires_at), (2, at("2027-03-31T10:00:00Z")));
        assert!(subscription(&recovered).before.is_none() && subscription(&recovered).declines.is_none());
    }

    #[test]
    fn m06_an_upgrade_costs_and_grants_in_proportion_to_the_time_left() {
        let enrolment = subscribed("2027-04-01T00:00:00Z");
        let half = at("2027-04-16T00:00:00Z");
        let up = terms("tier_10k", "10000", 7000);
        let upgrade = subscription(&enrolment).upgrade(&up, half).unwrap().unwrap();
        assert_eq!((upgrade.amount_minor, upgrade.credits.to_string()), (2700, "4000".into()));
        let last_minute = at("2027-04-30T23:59:00Z");
        assert_eq!(subscription(&enrolment).upgrade(&up, last_minute), Ok(None), "50 is charged at least");
    }

    #[test]
    fn m07_on_a_plan_without_subscriptions_it_ends_with_its_period() {
        let enrolment = subscribed("2027-01-31T10:00:00Z");
        let ahead = at("2027-02-28T09:30:00Z");
        assert_eq!(enrolment.step(ahead, false), Step::EndWithPeriod);
        let ending = enrolment.stepped(&Step::EndWithPeriod);
        assert_eq!(ending.step(ahead, true), Step::Wait);
        let end = at("2027-02-28T10:00:00Z");
        assert_eq!(ending.step(end, false), Step::End);
        assert_eq!(subscription(&ending.stepped(&Step::End)).status, Status::Cancelled);
    }

    #[test]
    fn m06_cancelling_ends_what_is_paid_at_its_end_and_what_is_not_at_once() {
        let enrolment = subscribed("2027-01-31T10:00:00Z");
        assert!(subscription(&enrolment.cancelled()).cancel_at_period_end);
        let now = at("2027-02-28T09:00:00Z");
        let Step::Charge(goods) = enrolment.step(now, true) else { panic!("it is due") };
        let declined = enrolment.declined(&purchase(goods, now), now);
        assert_eq!(subscription(&declined.cancelled()).status, Status::Cancelled);
    }
}
