//! A charge of the stored payment method whose outcome is not known yet.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::purchase::Purchase;

/// How long a charge may be without a response before the sweep asks Stripe for its outcome.
pub const UNANSWERED_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// How often the sweep asks Stripe about a charge that is processing, such as a bank debit.
const PROCESSING_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// A charge that was begun and whose outcome is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCharge {
    pub purchase_id: Id,
    pub begun_at: Timestamp,
    /// When Stripe last reported the charge as processing, which takes days for a bank debit.
    #[serde(default)]
    pub processing_since: Option<Timestamp>,
    /// Whether it was cancelled meanwhile. It is then not made any more. If a charge for a subscription was already
    /// made, it is refunded.
    #[serde(default)]
    pub withdrawn: bool,
}

impl OpenCharge {
    /// Returns the charge for a purchase, begun at the same time.
    #[must_use]
    pub fn of(purchase: &Purchase) -> Self {
        let (purchase_id, begun_at) = (purchase.purchase_id.clone(), purchase.begun_at);
        Self { purchase_id, begun_at, processing_since: None, withdrawn: false }
    }

    /// Returns when the sweep asks Stripe for the outcome.
    #[must_use]
    pub fn next_due(&self) -> Timestamp {
        let due = match self.processing_since {
            Some(since) => since.checked_add(PROCESSING_INTERVAL),
            None => self.begun_at.checked_add(UNANSWERED_TIMEOUT),
        };
        due.unwrap_or(self.begun_at)
    }
}
