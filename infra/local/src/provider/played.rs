//! The payments on the page of `cargo local` where a person plays refunds and disputes.

use super::StripeStandIn;
use super::amounts::{in_major_units, symbol};
use super::charges::{Charge, ChargeStatus};
use super::disputes::StripeDisputeStatus;
use super::refunds::StripeRefundStatus;

/// A payment with its refunds and disputes.
#[derive(Debug)]
pub(crate) struct PlayedPayment {
    pub payment_id: String,
    pub description: String,
    /// The amount with its currency symbol, for people.
    pub amount: String,
    /// The amount that is not refunded, in the currency's smallest unit.
    pub left_minor: u64,
    pub is_charged_back: bool,
    pub refunds: Vec<PlayedRefund>,
    pub disputes: Vec<PlayedDispute>,
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
    /// Returns the succeeded payments, newest first.
    pub(crate) fn played_payments(&self) -> Vec<PlayedPayment> {
        let charges = self.memory.charges.values().rev();
        let paid = charges.filter(|charge| charge.status == ChargeStatus::Succeeded);
        paid.take(MAX_SHOWN).map(|charge| self.played(charge)).collect()
    }

    fn played(&self, charge: &Charge) -> PlayedPayment {
        let shown =
            |minor| format!("{}{}", symbol(&charge.currency), in_major_units(minor, &charge.currency));
        let refunds = self.memory.refunds.values().filter(|refund| refund.charge == charge.id);
        let disputes = self.memory.disputes.values().filter(|dispute| dispute.charge == charge.id);
        PlayedPayment {
            payment_id: charge.intent.clone(),
            description: charge.description.clone().unwrap_or_default(),
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
