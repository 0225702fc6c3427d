//! Payment intents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StripeStandIn;
use super::errors::StripeRefusal;
use super::form::{EXPAND, FieldKind, Form, field};
use super::lists::{CREATED, LIMIT, ListPage, STARTING_AFTER, is_created_as_asked};
use super::sessions::Session;

/// The status of a payment intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IntentStatus {
    RequiresConfirmation,
    RequiresPaymentMethod,
    Processing,
    Succeeded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StripeIntent {
    pub id: String,
    pub amount_minor: u64,
    pub currency: String,
    pub customer: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub method: Option<String>,
    pub setup_future_usage: Option<String>,
    pub status: IntentStatus,
    pub latest_charge: Option<String>,
    pub last_payment_error: Option<Value>,
    /// The checkout session that the intent pays.
    pub session: Option<String>,
    pub created: i64,
}

impl StripeIntent {
    pub fn new(id: String, amount_minor: u64, currency: String, created: i64) -> Self {
        Self {
            id,
            amount_minor,
            currency,
            customer: None,
            description: None,
            metadata: BTreeMap::new(),
            method: None,
            setup_future_usage: None,
            status: IntentStatus::RequiresPaymentMethod,
            latest_charge: None,
            last_payment_error: None,
            session: None,
            created,
        }
    }

    /// Creates the intent that pays a session.
    pub fn of_session(session: &Session, id: String, created: i64) -> Self {
        Self {
            customer: session.customer.clone(),
            description: session.intent_description.clone(),
            metadata: session.intent_metadata.clone(),
            setup_future_usage: session.setup_future_usage.clone(),
            session: Some(session.id.clone()),
            ..Self::new(id, session.amount_minor, session.currency.clone(), created)
        }
    }

    pub fn is_succeeded(&self) -> bool {
        self.status == IntentStatus::Succeeded
    }

    /// Returns the intent as a Stripe object.
    pub fn object(&self) -> Value {
        let automatic = json!({ "allow_redirects": "never", "enabled": true });
        json!({
            "id": self.id,
            "object": "payment_intent",
            "allowed_payment_method_types": null,
            "amount": self.amount_minor,
            "amount_capturable": 0,
            "amount_details": { "tip": {} },
            "amount_received": if self.is_succeeded() { self.amount_minor } else { 0 },
            "application": null,
            "application_fee_amount": null,
            "automatic_payment_methods": self.session.is_none().then_some(automatic),
            "canceled_at": null,
            "cancellation_reason": null,
            "capture_method": "automatic_async",
            "client_secret": format!("{}_secret", self.id),
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": null,
            "description": self.description,
            "excluded_payment_method_types": null,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.latest_charge,
            "livemode": false,
            "managed_payments": null,
            "metadata": self.metadata,
            "next_action": null,
            "on_behalf_of": null,
            "payment_method": self.method,
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": ["card", "link", "sepa_debit", "us_bank_account"],
            "payment_record": null,
            "processing": null,
            "receipt_email": null,
            "review": null,
            "setup_future_usage": self.setup_future_usage,
            "shipping": null,
            "source": null,
            "statement_descriptor": null,
            "statement_descriptor_suffix": null,
            "status": self.status,
            "transfer_data": null,
            "transfer_group": null,
        })
    }
}

impl StripeStandIn {
    /// Handles `GET /v1/payment_intents/{id}`.
    pub(super) fn read_intent(&self, id: &str, query: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        let intent = self.memory.intents.get(id);
        let intent =
            intent.ok_or_else(|| StripeRefusal::missing("payment_intent", id, "intent").status(404))?;
        self.expanded(intent.object(), &form)
    }

    /// Handles `GET /v1/payment_intents`.
    pub(super) fn list_intents(&self, query: &[u8]) -> Result<Value, StripeRefusal> {
        let mut known = vec![LIMIT, STARTING_AFTER, EXPAND, field("customer", FieldKind::Text(255))];
        known.extend(CREATED);
        let form = Form::read(query, &known)?;
        let intents = &self.memory.intents;
        let page = ListPage::read(&form, "payment_intent", |id| intents.contains_key(id))?;
        let newest_first = intents.iter().rev().filter(|(_, intent)| {
            is_created_as_asked(&form, intent.created)
                && form.text("customer").is_none_or(|asked| intent.customer.as_deref() == Some(asked))
        });
        self.expanded(page.of("/v1/payment_intents", newest_first, StripeIntent::object), &form)
    }
}
