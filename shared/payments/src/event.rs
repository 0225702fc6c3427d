//! Webhook events: the types and members of Stripe's events that this crate reads, in every API version from 2020-08-27
//! on.

use credits_core::payment::{AttemptStatus, Attempted, Named, News, Paid, PaidSource};
use credits_core::price::{Currency, Price};
use jiff::Timestamp;
use serde_json::Value;

use self::dispute::Funds;
use crate::object::{BadMember, Object};

mod dispute;
mod refund;

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
    /// The object lacks our metadata: another application on the same Stripe account created it.
    NotOurs,
    /// This crate does not read the event type.
    UnknownType,
    /// The object is in a state that has no effect.
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
    if let Some(ignored) = not_for_us(&event, mode) {
        return Ok(StripeEvent::Ignored(ignored));
    }
    let at = event.get("created").and_then(Value::as_i64).and_then(|at| Timestamp::from_second(at).ok());
    let object = event.pointer("/data/object").unwrap_or(&Value::Null);
    Ok(match kind {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            completed_session(object, at)?
        }
        "checkout.session.async_payment_failed" => ended_session(object, CheckoutNews::Failed)?,
        "checkout.session.expired" => ended_session(object, CheckoutNews::Expired)?,
        "payment_intent.succeeded" => paid_intent(object, at)?,
        "payment_intent.processing" => attempted_intent(object, AttemptStatus::Processing)?,
        "payment_intent.payment_failed" => attempted_intent(object, AttemptStatus::Failed)?,
        "setup_intent.succeeded" => setup_intent(object, at)?,
        "charge.succeeded" => receipt(object)?,
        "charge.refunded" => refund::figure(object, at)?,
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

fn not_for_us(event: &Value, mode: Mode) -> Option<Ignored> {
    if event.get("account").is_some_and(|account| !account.is_null()) {
        return Some(Ignored::OtherAccount);
    }
    let live = event.get("livemode").and_then(Value::as_bool)?;
    let expected = match mode {
        Mode::Live => live,
        Mode::Test => !live,
        Mode::Any => true,
    };
    (!expected).then_some(Ignored::OtherMode)
}

/// Reads a completed session that was fetched from Stripe's API with its expanded payment intent.
pub(crate) fn of_session(session: &Value) -> Result<StripeEvent, EventError> {
    let failed = session.pointer("/payment_intent/status").and_then(Value::as_str);
    if session["payment_status"] == "unpaid" && failed == Some("requires_payment_method") {
        return Ok(ended_session(session, CheckoutNews::Failed)?);
    }
    Ok(completed_session(session, None)?)
}

fn completed_session(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut session = Object::of(object)?;
    match session.optional_text("mode") {
        Some("setup") => return Ok(setup_session(&session, at)),
        Some("subscription") => return Ok(StripeEvent::Ignored(Ignored::NotOurs)),
        _ => {}
    }
    let Some(named) = named(&session) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    match session.text("payment_status") {
        Some("unpaid") => return ended_session(object, CheckoutNews::Processing),
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
    let read = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let paid = Paid {
            amount_minor,
            subtotal_minor: subtotal.map(|subtotal| subtotal.amount_minor),
            currency,
            named,
            customer: session.reference("customer"),
            payment_method: None,
            at,
            source: PaidSource::Session,
        };
        StripeEvent::Payment { payment_id, news: News::Paid(paid) }
    });
    session.finish(read)
}

fn setup_session(session: &Object<'_>, at: Option<Timestamp>) -> StripeEvent {
    let stored = session.metadata("workspace_id").zip(session.reference("customer"));
    match stored {
        Some((workspace_id, customer)) => {
            StripeEvent::Method(NewMethod { workspace_id, customer, payment_method: None, at })
        }
        None => StripeEvent::Ignored(Ignored::NotOurs),
    }
}

fn ended_session(object: &Value, news: CheckoutNews) -> Result<StripeEvent, Vec<BadMember>> {
    let mut session = Object::of(object)?;
    let Some(purchase_id) = named(&session).and_then(|named| named.purchase_id) else {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    };
    let checkout_id = session.id("id");
    session.finish(checkout_id.map(|checkout_id| StripeEvent::Checkout { checkout_id, purchase_id, news }))
}

fn paid_intent(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let (payment_id, currency) = (intent.id("id"), currency(&mut intent));
    let received =
        if intent.optional_number("amount_received").is_some() { "amount_received" } else { "amount" };
    let amount_minor = amount(&mut intent, received, currency);
    let Some(named) = named(&intent) else { return ignored_unless_bad(intent) };
    let read = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let paid = Paid {
            amount_minor,
            subtotal_minor: None,
            currency,
            named,
            customer: intent.reference("customer"),
            payment_method: intent.reference("payment_method"),
            at,
            source: PaidSource::Intent,
        };
        StripeEvent::Payment { payment_id, news: News::Paid(paid) }
    });
    intent.finish(read)
}

fn attempted_intent(object: &Value, status: AttemptStatus) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let Some(named) = named(&intent) else { return Ok(StripeEvent::Ignored(Ignored::NotOurs)) };
    let (payment_id, currency) = (intent.id("id"), currency(&mut intent));
    let amount_minor = amount(&mut intent, "amount", currency);
    let read = payment_id.zip(amount_minor.zip(currency)).map(|(payment_id, (amount_minor, currency))| {
        let attempted = Attempted { status, amount_minor, currency, named };
        StripeEvent::Payment { payment_id, news: News::Attempted(attempted) }
    });
    intent.finish(read)
}

fn setup_intent(object: &Value, at: Option<Timestamp>) -> Result<StripeEvent, Vec<BadMember>> {
    let mut intent = Object::of(object)?;
    let Some(workspace_id) = intent.metadata("workspace_id") else {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    };
    let (customer, payment_method) = (intent.id("customer"), intent.reference("payment_method"));
    let read = customer
        .map(|customer| StripeEvent::Method(NewMethod { workspace_id, customer, payment_method, at }));
    intent.finish(read)
}

fn receipt(object: &Value) -> Result<StripeEvent, Vec<BadMember>> {
    let mut charge = Object::of(object)?;
    let receipt_url = charge.optional_text("receipt_url").map(str::to_owned);
    let (Some(_), Some(receipt_url)) = (named(&charge), receipt_url) else {
        return Ok(StripeEvent::Ignored(Ignored::NotOurs));
    };
    let payment_id = charge.first_reference(&["payment_intent", "id"]);
    let news = News::Receipt(receipt_url);
    charge.finish(payment_id.map(|payment_id| StripeEvent::Payment { payment_id, news }))
}

/// Reads the ids in our metadata; `None` if the object has none of them. A top-up has `top_up_id`, every other purchase
/// `purchase_id`.
fn named(object: &Object<'_>) -> Option<Named> {
    let purchase_id = object.metadata("top_up_id").or_else(|| object.metadata("purchase_id"));
    let workspace_id = object.metadata("workspace_id");
    let ours = purchase_id.is_some() || workspace_id.is_some();
    ours.then_some(Named { purchase_id, workspace_id })
}

fn currency(object: &mut Object<'_>) -> Option<Currency> {
    object.parsed("currency", "must be a three-letter currency code")
}

fn optional_currency(object: &Object<'_>) -> Option<Currency> {
    object.optional_text("currency")?.parse().ok()
}

/// Reads an amount in Stripe's unit and converts it to the currency's minor units by ISO 4217.
fn amount(object: &mut Object<'_>, name: &str, currency: Option<Currency>) -> Option<u64> {
    let amount = object.number(name)?;
    let Some(currency) = currency else { return Some(amount) };
    let read = Price::from_provider(amount, currency).ok().map(|price| price.amount_minor);
    object.expect(name, read, "must be a whole number of the currency's minor units")
}

fn ignored_unless_bad(object: Object<'_>) -> Result<StripeEvent, Vec<BadMember>> {
    object.finish(Some(StripeEvent::Ignored(Ignored::NotOurs)))
}

#[cfg(test)]
mod tests {
    use super::{CheckoutNews, EventError, Ignored, Mode, StripeEvent, read};
    use credits_core::dispute::{Dispute, DisputeStatus};
    use credits_core::payment::{AttemptStatus, News, Paid};
    use credits_core::price::Price;
    use credits_core::refund::{ChargeFigure, Refund, RefundStatus};

    fn event(kind: &str, object: &str) -> Result<StripeEvent, EventError> {
        read(
            format!(r#"{{"id":"evt_1","type":"{kind}","data":{{"object":{object}}}}}"#).as_bytes(),
            Mode::Any,
        )
    }

    const OURS: &str = r#""metadata":{"workspace_id":"acme","top_up_id":"top_1"}"#;

    #[test]
    fn a_session_that_is_not_paid_says_how_it_stands() {
        let session = format!(
            r#"{{"id":"cs_1","mode":"payment","payment_status":"unpaid","amount_total":900,"currency":"usd",{OURS}}}"#
        );
        for (kind, expected) in [
            ("completed", CheckoutNews::Processing),
            ("async_payment_failed", CheckoutNews::Failed),
            ("expired", CheckoutNews::Expired),
        ] {
            let read = event(&format!("checkout.session.{kind}"), &session).unwrap();
            let (checkout_id, purchase_id) = ("cs_1".into(), "top_1".into());
            assert_eq!(read, StripeEvent::Checkout { checkout_id, purchase_id, news: expected });
        }
    }

    #[test]
    fn what_no_one_reads_is_ignored_with_the_reason() {
        let ignored = |body: &str, mode| match read(body.as_bytes(), mode).unwrap() {
            StripeEvent::Ignored(ignored) => ignored,
            other => panic!("{other:?}"),
        };
        let paid = r#"{"id":"pi_1","amount":900,"currency":"usd","metadata":{"order":"7"}}"#;
        let of = |more: &str, object: &str| {
            format!(r#"{{"type":"payment_intent.succeeded"{more},"data":{{"object":{object}}}}}"#)
        };
        assert_eq!(ignored(&of("", paid), Mode::Any), Ignored::NotOurs);
        assert_eq!(ignored(&of(r#","account":"acct_1""#, paid), Mode::Any), Ignored::OtherAccount);
        assert_eq!(ignored(&of(r#","livemode":true"#, paid), Mode::Test), Ignored::OtherMode);
        assert_eq!(ignored(&of(r#","livemode":false"#, paid), Mode::Live), Ignored::OtherMode);
        assert_eq!(ignored(r#"{"type":"customer.created","data":null}"#, Mode::Any), Ignored::UnknownType);
        assert_eq!(ignored(r#"{"type":"v2.core.event"}"#, Mode::Any), Ignored::UnknownType);
    }

    #[test]
    fn all_events_of_a_payment_have_the_same_payment_id() {
        let name = |kind: &str, object: &str| match event(kind, object).unwrap() {
            StripeEvent::Payment { payment_id, .. } => payment_id,
            other => format!("{other:?}"),
        };
        let session = format!(
            r#"{{"id":"cs_1","payment_intent":"pi_1","payment_status":"paid","amount_total":900,"currency":"usd",{OURS}}}"#
        );
        assert_eq!(name("checkout.session.completed", &session), "pi_1");
        let intent = format!(r#"{{"id":"pi_1","amount":900,"currency":"usd",{OURS}}}"#);
        for kind in ["succeeded", "processing", "payment_failed"] {
            assert_eq!(name(&format!("payment_intent.{kind}"), &intent), "pi_1");
        }
        let charge = r#"{"id":"ch_1","payment_intent":{"id":"pi_1"},"amount_refunded":1}"#;
        assert_eq!(name("charge.refunded", charge), "pi_1");
        let dispute =
            r#"{"id":"dp_1","charge":"ch_1","payment_intent":"pi_1","amount":900,"status":"needs_response"}"#;
        assert_eq!(name("charge.dispute.created", dispute), "pi_1");
    }

    #[test]
    fn price_is_the_subtotal_despite_tax_and_discounts() {
        let session = |status: &str, intent: &str, total: u64| {
            format!(
                r#"{{"id":"cs_1","payment_intent":{intent},"payment_status":"{status}","amount_subtotal":900,
                "amount_total":{total},"currency":"usd",{OURS}}}"#
            )
        };
        let paid = |object: &str| match event("checkout.session.completed", object).unwrap() {
            StripeEvent::Payment { payment_id, news: News::Paid(paid) } => {
                (payment_id, paid.asked_minor(), paid.amount_minor)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(paid(&session("paid", r#""pi_1""#, 1_071)), ("pi_1".into(), 900, 1_071));
        assert_eq!(paid(&session("no_payment_required", "null", 0)), ("cs_1".into(), 900, 0));
    }

    #[test]
    fn dispute_status_follows_from_status_and_event_type() {
        let dispute = |kind: &str, status: &str| {
            let object = format!(
                r#"{{"id":"dp_1","payment_intent":"pi_1","amount":9,"currency":"jpy","status":"{status}",
                    "balance_transactions":[{{"amount":-7,"currency":"usd"}},{{"amount":7,"currency":"usd"}}]}}"#
            );
            match event(&format!("charge.dispute.{kind}"), &object).unwrap() {
                StripeEvent::Payment { news: News::Disputed { dispute, .. }, .. } => dispute,
                other => panic!("{other:?}"),
            }
        };
        for (kind, status, expected) in [
            ("created", "warning_needs_response", DisputeStatus::Inquiry),
            ("updated", "needs_response", DisputeStatus::Open),
            ("funds_withdrawn", "warning_under_review", DisputeStatus::Open),
            ("closed", "lost", DisputeStatus::Lost),
            ("funds_reinstated", "lost", DisputeStatus::Won),
            ("closed", "charge_refunded", DisputeStatus::Won),
        ] {
            assert_eq!(dispute(kind, status).status, expected, "{kind} {status}");
        }
        let withheld = Some(Price { amount_minor: 7, currency: "usd".parse().unwrap() });
        let currency = "jpy".parse().ok();
        let expected = Dispute { amount_minor: 9, currency, withheld, status: DisputeStatus::Open, at: None };
        assert_eq!(dispute("updated", "under_review"), expected);
    }

    #[test]
    fn refund_events_have_the_refund_status() {
        let refund = |kind: &str, status: &str| {
            let object = format!(
                r#"{{"id":"re_1","charge":"ch_1","payment_intent":"pi_1","amount":9,"status":{status},"created":5}}"#
            );
            match event(kind, &object).unwrap() {
                StripeEvent::Payment { payment_id, news: News::Refund { refund_id, refund, .. } } => {
                    assert_eq!((payment_id.as_str(), refund_id.as_str()), ("pi_1", "re_1"));
                    refund
                }
                other => panic!("{other:?}"),
            }
        };
        for (kind, status, expected) in [
            ("refund.created", r#""pending""#, RefundStatus::Pending),
            ("refund.created", r#""requires_action""#, RefundStatus::Pending),
            ("refund.updated", r#""succeeded""#, RefundStatus::Succeeded),
            ("refund.updated", r#""canceled""#, RefundStatus::Failed),
            ("refund.failed", r#""failed""#, RefundStatus::Failed),
            ("charge.refund.updated", "null", RefundStatus::Pending),
        ] {
            let made_at = jiff::Timestamp::from_second(5).ok();
            assert_eq!(refund(kind, status), Refund { amount_minor: 9, status: expected, made_at });
        }
    }

    #[test]
    fn stored_method_is_read_from_both_events() {
        let intent = r#"{"id":"seti_1","customer":"cus_1","payment_method":"pm_1","metadata":{"workspace_id":"acme"}}"#;
        let StripeEvent::Method(stored) = event("setup_intent.succeeded", intent).unwrap() else { panic!() };
        assert_eq!((stored.customer.as_str(), stored.payment_method.as_deref()), ("cus_1", Some("pm_1")));
        let session = r#"{"id":"cs_1","mode":"setup","payment_status":"no_payment_required","customer":"cus_1",
            "metadata":{"workspace_id":"acme"}}"#;
        let StripeEvent::Method(stored) = event("checkout.session.completed", session).unwrap() else {
            panic!()
        };
        assert_eq!((stored.workspace_id.as_str(), stored.payment_method), ("acme", None));
    }

    #[test]
    fn stripe_amounts_are_converted_to_iso_minor_units() {
        let news = |kind: &str, object: &str| match event(kind, object).unwrap() {
            StripeEvent::Payment { news, .. } => news,
            other => panic!("{other:?}"),
        };
        let paid = |news: News| match news {
            News::Paid(Paid { amount_minor, currency, .. }) => format!("{currency} {amount_minor}"),
            other => panic!("{other:?}"),
        };
        let session = format!(
            r#"{{"id":"cs_1","payment_status":"paid","amount_total":3700000,"currency":"ugx",{OURS}}}"#
        );
        assert_eq!(paid(news("checkout.session.completed", &session)), "UGX 37000");
        let intent = format!(r#"{{"id":"pi_1","amount":370,"amount_received":370,"currency":"mga",{OURS}}}"#);
        assert_eq!(paid(news("payment_intent.succeeded", &intent)), "MGA 37000");
        let refund = r#"{"id":"ch_1","amount_refunded":500,"currency":"isk"}"#;
        assert_eq!(
            news("charge.refunded", refund),
            News::Figure(ChargeFigure { refunded_minor: 5, at: None })
        );
        let odd = format!(r#"{{"id":"pi_1","amount":550,"currency":"isk",{OURS}}}"#);
        assert!(matches!(event("payment_intent.succeeded", &odd), Err(EventError::Members(_))));
    }

    #[test]
    fn all_bad_members_are_reported() {
        let bad = |read: Result<StripeEvent, EventError>| match read {
            Err(EventError::Members(bad)) => bad.into_iter().map(|bad| bad.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let intent = bad(event("payment_intent.succeeded", "{}"));
        assert_eq!(intent, ["data.object.id", "data.object.currency", "data.object.amount"]);
        let object = format!(r#"{{"id":"pi#1","amount":1,"currency":"usd",{OURS}}}"#);
        assert_eq!(bad(event("payment_intent.succeeded", &object)), ["data.object.id"]);
        assert_eq!(bad(event("charge.refunded", "[]")), ["data.object"]);
        assert_eq!(
            bad(event("charge.dispute.closed", "{}")),
            ["data.object.id", "data.object.amount", "data.object.status", "data.object.payment_intent"]
        );
        assert_eq!(bad(read(b"[]", Mode::Any)), ["type"]);
        assert!(matches!(read(b"{", Mode::Any), Err(EventError::Json(_))));
    }

    #[test]
    fn failed_attempt_is_not_a_payment() {
        let object = format!(r#"{{"id":"pi_1","amount":900,"currency":"usd",{OURS}}}"#);
        let StripeEvent::Payment { news: News::Attempted(attempted), .. } =
            event("payment_intent.payment_failed", &object).unwrap()
        else {
            panic!("not an attempted payment")
        };
        assert_eq!((attempted.status, attempted.amount_minor), (AttemptStatus::Failed, 900));
    }
}
