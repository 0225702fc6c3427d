//! Charges: the attempts to pay a payment intent, their ends, and the settlement of delayed ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::intents::{IntentStatus, StripeIntent};
use super::methods::{Method, billing_details};
use super::sessions::SessionPaymentStatus;
use super::{PlayError, StripeStandIn};

/// The outcome of the next charges of a workspace's stored method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlayedOutcome {
    /// The charge succeeds. A bank debit is processing first.
    Succeeded,
    /// The method is declined.
    Declined,
    /// The bank requires authentication, and the customer is not present.
    AuthenticationRequired,
    /// The charge is processing until it is settled.
    Processing,
    /// Stripe answers 500 without charging.
    ServerError,
    /// Stripe answers 500 after charging.
    ServerErrorCharged,
    /// Stripe refuses the request during its execution.
    Refused,
}

/// The end of a payment that is processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeSettlement {
    Succeeded,
    Failed,
}

/// The status of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChargeStatus {
    Pending,
    Succeeded,
    Failed,
}

/// An attempt to pay an intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Charge {
    pub id: String,
    pub intent: String,
    pub amount_minor: u64,
    pub refunded_minor: u64,
    pub currency: String,
    pub customer: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub method: Option<String>,
    pub details: Option<Value>,
    pub status: ChargeStatus,
    pub failure: Option<Failing>,
    pub is_disputed: bool,
    /// Whether a dispute has withdrawn the money. Such a charge can't be refunded.
    pub is_charged_back: bool,
    pub created: i64,
}

/// Why a charge has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failing {
    Declined,
    AuthenticationRequired,
    /// The bank has returned a debit.
    Returned,
}

impl Failing {
    pub fn code(self) -> &'static str {
        match self {
            Self::Declined => "card_declined",
            Self::AuthenticationRequired => "authentication_required",
            Self::Returned => "payment_method_provider_decline",
        }
    }

    pub fn decline_code(self) -> Option<&'static str> {
        match self {
            Self::Declined => Some("generic_decline"),
            Self::AuthenticationRequired => Some("authentication_required"),
            Self::Returned => None,
        }
    }

    pub fn message(self) -> &'static str {
        match self {
            Self::Declined => "Your card was declined.",
            Self::AuthenticationRequired => {
                "Your card was declined. This transaction requires authentication."
            }
            Self::Returned => "The customer's bank account could not be debited.",
        }
    }

    /// Returns the error object that a failed payment contains.
    pub fn error(self, charge: &str) -> Value {
        let mut error = json!({
            "type": if self == Self::Returned { "invalid_request_error" } else { "card_error" },
            "charge": charge,
            "code": self.code(),
            "doc_url": format!("https://stripe.com/docs/error-codes/{}", self.code().replace('_', "-")),
            "message": self.message(),
        });
        if let Some(decline_code) = self.decline_code() {
            error["decline_code"] = json!(decline_code);
        }
        error
    }
}

impl Charge {
    /// Creates the charge of an intent, with the intent's status.
    pub fn new(id: String, intent: &StripeIntent, method: Option<&Method>, created: i64) -> Self {
        let status = match intent.status {
            IntentStatus::Succeeded => ChargeStatus::Succeeded,
            IntentStatus::Processing => ChargeStatus::Pending,
            IntentStatus::RequiresConfirmation | IntentStatus::RequiresPaymentMethod => ChargeStatus::Failed,
        };
        Self {
            id,
            intent: intent.id.clone(),
            amount_minor: intent.amount_minor,
            refunded_minor: 0,
            currency: intent.currency.clone(),
            customer: intent.customer.clone(),
            description: intent.description.clone(),
            metadata: intent.metadata.clone(),
            method: method.map(|method| method.id.clone()),
            details: method.map(Method::details),
            status,
            failure: None,
            is_disputed: false,
            is_charged_back: false,
            created,
        }
    }

    /// Returns the charge as a Stripe object.
    pub fn object(&self) -> Value {
        let is_paid = self.status != ChargeStatus::Failed;
        let receipt = format!("https://pay.stripe.com/receipts/payment/{}", self.id);
        let outcome = json!({
            "network_status": if is_paid { "approved_by_network" } else { "declined_by_network" },
            "reason": self.failure.and_then(Failing::decline_code),
            "risk_level": "normal",
            "seller_message": self.failure.map_or("Payment complete.", |_| "The bank did not return any further details."),
            "type": if is_paid { "authorized" } else { "issuer_declined" },
        });
        json!({
            "id": self.id,
            "object": "charge",
            "amount": self.amount_minor,
            "amount_captured": if self.status == ChargeStatus::Succeeded { self.amount_minor } else { 0 },
            "amount_refunded": self.refunded_minor,
            "application": null,
            "application_fee": null,
            "application_fee_amount": null,
            "balance_transaction": (self.status == ChargeStatus::Succeeded).then(|| self.id.replacen("ch", "txn", 1)),
            "billing_details": billing_details(),
            "calculated_statement_descriptor": "LOCAL",
            "captured": is_paid,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "disputed": self.is_disputed,
            "failure_balance_transaction": null,
            "failure_code": self.failure.map(Failing::code),
            "failure_message": self.failure.map(Failing::message),
            "fraud_details": {},
            "livemode": false,
            "metadata": self.metadata,
            "on_behalf_of": null,
            "outcome": outcome,
            "paid": is_paid,
            "payment_intent": self.intent,
            "payment_method": self.method,
            "payment_method_details": self.details,
            "receipt_email": null,
            "receipt_number": null,
            "receipt_url": is_paid.then_some(receipt),
            "refunded": self.amount_minor == self.refunded_minor && self.refunded_minor > 0,
            "review": null,
            "shipping": null,
            "source": null,
            "source_transfer": null,
            "statement_descriptor": null,
            "statement_descriptor_suffix": null,
            "status": self.status,
            "transfer_data": null,
            "transfer_group": null,
        })
    }
}

impl StripeStandIn {
    /// Sets the outcome of the next charges of a workspace's stored method.
    pub fn decide(&mut self, workspace: &str, outcome: PlayedOutcome) {
        self.memory.outcomes.insert(workspace.to_owned(), outcome);
        self.keep();
    }

    /// Ends a payment that is processing, and publishes the result.
    pub fn settle(&mut self, payment: &str, settlement: ChargeSettlement) -> Result<(), PlayError> {
        let intent = self.memory.intents.get_mut(payment).ok_or(PlayError::Unknown("payment"))?;
        if intent.status != IntentStatus::Processing {
            return Err(PlayError::State("the payment is not processing"));
        }
        let session = intent.session.clone();
        match settlement {
            ChargeSettlement::Succeeded => self.succeed(payment),
            ChargeSettlement::Failed => self.fail(payment, Failing::Returned),
        }
        if let Some(id) = session {
            self.settle_session(&id, payment, settlement);
        }
        self.keep();
        Ok(())
    }

    fn settle_session(&mut self, id: &str, payment: &str, settlement: ChargeSettlement) {
        let Some(session) = self.memory.sessions.get_mut(id) else { return };
        let kind = match settlement {
            ChargeSettlement::Succeeded => {
                session.payment_status = SessionPaymentStatus::Paid;
                "checkout.session.async_payment_succeeded"
            }
            ChargeSettlement::Failed => "checkout.session.async_payment_failed",
        };
        let object = session.object(None);
        self.emit(kind, &object, payment);
    }

    /// Makes an intent succeed, and publishes the events.
    pub(super) fn succeed(&mut self, id: &str) {
        self.end(id, IntentStatus::Succeeded, None);
    }

    /// Makes an intent fail, and publishes the events.
    pub(super) fn fail(&mut self, id: &str, failing: Failing) {
        self.end(id, IntentStatus::RequiresPaymentMethod, Some(failing));
    }

    /// Makes an intent processing, and publishes the events.
    pub(super) fn begin_processing(&mut self, id: &str) {
        self.end(id, IntentStatus::Processing, None);
    }

    fn end(&mut self, id: &str, status: IntentStatus, failing: Option<Failing>) {
        let (now, new_charge) = (self.now(), self.new_id("ch"));
        let memory = &mut self.memory;
        let Some(intent) = memory.intents.get_mut(id) else { return };
        let pending = intent.status == IntentStatus::Processing;
        intent.status = status;
        let method = intent.method.as_ref().and_then(|id| memory.methods.get(id));
        let charge_id = intent.latest_charge.clone().filter(|_| pending).unwrap_or(new_charge);
        let created = memory.charges.get(&charge_id).map_or(now, |charge| charge.created);
        let mut charge = Charge::new(charge_id.clone(), intent, method, created);
        charge.failure = failing;
        intent.latest_charge = Some(charge_id.clone());
        intent.last_payment_error = failing.map(|failing| {
            let mut error = failing.error(&charge_id);
            error["payment_method"] = method.map_or(Value::Null, Method::object);
            error
        });
        if failing.is_some() {
            intent.method = None;
        }
        let (intent, charge_object) = (intent.object(), charge.object());
        memory.charges.insert(charge_id, charge);
        match status {
            IntentStatus::Succeeded => {
                self.emit("charge.succeeded", &charge_object, id);
                self.emit("payment_intent.succeeded", &intent, id);
            }
            IntentStatus::Processing => {
                self.emit("charge.pending", &charge_object, id);
                self.emit("payment_intent.processing", &intent, id);
            }
            IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresConfirmation => {
                self.emit("charge.failed", &charge_object, id);
                self.emit("payment_intent.payment_failed", &intent, id);
            }
        }
    }
}
