//! Renewals: a schedule fires this function at least hourly, and it works through whatever is due (M6, M8).
//!
//! What is due stands in an index under its date. An invocation goes through it within its time; what it leaves, the
//! next one finds. One item's failure holds up no other: it is tried again later, and what keeps failing is laid aside
//! and ends, with the failed invocation that says so, in the dead-letter queue.

use std::sync::Arc;

use credits_billing::sweep::Swept;
use credits_billing::{Billing, BillingFault};
use credits_core::catalogue::Catalogue;
use credits_core::id::WorkspaceId;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_runtime::secrets::{SecretError, Secrets};
use credits_runtime::{EventFunction, Settings, StartError, catalogue, start};
use credits_store::{Fault, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The function: a store, the catalogue, and the payment provider.
#[derive(Debug)]
pub struct Renewal {
    store: Store,
    catalogue: Arc<Catalogue>,
    provider: Provider,
    provider_key: Secrets,
    top_up_url: String,
}

/// What the function is asked to do; a schedule asks for nothing but a sweep.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Order {
    /// The type of an event of the bus.
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    /// An event of the bus: a workspace wants its automatic top-up.
    detail: Option<TopUpWanted>,
    /// An operator has mended what kept failing: it is due again.
    unstick: bool,
}

#[derive(Debug, Deserialize)]
struct TopUpWanted {
    workspace_id: WorkspaceId,
}

/// Why an invocation fails. What it has done is done.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The invocation's event is not one that the function knows. What is wrong with it may repeat what is in it.
    #[error("the event can't be read")]
    Unread,
    /// What is due can't be read.
    #[error("what is due can't be read")]
    Store(#[from] Fault),
    /// The provider's key can't be read.
    #[error("the provider's key can't be read")]
    Key(#[from] SecretError),
    /// A top-up could not be carried out; the next write that spends, or a sweep, asks for it again.
    #[error("an automatic top-up could not be carried out")]
    TopUp(#[from] BillingFault),
    /// Some of it could not be done.
    #[error("{} due items were left, {} postponed and {} laid aside", .0.left, .0.postponed, .0.stuck)]
    Unfinished(Swept),
}

impl Renewal {
    /// Puts the function together.
    #[must_use]
    pub fn new(
        store: Store,
        catalogue: Arc<Catalogue>,
        provider: Provider,
        provider_key: Secrets,
        top_up_url: String,
    ) -> Self {
        Self { store, catalogue, provider, provider_key, top_up_url }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        let provider =
            Provider::new(&settings.provider_base()).map_err(|_| StartError::Part("provider's client"))?;
        let provider_key = Secrets::from_setting(settings.provider_key()?, settings)?;
        Ok(Self::new(start::store(settings)?, catalogue, provider, provider_key, settings.top_up_url()?))
    }

    /// Works through what is due until the deadline is near.
    pub async fn sweep(&self, deadline: Instant) -> Result<Swept, RenewalError> {
        let swept = self.billing(deadline).await?.sweep(deadline).await?;
        let Swept { done, left, postponed, stuck, cut_short } = swept;
        let lag_seconds = self.lag_seconds().await?;
        tracing::info!(done, left, postponed, stuck, cut_short, lag_seconds, "swept");
        metrics::counter!("DueDone").increment(done);
        metrics::counter!("DuePostponed").increment(postponed);
        metrics::counter!("DueStuck").increment(stuck);
        metrics::histogram!("SweepLagSeconds").record(lag_seconds);
        let open_payments = self.store.until(deadline).count_unmatched_payments().await?;
        metrics::histogram!("PaymentsUnmatchedOpen").record(open_payments);
        let failed = [left, postponed, stuck].iter().any(|count| *count > 0);
        if failed { Err(RenewalError::Unfinished(swept)) } else { Ok(swept) }
    }

    /// For how long the oldest of what is still to be done has been due: by it a sweep rings that doesn't keep up.
    async fn lag_seconds(&self) -> Result<u32, Fault> {
        let oldest = self.store.next_due().await?;
        let seconds = oldest.map_or(0, |oldest| self.store.now().duration_since(oldest).as_secs());
        Ok(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    async fn billing(&self, deadline: Instant) -> Result<Billing, RenewalError> {
        let key = self.provider_key.first().await?;
        let (store, catalogue) = (self.store.until(deadline), Arc::clone(&self.catalogue));
        Ok(Billing::new(store, self.provider.clone(), key, catalogue, ReturnUrls::to(&self.top_up_url)))
    }
}

impl EventFunction for Renewal {
    type Error = RenewalError;

    async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, RenewalError> {
        let order: Order = serde_json::from_value(event).map_err(|_| RenewalError::Unread)?;
        if order.detail_type.is_some() && order.detail.is_none() {
            return Err(RenewalError::Unread);
        }
        if order.unstick {
            let count = self.billing(deadline).await?.unstick().await?;
            tracing::info!(count, "what was laid aside is due again");
        }
        if let Some(TopUpWanted { workspace_id }) = order.detail {
            self.billing(deadline).await?.top_up_automatically(&workspace_id).await?;
            return Ok(json!({ "looked_at": workspace_id }));
        }
        let swept = self.sweep(deadline).await?;
        Ok(json!({ "done": swept.done, "cut_short": swept.cut_short }))
    }
}
