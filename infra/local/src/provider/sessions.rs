//! Checkout sessions: their objects, their lists, and their expiry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StripeStandIn;
use super::errors::StripeRefusal;
use super::events::OutboxEvent;
use super::form::{EXPAND, FieldKind, Form, field};
use super::lists::{CREATED, LIMIT, ListPage, STARTING_AFTER, is_created_as_asked};

/// The default time until a session expires, in seconds.
pub(super) const SESSION_LIFETIME: i64 = 86_400;

/// The purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMode {
    /// The payer pays.
    Payment,
    /// The payer stores a method and pays nothing.
    Setup,
}

/// The status of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionStatus {
    Open,
    Complete,
    Expired,
}

/// The status of a session's payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionPaymentStatus {
    Unpaid,
    Paid,
    NoPaymentRequired,
}

/// Whether a payment creates a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CustomerCreation {
    Always,
    IfRequired,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    pub mode: SessionMode,
    /// The amount that the payer pays, after discount and tax, in the currency's smallest unit.
    pub amount_minor: u64,
    /// The currency, in lowercase.
    pub currency: String,
    /// The name of the first line item.
    pub product: String,
    /// The payment intent; absent until the payer first tries to pay.
    pub payment_intent: Option<String>,
    pub(super) setup_intent: Option<String>,
    pub(super) status: SessionStatus,
    pub(super) payment_status: SessionPaymentStatus,
    pub(super) created: i64,
    pub(super) expires_at: i64,
    pub(super) amount_subtotal: u64,
    pub(super) amount_discount: u64,
    pub(super) amount_tax: u64,
    pub(super) client_reference_id: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) intent_metadata: BTreeMap<String, String>,
    pub(super) intent_description: Option<String>,
    pub(super) setup_future_usage: Option<String>,
    pub(super) customer: Option<String>,
    pub(super) customer_email: Option<String>,
    pub(super) customer_creation: CustomerCreation,
    /// The members of the customer that the session updates.
    pub(super) customer_update: Vec<String>,
    pub(super) success_url: String,
    pub(super) cancel_url: Option<String>,
    pub(super) automatic_tax: bool,
    pub(super) tax_id_collection: bool,
    pub(super) allow_promotion_codes: bool,
    /// The event of the completion. It is delivered again if a payer is played again.
    pub(super) completed: Option<OutboxEvent>,
}

impl Session {
    /// Creates an open session in payment mode, without an amount.
    pub(super) fn new(id: String, created: i64) -> Self {
        Self {
            id,
            mode: SessionMode::Payment,
            amount_minor: 0,
            currency: String::new(),
            product: String::new(),
            payment_intent: None,
            setup_intent: None,
            status: SessionStatus::Open,
            payment_status: SessionPaymentStatus::Unpaid,
            created,
            expires_at: created.saturating_add(SESSION_LIFETIME),
            amount_subtotal: 0,
            amount_discount: 0,
            amount_tax: 0,
            client_reference_id: None,
            metadata: BTreeMap::new(),
            intent_metadata: BTreeMap::new(),
            intent_description: None,
            setup_future_usage: None,
            customer: None,
            customer_email: None,
            customer_creation: CustomerCreation::Always,
            customer_update: Vec::new(),
            success_url: String::new(),
            cancel_url: None,
            automatic_tax: false,
            tax_id_collection: false,
            allow_promotion_codes: false,
            completed: None,
        }
    }

    /// Returns the session as a Stripe object. The page of an open session is below `checkouts_url`.
    pub(super) fn object(&self, checkouts_url: Option<&str>) -> Value {
        let is_open = self.status == SessionStatus::Open;
        let mut object = json!({
            "id": self.id,
            "object": "checkout.session",
            "adaptive_pricing": { "enabled": false },
            "after_expiration": null,
            "allow_promotion_codes": self.allow_promotion_codes,
            "allowed_payment_method_types": null,
            "billing_address_collection": null,
            "cancel_url": self.cancel_url,
            "client_reference_id": self.client_reference_id,
            "client_secret": null,
            "collected_information": null,
            "consent": null,
            "consent_collection": null,
            "created": self.created,
            "currency": self.currency,
            "currency_conversion": null,
            "custom_fields": [],
            "custom_text": {},
            "customer": self.customer,
            "customer_account": null,
            "customer_creation": self.customer.is_none().then_some(self.customer_creation),
            "customer_email": self.customer_email,
            "discounts": [],
            "expires_at": self.expires_at,
            "integration_identifier": null,
            "invoice": null,
            "invoice_creation": null,
            "livemode": false,
            "locale": null,
            "managed_payments": null,
            "metadata": self.metadata,
            "mode": self.mode,
            "origin_context": null,
            "payment_intent": self.payment_intent,
            "payment_link": null,
            "payment_method_collection": "if_required",
            "payment_method_types": ["card", "link", "sepa_debit", "us_bank_account"],
            "payment_status": self.payment_status,
            "setup_intent": self.setup_intent,
            "status": self.status,
            "submit_type": null,
            "subscription": null,
            "success_url": self.success_url,
            "tax_id_collection": { "enabled": self.tax_id_collection, "required": "never" },
            "ui_mode": "hosted_page",
            "url": checkouts_url.filter(|_| is_open).map(|url| format!("{url}/{}", self.id)),
        });
        self.add_amounts(&mut object);
        object
    }

    fn add_amounts(&self, object: &mut Value) {
        let is_payment = self.mode == SessionMode::Payment;
        let tax_status =
            if self.status == SessionStatus::Complete { "complete" } else { "requires_location_inputs" };
        let email = self.customer_email.as_deref().unwrap_or(super::customers::PAYER_EMAIL);
        let details = json!({
            "address": null, "business_name": null, "email": email, "individual_name": null,
            "name": null, "phone": null, "tax_exempt": "none", "tax_ids": [],
        });
        object["amount_subtotal"] = json!(is_payment.then_some(self.amount_subtotal));
        object["amount_total"] = json!(is_payment.then_some(self.amount_minor));
        object["automatic_tax"] = json!({
            "enabled": self.automatic_tax, "liability": null, "provider": null,
            "status": self.automatic_tax.then_some(tax_status),
        });
        let is_known = self.status == SessionStatus::Complete || self.customer_email.is_some();
        object["customer_details"] = if is_known { details } else { Value::Null };
        object["total_details"] = if is_payment {
            json!({ "amount_discount": self.amount_discount, "amount_shipping": 0, "amount_tax": self.amount_tax })
        } else {
            Value::Null
        };
    }
}

impl StripeStandIn {
    /// Handles `GET /v1/checkout/sessions/{id}`.
    pub(super) fn read_session(&self, id: &str, query: &[u8], url: &str) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        let session = self.memory.sessions.get(id);
        let session =
            session.ok_or_else(|| StripeRefusal::missing("checkout.session", id, "session").status(404))?;
        self.expanded(session.object(Some(url)), &form)
    }

    /// Handles `GET /v1/checkout/sessions`.
    pub(super) fn list_sessions(&self, query: &[u8], url: &str) -> Result<Value, StripeRefusal> {
        let mut known = vec![
            LIMIT,
            STARTING_AFTER,
            EXPAND,
            field("customer", FieldKind::Text(255)),
            field("payment_intent", FieldKind::Text(255)),
            field("status", FieldKind::Choice(&["open", "complete", "expired"])),
        ];
        known.extend(CREATED);
        let form = Form::read(query, &known)?;
        let sessions = &self.memory.sessions;
        let page = ListPage::read(&form, "checkout.session", |id| sessions.contains_key(id))?;
        let status = |session: &Session| json!(session.status);
        let asked = |name: &str, is: Option<&String>| {
            form.text(name).is_none_or(|asked| is.is_some_and(|is| is == asked))
        };
        let newest_first = sessions.iter().rev().filter(|(_, session)| {
            is_created_as_asked(&form, session.created)
                && asked("customer", session.customer.as_ref())
                && asked("payment_intent", session.payment_intent.as_ref())
                && form.text("status").is_none_or(|asked| status(session) == asked)
        });
        let list = page.of("/v1/checkout/sessions", newest_first, |session| session.object(Some(url)));
        self.expanded(list, &form)
    }

    /// Handles `POST /v1/checkout/sessions/{id}/expire`.
    pub(super) fn expire_session(&mut self, id: &str, body: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(body, &[EXPAND])?;
        let session = self.memory.sessions.get(id);
        let session =
            session.ok_or_else(|| StripeRefusal::missing("checkout.session", id, "session").status(404))?;
        let status = match session.status {
            SessionStatus::Open => {
                let object = self.expire(id).unwrap_or_default();
                self.keep();
                return self.expanded(object, &form);
            }
            SessionStatus::Complete => "complete",
            SessionStatus::Expired => "expired",
        };
        Err(StripeRefusal::execution(format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of \
             `{status}`."
        ))
        .param("session"))
    }

    /// Expires the sessions whose time has passed.
    pub(super) fn expire_due(&mut self) {
        let now = self.now();
        let mut has_expired = false;
        while let Some((at, id)) = self.memory.expiring.first().filter(|(at, _)| *at <= now).cloned() {
            has_expired = true;
            self.memory.expiring.remove(&(at, id.clone()));
            let cause = self.request.take();
            self.expire(&id);
            self.request = cause;
        }
        if has_expired {
            self.keep();
        }
    }

    /// Expires an open session, and publishes the event.
    fn expire(&mut self, id: &str) -> Option<Value> {
        let session = self.memory.sessions.get_mut(id)?;
        if session.status != SessionStatus::Open {
            return None;
        }
        session.status = SessionStatus::Expired;
        self.memory.expiring.remove(&(session.expires_at, id.to_owned()));
        let object = session.object(None);
        let payment = session.payment_intent.clone().unwrap_or_default();
        self.emit("checkout.session.expired", &object, &payment);
        Some(object)
    }

    /// Returns the response for an id that the first format of the memory kept under a key: the object as it is now.
    pub(super) fn kept_object(&self, id: &str, url: &str) -> (u16, Value) {
        if let Some(session) = self.memory.sessions.get(id) {
            return (200, session.object(Some(url)));
        }
        match self.memory.intents.get(id) {
            Some(intent) => match &intent.last_payment_error {
                None => (200, intent.object()),
                Some(error) => {
                    let mut error = error.clone();
                    error["payment_intent"] = intent.object();
                    (402, json!({ "error": error }))
                }
            },
            None => (404, StripeRefusal::missing("object", id, "id").body("req_unknown", self.now())),
        }
    }
}
