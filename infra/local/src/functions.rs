//! The functions as the stack runs them: the deployed handlers, each with a counted client of its own.

use std::sync::Arc;

use account::Account;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use credits_core::catalogue::Catalogue;
use credits_payments::provider::Provider;
use credits_payments::signature::Secret;
use credits_runtime::secrets::Secrets;
use credits_runtime::settings::SecretSetting;
use credits_runtime::start::{dynamodb_config, https_client, respond};
use credits_runtime::{EventFunction, Settings, StartError, TopUpUrl};
use credits_store::error::Chain;
use credits_store::{Fault, Sources, Store};
use debit::Debits;
use jiff::Timestamp;
use notify::{MailSettings, Notify};
use project::Project;
use renewal::{Renewal, RenewalError};
use serde_json::Value;
use tokio::time::Instant;
use topup_webhook::TopUpWebhook;

use crate::wire::Wire;

/// How long an invocation may take: what template.yaml gives a function that asks for no more.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long `account` may take, which asks the payment provider.
const ACCOUNT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(28);

/// How long a sweep may take, as template.yaml has it.
const SWEEP_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(10);

/// How long `project` may take, as template.yaml has it.
const PROJECT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);

/// How long `notify` may take, as template.yaml has it.
const NOTIFY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// What the functions are given.
#[derive(Debug)]
pub(crate) struct Parts {
    pub wire: Wire,
    pub sources: Sources,
    pub endpoint: String,
    /// The table's name.
    pub table: String,
    /// Where the stand-ins of AWS's other services are.
    pub aws_base: String,
    pub catalogue: Arc<Catalogue>,
    pub provider_base: String,
    pub provider_key: Secret,
    pub webhook_secret: Secret,
    pub top_up_url: String,
}

/// Every function.
#[derive(Debug)]
pub(crate) struct Functions {
    debit: Debits,
    account: Account,
    topup_webhook: TopUpWebhook,
    renewal: Renewal,
    project: Project,
    notify: Notify,
    /// Not counted: what the stack itself asks.
    pub observer: Store,
}

impl Functions {
    pub fn start(parts: &Parts) -> Result<Self, StartError> {
        let secrets = |secret: &Secret| Secrets::from_setting(SecretSetting::Plain(secret.clone()), Settings);
        let provider =
            Provider::new(&parts.provider_base).map_err(|_| StartError::Part("provider's client"))?;
        let (catalogue, url) = (&parts.catalogue, &parts.top_up_url);
        let renewal = Renewal::new(
            parts.store("renewal"),
            Arc::clone(catalogue),
            provider.clone(),
            secrets(&parts.provider_key)?,
            url.clone(),
        );
        let mail = MailSettings {
            from: "AI Credits <credits@hub.example>".to_owned(),
            configuration_set: None,
            top_up_url: url.clone(),
        };
        let bus = aws_sdk_eventbridge::Client::from_conf(project::config(
            "us-east-1",
            credentials("project"),
            Some(format!("{}/eventbridge", parts.aws_base)),
        ));
        let ses = aws_sdk_sesv2::Client::from_conf(notify::config(
            "us-east-1",
            credentials("notify"),
            Some(format!("{}/ses", parts.aws_base)),
        ));
        Ok(Self {
            renewal,
            project: Project::new(parts.store("project"), bus, "ai-credits".to_owned()),
            notify: Notify::new(parts.store("notify"), ses, mail)?,
            observer: Store::new(
                client(&parts.endpoint, https_client()),
                &parts.table,
                parts.sources.clone(),
            ),
            debit: Debits::new(parts.store("debit"), Arc::clone(catalogue), TopUpUrl::new(Some(url.clone()))),
            account: Account::new(
                parts.store("account"),
                Arc::clone(catalogue),
                provider,
                secrets(&parts.provider_key)?,
                TopUpUrl::new(Some(url.clone())),
            ),
            topup_webhook: TopUpWebhook::new(parts.store("topup_webhook"), secrets(&parts.webhook_secret)?),
        })
    }

    /// Invokes a function of events, as a schedule, the stream or the bus does; what went wrong is a line for the log.
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
            _ => Err("there is no such function".to_owned()),
        }
    }

    /// The store with which the stack itself looks.
    pub fn observer(&self) -> &Store {
        &self.observer
    }

    /// When a function's schedule next finds something due.
    pub async fn next_due(&self, binary: &str) -> Result<Option<Timestamp>, Fault> {
        match binary {
            "renewal" => self.observer.next_due().await,
            "notify" => self.observer.next_digest().await,
            "project" => self.observer.next_check().await,
            _ => Ok(None),
        }
    }

    /// Invokes the renewal function.
    pub async fn sweep(&self, input: Value) -> Result<Value, RenewalError> {
        self.renewal.handle(input, after(SWEEP_TIMEOUT)).await
    }

    /// Invokes the function of that binary's name; `None` if there is none.
    pub async fn invoke(
        &self,
        binary: &str,
        event: ApiGatewayV2httpRequest,
    ) -> Option<ApiGatewayV2httpResponse> {
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

impl Parts {
    /// A store over a client whose requests are counted under the function's name.
    fn store(&self, function: &'static str) -> Store {
        let http = self.wire.client(function, https_client());
        Store::new(client(&self.endpoint, http), &self.table, self.sources.clone())
    }
}

/// The credentials of a function: its name, by which the stand-ins tell who called.
fn credentials(function: &str) -> aws_credential_types::Credentials {
    aws_credential_types::Credentials::new(function, "local", None, None, "local")
}

/// A client of the database: with the credentials of the environment, which one elsewhere may ask for, or any.
pub(crate) fn client(
    endpoint: &str,
    http: aws_smithy_runtime_api::client::http::SharedHttpClient,
) -> aws_sdk_dynamodb::Client {
    let credentials = Settings.credentials().unwrap_or_else(|_| credentials("local"));
    let region = Settings.region().unwrap_or_else(|_| "us-east-1".to_owned());
    let config = dynamodb_config(&region, credentials, Some(endpoint.to_owned()), http);
    aws_sdk_dynamodb::Client::from_conf(config)
}
