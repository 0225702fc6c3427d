//! The renewal function: a schedule invokes it at least hourly, and it processes everything that is due (M6, M8). Events of
//! the bus invoke it for automatic top-up, and when an allocation or grant arrives, which alerts follow (M15).
//!
//! Due items stand in an index under their date. An invocation processes them until its time is up, and the next one
//! finds the rest. An item that fails blocks no other: it is retried later. An item that keeps failing is quarantined.
//! The invocation that quarantines it fails and ends in the dead-letter queue.

use std::sync::Arc;

use credits_aws::secrets::{SecretError, Secrets};
use credits_aws::{Settings, StartError, dynamodb};
use credits_billing::sweep::Swept;
use credits_billing::{Billing, BillingFault};
use credits_core::catalogue::Catalogue;
use credits_core::id::WorkspaceId;
use credits_core::top_up_page::TopUpPage;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_runtime::{EventFunction, catalogue};
use credits_store::{Fault, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The renewal function with its store, its catalogue and its Stripe client.
#[derive(Debug)]
pub struct Renewal {
    store: Store,
    catalogue: Arc<Catalogue>,
    provider: Provider,
    provider_key: Secrets,
    top_up_page: TopUpPage,
}

/// The event of an invocation. Without these members, such as from a schedule, it asks for a sweep.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SweepOrder {
    /// The type of an event of the bus.
    #[serde(rename = "detail-type")]
    detail_type: Option<BusEvent>,
    /// Set by an event of the bus.
    detail: Option<EventDetail>,
    /// Set by an operator: makes quarantined items due again before the sweep.
    unstick: bool,
}

/// The events that invoke the function.
#[derive(Debug, Clone, Copy, Deserialize)]
enum BusEvent {
    /// The workspace wants its automatic top-up.
    TopUpWanted,
    /// An allocation or a grant has arrived.
    CreditsAdded,
}

#[derive(Debug, Deserialize)]
struct EventDetail {
    workspace_id: WorkspaceId,
}

/// Why an invocation failed. The items that it processed before stay processed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The event has another shape. The cause may repeat what is in it, and is left out.
    #[error("the event can't be read")]
    Unread,
    #[error("the store failed")]
    Store(#[from] Fault),
    #[error("the provider's key can't be read")]
    Key(#[from] SecretError),
    /// The next write that spends, or a sweep, starts the top-up again.
    #[error("an automatic top-up failed")]
    TopUp(#[from] BillingFault),
    #[error("{} due items were left, {} postponed and {} quarantined", .0.left, .0.postponed, .0.stuck)]
    Unfinished(Swept),
}

impl Renewal {
    /// Creates the function.
    #[must_use]
    pub fn new(
        store: Store,
        catalogue: Arc<Catalogue>,
        provider: Provider,
        provider_key: Secrets,
        top_up_page: TopUpPage,
    ) -> Self {
        Self { store, catalogue, provider, provider_key, top_up_page }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        let provider =
            Provider::new(&settings.provider_base()).map_err(|_| StartError::Part("provider's client"))?;
        let provider_key = Secrets::from_setting(settings.provider_key()?, settings)?;
        Ok(Self::new(dynamodb::store(settings)?, catalogue, provider, provider_key, settings.top_up_page()?))
    }

    /// Processes due items until the deadline is near. Fails if any item was left, postponed or quarantined.
    pub async fn sweep(&self, deadline: Instant) -> Result<Swept, RenewalError> {
        let swept = self.billing(deadline).await?.sweep(deadline).await?;
        let Swept { done, left, postponed, stuck, cut_short } = swept;
        let lag_seconds = self.lag_seconds().await?;
        if swept != Swept::default() || lag_seconds > 0 {
            tracing::info!(done, left, postponed, stuck, cut_short, lag_seconds, "swept");
            metrics::counter!("DueDone").increment(done);
            metrics::counter!("DuePostponed").increment(postponed);
            metrics::counter!("DueStuck").increment(stuck);
        }
        metrics::histogram!("SweepLagSeconds").record(lag_seconds);
        let open_payments = self.store.until(deadline).unmatched_payments().count().await?;
        metrics::histogram!("PaymentsUnmatchedOpen").record(open_payments);
        let failed = [left, postponed, stuck].iter().any(|count| *count > 0);
        if failed { Err(RenewalError::Unfinished(swept)) } else { Ok(swept) }
    }

    /// Returns how long the oldest remaining item has been due, in seconds. An alarm rings if sweeps don't keep up.
    async fn lag_seconds(&self) -> Result<u32, Fault> {
        let oldest = self.store.due_items().next().await?;
        let seconds = oldest.map_or(0, |oldest| self.store.now().duration_since(oldest).as_secs());
        Ok(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    async fn billing(&self, deadline: Instant) -> Result<Billing, RenewalError> {
        let key = self.provider_key.first().await?;
        let (store, catalogue) = (self.store.until(deadline), Arc::clone(&self.catalogue));
        Ok(Billing::new(
            store,
            self.provider.clone(),
            key,
            catalogue,
            ReturnUrls::to(self.top_up_page.template()),
        ))
    }
}

impl EventFunction for Renewal {
    type Error = RenewalError;

    async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, RenewalError> {
        let order: SweepOrder = serde_json::from_value(event).map_err(|_| RenewalError::Unread)?;
        if order.detail_type.is_some() != order.detail.is_some() {
            return Err(RenewalError::Unread);
        }
        if order.unstick {
            let count = self.billing(deadline).await?.unstick().await?;
            tracing::info!(count, "quarantined items are due again");
        }
        if let Some((event, EventDetail { workspace_id })) = order.detail_type.zip(order.detail) {
            match event {
                BusEvent::TopUpWanted => {
                    self.billing(deadline).await?.top_up_automatically(&workspace_id).await?;
                }
                BusEvent::CreditsAdded => {
                    self.store.until(deadline).alerts().follow_addition(&workspace_id).await?;
                }
            }
            return Ok(json!({ "looked_at": workspace_id }));
        }
        let swept = self.sweep(deadline).await?;
        Ok(json!({ "done": swept.done, "cut_short": swept.cut_short }))
    }
}
