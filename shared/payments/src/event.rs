//! Events: the few types and fields of the provider's that we read (API.md, Payments).

use std::collections::HashMap;

use credits_core::payment::{Dispute, DisputeStatus, News, Paid};
use credits_core::price::{Currency, Price, UnreadableAmount};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The most characters that an id of the provider's may have; Stripe says 255.
const MOST_CHARACTERS: usize = 255;

/// What an event means to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something about a payment.
    Payment {
        /// The provider's id of the payment.
        payment_id: String,
        /// What is told of it.
        news: News,
    },
    /// Of a type, or in a state, that changes nothing here.
    LeftAlone,
}

/// Why a signed event can't be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is not JSON.
    #[error("the event is not JSON")]
    Json(#[source] serde_json::Error),
    /// It is JSON, but not the event that its type says it is.
    #[error("the event is not as its type says")]
    Shape(#[source] serde_json::Error),
    /// A paid session says neither how much nor in which currency.
    #[error("the event names no amount")]
    NoAmount,
    /// An id is missing, too long, or has characters that no id has.
    #[error("the event names no payment")]
    NoPayment,
    /// An amount is not a whole number of ISO 4217 minor units.
    #[error(transparent)]
    Amount(#[from] UnreadableAmount),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    // Of a type that we don't read it may be anything.
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    payment_intent: Option<Reference>,
    payment_status: String,
    // A session that asks for no payment has neither.
    amount_total: Option<u64>,
    currency: Option<Currency>,
    customer: Option<Reference>,
    client_reference_id: Option<String>,
    metadata: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Intent {
    id: String,
    amount: u64,
    amount_received: Option<u64>,
    currency: Currency,
    customer: Option<Reference>,
    metadata: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Charge {
    id: String,
    payment_intent: Option<Reference>,
    amount_refunded: u64,
    currency: Currency,
}

#[derive(Deserialize)]
struct ProviderDispute {
    id: String,
    payment_intent: Option<Reference>,
    charge: Option<Reference>,
    amount: u64,
    currency: Currency,
    status: String,
}

/// A reference to another object of the provider's: its id, or the object itself where it was expanded.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Expanded { id: String },
}

impl Reference {
    fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Expanded { id } => id,
        }
    }
}

/// Reads a signed event. The caller has verified the signature before.
pub fn read(body: &[u8]) -> Result<Event, EventError> {
    let json: Value = serde_json::from_slice(body).map_err(EventError::Json)?;
    let Envelope { kind, mut data } = members(json)?;
    let object = data.get_mut("object").map(Value::take).unwrap_or_default();
    match kind.as_str() {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            session(members(object)?)
        }
        "payment_intent.succeeded" => intent(members(object)?),
        "charge.refunded" => charge(members(object)?),
        "charge.dispute.created" | "charge.dispute.closed" => dispute(members(object)?),
        // A failed payment leaves its checkout open: the payer may try again, and nothing is granted.
        _ => Ok(Event::LeftAlone),
    }
}

/// Reads an object. An array is none, though its items could pass for the members in their order.
fn members<T: DeserializeOwned>(value: Value) -> Result<T, EventError> {
    let members: Map<String, Value> = serde_json::from_value(value).map_err(EventError::Shape)?;
    serde_json::from_value(Value::Object(members)).map_err(EventError::Shape)
}

fn session(session: Session) -> Result<Event, EventError> {
    if session.payment_status != "paid" {
        return Ok(Event::LeftAlone);
    }
    let (amount, currency) = session.amount_total.zip(session.currency).ok_or(EventError::NoAmount)?;
    let Price { amount_minor, currency } = Price::from_provider(amount, currency)?;
    let mut metadata = session.metadata.unwrap_or_default();
    let paid = Paid {
        amount_minor,
        currency,
        purchase_id: named_purchase(&mut metadata).or(session.client_reference_id),
        workspace_id: metadata.remove("workspace_id"),
        customer: session.customer.map(Reference::into_id).and_then(|id| valid(id).ok()),
    };
    payment(session.payment_intent.map_or(session.id, Reference::into_id), News::Paid(paid))
}

fn intent(intent: Intent) -> Result<Event, EventError> {
    let amount = intent.amount_received.unwrap_or(intent.amount);
    let Price { amount_minor, currency } = Price::from_provider(amount, intent.currency)?;
    let mut metadata = intent.metadata.unwrap_or_default();
    let paid = Paid {
        amount_minor,
        currency,
        purchase_id: named_purchase(&mut metadata),
        workspace_id: metadata.remove("workspace_id"),
        customer: intent.customer.map(Reference::into_id).and_then(|id| valid(id).ok()),
    };
    payment(intent.id, News::Paid(paid))
}

/// A top-up stands under its own name (API.md, Payments), all else under the general one.
fn named_purchase(metadata: &mut HashMap<String, String>) -> Option<String> {
    metadata.remove("top_up_id").or_else(|| metadata.remove("purchase_id"))
}

fn charge(charge: Charge) -> Result<Event, EventError> {
    let refunded = Price::from_provider(charge.amount_refunded, charge.currency)?;
    let refunded = News::Refunded { refunded_minor: refunded.amount_minor };
    payment(charge.payment_intent.map_or(charge.id, Reference::into_id), refunded)
}

fn dispute(dispute: ProviderDispute) -> Result<Event, EventError> {
    let status = match dispute.status.as_str() {
        // A dispute that a refund ended withholds nothing itself: the refund is told, and counted, on its own.
        "won" | "charge_refunded" => DisputeStatus::Won,
        "lost" => DisputeStatus::Lost,
        // An inquiry withholds no money, and a prevented one never did.
        "prevented" => DisputeStatus::Inquiry,
        status if status.starts_with("warning_") => DisputeStatus::Inquiry,
        _ => DisputeStatus::Open,
    };
    let Price { amount_minor, .. } = Price::from_provider(dispute.amount, dispute.currency)?;
    let news = News::Disputed { dispute_id: valid(dispute.id)?, dispute: Dispute { amount_minor, status } };
    let paid_by = dispute.payment_intent.or(dispute.charge).ok_or(EventError::NoPayment)?;
    payment(paid_by.into_id(), news)
}

fn payment(payment_id: String, news: News) -> Result<Event, EventError> {
    Ok(Event::Payment { payment_id: valid(payment_id)?, news })
}

fn valid(id: String) -> Result<String, EventError> {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain && (1..=MOST_CHARACTERS).contains(&id.len()) { Ok(id) } else { Err(EventError::NoPayment) }
}

#[cfg(test)]
mod tests {
    use super::{Event, EventError, read};
    use credits_core::payment::{Dispute, DisputeStatus, News, Paid};

    fn event(kind: &str, object: &str) -> Result<Event, EventError> {
        read(format!(r#"{{"id":"evt_1","type":"{kind}","data":{{"object":{object}}}}}"#).as_bytes())
    }

    #[test]
    fn a_session_that_is_not_paid_yet_changes_nothing() {
        let object = r#"{"id":"cs_1","payment_status":"unpaid","amount_total":900,"currency":"usd"}"#;
        assert_eq!(event("checkout.session.completed", object).unwrap(), Event::LeftAlone);
        let setup =
            r#"{"id":"cs_1","payment_status":"no_payment_required","amount_total":null,"currency":null}"#;
        assert_eq!(event("checkout.session.completed", setup).unwrap(), Event::LeftAlone);
        assert_eq!(read(br#"{"id":"evt_1","type":"v2.core.event"}"#).unwrap(), Event::LeftAlone);
        assert_eq!(event("payment_intent.payment_failed", "{}").unwrap(), Event::LeftAlone);
        assert_eq!(event("customer.created", "null").unwrap(), Event::LeftAlone);
        assert_eq!(read(br#"{"type":"customer.created","data":null}"#).unwrap(), Event::LeftAlone);
    }

    #[test]
    fn all_events_of_one_payment_name_the_same_payment() {
        let name = |kind, object| match event(kind, object).unwrap() {
            Event::Payment { payment_id, .. } => payment_id,
            Event::LeftAlone => "none".into(),
        };
        let session = r#"{"id":"cs_1","payment_intent":"pi_1","payment_status":"paid","amount_total":900,
            "currency":"usd","client_reference_id":"top_1"}"#;
        assert_eq!(name("checkout.session.completed", session), "pi_1");
        assert_eq!(
            name("payment_intent.succeeded", r#"{"id":"pi_1","amount":900,"currency":"usd"}"#),
            "pi_1"
        );
        assert_eq!(
            name(
                "charge.refunded",
                r#"{"id":"ch_1","payment_intent":{"id":"pi_1"},"amount_refunded":1,"currency":"usd"}"#
            ),
            "pi_1"
        );
        let dispute = r#"{"id":"dp_1","charge":"ch_1","payment_intent":"pi_1","amount":900,"currency":"usd","status":"needs_response"}"#;
        assert_eq!(name("charge.dispute.created", dispute), "pi_1");
    }

    #[test]
    fn an_inquiry_is_not_yet_a_dispute() {
        let object = r#"{"id":"dp_1","payment_intent":"pi_1","amount":9,"currency":"usd","status":"warning_needs_response"}"#;
        let Event::Payment { news, .. } = event("charge.dispute.created", object).unwrap() else {
            panic!("a payment")
        };
        let dispute = Dispute { amount_minor: 9, status: DisputeStatus::Inquiry };
        assert_eq!(news, News::Disputed { dispute_id: "dp_1".into(), dispute });
    }

    #[test]
    fn amounts_in_stripes_unit_become_iso_minor_units() {
        let news = |kind: &str, object: &str| match event(kind, object).unwrap() {
            Event::Payment { news, .. } => news,
            Event::LeftAlone => panic!("a payment"),
        };
        let paid = |news: News| match news {
            News::Paid(Paid { amount_minor, currency, .. }) => format!("{currency} {amount_minor}"),
            other => panic!("{other:?}"),
        };
        let session = r#"{"id":"cs_1","payment_status":"paid","amount_total":3700000,"currency":"ugx"}"#;
        assert_eq!(paid(news("checkout.session.completed", session)), "UGX 37000");
        let intent = r#"{"id":"pi_1","amount":370,"amount_received":370,"currency":"mga"}"#;
        assert_eq!(paid(news("payment_intent.succeeded", intent)), "MGA 37000");
        let refund = r#"{"id":"ch_1","amount_refunded":500,"currency":"isk"}"#;
        assert_eq!(news("charge.refunded", refund), News::Refunded { refunded_minor: 5 });
        let dispute =
            r#"{"id":"dp_1","payment_intent":"pi_1","amount":900,"currency":"ugx","status":"lost"}"#;
        let lost = Dispute { amount_minor: 9, status: DisputeStatus::Lost };
        let expected = News::Disputed { dispute_id: "dp_1".into(), dispute: lost };
        assert_eq!(news("charge.dispute.closed", dispute), expected);
    }

    #[test]
    fn an_amount_that_fits_no_minor_unit_is_an_error() {
        let object = r#"{"id":"pi_1","amount":550,"currency":"isk"}"#;
        assert!(matches!(event("payment_intent.succeeded", object), Err(EventError::Amount(_))));
    }

    #[test]
    fn what_is_not_an_event_is_told_apart() {
        assert!(matches!(read(b"{"), Err(EventError::Json(_))));
        assert!(matches!(read(b"[]"), Err(EventError::Shape(_))));
        assert!(matches!(event("payment_intent.succeeded", "{}"), Err(EventError::Shape(_))));
        let object = r#"{"id":"pi#1","amount":1,"currency":"usd"}"#;
        assert!(matches!(event("payment_intent.succeeded", object), Err(EventError::NoPayment)));
    }
}
