//! Secrets: read from a setting or an SSM parameter, cached, and read again when one may have been rotated.

use std::time::Duration;

use credits_payments::signature::Secret;
use credits_store::error::Chain;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::{SecretSetting, Settings};
use crate::start_error::StartError;

/// The minimum interval between two attempts to read a parameter. A flood of forged events must not cause a flood of
/// reads.
const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// The reason why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// SSM did not return the parameter.
    #[cfg(feature = "ssm")]
    #[error(
        "the SSM parameter {name} can't be read; check that it exists and that the function's role may read it"
    )]
    Unread {
        name: String,
        #[source]
        source: Box<aws_sdk_ssm::Error>,
    },
    /// The setting or parameter is empty. Holds its description.
    #[error("{0} is empty; put a secret into it")]
    Empty(String),
}

/// A cached set of secrets, which are active at the same time.
#[derive(Debug)]
pub struct Secrets {
    source: Source,
    ttl: Duration,
    cache: Mutex<Option<CachedSecrets>>,
}

#[derive(Debug)]
enum Source {
    Plain(Vec<Secret>),
    #[cfg(feature = "ssm")]
    Parameter {
        client: aws_sdk_ssm::Client,
        name: String,
    },
}

#[derive(Debug)]
struct CachedSecrets {
    secrets: Vec<Secret>,
    /// When the last attempt to read the secrets was made, whether it succeeded or failed.
    attempted_at: Instant,
}

impl Secrets {
    /// Creates the secrets of a setting. They are read when they are first needed.
    pub fn from_setting(setting: SecretSetting, settings: Settings) -> Result<Self, StartError> {
        let source = match setting {
            SecretSetting::Plain(secret) => Source::Plain(Secret::list(secret.expose())),
            #[cfg(feature = "ssm")]
            SecretSetting::Parameter(name) => {
                return Ok(Self::from_parameter(ssm(settings)?, name, settings.secret_ttl()));
            }
            #[cfg(not(feature = "ssm"))]
            SecretSetting::Parameter(name) => return Err(StartError::WithoutSsm(name)),
        };
        Ok(Self { source, ttl: settings.secret_ttl(), cache: Mutex::new(None) })
    }

    /// Creates the secrets of an SSM parameter, cached for `ttl`.
    #[cfg(feature = "ssm")]
    #[must_use]
    pub fn from_parameter(client: aws_sdk_ssm::Client, name: String, ttl: Duration) -> Self {
        Self { source: Source::Parameter { client, name }, ttl, cache: Mutex::new(None) }
    }

    /// Returns the active secrets. Reads them again if the last attempt is older than the TTL.
    pub async fn active(&self) -> Result<Vec<Secret>, SecretError> {
        self.cached_or_read(self.ttl).await
    }

    /// Returns the first active secret, for requests that carry one, such as an API key.
    pub async fn first(&self) -> Result<Secret, SecretError> {
        self.active().await?.into_iter().next().ok_or_else(|| self.source.empty_error())
    }

    /// Returns the active secrets after one did not match. Reads them again, unless the last attempt is more recent than
    /// `MIN_REREAD_INTERVAL`.
    pub async fn reread(&self) -> Result<Vec<Secret>, SecretError> {
        self.cached_or_read(MIN_REREAD_INTERVAL.min(self.ttl)).await
    }

    /// Returns the cached secrets if the last attempt to read them is more recent than `max_age`, else reads them. If the
    /// read fails, the cached secrets stay in use until the next attempt.
    async fn cached_or_read(&self, max_age: Duration) -> Result<Vec<Secret>, SecretError> {
        let mut cache = self.cache.lock().await;
        if let Some(cached) = cache.as_ref().filter(|cached| cached.attempted_at.elapsed() < max_age) {
            return Ok(cached.secrets.clone());
        }
        let read = self.source.read().await;
        let attempted_at = Instant::now();
        let secrets = match (read, cache.take()) {
            (Ok(secrets), _) => secrets,
            (Err(error), Some(cached)) => {
                tracing::warn!(error = %Chain(&error), "a secret could not be read again");
                cached.secrets
            }
            // Without secrets, each caller tries again: nothing can be verified meanwhile.
            (Err(error), None) => return Err(error),
        };
        *cache = Some(CachedSecrets { secrets: secrets.clone(), attempted_at });
        Ok(secrets)
    }
}

impl Source {
    #[cfg_attr(not(feature = "ssm"), expect(clippy::unused_async, reason = "`ssm` awaits the read"))]
    async fn read(&self) -> Result<Vec<Secret>, SecretError> {
        let secrets = match self {
            Self::Plain(secrets) => secrets.clone(),
            #[cfg(feature = "ssm")]
            Self::Parameter { client, name } => {
                let request = client.get_parameter().name(name).with_decryption(true);
                let unread = |error| SecretError::Unread {
                    name: name.clone(),
                    source: Box::new(aws_sdk_ssm::Error::from(error)),
                };
                let output = request.send().await.map_err(unread)?;
                let value = output.parameter.and_then(|parameter| parameter.value);
                value.as_deref().map(Secret::list).unwrap_or_default()
            }
        };
        if secrets.is_empty() { Err(self.empty_error()) } else { Ok(secrets) }
    }

    /// Builds the error of a source that is empty.
    fn empty_error(&self) -> SecretError {
        SecretError::Empty(match self {
            Self::Plain(_) => "the setting of the secret".to_owned(),
            #[cfg(feature = "ssm")]
            Self::Parameter { name, .. } => format!("the SSM parameter {name}"),
        })
    }
}

#[cfg(feature = "ssm")]
fn ssm(settings: Settings) -> Result<aws_sdk_ssm::Client, StartError> {
    let mut config = aws_sdk_ssm::Config::builder()
        .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
        .region(aws_sdk_ssm::config::Region::new(settings.region()?))
        .credentials_provider(settings.credentials()?)
        .http_client(crate::connection::https_client())
        .interceptor(crate::trace::RequestTracer::new(settings));
    config.set_endpoint_url(settings.endpoint("AWS_ENDPOINT_URL_SSM"));
    Ok(aws_sdk_ssm::Client::from_conf(config.build()))
}

#[cfg(test)]
#[cfg(feature = "ssm")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use aws_sdk_ssm::config::http::HttpResponse;
    use aws_smithy_types::body::SdkBody;
    use credits_payments::signature::Secret;

    use super::{MIN_REREAD_INTERVAL, Secrets};
    use crate::intercept::answering_client;

    /// An SSM parameter whose value a test changes, with a count of its reads.
    #[derive(Debug, Clone, Default)]
    struct Parameter {
        value: Arc<Mutex<String>>,
        reads: Arc<AtomicUsize>,
    }

    impl Parameter {
        fn answer(&self) -> HttpResponse {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let parameter = serde_json::json!({ "Name": "/secret", "Value": *self.value.lock().unwrap() });
            let body = serde_json::json!({ "Parameter": parameter }).to_string();
            HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body))
        }

        fn set(&self, value: &str) {
            value.clone_into(&mut self.value.lock().unwrap());
        }

        fn secrets(&self) -> Secrets {
            let parameter = self.clone();
            let http = answering_client(move |_| std::future::ready(Ok(parameter.answer())));
            let config = aws_sdk_ssm::Config::builder()
                .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
                .region(aws_sdk_ssm::config::Region::new("us-east-1"))
                .credentials_provider(aws_sdk_ssm::config::Credentials::new("id", "key", None, None, "test"))
                .http_client(http)
                .build();
            let client = aws_sdk_ssm::Client::from_conf(config);
            Secrets::from_parameter(client, "/secret".into(), Duration::from_mins(5))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn secrets_are_cached_and_reread_when_one_does_not_match() {
        let parameter = Parameter::default();
        parameter.set("whsec_old");
        let secrets = parameter.secrets();
        assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_old")]);
        parameter.set("whsec_new whsec_old");
        assert_eq!(secrets.active().await.unwrap().len(), 1, "the secret is cached");
        // A flood of forged events does not cause a flood of reads.
        secrets.reread().await.unwrap();
        assert_eq!(parameter.reads.load(Ordering::SeqCst), 1);
        tokio::time::advance(MIN_REREAD_INTERVAL).await;
        assert_eq!(secrets.reread().await.unwrap(), [Secret::new("whsec_new"), Secret::new("whsec_old")]);
        parameter.set("whsec_new");
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_new")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_parameter_is_an_error() {
        let parameter = Parameter::default();
        parameter.set("  ");
        let error = parameter.secrets().active().await.unwrap_err();
        assert_eq!(error.to_string(), "the SSM parameter /secret is empty; put a secret into it");
    }

    /// While SSM fails, a flood of forged events must not cause a flood of reads either.
    #[tokio::test(start_paused = true)]
    async fn a_failed_read_keeps_the_secrets_until_the_next_attempt() {
        let parameter = Parameter::default();
        parameter.set("whsec_old");
        let secrets = parameter.secrets();
        secrets.active().await.unwrap();
        parameter.set(" ");
        tokio::time::advance(Duration::from_mins(5)).await;
        for _ in 0..3 {
            assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_old")]);
            assert_eq!(secrets.reread().await.unwrap(), [Secret::new("whsec_old")]);
        }
        assert_eq!(parameter.reads.load(Ordering::SeqCst), 2);
        parameter.set("whsec_new");
        tokio::time::advance(MIN_REREAD_INTERVAL).await;
        assert_eq!(secrets.reread().await.unwrap(), [Secret::new("whsec_new")]);
    }
}
