//! Refunds that we owe.

use std::time::Duration;

use credits_core::id::Id;
use credits_payments::provider::RefundStatus;

use crate::{Billing, BillingFault};

/// How long a caller who cancels waits for Stripe at most; what is not done by then is the sweep's.
pub(crate) const BEST_EFFORT_TIMEOUT: Duration = Duration::from_secs(2);

impl Billing {
    /// Makes a refund that is owed. Its events say how it ends.
    pub(crate) async fn make_refund(&self, refund_id: &Id) -> Result<(), BillingFault> {
        let Some(owed) = self.store.owed_refund(refund_id).await? else { return Ok(()) };
        let key = owed.refund_id.to_string();
        let made = self.provider.refund_all(&self.key, &owed.payment_id, &key).await?;
        if made.status == RefundStatus::Failed {
            tracing::error!(payment_id = owed.payment_id, "Stripe could not make a refund");
        }
        Ok(self.store.record_refund(refund_id, made.refund_id.as_deref()).await?)
    }
}
