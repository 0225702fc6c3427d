//! The functions as the stack runs them: the deployed handlers, each with its own client whose requests are counted.

use std::sync::Arc;

pub use account::SettingsPage;
use account::{Account, CheckoutSettings};
use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use credits_aws::connection;
use credits_aws::dynamodb::dynamodb_config;
use credits_aws::secrets::Secrets;
use credits_aws::settings::SecretSetting;
use credits_aws::{Settings, StartError};
use credits_core::catalogue::Catalogue;
use credits_core::purchase::CheckoutOptions;
use credits_core::seller::Seller;
use credits_core::top_up_page::TopUpPage;
use credits_payments::event::Mode;
use credits_payments::provider::Provider;
use credits_payments::signature::Secret;
use credits_runtime::event::HttpEvent;
use credits_runtime::return_url::ReturnOrigins;
use credits_runtime::start::respond;
use credits_runtime::{EventFunction, TopUpUrl};
use credits_store::error::Chain;
use credits_store::{Fault, Store};
use debit::DebitFunction;
use jiff::Timestamp;
use notify::{MailSettings, Notify};
use project::Project;
use renewal::{Renewal, RenewalError};
use serde_json::Value;
use tokio::time::Instant;
use topup_webhook::TopUpWebhook;

/// The timeout of a function for which template.yaml sets no other.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The timeout of `account`, which calls Stripe. As in template.yaml.
const ACCOUNT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(28);

/// The timeout of `renewal`, as in template.yaml.
const SWEEP_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(10);

/// The timeout of `project`, as in template.yaml.
const PROJECT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);

/// The timeout of `notify`, as in template.yaml.
const NOTIFY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The dependencies of the functions.
pub struct Parts<'a> {
    /// Returns the store of the function with this name.
    pub store: &'a dyn Fn(&'static str) -> Store,
    pub bus: aws_sdk_eventbridge::Client,
    pub mail: aws_sdk_sesv2::Client,
    pub catalogue: Arc<Catalogue>,
    pub provider: Provider,
    /// The API key for the payment provider.
    pub provider_key: Secret,
    /// The secret that signs the provider's events.
    pub webhook_secret: Secret,
    /// The address of the page where people add credits.
    pub top_up_page: TopUpPage,
    /// The origins to which a checkout may return besides the page's own.
    pub return_origins: ReturnOrigins,
    /// The optional features of checkouts for packs.
    pub checkout_options: CheckoutOptions,
    /// The Stripe mode, test or live, whose events the webhook handles.
    pub provider_mode: Mode,
    /// The seller that receipts name.
    pub seller: Option<Seller>,
    /// The settings page, with the origins of the apps that may embed it.
    pub page: SettingsPage,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("catalogue", &self.catalogue).finish_non_exhaustive()
    }
}

/// All functions of the product.
#[derive(Debug)]
pub struct Functions {
    debit: DebitFunction,
    account: Account,
    topup_webhook: TopUpWebhook,
    renewal: Renewal,
    project: Project,
    notify: Notify,
    /// The stack's own store. Its requests are not counted.
    observer: Store,
}

impl Functions {
    /// Creates every function.
    pub fn start(parts: Parts<'_>) -> Result<Self, StartError> {
        let secrets = |secret: &Secret| Secrets::from_setting(SecretSetting::Plain(secret.clone()), Settings);
        let Parts {
            store,
            bus,
            mail,
            catalogue,
            provider,
            provider_key,
            webhook_secret,
            top_up_page,
            return_origins,
            checkout_options,
            provider_mode,
            seller,
            page,
        } = parts;
        let url = || TopUpUrl::new(Some(top_up_page.clone()));
        let settings = MailSettings {
            from: "AI Credits <credits@hub.example>".to_owned(),
            configuration_set: None,
            top_up_page: top_up_page.clone(),
        };
        Ok(Self {
            renewal: Renewal::new(
                store("renewal"),
                Arc::clone(&catalogue),
                provider.clone(),
                secrets(&provider_key)?,
                top_up_page.clone(),
            ),
            project: Project::new(store("project"), bus, "ai-credits".to_owned()),
            notify: Notify::new(store("notify"), mail, settings)?,
            observer: store("observer"),
            debit: DebitFunction::new(store("debit"), Arc::clone(&catalogue), url()),
            account: Account::new(
                store("account"),
                catalogue,
                provider,
                secrets(&provider_key)?,
                CheckoutSettings { top_up_url: url(), return_origins, options: checkout_options },
            )
            .with_seller(seller)
            .with_page(page),
            topup_webhook: TopUpWebhook::new(
                store("topup_webhook"),
                secrets(&webhook_secret)?,
                provider_mode,
            ),
        })
    }

    /// Invokes a function as a schedule, the stream or the bus does. An error is one line for the log.
    pub async fn fire(&self, binary: &str, input: Value) -> Result<Value, String> {
        match binary {
            "renewal" => self.sweep(input).await.map_err(|error| Chain(&error).to_string()),
            "project" => {
                let projected = self.project.handle(input, after(PROJECT_TIMEOUT)).await;
                projected.map_err(|error| Chain(&error).to_string())
            }
            "notify" => {
                let notified = self.notify.handle(input, after(NOTIFY_TIMEOUT)).await;
                notified.map_err(|error| Chain(&error).to_string())
            }
            _ => Err("unknown function".to_owned()),
        }
    }

    /// Returns the store for the stack's own reads. Its requests are not counted.
    pub fn observer(&self) -> &Store {
        &self.observer
    }

    /// Returns when a function's schedule next has something to do; `None` if nothing is due.
    pub async fn next_due(&self, binary: &str) -> Result<Option<Timestamp>, Fault> {
        match binary {
            "renewal" => self.observer.due_items().next().await,
            "notify" => self.observer.failures().next_digest().await,
            "project" => self.observer.usage_audit().next_check().await,
            _ => Ok(None),
        }
    }

    /// Invokes the renewal function.
    pub async fn sweep(&self, input: Value) -> Result<Value, RenewalError> {
        self.renewal.handle(input, after(SWEEP_TIMEOUT)).await
    }

    /// Invokes the function with this binary for an HTTP event; `None` if the name is unknown.
    pub async fn invoke(&self, binary: &str, event: HttpEvent) -> Option<ApiGatewayV2httpResponse> {
        let deadline = after(if binary == "account" { ACCOUNT_TIMEOUT } else { TIMEOUT });
        Some(match binary {
            "debit" => respond(&self.debit, event, deadline).await,
            "account" => Box::pin(respond(&self.account, event, deadline)).await,
            "topup_webhook" => respond(&self.topup_webhook, event, deadline).await,
            _ => return None,
        })
    }
}

fn after(time: std::time::Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// Returns a client of the stand-in bus below this address.
pub(crate) fn bus_client(aws_base: &str) -> aws_sdk_eventbridge::Client {
    let endpoint = Some(format!("{aws_base}/eventbridge"));
    let http_client = connection::loopback_client();
    let config = project::config("us-east-1", credentials("project"), endpoint, http_client);
    aws_sdk_eventbridge::Client::from_conf(config)
}

/// Returns a client of the stand-in SES below this address.
pub(crate) fn mail_client(aws_base: &str) -> aws_sdk_sesv2::Client {
    let endpoint = Some(format!("{aws_base}/ses"));
    let http_client = connection::loopback_client();
    let config = notify::config("us-east-1", credentials("notify"), endpoint, http_client);
    aws_sdk_sesv2::Client::from_conf(config)
}

/// Returns credentials whose key id is the function's name. The stand-ins read the caller from it.
fn credentials(function: &str) -> aws_credential_types::Credentials {
    aws_credential_types::Credentials::new(function, "local", None, None, "local")
}

/// Returns a database client with the environment's credentials, which a remote database may need, or with dummy ones.
pub(crate) fn client(
    endpoint: &str,
    http: aws_smithy_runtime_api::client::http::SharedHttpClient,
) -> aws_sdk_dynamodb::Client {
    let credentials = Settings.credentials().unwrap_or_else(|_| credentials("local"));
    let region = Settings.region().unwrap_or_else(|_| "us-east-1".to_owned());
    let config = dynamodb_config(&region, credentials, Some(endpoint.to_owned()), http);
    aws_sdk_dynamodb::Client::from_conf(config)
}
