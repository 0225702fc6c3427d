//! All that a workspace has of subscriptions: what runs, what waits for a payer, and the charge that is open (M6).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::purchase::{Goods, Purchase};
use crate::subscription::{Status, Subscription, Terms};

/// How long a charge without an answer is left alone before a sweep asks for its outcome.
pub(crate) const UNANSWERED_FOR: SignedDuration = SignedDuration::from_mins(2);

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

    /// As it is at an instant, whether or not a sweep has come by: what was cancelled has ended with its period.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Self {
        match self.step(now, true) {
            Step::End => self.stepped(&Step::End),
            _ => self.clone(),
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
            starts_at: if upgrade { now.max(start) } else { start },
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
