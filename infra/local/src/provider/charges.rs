//! Charges of stored cards, as Stripe's `PaymentIntents` are: each told by a webhook too, a while after its answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Delivery, Outcome, Provider, Refusal};

/// How long an idempotency key is known: Stripe removes keys that are a day old at least.
const KEY_LASTS_SECONDS: i64 = 86_400;

/// A charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    id: String,
    amount_minor: u64,
    currency: String,
    customer: String,
    metadata: BTreeMap<String, String>,
    succeeded: bool,
    created: i64,
}

/// An answer of the provider's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Provider {
    /// How the next charges of a workspace's stored card end.
    pub fn decide(&mut self, workspace: &str, outcome: Outcome) {
        self.memory.outcomes.insert(workspace.to_owned(), outcome);
        self.keep();
    }

    /// `POST /v1/payment_intents`: the same key gets the first answer again, a decline as well, for a day.
    pub fn create_intent(
        &mut self,
        authorization: Option<&str>,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Answered, Refusal> {
        self.admit(authorization)?;
        let form: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let earlier = key.and_then(|key| self.memory.keys.get(key));
        let earlier = earlier.and_then(|(form, id)| Some((form, self.memory.intents.get(id)?)));
        let forgotten_at = self.sources.now().as_second().saturating_sub(KEY_LASTS_SECONDS);
        if let Some((earlier, intent)) = earlier.filter(|(_, intent)| intent.created > forgotten_at) {
            return if *earlier == form { Ok(intent.answer()) } else { Err(Refusal::KeyReused) };
        }
        let intent = self.intent_of(&form)?;
        if let Some(key) = key {
            self.memory.keys.insert(key.to_owned(), (form, intent.id.clone()));
        }
        self.memory.intents.insert(intent.id.clone(), intent.clone());
        self.keep();
        let kind =
            if intent.succeeded { "payment_intent.succeeded" } else { "payment_intent.payment_failed" };
        self.outbox.extend(self.event(kind, &intent.object(), intent.id.clone()));
        Ok(intent.answer())
    }

    /// `GET /v1/payment_intents?customer=`
    pub fn intents(&self, authorization: Option<&str>, query: &str) -> Result<Answered, Refusal> {
        self.admit(authorization)?;
        let asked: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let since = asked.get("created[gte]").and_then(|since| since.parse().ok()).unwrap_or(i64::MIN);
        let made = self.memory.intents.values().filter(|intent| {
            asked.get("customer").is_none_or(|customer| *customer == intent.customer)
                && intent.created >= since
        });
        let data: Vec<Value> = made.map(Intent::object).collect();
        Ok(Answered { status: 200, body: json!({ "object": "list", "data": data, "has_more": false }) })
    }

    /// `GET /v1/customers/{customer}/payment_methods`
    pub fn payment_methods(&self, authorization: Option<&str>, customer: &str) -> Result<Answered, Refusal> {
        self.admit(authorization)?;
        if !self.memory.customers.contains_key(customer) {
            let error = json!({ "type": "invalid_request_error", "code": "resource_missing" });
            return Ok(Answered { status: 404, body: json!({ "error": error }) });
        }
        let method = json!({ "id": method_of(customer), "object": "payment_method", "type": "card" });
        Ok(Answered { status: 200, body: json!({ "object": "list", "data": [method], "has_more": false }) })
    }

    /// The events that wait to be delivered, in order.
    pub fn take_outbox(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.outbox)
    }

    fn intent_of(&self, form: &BTreeMap<String, String>) -> Result<Intent, Refusal> {
        let field = |name: &'static str| form.get(name).ok_or(Refusal::Incomplete(name));
        for name in ["off_session", "confirm"] {
            if field(name)? != "true" {
                return Err(Refusal::Incomplete(name));
            }
        }
        let customer = field("customer")?.clone();
        let workspace = self.memory.customers.get(&customer).ok_or(Refusal::Incomplete("customer"))?;
        if *field("payment_method")? != method_of(&customer) {
            return Err(Refusal::Incomplete("payment_method"));
        }
        let metadata = form.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix("metadata[")?.strip_suffix(']')?.to_owned(), value.clone()))
        });
        Ok(Intent {
            id: self.sources.new_id("pi").to_string(),
            amount_minor: field("amount")?.parse().map_err(|_| Refusal::Incomplete("amount"))?,
            currency: field("currency")?.clone(),
            metadata: metadata.collect(),
            succeeded: self.memory.outcomes.get(workspace) != Some(&Outcome::Declined),
            created: self.sources.now().as_second(),
            customer,
        })
    }
}

/// A customer has the card that was stored last, and no other.
fn method_of(customer: &str) -> String {
    customer.replacen("cus", "pm", 1)
}

impl Intent {
    fn answer(&self) -> Answered {
        if self.succeeded {
            return Answered { status: 200, body: self.object() };
        }
        let error = json!({
            "type": "card_error", "code": "card_declined", "message": "Your card was declined.",
            "payment_intent": self.object(),
        });
        Answered { status: 402, body: json!({ "error": error }) }
    }

    fn object(&self) -> Value {
        let status = if self.succeeded { "succeeded" } else { "requires_payment_method" };
        json!({
            "id": self.id,
            "object": "payment_intent",
            "status": status,
            "amount": self.amount_minor,
            "amount_received": if self.succeeded { self.amount_minor } else { 0 },
            "currency": self.currency,
            "customer": self.customer,
            "metadata": self.metadata,
            "created": self.created,
        })
    }
}

impl Intent {
    /// Its id and its purchase, if it has succeeded.
    pub(super) fn paid_for(&self) -> Option<(String, String)> {
        let purchase = self.metadata.get("purchase_id").cloned().unwrap_or_default();
        self.succeeded.then(|| (self.id.clone(), purchase))
    }
}
