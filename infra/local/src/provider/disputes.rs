//! Disputes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PlayError, StripeStandIn};

/// The time to submit evidence, in seconds.
const EVIDENCE_SECONDS: i64 = 8 * 86_400;

/// The status of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StripeDisputeStatus {
    /// An open inquiry. It withdraws no money.
    WarningNeedsResponse,
    /// An answered inquiry.
    WarningUnderReview,
    /// An inquiry that ended without a dispute.
    WarningClosed,
    /// An open dispute. The money is withdrawn.
    NeedsResponse,
    /// An answered dispute.
    UnderReview,
    /// A won dispute. The money is reinstated.
    Won,
    /// A lost dispute. The money stays withdrawn.
    Lost,
}

impl StripeDisputeStatus {
    fn is_warning(self) -> bool {
        matches!(self, Self::WarningNeedsResponse | Self::WarningUnderReview | Self::WarningClosed)
    }

    fn is_closed(self) -> bool {
        matches!(self, Self::WarningClosed | Self::Won | Self::Lost)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StripeDispute {
    pub id: String,
    pub charge: String,
    pub intent: String,
    pub amount_minor: u64,
    pub currency: String,
    pub status: StripeDisputeStatus,
    /// Whether the money is withdrawn.
    pub is_withdrawn: bool,
    pub created: i64,
}

impl StripeDispute {
    /// Returns the dispute as a Stripe object.
    pub fn object(&self) -> Value {
        let case = if self.status.is_warning() { "inquiry" } else { "chargeback" };
        json!({
            "id": self.id,
            "object": "dispute",
            "amount": self.amount_minor,
            "balance_transactions": [],
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "enhanced_eligibility_types": [],
            "evidence": { "enhanced_evidence": {} },
            "evidence_details": {
                "due_by": self.created.saturating_add(EVIDENCE_SECONDS), "enhanced_eligibility": {},
                "has_evidence": false, "past_due": false, "submission_count": 0,
            },
            "intended_submission_method": null,
            "is_charge_refundable": !self.is_withdrawn,
            "livemode": false,
            "metadata": {},
            "payment_intent": self.intent,
            "payment_method_details": {
                "card": { "brand": "visa", "case_type": case, "network_reason_code": "10.4" }, "type": "card",
            },
            "reason": "fraudulent",
            "status": self.status,
        })
    }
}

impl StripeStandIn {
    /// Opens a dispute of a payment, and returns its id. Without an amount it disputes the whole payment.
    pub fn dispute(
        &mut self,
        payment: &str,
        amount_minor: Option<u64>,
        status: StripeDisputeStatus,
    ) -> Result<String, PlayError> {
        let charge = self.paid_charge(payment)?;
        let amount_minor = amount_minor.unwrap_or(charge.amount_minor);
        if amount_minor == 0 || amount_minor > charge.amount_minor {
            return Err(PlayError::Range("amount"));
        }
        if !matches!(status, StripeDisputeStatus::NeedsResponse | StripeDisputeStatus::WarningNeedsResponse) {
            return Err(PlayError::State("a dispute begins as needs_response or warning_needs_response"));
        }
        let dispute = StripeDispute {
            id: self.new_id("du"),
            charge: charge.id.clone(),
            intent: payment.to_owned(),
            amount_minor,
            currency: charge.currency,
            status,
            is_withdrawn: !status.is_warning(),
            created: self.now(),
        };
        let id = dispute.id.clone();
        self.emit("charge.dispute.created", &dispute.object(), payment);
        if dispute.is_withdrawn {
            self.emit("charge.dispute.funds_withdrawn", &dispute.object(), payment);
        }
        self.mark_charge(&dispute);
        self.memory.disputes.insert(id.clone(), dispute);
        self.keep();
        Ok(id)
    }

    /// Moves a dispute to another status, and publishes the events. A lost dispute may still be won.
    pub fn move_dispute(&mut self, id: &str, status: StripeDisputeStatus) -> Result<(), PlayError> {
        let dispute = self.memory.disputes.get_mut(id).ok_or(PlayError::Unknown("dispute"))?;
        let before = dispute.status;
        let is_possible = match before {
            StripeDisputeStatus::WarningClosed | StripeDisputeStatus::Won => false,
            StripeDisputeStatus::Lost => status == StripeDisputeStatus::Won,
            before => before != status && (before.is_warning() || !status.is_warning()),
        };
        if !is_possible {
            return Err(PlayError::State("the dispute cannot move to this status"));
        }
        let read = dispute.clone();
        dispute.status = status;
        dispute.is_withdrawn = !status.is_warning() && status != StripeDisputeStatus::Won;
        let dispute = dispute.clone();
        self.mark_charge(&dispute);
        self.publish_move(&read, &dispute);
        self.keep();
        Ok(())
    }

    /// Returns the sum that the disputes of a payment withhold.
    pub(super) fn withheld_minor(&self, payment: &str) -> u64 {
        let disputes = self.memory.disputes.values();
        let withheld = disputes.filter(|dispute| dispute.intent == payment && dispute.is_withdrawn);
        withheld.fold(0, |sum, dispute| sum.saturating_add(dispute.amount_minor))
    }

    fn publish_move(&mut self, read: &StripeDispute, dispute: &StripeDispute) {
        let funds = match (read.is_withdrawn, dispute.is_withdrawn) {
            (false, true) => Some("charge.dispute.funds_withdrawn"),
            (true, false) => Some("charge.dispute.funds_reinstated"),
            _ => None,
        };
        let end = if dispute.status.is_closed() { "charge.dispute.closed" } else { "charge.dispute.updated" };
        for kind in funds.into_iter().chain([end]) {
            self.emit(kind, &dispute.object(), &dispute.intent);
        }
    }

    fn mark_charge(&mut self, dispute: &StripeDispute) {
        if let Some(charge) = self.memory.charges.get_mut(&dispute.charge) {
            charge.is_disputed = true;
            charge.is_charged_back = dispute.is_withdrawn;
        }
    }
}
