//! Events: their envelope, the outbox, and the signature of each delivery.

use credits_payments::signature::{Secret, sign};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{API_VERSION, StripeStandIn};

/// A signed event, ready for delivery.
#[derive(Debug)]
pub struct Delivery {
    /// The `Stripe-Signature` header.
    pub signature: String,
    pub body: String,
    /// The payment intent or setup intent that the event is about; empty if it is about neither.
    pub payment_id: String,
}

/// An unsigned event in the outbox. Stripe signs an event at each delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutboxEvent {
    pub body: String,
    pub payment_id: String,
}

/// The API request that causes an event.
#[derive(Debug, Clone)]
pub(super) struct RequestIds {
    pub id: String,
    pub key: Option<String>,
}

impl StripeStandIn {
    /// Takes all events from the outbox, oldest first, signed with the current time.
    pub fn take_outbox(&mut self) -> Vec<Delivery> {
        self.expire_due();
        if self.memory.outbox.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.memory.outbox);
        let deliveries = waiting.into_iter().filter_map(|waiting| self.begin_delivery(waiting)).collect();
        self.keep();
        deliveries
    }

    /// Signs an event with the current time. A stack with a folder keeps the event until [`Self::delivered`].
    pub(super) fn begin_delivery(&mut self, waiting: OutboxEvent) -> Option<Delivery> {
        if self.file.is_some() {
            self.memory.delivering.push(waiting.clone());
        }
        self.signed(waiting)
    }

    /// Ends the delivery of an event, whatever the webhook answered.
    pub fn delivered(&mut self, body: &str) {
        let begun = self.memory.delivering.len();
        self.memory.delivering.retain(|waiting| waiting.body != body);
        if self.memory.delivering.len() < begun {
            self.keep();
        }
    }

    /// Adds an event to the outbox.
    pub(super) fn emit(&mut self, kind: &str, object: &Value, payment_id: &str) {
        let waiting = self.event(kind, object, payment_id);
        self.memory.outbox.push(waiting);
    }

    /// Creates an event about an object.
    pub(super) fn event(&self, kind: &str, object: &Value, payment_id: &str) -> OutboxEvent {
        let request = self.request.as_ref();
        let event = json!({
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "livemode": false,
            "pending_webhooks": 1,
            "request": {
                "id": request.map(|request| &request.id),
                "idempotency_key": request.and_then(|request| request.key.as_ref()),
            },
            "type": kind,
            "data": { "object": object },
        });
        OutboxEvent { body: event.to_string(), payment_id: payment_id.to_owned() }
    }

    /// Signs an event with the current time.
    fn signed(&self, OutboxEvent { body, payment_id }: OutboxEvent) -> Option<Delivery> {
        let secret = Secret::list(self.webhook_secret.expose()).into_iter().next()?;
        let signature = sign(body.as_bytes(), &secret, self.sources.now()).ok()?;
        Some(Delivery { signature, body, payment_id })
    }
}
