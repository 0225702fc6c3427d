//! Webhook events: the types and members of Stripe's events that this crate reads, in every API version from 2020-08-27
//! on.

use credits_core::payment::{AttemptStatus, Attempted, MetadataIds, News, Paid, PaidSource};
use credits_core::price::{Currency, Price};
use jiff::Timestamp;
use serde_json::Value;

use self::dispute::Funds;
use crate::object::{BadMember, Object};

mod dispute;
mod refund;

#[cfg(feature = "client")]
pub(crate) use refund::refund_status;

/// A webhook event in the terms of this application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StripeEvent {
    /// A change of a payment.
    Payment { payment_id: String, news: News },
    /// A change of an unpaid checkout.
    Checkout {
        checkout_id: String,
        /// The purchase id in the metadata. It is untrusted and is not validated before the lookup.
        purchase_id: String,
        news: CheckoutNews,
    },
    /// A setup checkout stored a payment method.
    Method(NewMethod),
    /// The event has no effect.
    Ignored(Ignored),
}

/// A change of an unpaid checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutNews {
    /// The payer confirmed a bank debit, which is still processing.
    Processing,
    Failed,
    /// The checkout can no longer be paid.
    Expired,
}

/// A payment method that a person stored for a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMethod {
    /// The workspace id in the metadata. It is untrusted and is not validated before the lookup.
    pub workspace_id: String,
    pub customer: String,
    /// Stripe's id of the method; `None` if the event does not have it.
    pub payment_method: Option<String>,
    /// When Stripe created the event.
    pub at: Option<Timestamp>,
}

/// The reason why an event has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// The event belongs to another Stripe account (Connect).
    OtherAccount,
    /// The event is of test mode and live mode is expected, or the reverse.
    OtherMode,
    /// The object lacks the metadata of this application: another application on the Stripe account created it.
    NotOurs,
    /// This crate does not read the event type.
    UnknownType,
    /// The object is in a state that has no effect, or lacks what the effect needs.
    NothingFollows,
}

/// The Stripe mode from which events are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Live mode: real payments.
    Live,
    Test,
    /// Both modes.
    Any,
}

/// The reason why a signed event can't be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("the event is not JSON")]
    Json(#[source] serde_json::Error),
    /// Members that this crate reads are missing or invalid. Holds all of them.
    #[error("{} members of the event are missing or invalid", .0.len())]
    Members(Vec<BadMember>),
}

impl From<Vec<BadMember>> for EventError {
    fn from(bad: Vec<BadMember>) -> Self {
        Self::Members(bad)
    }
}

impl Ignored {
    /// Returns the value of the metric's dimension `Reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherAccount => "other_account",
            Self::OtherMode => "other_mode",
            Self::NotOurs => "not_ours",
            Self::UnknownType => "unknown_type",
            Self::NothingFollows => "nothing_follows",
        }
    }
}

/// Reads a signed event. The caller must verify the signature first.
pub fn read(body: &[u8], mode: Mode) -> Result<StripeEvent, EventError> {
    let event: Value = serde_json::from_slice(body).map_err(EventError::Json)?;
    let Some(kind) = event.get("type").and_then(Value::as_str) else {
        return Err(vec![BadMember { field: "type".to_owned(), message: "must be a text" }].into());
    };
    if let Some(ignored) = ignored_by_origin(&event, mode) {
        return Ok(StripeEvent::Ignored(ignored));
    }
    let at = event.get("created").and_then(Value::as_i64).and_then(|at| Timestamp::from_second(at).ok());
    let object = event.pointer("/data/object").unwrap_or(&Value::Null);
    Ok(match kind {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            completed_session(object, at)?
        }
        "checkout.session.async_payment_failed" => unpaid_session(object, CheckoutNews::Failed)?,
        "checkout.session.expired" => unpaid_session(object, CheckoutNews::Expired)?,
        "payment_intent.succeeded" => paid_intent(object, at)?,
        "payment_intent.processing" => attempted_intent(object, AttemptStatus::Processing)?,
        "payment_intent.payment_failed" => attempted_intent(object, AttemptStatus::Failed)?,
        "setup_intent.succeeded" => setup_intent(object, at)?,
        "charge.succeeded" => receipt(object)?,
        "charge.refunded" => refund::read_charge(object, at)?,
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            refund::read(object, at)?
        }
        "charge.dispute.created" | "charge.dispute.updated" | "charge.dispute.closed" => {
            dispute::read(object, Funds::AsStatusSays, at)?
        }
        "charge.dispute.funds_withdrawn" => dispute::read(object, Funds::Withdrawn, at)?,
        "charge.dispute.funds_reinstated" => dispute::read(object, Funds::Reinstated, at)?,
        _ => StripeEvent::Ignored(Ignored::UnknownType),
    })
}

/// Returns why an event is ignored for its account or mode; `None` to accept it.
///
/// An event without `livemode` is accepted. Stripe always sets it; only events that tests make lack it.
fn ignored_by_origin(event: &Value, mode: Mode) -> Option<Ignored> {
    if event.get("account").is_some_and(|account| !account.is_null()) {
        return Some(Ignored::OtherAccount);
    }
    // Here `?` accepts the event.
    let live = event.get("livemode").and_then(Value::as_bool)?;
    let expected = match mode {
        Mode::Live => live,
        Mode::Test => !live,
        Mode::Any => true,
    };
    (!expected).then_some(Ignored::OtherMode)
}

/// Reads a completed session that was fetched from Stripe's API with its expanded payment intent.
#[cfg(feature = "client")]
pub(crate) fn of_session(session: &Value) -> Result<StripeEvent, EventError> {
    let intent_status = session.pointer("/payment_intent/status").and_then(Value::as_str);
    if session["payment_status"] == "unpaid" && intent_status == Some("requires_payment_method") {
        return Ok(unpaid_session(session, CheckoutNews::Failed)?);
    }
    Ok(completed_session(session, None)?)
}

fn completed_session(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut session = Object::of(object)?;
    match session.optional_text("mode") {
        Some("setup") => return Ok(setup_session(&session, at)),
        // This application renews subscriptions itself and never opens a session of this mode.
        Some("subscription") => return Ok(StripeEvent::Ignored(Ignored::NotOurs)),
        _ => {}
    }
    let Some(ids) = metadata_ids(&session) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    match session.text("payment_status") {
        Some("unpaid") => return unpaid_session(object, CheckoutNews::Processing),
        // A missing status is already recorded as a bad member.
        Some("paid" | "no_payment_required") | None => {}
        Some(_) => return Ok(StripeEvent::Ignored(Ignored::NothingFollows)),
    }
    // If nothing had to be paid, Stripe creates no payment, and the session's id takes its place.
    let payment_id = session.reference("payment_intent").or_else(|| session.id("id"));
    let currency = currency(&mut session);
    let amount_minor = amount(&mut session, "amount_total", currency);
    let subtotal = session.optional_number("amount_subtotal").zip(currency);
    let subtotal = subtotal.and_then(|(subtotal, currency)| Price::from_provider(subtotal, currency).ok());
    let parsed = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let paid = Paid {
            amount_minor,
            subtotal_minor: subtotal.map(|subtotal| subtotal.amount_minor),
            currency,
            ids,
            customer: session.reference("customer"),
            payment_method: None,
            at,
            source: PaidSource::Session,
        };
        StripeEvent::Payment { payment_id, news: News::Paid(paid) }
    });
    session.finish(parsed)
}

fn setup_session(session: &Object<'_>, at: Option<Timestamp>) -> StripeEvent {
    let Some(workspace_id) = session.metadata("workspace_id") else {
        return StripeEvent::Ignored(Ignored::NotOurs);
    };
    // Without a customer, there is no one whose method can be charged.
    let Some(customer) = session.reference("customer") else {
        return StripeEvent::Ignored(Ignored::NothingFollows);
    };
    StripeEvent::Method(NewMethod { workspace_id, customer, payment_method: None, at })
}

fn unpaid_session(object: &Value, news: CheckoutNews) -> Result<StripeEvent, Vec<BadMember>> {
    let mut session = Object::of(object)?;
    let Some(ids) = metadata_ids(&session) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    // A session that stores a payment method names only the workspace.
    let Some(purchase_id) = ids.purchase_id else {
        return Ok(StripeEvent::Ignored(Ignored::NothingFollows));
    };
    let checkout_id = session.id("id");
    session.finish(checkout_id.map(|checkout_id| StripeEvent::Checkout { checkout_id, purchase_id, news }))
}

fn paid_intent(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let Some(ids) = metadata_ids(&intent) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    let (payment_id, currency) = (intent.id("id"), currency(&mut intent));
    let amount_member =
        if intent.optional_number("amount_received").is_some() { "amount_received" } else { "amount" };
    let amount_minor = amount(&mut intent, amount_member, currency);
    let parsed = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let paid = Paid {
            amount_minor,
            subtotal_minor: None,
            currency,
            ids,
            customer: intent.reference("customer"),
            payment_method: intent.reference("payment_method"),
            at,
            source: PaidSource::Intent,
        };
        StripeEvent::Payment { payment_id, news: News::Paid(paid) }
    });
    intent.finish(parsed)
}

fn attempted_intent(object: &Value, status: AttemptStatus) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let Some(ids) = metadata_ids(&intent) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    let (payment_id, currency) = (intent.id("id"), currency(&mut intent));
    let amount_minor = amount(&mut intent, "amount", currency);
    let parsed = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let attempted = Attempted { status, amount_minor, currency, ids };
        StripeEvent::Payment { payment_id, news: News::Attempted(attempted) }
    });
    intent.finish(parsed)
}

fn setup_intent(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let Some(workspace_id) = intent.metadata("workspace_id") else {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    };
    let (customer, payment_method) = (intent.id("customer"), intent.reference("payment_method"));
    let parsed = customer
        .map(|customer| StripeEvent::Method(NewMethod { workspace_id, customer, payment_method, at }));
    intent.finish(parsed)
}

fn receipt(object: &Value) -> Result<StripeEvent, Vec<BadMember>> {
    let mut charge = Object::of(object)?;
    if metadata_ids(&charge).is_none() {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    }
    let Some(receipt_url) = charge.optional_text("receipt_url").map(str::to_owned) else {
        return Ok(StripeEvent::Ignored(Ignored::NothingFollows));
    };
    let payment_id = charge.first_reference(&["payment_intent", "id"]);
    let news = News::Receipt(receipt_url);
    charge.finish(payment_id.map(|payment_id| StripeEvent::Payment { payment_id, news }))
}

/// Reads the ids that this application puts into metadata; `None` if the object has none of them. A top-up has
/// `top_up_id`, every other purchase `purchase_id`.
///
/// Functions call this before they read other members, so that a bad object of another application is ignored.
fn metadata_ids(object: &Object<'_>) -> Option<MetadataIds> {
    let purchase_id = object.metadata("top_up_id").or_else(|| object.metadata("purchase_id"));
    let workspace_id = object.metadata("workspace_id");
    let ours = purchase_id.is_some() || workspace_id.is_some();
    ours.then_some(MetadataIds { purchase_id, workspace_id })
}

fn currency(object: &mut Object<'_>) -> Option<Currency> {
    object.parsed("currency", "must be a three-letter currency code")
}

fn optional_currency(object: &Object<'_>) -> Option<Currency> {
    object.optional_text("currency")?.parse().ok()
}

/// Reads an amount in Stripe's unit and converts it to the currency's minor units by ISO 4217.
///
/// If `currency` is `None`, returns the amount in Stripe's unit. A required currency that is bad is already recorded as a
/// bad member, so the caller's `finish` fails.
fn amount(object: &mut Object<'_>, name: &str, currency: Option<Currency>) -> Option<u64> {
    let amount = object.number(name)?;
    let Some(currency) = currency else { return Some(amount) };
    let converted = Price::from_provider(amount, currency).ok().map(|price| price.amount_minor);
    object.expect(name, converted, "must be a whole number of the currency's minor units")
}

#[cfg(test)]
mod tests;
