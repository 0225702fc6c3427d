//! What the settings page and the hub's backend ask for: workspaces, catalogue, balance, ledger, top-ups.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_billing::Billing;
use credits_core::catalogue::Catalogue;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_runtime::secrets::Secrets;
use credits_runtime::{Answer, Call, Function, Problem, Settings, StartError, TopUpUrl, catalogue, start};
use credits_store::Store;
use credits_store::error::Chain;

mod agreement;
mod alerts;
mod auto_top_up;
mod balance;
mod cursor;
mod grants;
mod history;
mod ledger;
mod ledger_csv;
mod page;
mod query;
mod runs;
mod subscription;
mod top_ups;
mod unmatched_payments;
mod usage;
mod workspaces;

/// The function's routes, as template.yaml has them.
pub const ROUTES: [&str; 28] = [
    "PUT /v1/workspaces/{workspace_id}",
    "GET /v1/workspaces/{workspace_id}",
    "GET /v1/catalog",
    "GET /v1/workspaces/{workspace_id}/balance",
    "GET /v1/workspaces/{workspace_id}/ledger",
    "POST /v1/workspaces/{workspace_id}/top-ups",
    "PUT /v1/workspaces/{workspace_id}/subscription",
    "GET /v1/workspaces/{workspace_id}/subscription",
    "DELETE /v1/workspaces/{workspace_id}/subscription",
    "PUT /v1/workspaces/{workspace_id}/agreement",
    "GET /v1/workspaces/{workspace_id}/agreement",
    "GET /v1/workspaces/{workspace_id}/invoices",
    "PUT /v1/workspaces/{workspace_id}/alerts",
    "GET /v1/workspaces/{workspace_id}/alerts",
    "PUT /v1/workspaces/{workspace_id}/auto-top-up",
    "GET /v1/workspaces/{workspace_id}/auto-top-up",
    "POST /v1/workspaces/{workspace_id}/grants",
    "POST /v1/workspaces/{workspace_id}/grants/{grant_id}/void",
    "POST /v1/workspaces/{workspace_id}/runs",
    "GET /v1/workspaces/{workspace_id}/runs",
    "GET /v1/workspaces/{workspace_id}/runs/{run_id}",
    "POST /v1/workspaces/{workspace_id}/runs/{run_id}/complete",
    "GET /v1/workspaces/{workspace_id}/usage",
    "GET /v1/workspaces/{workspace_id}/usage/history",
    "GET /v1/unmatched-payments",
    "GET /v1/openapi.json",
    "GET /settings/ai-credits",
    "GET /settings/ai-credits/{file}",
];

/// The function: a store, the catalogue, and the payment provider.
#[derive(Debug)]
pub struct Account {
    store: Store,
    catalogue: Arc<Catalogue>,
    provider: Provider,
    provider_key: Secrets,
    top_up_url: TopUpUrl,
}

impl Account {
    /// Puts the function together.
    #[must_use]
    pub fn new(
        store: Store,
        catalogue: Arc<Catalogue>,
        provider: Provider,
        provider_key: Secrets,
        top_up_url: TopUpUrl,
    ) -> Self {
        Self { store, catalogue, provider, provider_key, top_up_url }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        let provider =
            Provider::new(&settings.provider_base()).map_err(|_| StartError::Part("provider's client"))?;
        let provider_key = Secrets::from_setting(settings.provider_key()?, settings)?;
        Ok(Self::new(
            start::store(settings)?,
            catalogue,
            provider,
            provider_key,
            settings.top_up_url_of_calls(),
        ))
    }
}

impl Account {
    /// What asks the provider, for one call.
    async fn billing(&self, call: &Call) -> Result<Billing, Problem> {
        let key = self.provider_key.first().await?;
        let (store, catalogue) = (self.store.until(call.deadline()), Arc::clone(&self.catalogue));
        Ok(Billing::new(
            store,
            self.provider.clone(),
            key,
            catalogue,
            ReturnUrls::to(&self.top_up_url.of(call)),
        ))
    }
}

impl Function for Account {
    async fn warm_up(&self) {
        if let Err(fault) = self.store.connect().await {
            // The first call tries again, and tells.
            tracing::debug!(error = %Chain(&fault), "no connection yet");
        }
    }

    async fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        match call.route() {
            "PUT /v1/workspaces/{workspace_id}" => self.put_workspace(call).await,
            "GET /v1/workspaces/{workspace_id}" => self.workspace(call).await,
            "GET /v1/catalog" => Ok(Answer::ok(&*self.catalogue)),
            "GET /v1/workspaces/{workspace_id}/balance" => self.balance(call).await,
            "GET /v1/workspaces/{workspace_id}/ledger" => self.ledger(call).await,
            "POST /v1/workspaces/{workspace_id}/top-ups" => self.top_up(call).await,
            "PUT /v1/workspaces/{workspace_id}/subscription" => self.subscribe(call).await,
            "GET /v1/workspaces/{workspace_id}/subscription" => self.subscription(call).await,
            "DELETE /v1/workspaces/{workspace_id}/subscription" => self.unsubscribe(call).await,
            "PUT /v1/workspaces/{workspace_id}/agreement" => self.put_agreement(call).await,
            "GET /v1/workspaces/{workspace_id}/agreement" => self.agreement(call).await,
            "GET /v1/workspaces/{workspace_id}/invoices" => self.invoices(call).await,
            "PUT /v1/workspaces/{workspace_id}/alerts" => self.put_alerts(call).await,
            "GET /v1/workspaces/{workspace_id}/alerts" => self.alerts(call).await,
            "PUT /v1/workspaces/{workspace_id}/auto-top-up" => self.put_auto_top_up(call).await,
            "GET /v1/workspaces/{workspace_id}/auto-top-up" => self.auto_top_up(call).await,
            "POST /v1/workspaces/{workspace_id}/grants" => self.grant(call).await,
            "POST /v1/workspaces/{workspace_id}/grants/{grant_id}/void" => self.void_grant(call).await,
            "POST /v1/workspaces/{workspace_id}/runs" => self.start_run(call).await,
            "GET /v1/workspaces/{workspace_id}/runs" => self.runs(call).await,
            "GET /v1/workspaces/{workspace_id}/runs/{run_id}" => self.run(call).await,
            "POST /v1/workspaces/{workspace_id}/runs/{run_id}/complete" => self.complete_run(call).await,
            "GET /v1/workspaces/{workspace_id}/usage" => self.usage(call).await,
            "GET /v1/workspaces/{workspace_id}/usage/history" => self.usage_history(call).await,
            "GET /v1/unmatched-payments" => self.unmatched_payments(call).await,
            "GET /v1/openapi.json" => Ok(Self::openapi(call)),
            "GET /settings/ai-credits" => Ok(Self::page(call)),
            "GET /settings/ai-credits/{file}" => Self::page_file(call),
            _ => Err(Problem::not_found()),
        }
    }
}
