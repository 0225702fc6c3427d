//! What Stripe's events report about a payment.

use jiff::Timestamp;

use crate::dispute::Dispute;
use crate::price::Currency;
use crate::refund::{ChargeFigure, Refund};

/// A fact about a payment that one event reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The payment succeeded.
    Paid(Paid),
    /// The payment was attempted: it is processing, or it has failed and may be retried.
    Attempted(Attempted),
    /// A refund was made, or its status has changed.
    Refund {
        /// Stripe's id of the refund.
        refund_id: String,
        refund: Refund,
        /// When Stripe made the event.
        at: Option<Timestamp>,
    },
    /// The cumulative refund of the payment's charge.
    Figure(ChargeFigure),
    /// A dispute was opened, or its status has changed.
    Disputed {
        /// Stripe's id of the dispute.
        dispute_id: String,
        dispute: Dispute,
    },
    /// The URL of the receipt.
    Receipt(String),
}

/// A payment that succeeded, with the purchase that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The amount received, in minor units: with tax, less discounts.
    pub amount_minor: u64,
    /// The amount of a checkout before tax and discounts, in minor units; `None` if only the received amount is known.
    pub subtotal_minor: Option<u64>,
    pub currency: Currency,
    pub ids: MetadataIds,
    /// Stripe's id of the customer, whose payment method may be charged again.
    pub customer: Option<String>,
    /// Stripe's id of the payment method that paid.
    pub payment_method: Option<String>,
    /// When Stripe made the event.
    pub at: Option<Timestamp>,
    pub source: PaidSource,
}

/// The ids in a payment's metadata. They come from outside and are unchecked until they are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataIds {
    pub purchase_id: Option<String>,
    pub workspace_id: Option<String>,
}

/// The Stripe object that reports a payment's success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaidSource {
    /// A Checkout Session, which states the price before tax and discounts.
    Session,
    /// A `PaymentIntent`, which states only the amount received.
    Intent,
}

/// An attempt at a payment that has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    pub status: AttemptStatus,
    /// In minor units.
    pub amount_minor: u64,
    pub currency: Currency,
    pub ids: MetadataIds,
}

/// The status of an attempt at a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStatus {
    /// A bank debit is processing.
    Processing,
    /// The attempt was declined, or the bank debit failed.
    Failed,
}

impl Paid {
    /// Returns the price before tax and discounts, in minor units.
    #[must_use]
    pub fn asked_minor(&self) -> u64 {
        self.subtotal_minor.unwrap_or(self.amount_minor)
    }
}
