//! Refunds that we start.

use serde::Deserialize;

use super::{Provider, ProviderError, fields};
use crate::signature::Secret;

/// How a refund that we asked for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    /// It is on its way; a later event says how it ends.
    Pending,
    /// The money is back.
    Succeeded,
    /// Stripe could not make it.
    Failed,
}

/// A refund as Stripe answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundedBy {
    /// Stripe's id of the refund; `None` if everything had been refunded before.
    pub refund_id: Option<String>,
    /// How it stands.
    pub status: RefundStatus,
}

#[derive(Deserialize)]
struct RefundAnswer {
    id: String,
    status: Option<String>,
}

impl Provider {
    /// Refunds all that is left of a payment. Repeated, it refunds nothing more: Stripe refuses what is refunded whole. While a
    /// dispute withholds the money, the dispute decides.
    pub async fn refund_all(&self, key: &Secret, payment_id: &str) -> Result<RefundedBy, ProviderError> {
        let form = fields([
            ("payment_intent", payment_id.to_owned()),
            ("reason", "requested_by_customer".to_owned()),
        ]);
        match self.answer::<RefundAnswer>(self.post(key, "/v1/refunds", &form)).await {
            Ok(answer) => Ok(answer.into()),
            Err(ProviderError::Refused(refusal))
                if matches!(refusal.code.as_deref(), Some("charge_already_refunded" | "charge_disputed")) =>
            {
                Ok(RefundedBy { refund_id: None, status: RefundStatus::Succeeded })
            }
            Err(error) => Err(error),
        }
    }
}

impl From<RefundAnswer> for RefundedBy {
    fn from(answer: RefundAnswer) -> Self {
        let status = match answer.status.as_deref() {
            Some("succeeded") => RefundStatus::Succeeded,
            Some("failed" | "canceled") => RefundStatus::Failed,
            // `pending`, `requires_action`, or a status that Stripe adds later.
            _ => RefundStatus::Pending,
        };
        Self { refund_id: Some(answer.id), status }
    }
}
