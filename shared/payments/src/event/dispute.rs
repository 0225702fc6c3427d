//! Events of disputes.

use credits_core::dispute::{Dispute, DisputeStatus};
use credits_core::payment::News;
use credits_core::price::Price;
use jiff::Timestamp;
use serde_json::Value;

use super::{StripeEvent, amount, optional_currency};
use crate::object::{BadMember, Object};

/// The movement of money that an event's type states, beside the dispute's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Funds {
    /// The event type states none; the status decides.
    AsStatusSays,
    /// The money has left the account: an inquiry has become a dispute.
    Withdrawn,
    /// The money has returned, for example after an appeal.
    Reinstated,
}

/// Reads a dispute event.
pub(super) fn read(
    object: &Value,
    funds: Funds,
    at: Option<Timestamp>,
) -> Result<StripeEvent, Vec<BadMember>> {
    let mut dispute = Object::of(object)?;
    let (dispute_id, currency) = (dispute.id("id"), optional_currency(&dispute));
    let amount_minor = amount(&mut dispute, "amount", currency);
    let status = dispute.text("status").map(|status| status_after(funds, status_of(status)));
    let payment_id = dispute.first_reference(&["payment_intent", "charge"]);
    let members = payment_id.zip(dispute_id).zip(amount_minor.zip(status));
    let parsed = members.map(|((payment_id, dispute_id), (amount_minor, status))| {
        let dispute = Dispute { amount_minor, currency, withheld: withheld(object), status, at };
        StripeEvent::Payment { payment_id, news: News::Disputed { dispute_id, dispute } }
    });
    dispute.finish(parsed)
}

fn status_after(funds: Funds, status: DisputeStatus) -> DisputeStatus {
    match (funds, status) {
        (Funds::AsStatusSays, status) => status,
        (Funds::Withdrawn, DisputeStatus::Inquiry | DisputeStatus::Open) => DisputeStatus::Open,
        (Funds::Withdrawn, DisputeStatus::Won | DisputeStatus::Lost) => DisputeStatus::Lost,
        (Funds::Reinstated, _) => DisputeStatus::Won,
    }
}

fn status_of(status: &str) -> DisputeStatus {
    match status {
        // A dispute that ended in a refund withholds no money itself. The refund has its own event.
        "won" | "charge_refunded" => DisputeStatus::Won,
        "lost" => DisputeStatus::Lost,
        // An inquiry withholds no money. A prevented dispute never withheld any.
        "prevented" => DisputeStatus::Inquiry,
        status if status.starts_with("warning_") => DisputeStatus::Inquiry,
        _ => DisputeStatus::Open,
    }
}

/// Returns the money that the dispute's balance transactions took from the account, in the settlement currency. Returns
/// `None` if they took none, or in more than one currency.
fn withheld(dispute: &Value) -> Option<Price> {
    let transactions = dispute["balance_transactions"].as_array()?;
    let taken = transactions.iter().filter_map(|transaction| {
        let amount = transaction["amount"].as_i64().filter(|amount| *amount < 0)?;
        let currency = transaction["currency"].as_str()?.parse().ok()?;
        Price::from_provider(amount.unsigned_abs(), currency).ok()
    });
    let taken: Vec<Price> = taken.collect();
    let currency = taken.first()?.currency;
    let amount_minor = taken.iter().try_fold(0_u64, |sum, price| sum.checked_add(price.amount_minor))?;
    taken.iter().all(|price| price.currency == currency).then_some(Price { amount_minor, currency })
}
