//! The steps of a renewal, and payments for a period that has not begun.

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::open_charge::OpenCharge;
use crate::price::Price;
use crate::purchase::Goods;

/// The next step of the sweep for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewalStep {
    /// Nothing is due.
    Wait,
    /// Ask Stripe for the outcome of the open charge.
    Finish(OpenCharge),
    /// Close the balance and forget the earlier terms, because the period that was paid ahead has begun.
    Begin,
    /// Charge for a period.
    Charge(Goods),
    /// Ask the person again to pay for a period by a checkout. The stored method is not charged.
    Remind(Goods),
    /// End the subscription with its period, because the plan has no subscriptions any more.
    EndWithPeriod,
    /// End the subscription now.
    End,
}

/// A payment for a period that has not begun, so that a cancellation refunds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidAhead {
    /// Stripe's id of the payment.
    pub payment_id: String,
    /// The grant, which waits in the balance for its start.
    pub grant_id: Id,
    /// The amount paid.
    pub price: Price,
}

impl PaidAhead {
    /// Returns the id of the refund for this payment: one for each grant.
    #[must_use]
    pub fn refund_id(&self) -> Id {
        format!("ref-{}", self.grant_id).parse().unwrap_or_else(|_| self.grant_id.clone())
    }
}
