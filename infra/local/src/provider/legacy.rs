//! The first format of `provider.json`, which a stack's folder may still contain.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::charges::{Charge, PlayedOutcome};
use super::customers::Customer;
use super::idempotency::{KeptAnswer, SavedAnswer};
use super::intents::{IntentStatus, StripeIntent};
use super::memory;
use super::methods::{Method, MethodKind};
use super::sessions::{SESSION_LIFETIME, Session, SessionPaymentStatus, SessionStatus};

/// The member that distinguishes the formats.
#[derive(Deserialize)]
struct Header {
    format: Option<u32>,
}

/// Parses a file of the current or the first format.
pub(super) fn read(file: &[u8]) -> Result<memory::Memory, serde_json::Error> {
    let Header { format } = serde_json::from_slice(file)?;
    if format.is_some() {
        return serde_json::from_slice(file);
    }
    Ok(serde_json::from_slice::<OldMemory>(file)?.into())
}

#[derive(Deserialize)]
struct OldMemory {
    sessions: BTreeMap<String, OldSession>,
    keys: BTreeMap<String, (BTreeMap<String, String>, String)>,
    #[serde(default)]
    intents: BTreeMap<String, OldIntent>,
    /// The workspaces of customers with a stored card, by customer id.
    #[serde(default)]
    customers: BTreeMap<String, String>,
    #[serde(default)]
    outcomes: BTreeMap<String, PlayedOutcome>,
}

#[derive(Deserialize)]
struct OldSession {
    id: String,
    payment_intent: String,
    amount_minor: u64,
    currency: String,
    product: String,
    client_reference_id: String,
    metadata: BTreeMap<String, String>,
    customer: Option<String>,
    paid: bool,
}

#[derive(Deserialize)]
struct OldIntent {
    id: String,
    amount_minor: u64,
    currency: String,
    customer: String,
    metadata: BTreeMap<String, String>,
    succeeded: bool,
    created: i64,
}

impl From<OldMemory> for memory::Memory {
    fn from(old: OldMemory) -> Self {
        let mut new = Self::default();
        new.outcomes = old.outcomes;
        for (id, workspace) in old.customers {
            new.add_customer(id, workspace);
        }
        for (_, session) in old.sessions {
            new.add_session(session);
        }
        for (_, intent) in old.intents {
            new.add_intent(intent);
        }
        for (key, (form, id)) in old.keys {
            let is_session = new.sessions.contains_key(&id);
            let path = if is_session { "/v1/checkout/sessions" } else { "/v1/payment_intents" };
            let form = super::idempotency::canonical(form.into_iter().collect());
            let at = created(&id);
            let kept = SavedAnswer::Object(id);
            new.keys.insert(key, KeptAnswer { path: path.into(), form, at, request: None, kept });
        }
        new
    }
}

impl memory::Memory {
    fn add_customer(&mut self, id: String, workspace: String) {
        let (method, at) = (id.replacen("cus", "pm", 1), created(&id));
        self.methods.insert(method.clone(), Method::new(method.clone(), MethodKind::Card, at, 0));
        if let Some(method) = self.methods.get_mut(&method) {
            method.customer = Some(id.clone());
        }
        let customer = Customer { methods: vec![method], workspace, ..Customer::new(id.clone(), at) };
        self.customers.insert(id, customer);
    }

    fn add_session(&mut self, old: OldSession) {
        let at = created(&old.id);
        let mut session = Session::new(old.id, at);
        session.amount_minor = old.amount_minor;
        session.amount_subtotal = old.amount_minor;
        session.currency = old.currency;
        session.product = old.product;
        session.client_reference_id = Some(old.client_reference_id);
        session.metadata.clone_from(&old.metadata);
        session.intent_metadata = old.metadata;
        session.setup_future_usage = Some("off_session".into());
        session.customer = old.customer;
        session.payment_intent = Some(old.payment_intent.clone());
        if old.paid {
            session.status = SessionStatus::Complete;
            session.payment_status = SessionPaymentStatus::Paid;
            let mut intent = StripeIntent::of_session(&session, old.payment_intent, at);
            intent.status = IntentStatus::Succeeded;
            self.add_paid(intent);
        } else {
            self.expiring.insert((at.saturating_add(SESSION_LIFETIME), session.id.clone()));
        }
        self.sessions.insert(session.id.clone(), session);
    }

    fn add_intent(&mut self, old: OldIntent) {
        let mut intent = StripeIntent::new(old.id, old.amount_minor, old.currency, old.created);
        intent.customer = Some(old.customer);
        intent.metadata = old.metadata;
        if old.succeeded {
            intent.status = IntentStatus::Succeeded;
            self.add_paid(intent);
        } else {
            intent.last_payment_error = Some(serde_json::json!({
                "type": "card_error", "code": "card_declined", "decline_code": "generic_decline",
                "message": "Your card was declined.",
            }));
            self.intents.insert(intent.id.clone(), intent);
        }
    }

    /// Adds a succeeded payment with its charge and the customer's card.
    fn add_paid(&mut self, mut intent: StripeIntent) {
        let customer = intent.customer.as_ref().and_then(|id| self.customers.get(id));
        intent.method = customer.and_then(|customer| customer.methods.first().cloned());
        let method = intent.method.as_ref().and_then(|id| self.methods.get(id));
        let charge = Charge::new(intent.id.replacen("pi", "ch", 1), &intent, method, intent.created);
        intent.latest_charge = Some(charge.id.clone());
        self.charges.insert(charge.id.clone(), charge);
        self.intents.insert(intent.id.clone(), intent);
    }
}

/// Returns the second at which `Sources` made an id: a UUID of version 7 begins with the milliseconds.
fn created(id: &str) -> i64 {
    let hex = id.split_once('_').and_then(|(_, hex)| hex.get(..12));
    let millis = hex.and_then(|hex| i64::from_str_radix(hex, 16).ok());
    millis.map_or(0, |millis| millis.div_euclid(1_000))
}
