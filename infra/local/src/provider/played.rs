//! Payments as the pages of `cargo local` show them.

use super::StripeStandIn;
use super::amounts::priced;
use super::charges::{Charge, ChargeStatus, PlayedOutcome};
use super::disputes::StripeDisputeStatus;
use super::refunds::StripeRefundStatus;

/// A payment with its refunds and disputes.
#[derive(Debug)]
pub(crate) struct PlayedPayment {
    pub payment_id: String,
    pub description: String,
    pub status: PlayedPaymentStatus,
    /// The amount with its currency symbol, for people.
    pub amount: String,
    /// The amount that is not refunded, in the currency's smallest unit.
    pub left_minor: u64,
    pub is_charged_back: bool,
    pub refunds: Vec<PlayedRefund>,
    pub disputes: Vec<PlayedDispute>,
}

/// The status of a payment that has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlayedPaymentStatus {
    /// A bank debit that waits for its end.
    Processing,
    Succeeded,
}

#[derive(Debug)]
pub(crate) struct PlayedRefund {
    pub refund_id: String,
    pub amount: String,
    pub status: StripeRefundStatus,
}

#[derive(Debug)]
pub(crate) struct PlayedDispute {
    pub dispute_id: String,
    pub status: StripeDisputeStatus,
}

/// The largest number of payments on the page.
const MAX_SHOWN: usize = 100;

impl StripeStandIn {
    /// Returns the succeeded and processing payments, newest first.
    pub(crate) fn played_payments(&self) -> Vec<PlayedPayment> {
        let charges = self.memory.charges.values().rev();
        let shown = charges.filter_map(|charge| match charge.status {
            ChargeStatus::Pending => Some(self.played(charge, PlayedPaymentStatus::Processing)),
            ChargeStatus::Succeeded => Some(self.played(charge, PlayedPaymentStatus::Succeeded)),
            ChargeStatus::Failed => None,
        });
        shown.take(MAX_SHOWN).collect()
    }

    /// Returns the outcome of the next charges of each workspace for which a control has set one.
    pub(crate) fn decided(&self) -> impl Iterator<Item = (&String, PlayedOutcome)> {
        self.memory.outcomes.iter().map(|(workspace, outcome)| (workspace, *outcome))
    }

    fn played(&self, charge: &Charge, status: PlayedPaymentStatus) -> PlayedPayment {
        let shown = |minor| priced(minor, &charge.currency);
        let refunds = self.memory.refunds.values().filter(|refund| refund.charge == charge.id);
        let disputes = self.memory.disputes.values().filter(|dispute| dispute.charge == charge.id);
        PlayedPayment {
            payment_id: charge.intent.clone(),
            description: charge.description.clone().unwrap_or_default(),
            status,
            amount: shown(charge.amount_minor),
            left_minor: charge.amount_minor.saturating_sub(charge.refunded_minor),
            is_charged_back: charge.is_charged_back,
            refunds: refunds
                .map(|refund| PlayedRefund {
                    refund_id: refund.id.clone(),
                    amount: shown(refund.amount_minor),
                    status: refund.status,
                })
                .collect(),
            disputes: disputes
                .map(|dispute| PlayedDispute { dispute_id: dispute.id.clone(), status: dispute.status })
                .collect(),
        }
    }
}
