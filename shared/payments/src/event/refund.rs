//! Refund events, and a charge's cumulative refund.

use credits_core::payment::News;
use credits_core::refund::{ChargeFigure, Refund, RefundStatus};
use jiff::Timestamp;
use serde_json::Value;

use super::{Ignored, StripeEvent, amount, metadata_ids, optional_currency};
use crate::object::{BadMember, Object};

/// Reads a charge that was refunded in part or in full.
pub(super) fn read_charge(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut charge = Object::of(object)?;
    // Stripe copies a payment's metadata to its charge.
    if charge.has_metadata() && metadata_ids(&charge).is_none() {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    }
    let payment_id = charge.first_reference(&["payment_intent", "id"]);
    let currency = optional_currency(&charge);
    let refunded_minor = amount(&mut charge, "amount_refunded", currency);
    let parsed = payment_id.zip(refunded_minor).map(|(payment_id, refunded_minor)| StripeEvent::Payment {
        payment_id,
        news: News::Figure(ChargeFigure { refunded_minor, at }),
    });
    charge.finish(parsed)
}

/// Reads a refund event.
pub(super) fn read(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut refund = Object::of(object)?;
    let (refund_id, currency) = (refund.id("id"), optional_currency(&refund));
    let amount_minor = amount(&mut refund, "amount", currency);
    let status = refund.optional_text("status").map_or(RefundStatus::Pending, refund_status);
    let made_at = refund.optional_instant("created");
    let payment_id = refund.first_reference(&["payment_intent", "charge"]);
    let parsed =
        payment_id.zip(refund_id).zip(amount_minor).map(|((payment_id, refund_id), amount_minor)| {
            let refund = Refund { amount_minor, status, made_at };
            StripeEvent::Payment { payment_id, news: News::Refund { refund_id, refund, at } }
        });
    refund.finish(parsed)
}

/// Converts Stripe's name of a refund status. `requires_action` waits for the payer, and counts as pending.
pub(crate) fn refund_status(status: &str) -> RefundStatus {
    match status {
        "succeeded" => RefundStatus::Succeeded,
        "failed" | "canceled" => RefundStatus::Failed,
        _ => RefundStatus::Pending,
    }
}
