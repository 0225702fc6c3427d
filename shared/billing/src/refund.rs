//! Refunds: those that the application owes, and those that an operator requests.

use std::time::Duration;

use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::News;
use credits_core::price::Price;
use credits_core::refund::{Refund, RefundStatus};
use credits_payments::provider::{PartialRefund, ProviderError, RefundRefusal, RefundedBy};
use credits_store::error::{Chain, Corrupt};
use credits_store::payments::refunds::{OwedRefund, RefundResult, StoredRefund};

use crate::billing::{Billing, BillingFault};

/// How long a cancelling caller waits for each refund or checkout at Stripe. The sweep does what is not done by then.
pub(crate) const BEST_EFFORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether an earlier attempt may have requested the refund from Stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundAttempt {
    /// The refund was just stored.
    First,
    /// Stripe may have made the refund already.
    Again,
}

impl Billing {
    /// Makes refunds that were just stored if Stripe responds within [`BEST_EFFORT_TIMEOUT`] for each. The sweep makes
    /// the rest.
    pub(crate) async fn refund_soon(&self, workspace: &WorkspaceId, refund_ids: &[Id]) {
        for refund_id in refund_ids {
            let made = tokio::time::timeout(BEST_EFFORT_TIMEOUT, self.make_refund(refund_id)).await;
            if let Ok(Err(fault)) = made {
                tracing::warn!(%workspace, error = %Chain(&fault), "a refund is left to the sweep");
            }
        }
    }

    /// Makes a stored refund.
    pub(crate) async fn make_refund(&self, refund_id: &Id) -> Result<(), BillingFault> {
        let Some(stored) = self.store.refunds().owed(refund_id).await? else { return Ok(()) };
        self.refund(&stored, RefundAttempt::Again).await.map(drop)
    }

    /// Makes a stored refund, takes its credits back and returns Stripe's response. Later events state how the refund
    /// ends.
    pub async fn refund(
        &self,
        stored: &StoredRefund,
        attempt: RefundAttempt,
    ) -> Result<RefundResult, BillingFault> {
        if let Some(end) = &stored.end {
            return Ok(end.clone());
        }
        let refund = &stored.refund;
        let end = match refund.amount_minor {
            None => made(self.provider.refund_all(&self.key, &refund.payment_id).await?),
            Some(amount_minor) => {
                let amount = Price { amount_minor, ..refund.price };
                match self.refund_part(stored, amount, attempt).await {
                    Ok(refunded) => {
                        self.take_back(refund, amount, &refunded).await?;
                        made(refunded)
                    }
                    Err(RefundRefusal::ExceedsPayment) => RefundResult::ExceedsPayment,
                    Err(RefundRefusal::Disputed) => RefundResult::Disputed,
                    Err(RefundRefusal::PaymentMissing) => RefundResult::PaymentMissing,
                    Err(RefundRefusal::Provider(error)) => return Err(error.into()),
                }
            }
        };
        if let RefundResult::Made { status: RefundStatus::Failed, .. } = end {
            tracing::error!(payment_id = refund.payment_id, "Stripe could not make a refund");
        }
        self.store.refunds().end(&refund.refund_id, &end).await?;
        Ok(end)
    }

    async fn refund_part(
        &self,
        stored: &StoredRefund,
        amount: Price,
        attempt: RefundAttempt,
    ) -> Result<RefundedBy, RefundRefusal> {
        let OwedRefund { payment_id, refund_id, .. } = &stored.refund;
        let order = PartialRefund { payment_id, amount, name: refund_id.as_str() };
        if attempt == RefundAttempt::Again
            && let Some(made) = self.provider.find_refund(&self.key, order).await?
        {
            return Ok(made);
        }
        let answered = self.provider.refund(&self.key, order, &stored.idempotency_key()).await;
        if let Err(RefundRefusal::Provider(ProviderError::Failed(_))) = answered
            && let Err(fault) = self.store.refunds().next_key(stored).await
        {
            tracing::warn!(error = %Chain(&fault), "a refund could not move to its next idempotency key");
        }
        answered
    }

    /// Applies a refund to its payment, as its event will do again.
    async fn take_back(
        &self,
        refund: &OwedRefund,
        amount: Price,
        made: &RefundedBy,
    ) -> Result<(), BillingFault> {
        let refund_id = made.refund_id.clone().ok_or(Corrupt::Attribute("refund_id"))?;
        let RefundedBy { status, made_at, .. } = *made;
        let news = Refund { amount_minor: amount.amount_minor, status, made_at };
        let news = News::Refund { refund_id, refund: news, at: made_at };
        Box::pin(self.store.payments().apply(&refund.payment_id, &news)).await?;
        Ok(())
    }
}

fn made(refunded: RefundedBy) -> RefundResult {
    RefundResult::Made { made_as: refunded.refund_id, status: refunded.status }
}
