//! The payment's item: all that Stripe has reported about the payment, and what we did for it.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::dispute::{Dispute, DisputeStatus};
use credits_core::payment::{
    AttemptStatus, Attempted, Granted, MetadataIds, Paid, PaidSource, Payment, Resolution, Resolved, Sale,
};
use credits_core::price::Price;
use credits_core::refund::{ChargeFigure, Refund, RefundStatus, Refunds};

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, credits, instant, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, UNMATCHED, payments, position};

const DISPUTE_STATUSES: [DisputeStatus; 4] =
    [DisputeStatus::Inquiry, DisputeStatus::Open, DisputeStatus::Won, DisputeStatus::Lost];

const REFUND_STATUSES: [RefundStatus; 3] =
    [RefundStatus::Pending, RefundStatus::Succeeded, RefundStatus::Failed];

/// Builds the write of a payment on the condition that the stored one has the version before.
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
    put("clawed", credits(payment.clawed));
    put("claws", number(payment.claws));
    put("version", number(payment.version));
    let disputes = payment.disputes.iter().map(|(id, dispute)| (id.clone(), dispute_value(*dispute)));
    put("disputes", AttributeValue::M(disputes.collect()));
    if payment.refunds != Refunds::default() {
        put("refunds", refunds_value(&payment.refunds));
    }
    if payment.is_withdrawn {
        put("is_withdrawn", AttributeValue::Bool(true));
    }
    if let Some(paid) = &payment.paid {
        put("amount_minor", number(paid.amount_minor));
        put("currency", text(paid.currency.as_str()));
        put("source", text(source_name(paid.source)));
        paid.subtotal_minor.iter().for_each(|minor| put("subtotal_minor", number(*minor)));
        paid.ids.purchase_id.iter().for_each(|id| put("named_purchase", text(id)));
        paid.ids.workspace_id.iter().for_each(|id| put("named_workspace", text(id)));
        paid.customer.iter().for_each(|id| put("customer", text(id)));
        paid.payment_method.iter().for_each(|id| put("payment_method", text(id)));
        paid.at.iter().for_each(|at| put("paid_at", instant(*at)));
    }
    payment.attempted.iter().for_each(|attempted| put("attempted", attempt_value(attempted)));
    payment.sale.iter().for_each(|sale| put("sale", sale_value(sale)));
    payment.receipt_url.iter().for_each(|url| put("receipt_url", text(url)));
    if let Some(granted) = &payment.granted {
        put("workspace_id", text(granted.workspace_id.as_str()));
        put("purchase_id", text(granted.purchase_id.as_str()));
        put("credits", credits(granted.credits.credits()));
        put("granted_for_minor", number(granted.amount_minor));
        granted.grant_id.iter().for_each(|id| put("grant_id", text(id.as_str())));
    }
    if let Some(mismatch) = payment.mismatch {
        put("mismatch", text(mismatch.to_string()));
    }
    if let Some(Resolved { resolution, note }) = &payment.resolved {
        put("resolution", text(resolution_name(*resolution)));
        put("note", text(note));
    }
    let listed_for = payment.sale.as_ref().map(|sale| payments(&sale.workspace_id));
    let partition = if payment.is_unmatched() { Some(UNMATCHED.to_owned()) } else { listed_for };
    if let Some(partition) = partition {
        put(INDEX_PK, text(partition));
        put(INDEX_SK, text(position(payment.first_heard_at, &payment.payment_id)));
    }
    item
}

/// Reads a payment from its item.
pub(crate) fn read(item: &Item) -> Result<Payment, Corrupt> {
    let reader = Reader(item);
    Ok(Payment {
        payment_id: reader.text("payment_id")?.to_owned(),
        first_heard_at: reader.instant("first_heard_at")?,
        paid: item.contains_key("amount_minor").then(|| read_paid(reader)).transpose()?,
        attempted: item.contains_key("attempted").then(|| read_attempt(reader)).transpose()?,
        sale: item.contains_key("sale").then(|| read_sale(reader)).transpose()?,
        receipt_url: reader.optional_text("receipt_url").map(str::to_owned),
        granted: item.contains_key("granted_for_minor").then(|| read_granted(reader)).transpose()?,
        mismatch: item.contains_key("mismatch").then(|| reader.parsed("mismatch")).transpose()?,
        resolved: item.contains_key("resolution").then(|| read_resolved(reader)).transpose()?,
        refunds: read_refunds(item)?,
        disputes: read_disputes(reader.map("disputes")?)?,
        clawed: reader.credits("clawed")?,
        claws: reader.number("claws")?,
        is_withdrawn: item.contains_key("is_withdrawn"),
        version: reader.number("version")?,
    })
}

fn read_paid(reader: Reader<'_>) -> Result<Paid, Corrupt> {
    let optional = |name| reader.optional_text(name).map(str::to_owned);
    let subtotal_minor = reader.0.contains_key("subtotal_minor");
    Ok(Paid {
        amount_minor: reader.number("amount_minor")?,
        subtotal_minor: subtotal_minor.then(|| reader.number("subtotal_minor")).transpose()?,
        currency: reader.parsed("currency")?,
        ids: MetadataIds {
            purchase_id: optional("named_purchase"),
            workspace_id: optional("named_workspace"),
        },
        customer: optional("customer"),
        payment_method: optional("payment_method"),
        at: reader.optional_instant("paid_at")?,
        source: if reader.optional_text("source") == Some(INTENT) {
            PaidSource::Intent
        } else {
            PaidSource::Session
        },
    })
}

fn read_resolved(reader: Reader<'_>) -> Result<Resolved, Corrupt> {
    let name = reader.text("resolution")?;
    let all = [Resolution::Granted, Resolution::Refunded, Resolution::Ignored];
    let resolution = all.into_iter().find(|resolution| resolution_name(*resolution) == name);
    let resolution = resolution.ok_or(Corrupt::Attribute("resolution"))?;
    Ok(Resolved { resolution, note: reader.text("note")?.to_owned() })
}

fn resolution_name(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Granted => "granted",
        Resolution::Refunded => "refunded",
        Resolution::Ignored => "ignored",
    }
}

const INTENT: &str = "intent";

fn source_name(source: PaidSource) -> &'static str {
    match source {
        PaidSource::Session => "session",
        PaidSource::Intent => INTENT,
    }
}

const PROCESSING: &str = "processing";

fn attempt_value(attempted: &Attempted) -> AttributeValue {
    let status = match attempted.status {
        AttemptStatus::Processing => PROCESSING,
        AttemptStatus::Failed => "failed",
    };
    let mut item = Item::from([
        ("status".to_owned(), text(status)),
        ("amount_minor".to_owned(), number(attempted.amount_minor)),
        ("currency".to_owned(), text(attempted.currency.as_str())),
    ]);
    let MetadataIds { purchase_id, workspace_id } = &attempted.ids;
    for (name, id) in [("named_purchase", purchase_id), ("named_workspace", workspace_id)] {
        item.extend(id.as_ref().map(|id| (name.to_owned(), text(id))));
    }
    AttributeValue::M(item)
}

fn read_attempt(reader: Reader<'_>) -> Result<Attempted, Corrupt> {
    let reader = Reader(reader.map("attempted")?);
    let optional = |name| reader.optional_text(name).map(str::to_owned);
    let status =
        if reader.text("status")? == PROCESSING { AttemptStatus::Processing } else { AttemptStatus::Failed };
    Ok(Attempted {
        status,
        amount_minor: reader.number("amount_minor")?,
        currency: reader.parsed("currency")?,
        ids: MetadataIds {
            purchase_id: optional("named_purchase"),
            workspace_id: optional("named_workspace"),
        },
    })
}

fn sale_value(sale: &Sale) -> AttributeValue {
    let fields = [
        ("workspace_id", text(sale.workspace_id.as_str())),
        ("description", text(&sale.description)),
        ("credits", credits(sale.credits.credits())),
    ];
    AttributeValue::M(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn read_sale(reader: Reader<'_>) -> Result<Sale, Corrupt> {
    let reader = Reader(reader.map("sale")?);
    Ok(Sale {
        workspace_id: reader.parsed("workspace_id")?,
        description: reader.text("description")?.to_owned(),
        credits: reader.amount("credits")?,
    })
}

fn read_granted(reader: Reader<'_>) -> Result<Granted, Corrupt> {
    Ok(Granted {
        workspace_id: reader.parsed("workspace_id")?,
        purchase_id: reader.parsed("purchase_id")?,
        credits: reader.amount("credits")?,
        amount_minor: reader.number("granted_for_minor")?,
        grant_id: reader.optional_text("grant_id").and_then(|id| id.parse().ok()),
    })
}

fn refunds_value(refunds: &Refunds) -> AttributeValue {
    let by_id = refunds.by_id.iter().map(|(id, refund)| (id.clone(), refund_value(*refund)));
    let mut value = Item::from([("by_id".to_owned(), AttributeValue::M(by_id.collect()))]);
    refunds.latest_at.iter().for_each(|at| drop(value.insert("latest_at".to_owned(), instant(*at))));
    if let Some(figure) = refunds.figure {
        value.insert("figure_minor".to_owned(), number(figure.refunded_minor));
        figure.at.iter().for_each(|at| drop(value.insert("figure_at".to_owned(), instant(*at))));
    }
    AttributeValue::M(value)
}

fn refund_value(refund: Refund) -> AttributeValue {
    let mut value = Item::from([
        ("amount_minor".to_owned(), number(refund.amount_minor)),
        ("status".to_owned(), text(refund_status_name(refund.status))),
    ]);
    refund.made_at.iter().for_each(|at| drop(value.insert("made_at".to_owned(), instant(*at))));
    AttributeValue::M(value)
}

/// Reads the refunds of an item. An item that an older version wrote has only their sum.
fn read_refunds(item: &Item) -> Result<Refunds, Corrupt> {
    let reader = Reader(item);
    if !item.contains_key("refunds") {
        let sum = if item.contains_key("refunded_minor") { reader.number("refunded_minor")? } else { 0 };
        let figure = (sum > 0).then_some(ChargeFigure { refunded_minor: sum, at: None });
        return Ok(Refunds { figure, ..Refunds::default() });
    }
    let reader = Reader(reader.map("refunds")?);
    let figure_minor =
        reader.0.contains_key("figure_minor").then(|| reader.number("figure_minor")).transpose()?;
    let figure_at = reader.optional_instant("figure_at")?;
    Ok(Refunds {
        by_id: reader.map("by_id")?.iter().map(read_refund).collect::<Result<_, _>>()?,
        latest_at: reader.optional_instant("latest_at")?,
        figure: figure_minor.map(|refunded_minor| ChargeFigure { refunded_minor, at: figure_at }),
    })
}

fn read_refund((id, value): (&String, &AttributeValue)) -> Result<(String, Refund), Corrupt> {
    let reader = Reader(value.as_m().map_err(|_| Corrupt::Attribute("refunds"))?);
    let status = named(&REFUND_STATUSES, refund_status_name, reader.text("status")?)?;
    let (amount_minor, made_at) = (reader.number("amount_minor")?, reader.optional_instant("made_at")?);
    Ok((id.clone(), Refund { amount_minor, status, made_at }))
}

fn refund_status_name(status: RefundStatus) -> &'static str {
    match status {
        RefundStatus::Pending => "pending",
        RefundStatus::Succeeded => "succeeded",
        RefundStatus::Failed => "failed",
    }
}

fn dispute_status_name(status: DisputeStatus) -> &'static str {
    match status {
        DisputeStatus::Inquiry => "inquiry",
        DisputeStatus::Open => "open",
        DisputeStatus::Won => "won",
        DisputeStatus::Lost => "lost",
    }
}

fn named<T: Copy>(all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T, Corrupt> {
    all.iter().copied().find(|status| name_of(*status) == name).ok_or(Corrupt::Attribute("status"))
}

fn dispute_value(dispute: Dispute) -> AttributeValue {
    let mut value = Item::from([
        ("amount_minor".to_owned(), number(dispute.amount_minor)),
        ("status".to_owned(), text(dispute_status_name(dispute.status))),
    ]);
    let mut put = |name: &str, given: AttributeValue| drop(value.insert(name.to_owned(), given));
    dispute.currency.iter().for_each(|currency| put("currency", text(currency.as_str())));
    dispute.at.iter().for_each(|at| put("at", instant(*at)));
    if let Some(withheld) = dispute.withheld {
        put("withheld_minor", number(withheld.amount_minor));
        put("withheld_currency", text(withheld.currency.as_str()));
    }
    AttributeValue::M(value)
}

fn read_disputes(item: &Item) -> Result<BTreeMap<String, Dispute>, Corrupt> {
    item.iter().map(read_dispute).collect()
}

fn read_dispute((id, value): (&String, &AttributeValue)) -> Result<(String, Dispute), Corrupt> {
    let item = value.as_m().map_err(|_| Corrupt::Attribute("disputes"))?;
    let reader = Reader(item);
    let currency = |name| item.contains_key(name).then(|| reader.parsed(name)).transpose();
    let withheld = match currency("withheld_currency")? {
        Some(currency) => Some(Price { amount_minor: reader.number("withheld_minor")?, currency }),
        None => None,
    };
    let dispute = Dispute {
        amount_minor: reader.number("amount_minor")?,
        currency: currency("currency")?,
        withheld,
        status: named(&DISPUTE_STATUSES, dispute_status_name, reader.text("status")?)?,
        at: reader.optional_instant("at")?,
    };
    Ok((id.clone(), dispute))
}
