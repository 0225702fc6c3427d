//! Settings: the one room that reads the environment. Those that a deployed function needs, template.yaml sets.

use std::time::Duration;

use aws_credential_types::Credentials;
use credits_core::purchase::CheckoutOptions;
use credits_payments::event::Mode;

use crate::top_up_url::TopUpUrl;

/// Where a secret is found.
#[derive(Debug, Clone)]
pub enum SecretSetting {
    /// In the environment itself: the local stack.
    Plain(credits_payments::signature::Secret),
    /// In an SSM parameter. `/aws/reference/secretsmanager/NAME` is a secret of Secrets Manager.
    Parameter(String),
}

/// A setting that is missing or can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setting {0} is missing or can't be used")]
pub struct SettingError(pub &'static str);

/// The environment's settings, read by name when a function starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings;

impl Settings {
    /// The table's name: `TABLE_NAME`.
    pub fn table(self) -> Result<String, SettingError> {
        required("TABLE_NAME")
    }

    /// Where people add credits: `TOP_UP_URL`.
    pub fn top_up_url(self) -> Result<String, SettingError> {
        required("TOP_UP_URL")
    }

    /// The same for a function that answers calls: where `TOP_UP_URL` is not set, it is our own page.
    #[must_use]
    pub fn top_up_url_of_calls(self) -> TopUpUrl {
        TopUpUrl::new(required("TOP_UP_URL").ok())
    }

    /// Whether AWS's endpoints are trusted by the machine's roots, and not by Amazon's alone: `TLS_ROOTS=native`, where a
    /// proxy of one's own stands in between.
    #[must_use]
    pub fn trusts_native_roots(self) -> bool {
        optional("TLS_ROOTS").as_deref() == Some("native")
    }

    /// The deployment's name, by which its metrics are told apart: `STACK_NAME`.
    #[must_use]
    pub fn stack_name(self) -> String {
        optional("STACK_NAME").unwrap_or_else(|| "local".to_owned())
    }

    /// The trace of the present invocation: `_X_AMZN_TRACE_ID`, which the runtime sets anew for each.
    #[must_use]
    pub fn trace_header(self) -> Option<String> {
        optional("_X_AMZN_TRACE_ID")
    }

    /// Where X-Ray's daemon listens: `AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets.
    #[must_use]
    pub fn trace_daemon(self) -> Option<String> {
        optional("AWS_XRAY_DAEMON_ADDRESS")
    }

    /// The bus that events are told on: `EVENT_BUS_NAME`.
    pub fn bus_name(self) -> Result<String, SettingError> {
        required("EVENT_BUS_NAME")
    }

    /// From whom mails come: `MAIL_FROM`.
    pub fn mail_from(self) -> Result<String, SettingError> {
        required("MAIL_FROM")
    }

    /// The SES configuration set that tells of bounces: `SES_CONFIGURATION_SET`, none if absent.
    #[must_use]
    pub fn mail_configuration_set(self) -> Option<String> {
        optional("SES_CONFIGURATION_SET")
    }

    /// The payment provider's base address: `STRIPE_API_BASE`, Stripe's own if absent.
    #[must_use]
    pub fn provider_base(self) -> String {
        optional("STRIPE_API_BASE").unwrap_or_else(|| "https://api.stripe.com".to_owned())
    }

    /// Which of Stripe's modes events are expected from: `STRIPE_MODE`, `live` or `test`; either if absent.
    #[must_use]
    pub fn provider_mode(self) -> Mode {
        match optional("STRIPE_MODE").as_deref() {
            Some("live") => Mode::Live,
            Some("test") => Mode::Test,
            _ => Mode::Any,
        }
    }

    /// What is switched on for checkouts of packs: `CHECKOUT_OPTIONS`, of `automatic_tax`, `tax_id_collection` and
    /// `allow_promotion_codes`, separated by commas.
    pub fn checkout_options(self) -> Result<CheckoutOptions, SettingError> {
        let mut options = CheckoutOptions::default();
        for name in listed("CHECKOUT_OPTIONS") {
            match name.as_str() {
                "automatic_tax" => options.automatic_tax = true,
                "tax_id_collection" => options.tax_id_collection = true,
                "allow_promotion_codes" => options.allow_promotion_codes = true,
                _ => return Err(SettingError("CHECKOUT_OPTIONS")),
            }
        }
        Ok(options)
    }

    /// The origins to which payers may be sent back besides that of the page to add credits: `RETURN_ORIGINS`, such as
    /// `https://app.example`, separated by commas.
    #[must_use]
    pub fn return_origins(self) -> Vec<String> {
        listed("RETURN_ORIGINS")
    }

    /// The secrets that sign events: `STRIPE_WEBHOOK_SECRET`, or the parameter that `STRIPE_WEBHOOK_SECRET_PARAMETER`
    /// names. Several are separated by white space or commas.
    pub fn webhook_secret(self) -> Result<SecretSetting, SettingError> {
        secret("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_PARAMETER")
    }

    /// The provider's API key: `STRIPE_API_KEY`, or the parameter that `STRIPE_API_KEY_PARAMETER` names.
    pub fn provider_key(self) -> Result<SecretSetting, SettingError> {
        secret("STRIPE_API_KEY", "STRIPE_API_KEY_PARAMETER")
    }

    /// How long a secret is kept before it is read again: `SECRET_TTL_SECONDS`, five minutes if absent.
    #[must_use]
    pub fn secret_ttl(self) -> Duration {
        let seconds = optional("SECRET_TTL_SECONDS").and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(seconds.unwrap_or(300))
    }

    /// The region: `AWS_REGION`, which Lambda sets.
    pub fn region(self) -> Result<String, SettingError> {
        required("AWS_REGION")
    }

    /// Another address for a service: `AWS_ENDPOINT_URL_DYNAMODB` or the like, else `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(self, service: &'static str) -> Option<String> {
        optional(service).or_else(|| optional("AWS_ENDPOINT_URL"))
    }

    /// The credentials of the execution environment, which Lambda sets and which last as long as it does.
    pub fn credentials(self) -> Result<Credentials, SettingError> {
        let id = required("AWS_ACCESS_KEY_ID")?;
        let secret = required("AWS_SECRET_ACCESS_KEY")?;
        Ok(Credentials::new(id, secret, optional("AWS_SESSION_TOKEN"), None, "environment"))
    }
}

fn secret(plain: &'static str, parameter: &'static str) -> Result<SecretSetting, SettingError> {
    if let Some(name) = optional(parameter) {
        return Ok(SecretSetting::Parameter(name));
    }
    required(plain).map(|text| SecretSetting::Plain(credits_payments::signature::Secret::new(text)))
}

/// The parts of a setting that are separated by commas.
fn listed(name: &str) -> Vec<String> {
    let parts = optional(name).unwrap_or_default();
    let parts = parts.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn required(name: &'static str) -> Result<String, SettingError> {
    optional(name).ok_or(SettingError(name))
}

#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
