//! The account function: answers the settings page and the hub's backend. It serves workspaces, the catalogue,
//! balances, ledgers, top-ups and more.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_aws::secrets::Secrets;
use credits_aws::settings::SettingError;
use credits_aws::{Settings, StartError, dynamodb};
use credits_billing::Billing;
use credits_core::catalogue::Catalogue;
use credits_core::purchase::CheckoutOptions;
use credits_core::seller::Seller;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_runtime::return_url::ReturnOrigins;
use credits_runtime::{Answer, Call, Function, Problem, TopUpUrl, catalogue};
use credits_store::Store;
use serde_json::Value;

mod agreement;
mod alerts;
mod auto_top_up;
mod balance;
mod catalog;
mod cursor;
mod debit_refunds;
mod grants;
mod history;
mod invoices;
mod ledger;
mod ledger_csv;
mod page;
mod payment_method;
mod payment_refunds;
mod payments;
mod pricing;
mod route;
mod runs;
mod subscription;
mod top_ups;
mod unmatched_payments;
mod usage;
mod usage_detail;
mod workspaces;

pub(crate) use credits_runtime::query;
pub use page::SettingsPage;
pub use route::AccountRoute;

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
    seller: Option<Seller>,
    page: SettingsPage,
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
        let (seller, page) = (None, SettingsPage::default());
        Self {
            store,
            catalogue,
            provider,
            provider_key,
            top_up_url,
            return_origins,
            checkout_options,
            seller,
            page,
        }
    }

    /// Sets the seller that receipts name.
    #[must_use]
    pub fn with_seller(self, seller: Option<Seller>) -> Self {
        Self { seller, ..self }
    }

    /// Lets the apps of these origins embed the settings page.
    #[must_use]
    pub fn with_page(self, page: SettingsPage) -> Self {
        Self { page, ..self }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let checkouts = CheckoutSettings {
            top_up_url: TopUpUrl::from_settings(settings),
            return_origins: ReturnOrigins::new(settings.return_origins()),
            options: settings.checkout_options()?,
        };
        let catalogue = Arc::new(catalogue::deployed()?);
        catalogue::check_tax(&catalogue, checkouts.options)?;
        let provider =
            Provider::new(&settings.provider_base()).map_err(|_| StartError::Part("provider's client"))?;
        let provider_key = Secrets::from_setting(settings.provider_key()?, settings)?;
        let page = SettingsPage::embedded_by(&settings.page_origins());
        let page = page.map_err(|_| SettingError("PAGE_ORIGINS"))?;
        let store = dynamodb::store(settings)?;
        let account = Self::new(store, catalogue, provider, provider_key, checkouts);
        Ok(account.with_seller(settings.seller()).with_page(page))
    }
}

impl Account {
    /// Returns the billing service for one call.
    async fn billing(&self, call: &Call, store: &Store) -> Result<Billing, Problem> {
        self.billing_returning(call, store, None).await
    }

    /// Returns the billing service for one call whose checkouts return to `return_url`, or to the settings page.
    async fn billing_returning(
        &self,
        call: &Call,
        store: &Store,
        return_url: Option<&str>,
    ) -> Result<Billing, Problem> {
        let key = self.provider_key.first().await?;
        let (store, catalogue) = (store.clone(), Arc::clone(&self.catalogue));
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
    type Route = AccountRoute;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn answer(&self, route: AccountRoute, call: &Call, store: &Store) -> Result<Answer, Problem> {
        match route {
            AccountRoute::PutWorkspace => self.put_workspace(call, store).await,
            AccountRoute::Workspace => self.workspace(call, store).await,
            AccountRoute::Catalog => self.catalog(call, store).await,
            AccountRoute::Balance => self.balance(call, store).await,
            AccountRoute::Ledger => self.ledger(call, store).await,
            AccountRoute::LedgerCsv => self.ledger_csv(call, store).await,
            AccountRoute::TopUp => self.top_up(call, store).await,
            AccountRoute::TopUpStatus => self.top_up_status(call, store).await,
            AccountRoute::PaymentMethod => self.payment_method(call, store).await,
            AccountRoute::ReplacePaymentMethod => self.replace_payment_method(call, store).await,
            AccountRoute::RemovePaymentMethod => self.remove_payment_method(call, store).await,
            AccountRoute::Payments => self.payments(call, store).await,
            AccountRoute::RefundPayment => self.refund_payment(call, store).await,
            AccountRoute::Preview => self.preview(call, store).await,
            AccountRoute::Subscribe => self.subscribe(call, store).await,
            AccountRoute::Subscription => self.subscription(call, store).await,
            AccountRoute::Unsubscribe => self.unsubscribe(call, store).await,
            AccountRoute::PutAgreement => self.put_agreement(call, store).await,
            AccountRoute::Agreement => self.agreement(call, store).await,
            AccountRoute::PutPricing => self.put_pricing(call, store).await,
            AccountRoute::Pricing => self.pricing(call, store).await,
            AccountRoute::Invoices => self.invoices(call, store).await,
            AccountRoute::SetInvoiceStatus => self.set_invoice_status(call, store).await,
            AccountRoute::PutAlerts => self.put_alerts(call, store).await,
            AccountRoute::Alerts => self.alerts(call, store).await,
            AccountRoute::PutAutoTopUp => self.put_auto_top_up(call, store).await,
            AccountRoute::AutoTopUp => self.auto_top_up(call, store).await,
            AccountRoute::RefundDebit => self.refund_debit(call, store).await,
            AccountRoute::Grant => self.grant(call, store).await,
            AccountRoute::VoidGrant => self.void_grant(call, store).await,
            AccountRoute::StartRun => self.start_run(call, store).await,
            AccountRoute::Runs => self.runs(call, store).await,
            AccountRoute::Run => self.run(call, store).await,
            AccountRoute::CompleteRun => self.complete_run(call, store).await,
            AccountRoute::Usage => self.usage(call, store).await,
            AccountRoute::UsageDetail => self.usage_detail(call, store).await,
            AccountRoute::UsageHistory => self.usage_history(call, store).await,
            AccountRoute::UnmatchedPayments => self.unmatched_payments(call, store).await,
            AccountRoute::ResolvePayment => self.resolve_payment(call, store).await,
            AccountRoute::Openapi => Ok(Self::openapi(call)),
            AccountRoute::Page => Ok(self.page(call)),
            AccountRoute::PageFile => Self::page_file(call),
        }
    }
}
