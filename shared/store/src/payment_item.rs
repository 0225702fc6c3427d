//! The payment's item: all that the provider told of it, and what was done.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::credits::Amount;
use credits_core::payment::{Dispute, DisputeStatus, Granted, Paid, Payment};

use crate::attribute::{Item, Reader, credits, instant, keyed, number, text};
use crate::error::Corrupt;
use crate::expression::Expression;
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, UNMATCHED, position};

const STATUSES: [(DisputeStatus, &str); 4] = [
    (DisputeStatus::Inquiry, "inquiry"),
    (DisputeStatus::Open, "open"),
    (DisputeStatus::Won, "won"),
    (DisputeStatus::Lost, "lost"),
];

/// Writes the payment, if it is still at the version before.
pub(crate) fn write_of(table: &str, payment: &Payment) -> Result<TransactWriteItem, Corrupt> {
    let condition = match payment.version.checked_sub(1) {
        None | Some(0) => Expression::new().when_absent(PK),
        Some(before) => Expression::new().when("version", "=", number(before)),
    };
    condition.put(table, item_of(payment))
}

fn item_of(payment: &Payment) -> Item {
    let mut item = keyed(&ItemKey::payment(&payment.payment_id));
    let mut put = |name: &str, value: AttributeValue| drop(item.insert(name.to_owned(), value));
    put("payment_id", text(&payment.payment_id));
    put("first_heard_at", instant(payment.first_heard_at));
    put("refunded_minor", number(payment.refunded_minor));
    put("clawed", credits(payment.clawed));
    put("claws", number(payment.claws));
    put("version", number(payment.version));
    let disputes = payment.disputes.iter().map(|(id, dispute)| (id.clone(), dispute_value(*dispute)));
    put("disputes", AttributeValue::M(disputes.collect()));
    if let Some(paid) = &payment.paid {
        put("amount_minor", number(paid.amount_minor));
        put("currency", text(paid.currency.as_str()));
        paid.purchase_id.iter().for_each(|id| put("named_purchase", text(id)));
        paid.customer.iter().for_each(|id| put("customer", text(id)));
        paid.workspace_id.iter().for_each(|id| put("named_workspace", text(id)));
    }
    if let Some(granted) = &payment.granted {
        put("workspace_id", text(granted.workspace_id.as_str()));
        put("purchase_id", text(granted.purchase_id.as_str()));
        put("credits", credits(granted.credits.credits()));
        put("granted_for_minor", number(granted.amount_minor));
    }
    if let Some(mismatch) = payment.mismatch {
        put("mismatch", text(mismatch.to_string()));
    }
    if payment.is_unmatched() {
        put(INDEX_PK, text(UNMATCHED));
        put(INDEX_SK, text(position(payment.first_heard_at, &payment.payment_id)));
    }
    item
}

/// The payment of an item.
pub(crate) fn read(item: &Item) -> Result<Payment, Corrupt> {
    let reader = Reader(item);
    Ok(Payment {
        payment_id: reader.text("payment_id")?.to_owned(),
        first_heard_at: reader.instant("first_heard_at")?,
        paid: item.contains_key("amount_minor").then(|| read_paid(reader)).transpose()?,
        granted: item.contains_key("granted_for_minor").then(|| read_granted(reader)).transpose()?,
        mismatch: item.contains_key("mismatch").then(|| reader.parsed("mismatch")).transpose()?,
        refunded_minor: reader.number("refunded_minor")?,
        disputes: read_disputes(reader.map("disputes")?)?,
        clawed: reader.credits("clawed")?,
        claws: reader.number("claws")?,
        version: reader.number("version")?,
    })
}

fn read_paid(reader: Reader<'_>) -> Result<Paid, Corrupt> {
    Ok(Paid {
        amount_minor: reader.number("amount_minor")?,
        currency: reader.parsed("currency")?,
        purchase_id: reader.optional_text("named_purchase").map(str::to_owned),
        workspace_id: reader.optional_text("named_workspace").map(str::to_owned),
        customer: reader.optional_text("customer").map(str::to_owned),
    })
}

fn read_granted(reader: Reader<'_>) -> Result<Granted, Corrupt> {
    Ok(Granted {
        workspace_id: reader.parsed("workspace_id")?,
        purchase_id: reader.parsed("purchase_id")?,
        credits: Amount::new(reader.credits("credits")?).map_err(|_| Corrupt::Attribute("credits"))?,
        amount_minor: reader.number("granted_for_minor")?,
    })
}

fn dispute_value(dispute: Dispute) -> AttributeValue {
    let status =
        STATUSES.iter().find(|(status, _)| *status == dispute.status).map_or("lost", |(_, name)| name);
    let fields = [("amount_minor", number(dispute.amount_minor)), ("status", text(status))];
    AttributeValue::M(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn read_disputes(item: &Item) -> Result<BTreeMap<String, Dispute>, Corrupt> {
    let dispute = |(id, value): (&String, &AttributeValue)| {
        let reader = Reader(value.as_m().map_err(|_| Corrupt::Attribute("disputes"))?);
        let name = reader.text("status")?;
        let status = STATUSES.iter().find(|(_, status)| *status == name).map(|(status, _)| *status);
        let status = status.ok_or(Corrupt::Attribute("status"))?;
        Ok((id.clone(), Dispute { amount_minor: reader.number("amount_minor")?, status }))
    };
    item.iter().map(dispute).collect()
}
