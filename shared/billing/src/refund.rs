//! Refunds that we owe.

use std::time::Duration;

use credits_core::id::{Id, WorkspaceId};
use credits_payments::provider::RefundStatus;
use credits_store::error::Chain;

use crate::{Billing, BillingFault};

/// How long a caller who cancels waits for Stripe at most; what is not done by then is the sweep's.
pub(crate) const BEST_EFFORT_TIMEOUT: Duration = Duration::from_secs(2);

impl Billing {
    /// Makes refunds that were just promised, so far as Stripe answers soon; the sweep does the rest.
    pub(crate) async fn refund_soon(&self, workspace: &WorkspaceId, refund_ids: &[Id]) {
        for refund_id in refund_ids {
            let made = tokio::time::timeout(BEST_EFFORT_TIMEOUT, self.make_refund(refund_id)).await;
            if let Ok(Err(fault)) = made {
                tracing::warn!(%workspace, error = %Chain(&fault), "a refund is left to the sweep");
            }
        }
    }

    /// Makes a refund that is owed. Its events say how it ends.
    pub(crate) async fn make_refund(&self, refund_id: &Id) -> Result<(), BillingFault> {
        let Some(owed) = self.store.owed_refund(refund_id).await? else { return Ok(()) };
        let made = self.provider.refund_all(&self.key, &owed.payment_id).await?;
        if made.status == RefundStatus::Failed {
            tracing::error!(payment_id = owed.payment_id, "Stripe could not make a refund");
        }
        Ok(self.store.record_refund(refund_id, made.refund_id.as_deref()).await?)
    }
}
