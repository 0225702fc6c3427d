//! Settings: the only module that reads the environment. template.yaml sets those that a deployed function needs.

use std::time::Duration;

use aws_credential_types::Credentials;
use credits_core::purchase::CheckoutOptions;
use credits_core::seller::Seller;
use credits_core::top_up_page::TopUpPage;
use credits_payments::event::Mode;
use credits_store::lanes::opening::LaneOpening;

/// The source of a secret.
#[derive(Debug, Clone)]
pub enum SecretSetting {
    /// The value itself, from the environment of the local stack.
    Plain(credits_payments::signature::Secret),
    /// The name of an SSM parameter. `/aws/reference/secretsmanager/NAME` is a secret of Secrets Manager.
    Parameter(String),
}

/// The error for a missing or invalid setting. Holds the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setting {0} is missing or invalid")]
pub struct SettingError(pub &'static str);

/// The settings in the environment, read by name when a function starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings;

impl Settings {
    /// Returns the table's name: `TABLE_NAME`.
    pub fn table(self) -> Result<String, SettingError> {
        required("TABLE_NAME")
    }

    /// Returns the page on which people add credits: `TOP_UP_URL`, or our page on the origin `PUBLIC_URL`.
    pub fn top_up_page(self) -> Result<TopUpPage, SettingError> {
        let own = || required("PUBLIC_URL").map(|origin| TopUpPage::on_origin(&origin));
        optional("TOP_UP_URL").map_or_else(own, |url| Ok(TopUpPage::at(url)))
    }

    /// Returns whether debits may open lanes for busy workspaces: `OPEN_LANES`, `true` if absent.
    pub fn lane_opening(self) -> Result<LaneOpening, SettingError> {
        match optional("OPEN_LANES").as_deref() {
            None | Some("true") => Ok(LaneOpening::WhenBusy),
            Some("false") => Ok(LaneOpening::Never),
            Some(_) => Err(SettingError("OPEN_LANES")),
        }
    }

    /// Returns the deployment's name, by which its metrics are distinguished: `STACK_NAME`, `local` if absent.
    #[must_use]
    pub fn stack_name(self) -> String {
        optional("STACK_NAME").unwrap_or_else(|| "local".to_owned())
    }

    /// Returns the trace of the current invocation: `_X_AMZN_TRACE_ID`, which the runtime sets for each.
    #[must_use]
    pub fn trace_header(self) -> Option<String> {
        optional("_X_AMZN_TRACE_ID")
    }

    /// Returns the address of X-Ray's daemon: `AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets.
    #[must_use]
    pub fn trace_daemon(self) -> Option<String> {
        optional("AWS_XRAY_DAEMON_ADDRESS")
    }

    /// Returns the name of the bus on which events are published: `EVENT_BUS_NAME`.
    pub fn bus_name(self) -> Result<String, SettingError> {
        required("EVENT_BUS_NAME")
    }

    /// Returns the sender of mails: `MAIL_FROM`.
    pub fn mail_from(self) -> Result<String, SettingError> {
        required("MAIL_FROM")
    }

    /// Returns the SES configuration set that reports bounces: `SES_CONFIGURATION_SET`.
    #[must_use]
    pub fn mail_configuration_set(self) -> Option<String> {
        optional("SES_CONFIGURATION_SET")
    }

    /// Returns the base URL of Stripe's API: `STRIPE_API_BASE`, `https://api.stripe.com` if absent.
    #[must_use]
    pub fn provider_base(self) -> String {
        optional("STRIPE_API_BASE").unwrap_or_else(|| "https://api.stripe.com".to_owned())
    }

    /// Returns the Stripe mode from which events are expected: `STRIPE_MODE`, `live` or `test`. Any other value, or
    /// none, means both.
    #[must_use]
    pub fn provider_mode(self) -> Mode {
        match optional("STRIPE_MODE").as_deref() {
            Some("live") => Mode::Live,
            Some("test") => Mode::Test,
            _ => Mode::Any,
        }
    }

    /// Returns the options of checkouts for packs: `CHECKOUT_OPTIONS`, a comma-separated list of `automatic_tax`,
    /// `tax_id_collection` and `allow_promotion_codes`.
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

    /// Returns the origins to which payers may be sent back, beside that of the page to add credits: `RETURN_ORIGINS`,
    /// a comma-separated list such as `https://app.example`.
    #[must_use]
    pub fn return_origins(self) -> Vec<String> {
        listed("RETURN_ORIGINS")
    }

    /// Returns the seller that receipts name: `SELLER_NAME`, `SELLER_ADDRESS`, whose lines are separated by `|`, and
    /// `SELLER_TAX_ID`; `None` without a name.
    #[must_use]
    pub fn seller(self) -> Option<Seller> {
        let address = optional("SELLER_ADDRESS").unwrap_or_default();
        optional("SELLER_NAME").map(|name| Seller::new(name, &address, optional("SELLER_TAX_ID")))
    }

    /// Returns the origins of the apps that may embed the settings page and give it tokens: `PAGE_ORIGINS`, a list such
    /// as `https://app.example https://admin.example`.
    #[must_use]
    pub fn page_origins(self) -> Vec<String> {
        let text = optional("PAGE_ORIGINS").unwrap_or_default();
        text.split([' ', ',']).filter(|origin| !origin.is_empty()).map(str::to_owned).collect()
    }

    /// Returns the source of the secrets that sign events: `STRIPE_WEBHOOK_SECRET`, or the parameter that
    /// `STRIPE_WEBHOOK_SECRET_PARAMETER` names. White space or commas separate several secrets.
    pub fn webhook_secret(self) -> Result<SecretSetting, SettingError> {
        secret("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_PARAMETER")
    }

    /// Returns the source of Stripe's API key: `STRIPE_API_KEY`, or the parameter that `STRIPE_API_KEY_PARAMETER`
    /// names.
    pub fn provider_key(self) -> Result<SecretSetting, SettingError> {
        secret("STRIPE_API_KEY", "STRIPE_API_KEY_PARAMETER")
    }

    /// Returns how long a secret is cached: `SECRET_TTL_SECONDS`, five minutes if absent or invalid.
    #[must_use]
    pub fn secret_ttl(self) -> Duration {
        let seconds = optional("SECRET_TTL_SECONDS").and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(seconds.unwrap_or(300))
    }

    /// Returns the region: `AWS_REGION`, which Lambda sets.
    pub fn region(self) -> Result<String, SettingError> {
        required("AWS_REGION")
    }

    /// Returns the override of a service's endpoint: `AWS_ENDPOINT_URL_DYNAMODB` or the like, else `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(self, service: &'static str) -> Option<String> {
        optional(service).or_else(|| optional("AWS_ENDPOINT_URL"))
    }

    /// Returns the credentials of the execution environment. Lambda sets them, and they last as long as the
    /// environment.
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

/// Splits a comma-separated setting.
fn listed(name: &str) -> Vec<String> {
    let parts = optional(name).unwrap_or_default();
    let parts = parts.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn required(name: &'static str) -> Result<String, SettingError> {
    optional(name).ok_or(SettingError(name))
}

#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
