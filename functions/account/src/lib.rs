//! The account function: answers the settings page and the hub's backend. It serves workspaces, the catalogue,
//! balances, ledgers, top-ups and more.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_billing::Billing;
use credits_core::catalogue::Catalogue;
use credits_core::purchase::CheckoutOptions;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_runtime::return_url::ReturnOrigins;
use credits_runtime::secrets::Secrets;
use credits_runtime::{Answer, Call, Function, Problem, Settings, StartError, TopUpUrl, catalogue, start};
use credits_store::Store;
use credits_store::error::Chain;
use serde_json::Value;

mod agreement;
mod alerts;
mod auto_top_up;
mod balance;
mod cursor;
mod grants;
mod history;
mod invoices;
mod ledger;
mod ledger_csv;
mod page;
mod payment_method;
mod payment_refunds;
mod payments;
mod runs;
mod subscription;
mod top_ups;
mod unmatched_payments;
mod usage;
mod workspaces;

pub(crate) use credits_runtime::query;

/// The function's routes, as in template.yaml.
pub const ROUTES: [&str; 37] = [
    "PUT /v1/workspaces/{workspace_id}",
    "GET /v1/workspaces/{workspace_id}",
    "GET /v1/catalog",
    "GET /v1/workspaces/{workspace_id}/balance",
    "GET /v1/workspaces/{workspace_id}/ledger",
    "POST /v1/workspaces/{workspace_id}/top-ups",
    "GET /v1/workspaces/{workspace_id}/top-ups/{top_up_id}",
    "GET /v1/workspaces/{workspace_id}/payment-method",
    "POST /v1/workspaces/{workspace_id}/payment-method",
    "DELETE /v1/workspaces/{workspace_id}/payment-method",
    "GET /v1/workspaces/{workspace_id}/payments",
    "POST /v1/workspaces/{workspace_id}/payments/{payment_id}/refund",
    "POST /v1/workspaces/{workspace_id}/subscription/preview",
    "PUT /v1/workspaces/{workspace_id}/subscription",
    "GET /v1/workspaces/{workspace_id}/subscription",
    "DELETE /v1/workspaces/{workspace_id}/subscription",
    "PUT /v1/workspaces/{workspace_id}/agreement",
    "GET /v1/workspaces/{workspace_id}/agreement",
    "GET /v1/workspaces/{workspace_id}/invoices",
    "POST /v1/workspaces/{workspace_id}/invoices/{invoice_id}/status",
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
    "POST /v1/unmatched-payments/{payment_id}/resolve",
    "GET /v1/openapi.json",
    "GET /settings/ai-credits",
    "GET /settings/ai-credits/{file}",
];

/// The routes that read query parameters. All others refuse them.
const QUERIED: [&str; 6] = [
    "GET /v1/unmatched-payments",
    "GET /v1/workspaces/{workspace_id}/ledger",
    "GET /v1/workspaces/{workspace_id}/payments",
    "GET /v1/workspaces/{workspace_id}/runs",
    "GET /v1/workspaces/{workspace_id}/usage",
    "GET /v1/workspaces/{workspace_id}/usage/history",
];

/// The account function with its store, its catalogue and its Stripe client.
#[derive(Debug)]
pub struct Account {
    store: Store,
    catalogue: Arc<Catalogue>,
    provider: Provider,
    provider_key: Secrets,
    top_up_url: TopUpUrl,
    return_origins: ReturnOrigins,
    checkout_options: CheckoutOptions,
}

/// The settings of checkouts.
#[derive(Debug, Clone)]
pub struct CheckoutSettings {
    /// The page on which people add credits, and to which a checkout returns by default.
    pub top_up_url: TopUpUrl,
    /// Further origins to which a call may ask a checkout to return.
    pub return_origins: ReturnOrigins,
    /// The features of checkouts of packs that are switched on, such as taxes.
    pub options: CheckoutOptions,
}

impl Account {
    /// Creates the function.
    #[must_use]
    pub fn new(
        store: Store,
        catalogue: Arc<Catalogue>,
        provider: Provider,
        provider_key: Secrets,
        checkouts: CheckoutSettings,
    ) -> Self {
        let CheckoutSettings { top_up_url, return_origins, options: checkout_options } = checkouts;
        Self { store, catalogue, provider, provider_key, top_up_url, return_origins, checkout_options }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let checkouts = CheckoutSettings {
            top_up_url: settings.top_up_url_of_calls(),
            return_origins: ReturnOrigins::new(settings.return_origins()),
            options: settings.checkout_options()?,
        };
        let catalogue = Arc::new(catalogue::deployed()?);
        catalogue::check_tax(&catalogue, checkouts.options)?;
        let provider =
            Provider::new(&settings.provider_base()).map_err(|_| StartError::Part("provider's client"))?;
        let provider_key = Secrets::from_setting(settings.provider_key()?, settings)?;
        Ok(Self::new(start::store(settings)?, catalogue, provider, provider_key, checkouts))
    }
}

impl Account {
    /// Returns the billing service for one call, bound to the call's deadline.
    async fn billing(&self, call: &Call) -> Result<Billing, Problem> {
        self.billing_returning(call, None).await
    }

    /// Returns the billing service for one call whose checkouts return to `return_url`, or to the settings page.
    async fn billing_returning(&self, call: &Call, return_url: Option<&str>) -> Result<Billing, Problem> {
        let key = self.provider_key.first().await?;
        let (store, catalogue) = (self.store.until(call.deadline()), Arc::clone(&self.catalogue));
        let urls = self.return_urls(call, return_url);
        Ok(Billing::new(store, self.provider.clone(), key, catalogue, urls))
    }

    fn return_urls(&self, call: &Call, return_url: Option<&str>) -> ReturnUrls {
        return_url.map_or_else(|| ReturnUrls::to(&self.top_up_url.of(call)), ReturnUrls::to)
    }

    /// Reads the address to which a checkout returns, and checks it against the allowed origins.
    fn return_url(&self, call: &Call, value: &Value) -> Result<String, String> {
        let address = value.as_str().ok_or("must be a text")?;
        self.return_origins.check(address, &self.top_up_url.of(call))
    }
}

impl Function for Account {
    async fn warm_up(&self) {
        if let Err(fault) = self.store.connect().await {
            // The first call connects again and reports a failure.
            tracing::debug!(error = %Chain(&fault), "the warm-up could not connect to the table");
        }
    }

    fn has_query(&self, route: &str) -> bool {
        QUERIED.contains(&route)
    }

    async fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        match call.route() {
            "PUT /v1/workspaces/{workspace_id}" => self.put_workspace(call).await,
            "GET /v1/workspaces/{workspace_id}" => self.workspace(call).await,
            "GET /v1/catalog" => Ok(Answer::ok(&*self.catalogue)),
            "GET /v1/workspaces/{workspace_id}/balance" => self.balance(call).await,
            "GET /v1/workspaces/{workspace_id}/ledger" => self.ledger(call).await,
            "POST /v1/workspaces/{workspace_id}/top-ups" => self.top_up(call).await,
            "GET /v1/workspaces/{workspace_id}/top-ups/{top_up_id}" => self.top_up_status(call).await,
            "GET /v1/workspaces/{workspace_id}/payment-method" => self.payment_method(call).await,
            "POST /v1/workspaces/{workspace_id}/payment-method" => self.replace_payment_method(call).await,
            "DELETE /v1/workspaces/{workspace_id}/payment-method" => self.remove_payment_method(call).await,
            "GET /v1/workspaces/{workspace_id}/payments" => self.payments(call).await,
            "POST /v1/workspaces/{workspace_id}/payments/{payment_id}/refund" => {
                self.refund_payment(call).await
            }
            "POST /v1/workspaces/{workspace_id}/subscription/preview" => self.preview(call).await,
            "PUT /v1/workspaces/{workspace_id}/subscription" => self.subscribe(call).await,
            "GET /v1/workspaces/{workspace_id}/subscription" => self.subscription(call).await,
            "DELETE /v1/workspaces/{workspace_id}/subscription" => self.unsubscribe(call).await,
            "PUT /v1/workspaces/{workspace_id}/agreement" => self.put_agreement(call).await,
            "GET /v1/workspaces/{workspace_id}/agreement" => self.agreement(call).await,
            "GET /v1/workspaces/{workspace_id}/invoices" => self.invoices(call).await,
            "POST /v1/workspaces/{workspace_id}/invoices/{invoice_id}/status" => {
                self.set_invoice_status(call).await
            }
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
            "POST /v1/unmatched-payments/{payment_id}/resolve" => self.resolve_payment(call).await,
            "GET /v1/openapi.json" => Ok(Self::openapi(call)),
            "GET /settings/ai-credits" => Ok(Self::page(call)),
            "GET /settings/ai-credits/{file}" => Self::page_file(call),
            _ => Err(Problem::not_found()),
        }
    }
}
