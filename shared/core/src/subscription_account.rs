//! The subscription account of a workspace: its subscription, what a person still has to pay, and the open charge (M6).
//!
//! At most one charge is open: [`SubscriptionAccount::charging`] returns `None` while another is, and each write of an
//! account requires the version that was read. A payment buys a purchase of the subscription only while the account
//! waits for that purchase.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::price::Price;
use crate::purchase::{Goods, Purchase};
use crate::subscription::{PlanRule, Status, Subscription, Terms};

pub use crate::open_charge::{OpenCharge, UNANSWERED_TIMEOUT};
pub use crate::renewal::{PaidAhead, RenewalStep};

mod paid;

/// The first period of a subscription whose checkout is not paid yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The purchase with the checkout.
    pub purchase_id: Id,
    /// The terms of the subscription that the payment starts.
    pub terms: Terms,
    /// Since when its bank debit is processing. The payer has confirmed it, so nothing else can pay the purchase.
    #[serde(default)]
    pub processing_since: Option<Timestamp>,
}

/// A purchase that a person has to pay by a checkout, because the stored method needs authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentAction {
    /// The purchase with the checkout.
    pub purchase_id: Id,
    pub goods: Goods,
    pub price: Price,
}

/// A workspace's subscription and its payments, which are written together under one version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscriptionAccount {
    /// The latest subscription that was paid for, running or ended.
    pub subscription: Option<Subscription>,
    pub pending: Option<Pending>,
    /// The open charge. Its outcome must be known before another is begun.
    pub charge: Option<OpenCharge>,
    /// A renewal or upgrade that a person has to pay by a checkout.
    #[serde(default)]
    pub action: Option<PaymentAction>,
    /// The number of purchases made so far, which keeps their ids unique.
    #[serde(default)]
    pub purchases: u64,
}

/// A payment, and the id of the grant that it buys.
#[derive(Debug, Clone, Copy)]
pub struct Payer<'a> {
    /// Stripe's id of the payment.
    pub payment_id: &'a str,
    pub grant_id: &'a Id,
}

/// The grant that a paid purchase of a subscription buys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidPeriod {
    pub subscription_id: Id,
    pub period: u64,
    pub tier: Id,
    /// When the credits can first be spent.
    pub starts_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Why a payment does not buy the purchase of a subscription that it names. Both reasons are final, so that a refund
/// months later starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAwaited {
    /// Another subscription runs, or the period is paid or over.
    #[error("the subscription has changed since the purchase")]
    MovedOn,
    /// The purchase was cancelled or replaced before it was paid.
    #[error("the purchase was cancelled or replaced before it was paid")]
    Withdrawn,
}

impl PaymentAction {
    fn is_renewal(&self) -> bool {
        matches!(self.goods, Goods::Period { .. })
    }
}

impl SubscriptionAccount {
    /// Returns when the sweep has to take the next step; `None` if nothing will be due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match &self.charge {
            Some(charge) => Some(charge.next_due()),
            None => self.subscription.as_ref()?.next_due(),
        }
    }

    /// Returns the sweep's next step.
    #[must_use]
    pub fn step(&self, now: Timestamp, plan: PlanRule) -> RenewalStep {
        match (&self.charge, &self.subscription) {
            (Some(charge), _) if charge.next_due() > now => RenewalStep::Wait,
            (Some(charge), _) => RenewalStep::Finish(charge.clone()),
            (None, Some(subscription)) => match subscription.step(now, plan) {
                RenewalStep::Charge(goods) if self.waits_for_renewal() => RenewalStep::Remind(goods),
                step => step,
            },
            (None, None) => RenewalStep::Wait,
        }
    }

    /// Returns whether a person has to pay for a renewal.
    fn waits_for_renewal(&self) -> bool {
        self.action.as_ref().is_some_and(PaymentAction::is_renewal)
    }

    /// Returns whether a person has to pay for a renewal by the checkout of this purchase.
    #[must_use]
    pub fn asks_for_renewal(&self, purchase_id: &Id) -> bool {
        self.action.as_ref().is_some_and(|action| action.is_renewal() && action.purchase_id == *purchase_id)
    }

    /// Returns the account as it is at an instant, even if the sweep is late: a cancelled subscription has ended with
    /// its period.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Self {
        let ended = self.subscription.as_ref().is_some_and(|subscription| {
            subscription.cancel_at_period_end
                && subscription.step(now, PlanRule::AllowsSubscriptions) == RenewalStep::End
        });
        if ended && self.charge.is_none() { self.stepped(&RenewalStep::End) } else { self.clone() }
    }

    /// Returns the subscription if it runs.
    #[must_use]
    pub fn running(&self) -> Option<&Subscription> {
        self.subscription.as_ref().filter(|subscription| subscription.is_running())
    }

    /// Returns the account with a charge begun for a purchase; `None` while another charge is open.
    #[must_use]
    pub fn charging(&self, purchase: &Purchase) -> Option<Self> {
        if self.charge.is_some() {
            return None;
        }
        let pending = self.pending.clone().filter(|pending| pending.processing_since.is_some());
        Some(Self { charge: Some(OpenCharge::of(purchase)), pending, action: None, ..self.counted() })
    }

    /// Returns the account with a first period that waits for its checkout. It replaces any other pending one.
    #[must_use]
    pub fn awaiting_first(&self, purchase_id: &Id, terms: &Terms) -> Self {
        let (purchase_id, terms) = (purchase_id.clone(), terms.clone());
        let pending = Some(Pending { purchase_id, terms, processing_since: None });
        Self { pending, ..self.counted() }
    }

    /// Returns the account with a renewal or upgrade that a person has to pay. It replaces any other.
    #[must_use]
    pub fn awaiting_person(&self, purchase: &Purchase) -> Self {
        let Purchase { purchase_id, goods, price, .. } = purchase.clone();
        let action = Some(PaymentAction { purchase_id, goods, price });
        Self { action, ..self.counted() }
    }

    fn counted(&self) -> Self {
        Self { purchases: self.purchases.saturating_add(1), ..self.clone() }
    }

    /// Returns the purchases whose checkouts the account waits for.
    pub fn awaited_checkouts(&self) -> impl Iterator<Item = &Id> {
        let pending = self.pending.as_ref().map(|pending| &pending.purchase_id);
        pending.into_iter().chain(self.action.as_ref().map(|action| &action.purchase_id))
    }

    /// Returns the account with a changed subscription.
    #[must_use]
    pub fn with(&self, subscription: Subscription) -> Self {
        Self { subscription: Some(subscription), ..self.clone() }
    }

    /// Returns the account after a step of the sweep that needs no request to Stripe.
    #[must_use]
    pub fn stepped(&self, step: &RenewalStep) -> Self {
        let Some(subscription) = &self.subscription else { return self.clone() };
        match step {
            RenewalStep::Begin => {
                self.with(Subscription { before: None, paid_ahead: Vec::new(), ..subscription.clone() })
            }
            RenewalStep::EndWithPeriod => {
                self.with(Subscription { cancel_at_period_end: true, ..subscription.clone() })
            }
            RenewalStep::End => Self { action: None, ..self.with(subscription.ended()) },
            RenewalStep::Wait | RenewalStep::Finish(_) | RenewalStep::Charge(_) | RenewalStep::Remind(_) => {
                self.clone()
            }
        }
    }

    /// Returns the account after a cancellation.
    ///
    /// The subscription ends with its paid period, or at once if it is past due. An open charge stays open until its
    /// outcome is known, and is marked as withdrawn.
    #[must_use]
    pub fn cancelled(&self) -> Self {
        let subscription = self.subscription.clone().map(|subscription| match subscription.status {
            Status::PastDue => subscription.ended(),
            _ => Subscription { cancel_at_period_end: subscription.is_running(), ..subscription },
        });
        let charge = self.charge.clone().map(|charge| OpenCharge { withdrawn: true, ..charge });
        Self { subscription, pending: None, action: None, charge, ..self.clone() }
    }

    /// Returns the account without the period that is paid and has not begun, and the payments to refund for it.
    /// Returns `None` if no such period exists.
    #[must_use]
    pub fn without_paid_ahead(&self, now: Timestamp) -> Option<(Self, Vec<PaidAhead>)> {
        let subscription = self.running()?;
        let before = subscription.before.clone()?;
        if now >= subscription.start_of(subscription.period) || subscription.paid_ahead.is_empty() {
            return None;
        }
        let then = Some(subscription.terms.clone()).filter(|ahead| *ahead != before);
        let back = Subscription {
            period: subscription.period.saturating_sub(1),
            terms: before,
            before: None,
            then,
            paid_ahead: Vec::new(),
            ..subscription.clone()
        };
        Some((self.with(back), subscription.paid_ahead.clone()))
    }

    /// Returns the open charge if it is for this purchase.
    #[must_use]
    pub fn open_charge(&self, purchase_id: &Id) -> Option<&OpenCharge> {
        self.charge.as_ref().filter(|charge| charge.purchase_id == *purchase_id)
    }

    /// Returns whether a payment is under way: a charge is open, or the bank debit of the first period is processing.
    #[must_use]
    pub fn is_being_paid(&self) -> bool {
        self.charge.is_some()
            || self.pending.as_ref().is_some_and(|pending| pending.processing_since.is_some())
    }

    /// Returns the open charge whose outcome must be known before a change. A bank debit takes days, so a change does
    /// not wait for it.
    #[must_use]
    pub fn unsettled_charge(&self) -> Option<&OpenCharge> {
        self.charge.as_ref().filter(|charge| charge.processing_since.is_none())
    }

    /// Returns the account without this purchase, because it was paid or can't be paid.
    #[must_use]
    pub fn without(&self, purchase_id: &Id) -> Self {
        Self {
            pending: self.pending.clone().filter(|pending| pending.purchase_id != *purchase_id),
            charge: self.charge.clone().filter(|charge| charge.purchase_id != *purchase_id),
            action: self.action.clone().filter(|action| action.purchase_id != *purchase_id),
            ..self.clone()
        }
    }

    /// Returns the account after Stripe reported the payment of this purchase as processing.
    #[must_use]
    pub fn processing(&self, purchase_id: &Id, now: Timestamp) -> Self {
        let mut after = self.clone();
        if let Some(charge) = after.charge.as_mut().filter(|charge| charge.purchase_id == *purchase_id) {
            charge.processing_since = Some(now);
        }
        if let Some(pending) = after.pending.as_mut().filter(|pending| pending.purchase_id == *purchase_id) {
            pending.processing_since.get_or_insert(now);
        }
        after
    }

    /// Returns the account after Stripe declined or refused a charge. A due period is retried on its next retry date,
    /// unless the charge was cancelled meanwhile.
    #[must_use]
    pub fn declined(&self, purchase: &Purchase, now: Timestamp) -> Self {
        let after = self.without(&purchase.purchase_id);
        if self.open_charge(&purchase.purchase_id).is_some_and(|charge| charge.withdrawn) {
            return after;
        }
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

    /// Returns the account after another payment method was stored. The next sweep retries a declined charge, and no
    /// person has to pay by a checkout any more.
    #[must_use]
    pub fn with_new_method(&self, now: Timestamp) -> Self {
        let mut after = Self { action: None, ..self.clone() };
        if let Some(declines) = after.subscription.as_mut().and_then(|it| it.declines.as_mut()) {
            declines.next_at = declines.next_at.min(now);
        }
        after
    }
}
