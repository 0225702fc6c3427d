//! The stand-in payment provider: Stripe's own form-encoded API for what `shared/payments` calls, and its signed
//! events, delivered when a payer has been played.

use credits_store::error::Chain;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use credits_payments::signature::{Secret, sign};
use credits_store::Sources;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{StackError, folder};

/// How a payer ends a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is paid.
    Succeeded,
    /// The card is declined.
    Declined,
}

mod api;
mod charges;

pub use api::Asked;
pub use charges::Answered;

/// A checkout session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// The payment that it is paid with.
    pub payment_intent: String,
    /// Its amount, in minor units.
    pub amount_minor: u64,
    /// Its currency, as the provider writes it.
    pub currency: String,
    /// What is bought, in words.
    pub product: String,
    client_reference_id: String,
    metadata: BTreeMap<String, String>,
    /// Who pays, once somebody has.
    customer: Option<String>,
    paid: bool,
}

/// Why the provider's API refuses, as Stripe says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The API key is not ours.
    WrongKey,
    /// It is down.
    Down,
    /// A field is missing or wrong.
    Incomplete(&'static str),
    /// The idempotency key came with another form.
    KeyReused,
}

/// The provider's memory, in a file where the stack has a folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    sessions: BTreeMap<String, Session>,
    /// Idempotency keys, with the form that each came with.
    keys: BTreeMap<String, (BTreeMap<String, String>, String)>,
    /// Charges of stored cards.
    #[serde(default)]
    intents: BTreeMap<String, charges::Intent>,
    /// Customers with a stored card, and whose they are.
    #[serde(default)]
    customers: BTreeMap<String, String>,
    /// How the next charges of a workspace's card end, where `POST /_local/payments` has said so.
    #[serde(default)]
    outcomes: BTreeMap<String, Outcome>,
}

/// The stand-in.
#[derive(Debug)]
pub struct Provider {
    memory: Memory,
    file: Option<PathBuf>,
    api_key: Secret,
    webhook_secret: Secret,
    sources: Sources,
    /// Events that wait to be delivered.
    outbox: Vec<Delivery>,
    /// Whether it answers nobody.
    pub down: bool,
}

/// An event, ready to be delivered.
#[derive(Debug)]
pub struct Delivery {
    /// The `Stripe-Signature` header.
    pub signature: String,
    /// The body.
    pub body: String,
    /// The payment that it tells of.
    pub payment_id: String,
}

impl Provider {
    /// Opens the stand-in, with what its folder kept.
    pub fn open(
        folder: Option<&Path>,
        api_key: Secret,
        webhook_secret: Secret,
        sources: Sources,
    ) -> Result<Self, StackError> {
        let file = folder.map(|folder| folder.join("provider.json"));
        let memory = match &file {
            Some(file) if file.exists() => serde_json::from_slice(&std::fs::read(file)?)?,
            _ => Memory::default(),
        };
        Ok(Self { memory, file, api_key, webhook_secret, sources, outbox: Vec::new(), down: false })
    }

    /// `POST /v1/checkout/sessions`
    pub fn create_session(
        &mut self,
        authorization: Option<&str>,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Session, Refusal> {
        self.admit(authorization)?;
        let form: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        if let Some((earlier, id)) = key.and_then(|key| self.memory.keys.get(key)) {
            let session = self.memory.sessions.get(id).filter(|_| *earlier == form);
            return session.cloned().ok_or(Refusal::KeyReused);
        }
        let session = self.session_of(&form)?;
        if let Some(key) = key {
            self.memory.keys.insert(key.to_owned(), (form, session.id.clone()));
        }
        self.memory.sessions.insert(session.id.clone(), session.clone());
        self.keep();
        Ok(session)
    }

    fn admit(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        if self.down {
            return Err(Refusal::Down);
        }
        let key = authorization.and_then(|header| header.strip_prefix("Bearer "));
        if key == Some(self.api_key.expose()) { Ok(()) } else { Err(Refusal::WrongKey) }
    }

    /// A checkout, by its id.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<&Session> {
        self.memory.sessions.get(id)
    }

    /// `GET /v1/checkout/sessions/{id}`
    pub fn shown_session(&self, authorization: Option<&str>, id: &str) -> Result<Option<&Session>, Refusal> {
        self.admit(authorization)?;
        Ok(self.session(id))
    }

    /// Ends a checkout, and gives the event that tells of it. A paid one stays paid: playing it again tells it again.
    pub fn play(&mut self, id: &str, outcome: Outcome) -> Option<Delivery> {
        let new_customer = self.sources.new_id("cus").to_string();
        let session = self.memory.sessions.get_mut(id)?;
        session.paid |= outcome == Outcome::Succeeded;
        if session.paid {
            let customer = session.customer.get_or_insert(new_customer).clone();
            let workspace = session.metadata.get("workspace_id").cloned().unwrap_or_default();
            self.memory.customers.insert(customer, workspace);
        }
        let session = session.clone();
        self.keep();
        let (kind, object) = if session.paid {
            ("checkout.session.completed", session.object())
        } else {
            ("payment_intent.payment_failed", session.declined_intent())
        };
        self.event(kind, &object, session.payment_intent)
    }

    /// A signed event, ready to be delivered.
    fn event(&self, kind: &str, object: &Value, payment_id: String) -> Option<Delivery> {
        let event = json!({
            "id": self.sources.new_id("evt"), "object": "event", "type": kind,
            "created": self.sources.now().as_second(), "livemode": false, "data": { "object": object },
        });
        let body = event.to_string();
        let secret = Secret::list(self.webhook_secret.expose()).into_iter().next()?;
        let signature = sign(body.as_bytes(), &secret, self.sources.now()).ok()?;
        Some(Delivery { signature, body, payment_id })
    }

    fn session_of(&self, form: &BTreeMap<String, String>) -> Result<Session, Refusal> {
        let field = |name: &'static str| form.get(name).ok_or(Refusal::Incomplete(name));
        let whole = |name: &'static str| field(name)?.parse::<u64>().map_err(|_| Refusal::Incomplete(name));
        if field("mode")? != "payment" {
            return Err(Refusal::Incomplete("mode"));
        }
        field("success_url")?;
        let unit_amount = whole("line_items[0][price_data][unit_amount]")?;
        let quantity = whole("line_items[0][quantity]")?;
        let metadata = form.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix("metadata[")?.strip_suffix(']')?.to_owned(), value.clone()))
        });
        Ok(Session {
            id: self.sources.new_id("cs").to_string(),
            payment_intent: self.sources.new_id("pi").to_string(),
            amount_minor: unit_amount
                .checked_mul(quantity)
                .ok_or(Refusal::Incomplete("line_items[0][quantity]"))?,
            currency: field("line_items[0][price_data][currency]")?.clone(),
            product: field("line_items[0][price_data][product_data][name]")?.clone(),
            client_reference_id: field("client_reference_id")?.clone(),
            metadata: metadata.collect(),
            customer: form.get("customer").cloned(),
            paid: false,
        })
    }

    /// Keeps the memory in its file.
    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let memory = serde_json::to_vec(&self.memory).map_err(StackError::from);
        if let Err(error) = memory.and_then(|memory| Ok(folder::keep(file, memory)?)) {
            let error = Chain(&error);
            tracing::error!(%error, "the provider's memory could not be kept");
        }
    }
}

impl Session {
    /// The session as the provider's API shows it.
    #[must_use]
    pub fn object(&self) -> Value {
        let (status, payment_status) = if self.paid { ("complete", "paid") } else { ("open", "unpaid") };
        json!({
            "id": self.id,
            "object": "checkout.session",
            "mode": "payment",
            "status": status,
            "payment_status": payment_status,
            "payment_intent": self.payment_intent,
            "amount_total": self.amount_minor,
            "currency": self.currency,
            "client_reference_id": self.client_reference_id,
            "metadata": self.metadata,
            "customer": self.customer,
        })
    }

    fn declined_intent(&self) -> Value {
        json!({
            "id": self.payment_intent,
            "object": "payment_intent",
            "status": "requires_payment_method",
            "amount": self.amount_minor,
            "amount_received": 0,
            "currency": self.currency,
            "metadata": self.metadata,
            "last_payment_error": { "code": "card_declined" },
        })
    }
}

/// A payment that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub payment_id: String,
    /// For which purchase.
    pub purchase_id: String,
}

impl Provider {
    /// Every payment that has succeeded.
    #[must_use]
    pub fn payments(&self) -> Vec<Made> {
        let sessions = self.memory.sessions.values().filter(|session| session.paid);
        let sessions = sessions.map(|it| (it.payment_intent.clone(), it.client_reference_id.clone()));
        let intents = self.memory.intents.values().filter_map(charges::Intent::paid_for);
        let made = sessions.chain(intents);
        made.map(|(payment_id, purchase_id)| Made { payment_id, purchase_id }).collect()
    }
}
