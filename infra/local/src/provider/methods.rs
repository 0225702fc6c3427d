//! Payment methods.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StripeStandIn;
use super::errors::StripeRefusal;
use super::form::{EXPAND, Field, FieldKind, Form, field};
use super::lists::{LIMIT, ListPage, STARTING_AFTER};

/// The types of payment methods that the stand-in supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodKind {
    Card,
    /// A SEPA Direct Debit of a bank account.
    SepaDebit,
    /// An ACH Direct Debit of a US bank account.
    UsBankAccount,
    /// Stripe's wallet.
    Link,
}

impl MethodKind {
    /// Returns whether a payment with this type is `processing` for days before it succeeds or fails.
    #[must_use]
    pub fn is_delayed(self) -> bool {
        matches!(self, Self::SepaDebit | Self::UsBankAccount)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::SepaDebit => "sepa_debit",
            Self::UsBankAccount => "us_bank_account",
            Self::Link => "link",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Method {
    pub id: String,
    pub kind: MethodKind,
    pub created: i64,
    /// The customer that the method is attached to.
    pub customer: Option<String>,
    /// Whether the method was detached from a customer. It can't be used again.
    pub is_detached: bool,
    /// The index among the customer's methods, which gives two cards different digits.
    number: usize,
}

/// The brands and last digits of a customer's cards, used in turn.
const CARDS: [(&str, &str); 3] = [("visa", "4242"), ("mastercard", "4444"), ("amex", "0005")];

/// The values of a list's `type` filter.
const TYPES: [&str; 13] = [
    "card",
    "sepa_debit",
    "us_bank_account",
    "link",
    "acss_debit",
    "amazon_pay",
    "au_becs_debit",
    "bacs_debit",
    "bancontact",
    "cashapp",
    "ideal",
    "paypal",
    "revolut_pay",
];

const LISTED: [Field; 5] = [
    LIMIT,
    STARTING_AFTER,
    EXPAND,
    field("type", FieldKind::Choice(&TYPES)),
    field("allow_redisplay", FieldKind::Choice(&["always", "limited", "unspecified"])),
];

impl Method {
    pub fn new(id: String, kind: MethodKind, created: i64, number: usize) -> Self {
        Self { id, kind, created, customer: None, is_detached: false, number }
    }

    /// Returns the method as a Stripe object.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "payment_method",
            "allow_redisplay": "limited",
            "billing_details": billing_details(),
            "created": self.created,
            "customer": self.customer,
            "customer_account": null,
            "livemode": false,
            "metadata": {},
            "type": self.kind.name(),
        });
        object[self.kind.name()] = match self.kind {
            MethodKind::Card => self.card(),
            MethodKind::SepaDebit => json!({
                "bank_code": "37040044", "branch_code": "", "country": "DE", "fingerprint": self.fingerprint(),
                "generated_from": null, "last4": "3000",
            }),
            MethodKind::UsBankAccount => json!({
                "account_holder_type": "company", "account_type": "checking", "bank_name": "STRIPE TEST BANK",
                "financial_connections_account": null, "fingerprint": self.fingerprint(), "last4": "6789",
                "networks": { "preferred": "ach", "supported": ["ach"] }, "routing_number": "110000000",
                "status_details": {},
            }),
            MethodKind::Link => json!({ "email": super::customers::PAYER_EMAIL }),
        };
        object
    }

    /// Returns the `payment_method_details` of a charge.
    pub fn details(&self) -> Value {
        let object = self.object();
        let name = self.kind.name();
        let mut details = json!({ "type": name });
        details[name] = object[name].clone();
        details
    }

    fn card(&self) -> Value {
        let turn = self.number.checked_rem(CARDS.len()).unwrap_or_default();
        let (brand, last4) = CARDS.get(turn).copied().unwrap_or(("visa", "4242"));
        let year = jiff::Timestamp::from_second(self.created)
            .map_or(2030, |at| i64::from(at.to_zoned(jiff::tz::TimeZone::UTC).year()).saturating_add(3));
        json!({
            "brand": brand,
            "checks": { "address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass" },
            "country": "US",
            "display_brand": brand,
            "exp_month": 12,
            "exp_year": year,
            "fingerprint": self.fingerprint(),
            "funding": "credit",
            "generated_from": null,
            "last4": last4,
            "networks": { "available": [brand], "preferred": null },
            "regulated_status": "unregulated",
            "three_d_secure_usage": { "supported": true },
            "wallet": null,
        })
    }

    fn fingerprint(&self) -> String {
        format!("fp{:014}", self.number)
    }
}

/// Returns billing details that contain the email only.
pub(super) fn billing_details() -> Value {
    json!({
        "address": {
            "city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null,
        },
        "email": super::customers::PAYER_EMAIL,
        "name": null,
        "phone": null,
        "tax_id": null,
    })
}

impl StripeStandIn {
    /// Handles `GET /v1/payment_methods/{id}`.
    pub(super) fn read_method(&self, id: &str, query: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        self.expanded(self.method(id)?.object(), &form)
    }

    /// Handles `POST /v1/payment_methods/{id}/detach`.
    pub(super) fn detach_method(&mut self, id: &str, body: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(body, &[EXPAND])?;
        let Some(customer) = self.method(id)?.customer.clone() else {
            let message =
                "The payment method you provided is not attached to a customer so detachment is impossible.";
            return Err(StripeRefusal::execution(message).param("payment_method"));
        };
        self.detach(id);
        if let Some(customer) = self.memory.customers.get_mut(&customer) {
            customer.methods.retain(|method| method != id);
        }
        let object = self.method(id)?.object();
        self.emit("payment_method.detached", &object, id);
        self.keep();
        self.expanded(object, &form)
    }

    /// Handles `GET /v1/customers/{id}/payment_methods`.
    pub(super) fn list_customer_methods(&self, id: &str, query: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &LISTED)?;
        let customer = self.existing_customer(id, "customer").map_err(|refusal| refusal.status(404))?;
        let methods = &self.memory.methods;
        let page =
            ListPage::read(&form, "PaymentMethod", |method| customer.methods.iter().any(|id| id == method))?;
        let attached = customer.methods.iter().rev().filter_map(|id| methods.get_key_value(id));
        let newest_first = attached
            .filter(|(_, method)| form.text("type").is_none_or(|asked| asked == method.kind.name()))
            .filter(|_| form.text("allow_redisplay").is_none_or(|asked| asked == "limited"));
        let url = format!("/v1/customers/{id}/payment_methods");
        self.expanded(page.of(&url, newest_first, Method::object), &form)
    }

    /// Handles `GET /v1/customers/{id}/payment_methods/{method}`.
    pub(super) fn read_customer_method(
        &self,
        customer: &str,
        method: &str,
        query: &[u8],
    ) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        self.existing_customer(customer, "customer").map_err(|refusal| refusal.status(404))?;
        let found = self.memory.methods.get(method);
        let attached = found.filter(|method| method.customer.as_deref() == Some(customer));
        let missing = || StripeRefusal::missing("PaymentMethod", method, "payment_method").status(404);
        self.expanded(attached.ok_or_else(missing)?.object(), &form)
    }

    fn method(&self, id: &str) -> Result<&Method, StripeRefusal> {
        let method = self.memory.methods.get(id);
        method.ok_or_else(|| StripeRefusal::missing("PaymentMethod", id, "payment_method").status(404))
    }

    /// Detaches a method from its customer.
    pub(super) fn detach(&mut self, id: &str) {
        if let Some(method) = self.memory.methods.get_mut(id) {
            method.customer = None;
            method.is_detached = true;
        }
    }

    /// Creates a method that a payer has entered, and attaches it to the customer if there is one.
    pub(super) fn new_method(&mut self, kind: MethodKind, customer: Option<&str>) -> Method {
        let id = self.new_id("pm");
        let owner = customer.and_then(|id| self.memory.customers.get_mut(id));
        let number = owner.as_ref().map_or(0, |customer| customer.methods.len());
        let mut method = Method::new(id.clone(), kind, self.sources.now().as_second(), number);
        if let Some(customer) = owner {
            method.customer = Some(customer.id.clone());
            customer.methods.push(id.clone());
        }
        self.memory.methods.insert(id, method.clone());
        method
    }
}
