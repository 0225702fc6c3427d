//! Secrets: read from a setting or an SSM parameter, cached, and read again when one may have been rotated.

use std::time::Duration;

use credits_payments::signature::Secret;
use credits_store::error::Chain;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::{SecretSetting, Settings};
use crate::start_error::StartError;

/// The minimum interval of reads after a secret did not match. A flood of forged events must not cause a flood of
/// reads.
const SOONEST_REREAD: Duration = Duration::from_secs(10);

/// The reason why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// SSM did not return the parameter.
    #[cfg(feature = "ssm")]
    #[error("the parameter can't be read")]
    Unread(#[source] Box<aws_sdk_ssm::Error>),
    /// The parameter is empty.
    #[error("the parameter holds no secret")]
    Empty,
}

/// A cached set of secrets, which are active at the same time.
#[derive(Debug)]
pub struct Secrets {
    source: Source,
    ttl: Duration,
    kept: Mutex<Option<CachedSecrets>>,
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
    read_at: Instant,
}

impl Secrets {
    /// Creates the secrets of a setting. They are read when they are first needed.
    pub fn from_setting(setting: SecretSetting, settings: Settings) -> Result<Self, StartError> {
        let source = match setting {
            SecretSetting::Plain(secret) => Source::Plain(Secret::list(secret.expose())),
            #[cfg(feature = "ssm")]
            SecretSetting::Parameter(name) => {
                return Ok(Self::in_parameter(ssm(settings)?, name, settings.secret_ttl()));
            }
            #[cfg(not(feature = "ssm"))]
            SecretSetting::Parameter(_) => return Err(StartError::Part("client of SSM")),
        };
        Ok(Self { source, ttl: settings.secret_ttl(), kept: Mutex::new(None) })
    }

    /// Creates the secrets of an SSM parameter, cached for `ttl`.
    #[cfg(feature = "ssm")]
    #[must_use]
    pub fn in_parameter(client: aws_sdk_ssm::Client, name: String, ttl: Duration) -> Self {
        Self { source: Source::Parameter { client, name }, ttl, kept: Mutex::new(None) }
    }

    /// Returns the active secrets. Reads them again if the last read is older than the TTL.
    pub async fn active(&self) -> Result<Vec<Secret>, SecretError> {
        self.younger_than(self.ttl).await
    }

    /// Returns the first active secret, for requests that carry one, such as an API key.
    pub async fn first(&self) -> Result<Secret, SecretError> {
        self.active().await?.into_iter().next().ok_or(SecretError::Empty)
    }

    /// Returns the active secrets after one did not match. Reads them again, unless the last read is more recent than
    /// `SOONEST_REREAD`.
    pub async fn reread(&self) -> Result<Vec<Secret>, SecretError> {
        self.younger_than(SOONEST_REREAD.min(self.ttl)).await
    }

    fn not_empty(secrets: Vec<Secret>) -> Result<Vec<Secret>, SecretError> {
        if secrets.is_empty() { Err(SecretError::Empty) } else { Ok(secrets) }
    }

    async fn younger_than(&self, age: Duration) -> Result<Vec<Secret>, SecretError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.read_at.elapsed() < age) {
            return Ok(kept.secrets.clone());
        }
        let read = self.source.read().await;
        let secrets = match (read.and_then(Self::not_empty), kept.as_ref()) {
            (Ok(secrets), _) => secrets,
            // While the parameter can't be read, the last known secrets stay in use.
            (Err(error), Some(kept)) => {
                tracing::warn!(error = %Chain(&error), "a secret could not be read again");
                return Ok(kept.secrets.clone());
            }
            (Err(error), None) => return Err(error),
        };
        *kept = Some(CachedSecrets { secrets: secrets.clone(), read_at: Instant::now() });
        Ok(secrets)
    }
}

impl Source {
    #[cfg_attr(not(feature = "ssm"), expect(clippy::unused_async, reason = "`ssm` awaits the read"))]
    async fn read(&self) -> Result<Vec<Secret>, SecretError> {
        match self {
            Self::Plain(secrets) => Ok(secrets.clone()),
            #[cfg(feature = "ssm")]
            Self::Parameter { client, name } => {
                let request = client.get_parameter().name(name).with_decryption(true);
                let output =
                    request.send().await.map_err(|error| SecretError::Unread(Box::new(error.into())))?;
                let value = output.parameter.and_then(|parameter| parameter.value);
                Ok(Secret::list(&value.unwrap_or_default()))
            }
        }
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

    use super::{SOONEST_REREAD, Secrets};
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
            Secrets::in_parameter(client, "/secret".into(), Duration::from_mins(5))
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
        tokio::time::advance(SOONEST_REREAD).await;
        assert_eq!(secrets.reread().await.unwrap(), [Secret::new("whsec_new"), Secret::new("whsec_old")]);
        parameter.set("whsec_new");
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_new")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_parameter_is_an_error() {
        let parameter = Parameter::default();
        parameter.set("  ");
        assert!(parameter.secrets().active().await.is_err());
    }
}
