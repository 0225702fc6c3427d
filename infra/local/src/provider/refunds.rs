//! Refunds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::amounts::{in_major_units, symbol};
use super::charges::{Charge, ChargeStatus};
use super::errors::StripeRefusal;
use super::form::{EXPAND, Field, FieldKind, Form, field};
use super::lists::{CREATED, LIMIT, ListPage, STARTING_AFTER, is_created_as_asked};
use super::{PlayError, StripeStandIn};

/// The status of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StripeRefundStatus {
    /// The money is on its way.
    Pending,
    /// The payer has the money.
    Succeeded,
    /// The bank has sent the money back.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StripeRefund {
    pub id: String,
    pub amount_minor: u64,
    pub charge: String,
    pub intent: String,
    pub currency: String,
    pub customer: Option<String>,
    pub method: Option<String>,
    pub reason: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub status: StripeRefundStatus,
    pub created: i64,
}

/// A refund to create.
struct RefundOrder {
    amount_minor: u64,
    reason: Option<String>,
    metadata: BTreeMap<String, String>,
    status: StripeRefundStatus,
}

const KNOWN: [Field; 6] = [
    EXPAND,
    field("payment_intent", FieldKind::Text(255)),
    field("charge", FieldKind::Text(255)),
    field("amount", FieldKind::Whole),
    field("reason", FieldKind::Choice(&["duplicate", "fraudulent", "requested_by_customer"])),
    field("metadata[*]", FieldKind::Metadata),
];

impl StripeRefund {
    /// Returns the refund as a Stripe object.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount_minor,
            "balance_transaction": null,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": null,
            "destination_details": {
                "card": {
                    "reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund",
                },
                "type": "card",
            },
            "metadata": self.metadata,
            "payment_intent": self.intent,
            "payment_method": self.method,
            "reason": self.reason,
            "receipt_number": null,
            "source_transfer_reversal": null,
            "status": self.status,
            "transfer_reversal": null,
        });
        match self.status {
            StripeRefundStatus::Pending => object["pending_reason"] = json!("processing"),
            StripeRefundStatus::Failed => object["failure_reason"] = json!("unknown"),
            StripeRefundStatus::Succeeded => {}
        }
        object
    }
}

impl StripeStandIn {
    /// Handles `POST /v1/refunds`.
    pub(super) fn create_refund(&mut self, body: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(body, &KNOWN)?;
        let amount = form.positive("amount")?;
        let charge = self.refundable(&form)?;
        let left = charge.amount_minor.saturating_sub(charge.refunded_minor);
        let currency = &charge.currency;
        if left == 0 {
            let message = format!("Charge {} has already been refunded.", charge.id);
            return Err(StripeRefusal::execution(message).code("charge_already_refunded"));
        }
        let amount_minor = amount.unwrap_or(left);
        if amount_minor > left {
            let shown = |minor: u64| format!("{}{}", symbol(currency), in_major_units(minor, currency));
            let message = format!(
                "Refund amount ({}) is greater than unrefunded amount on charge ({})",
                shown(amount_minor),
                shown(left)
            );
            return Err(StripeRefusal::execution(message).param("amount"));
        }
        let order = RefundOrder {
            amount_minor,
            reason: form.text("reason").map(str::to_owned),
            metadata: form.metadata("metadata"),
            status: StripeRefundStatus::Succeeded,
        };
        let charge = charge.clone();
        let object = self.make_refund(&charge, order).object();
        self.keep();
        self.expanded(object, &form)
    }

    /// Returns the charge that a form names. Refuses one that can't be refunded.
    fn refundable(&self, form: &Form) -> Result<&Charge, StripeRefusal> {
        let id = match (form.text("charge"), form.text("payment_intent")) {
            (None, None) => {
                let message = "One of the following params should be provided for this request: payment_intent or charge.";
                return Err(StripeRefusal::validation(message));
            }
            (Some(_), Some(_)) => return Err(StripeRefusal::exclusive("charge", "payment_intent")),
            (Some(charge), None) => charge,
            (None, Some(id)) => {
                let intent = self.memory.intents.get(id);
                let missing = || StripeRefusal::missing("payment_intent", id, "payment_intent").status(404);
                intent.ok_or_else(missing)?.latest_charge.as_deref().unwrap_or_default()
            }
        };
        let charge = self.memory.charges.get(id);
        if let (None, Some(charge)) = (charge, form.text("charge")) {
            return Err(StripeRefusal::missing("charge", charge, "id").status(404));
        }
        let Some(charge) = charge.filter(|charge| charge.status == ChargeStatus::Succeeded) else {
            let intent = form.text("payment_intent").unwrap_or(id);
            let message =
                format!("This PaymentIntent ({intent}) does not have a successful charge to refund.");
            return Err(StripeRefusal::execution(message));
        };
        if charge.is_charged_back {
            let message = format!("Charge {} has been charged back; cannot issue a refund.", charge.id);
            return Err(StripeRefusal::execution(message).code("charge_disputed"));
        }
        Ok(charge)
    }

    /// Creates a refund, and publishes the events.
    fn make_refund(&mut self, charge: &Charge, order: RefundOrder) -> StripeRefund {
        let refund = StripeRefund {
            id: self.new_id("re"),
            amount_minor: order.amount_minor,
            charge: charge.id.clone(),
            intent: charge.intent.clone(),
            currency: charge.currency.clone(),
            customer: charge.customer.clone(),
            method: charge.method.clone(),
            reason: order.reason,
            metadata: order.metadata,
            status: order.status,
            created: self.now(),
        };
        self.memory.refunds.insert(refund.id.clone(), refund.clone());
        self.emit("refund.created", &refund.object(), &refund.intent);
        if let Some(charge) = self.memory.charges.get_mut(&charge.id) {
            charge.refunded_minor = charge.refunded_minor.saturating_add(order.amount_minor);
            let object = charge.object();
            self.emit("charge.refunded", &object, &refund.intent);
        }
        self.emit("refund.updated", &refund.object(), &refund.intent);
        refund
    }

    /// Refunds a payment as Stripe's dashboard does, and returns the refund's id. Without an amount it refunds the
    /// rest.
    pub fn refund(
        &mut self,
        payment: &str,
        amount_minor: Option<u64>,
        status: StripeRefundStatus,
    ) -> Result<String, PlayError> {
        let charge = self.paid_charge(payment)?;
        let left = charge.amount_minor.saturating_sub(charge.refunded_minor);
        let amount_minor = amount_minor.unwrap_or(left);
        if amount_minor == 0 || amount_minor > left {
            return Err(PlayError::Range("amount"));
        }
        if status == StripeRefundStatus::Failed {
            return Err(PlayError::State("a refund begins pending or succeeded"));
        }
        let order = RefundOrder { amount_minor, reason: None, metadata: BTreeMap::new(), status };
        let refund = self.make_refund(&charge, order);
        self.keep();
        Ok(refund.id)
    }

    /// Ends a refund. A succeeded refund may still fail: the bank sends the money back.
    pub fn end_refund(&mut self, id: &str, status: StripeRefundStatus) -> Result<(), PlayError> {
        let refund = self.memory.refunds.get_mut(id).ok_or(PlayError::Unknown("refund"))?;
        if refund.status == StripeRefundStatus::Failed || status == StripeRefundStatus::Pending {
            return Err(PlayError::State("the refund has ended"));
        }
        refund.status = status;
        let refund = refund.clone();
        if status == StripeRefundStatus::Failed {
            if let Some(charge) = self.memory.charges.get_mut(&refund.charge) {
                charge.refunded_minor = charge.refunded_minor.saturating_sub(refund.amount_minor);
            }
            self.emit("refund.failed", &refund.object(), &refund.intent);
        }
        for kind in ["refund.updated", "charge.refund.updated"] {
            self.emit(kind, &refund.object(), &refund.intent);
        }
        self.keep();
        Ok(())
    }

    /// Returns whether a refund of a payment has failed.
    pub(super) fn has_failed_refund(&self, payment: &str) -> bool {
        let refunds = self.memory.refunds.values();
        refunds
            .into_iter()
            .any(|refund| refund.intent == payment && refund.status == StripeRefundStatus::Failed)
    }

    /// Returns the `metadata[refund_id]` that the application gave a payment's refunds.
    pub(super) fn refund_names(&self, payment: &str) -> Vec<String> {
        let refunds = self.memory.refunds.values().filter(|refund| refund.intent == payment);
        refunds.filter_map(|refund| refund.metadata.get("refund_id").cloned()).collect()
    }

    /// Returns the charge of a succeeded payment.
    pub(super) fn paid_charge(&self, payment: &str) -> Result<Charge, PlayError> {
        let intent = self.memory.intents.get(payment).ok_or(PlayError::Unknown("payment"))?;
        let charge = intent.latest_charge.as_ref().and_then(|id| self.memory.charges.get(id));
        let paid = charge.filter(|charge| charge.status == ChargeStatus::Succeeded);
        paid.cloned().ok_or(PlayError::State("the payment has not succeeded"))
    }

    /// Handles `GET /v1/refunds/{id}`.
    pub(super) fn read_refund(&self, id: &str, query: &[u8]) -> Result<Value, StripeRefusal> {
        let form = Form::read(query, &[EXPAND])?;
        let refund = self.memory.refunds.get(id);
        let refund = refund.ok_or_else(|| StripeRefusal::missing("refund", id, "refund").status(404))?;
        self.expanded(refund.object(), &form)
    }

    /// Handles `GET /v1/refunds`.
    pub(super) fn list_refunds(&self, query: &[u8]) -> Result<Value, StripeRefusal> {
        let mut known = vec![
            LIMIT,
            STARTING_AFTER,
            EXPAND,
            field("payment_intent", FieldKind::Text(255)),
            field("charge", FieldKind::Text(255)),
        ];
        known.extend(CREATED);
        let form = Form::read(query, &known)?;
        let refunds = &self.memory.refunds;
        let page = ListPage::read(&form, "refund", |id| refunds.contains_key(id))?;
        let newest_first = refunds.iter().rev().filter(|(_, refund)| {
            is_created_as_asked(&form, refund.created)
                && form.text("payment_intent").is_none_or(|asked| asked == refund.intent)
                && form.text("charge").is_none_or(|asked| asked == refund.charge)
        });
        self.expanded(page.of("/v1/refunds", newest_first, StripeRefund::object), &form)
    }
}
