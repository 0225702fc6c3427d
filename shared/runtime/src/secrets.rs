//! Secrets: read by a setting, kept for a while, and read anew when one may have been rotated.

use std::time::Duration;

use credits_payments::signature::Secret;
use credits_store::error::Chain;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::{SecretSetting, Settings};
use crate::start::StartError;

/// How soon a secret may be read again because one didn't fit: a flood of forged events must not become one of reads.
const SOONEST_REREAD: Duration = Duration::from_secs(10);

/// A secret that couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// SSM didn't give it.
    #[cfg(feature = "ssm")]
    #[error("the parameter can't be read")]
    Unread(#[source] Box<aws_sdk_ssm::Error>),
    /// There is nothing in it.
    #[error("the parameter holds no secret")]
    Empty,
}

/// One or several secrets that are active at the same time.
#[derive(Debug)]
pub struct Secrets {
    source: Source,
    ttl: Duration,
    kept: Mutex<Option<Kept>>,
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
struct Kept {
    secrets: Vec<Secret>,
    read_at: Instant,
}

impl Secrets {
    /// Takes the secrets that a setting points to; they are read when they are first needed.
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

    /// Takes the secrets of an SSM parameter, to be kept for a while.
    #[cfg(feature = "ssm")]
    #[must_use]
    pub fn in_parameter(client: aws_sdk_ssm::Client, name: String, ttl: Duration) -> Self {
        Self { source: Source::Parameter { client, name }, ttl, kept: Mutex::new(None) }
    }

    /// The active secrets.
    pub async fn active(&self) -> Result<Vec<Secret>, SecretError> {
        self.younger_than(self.ttl).await
    }

    /// The one secret to sign in with, where several are active.
    pub async fn first(&self) -> Result<Secret, SecretError> {
        self.active().await?.into_iter().next().ok_or(SecretError::Empty)
    }

    /// The active secrets after one didn't fit: read anew, unless that was done just now.
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
            // Those that were good a while ago are better than none while the parameter can't be read.
            (Err(error), Some(kept)) => {
                tracing::warn!(error = %Chain(&error), "a secret could not be read anew");
                return Ok(kept.secrets.clone());
            }
            (Err(error), None) => return Err(error),
        };
        *kept = Some(Kept { secrets: secrets.clone(), read_at: Instant::now() });
        Ok(secrets)
    }
}

impl Source {
    #[cfg_attr(not(feature = "ssm"), expect(clippy::unused_async, reason = "reading a parameter waits"))]
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
        .http_client(crate::connection::https_client_of(settings)?)
        .interceptor(crate::steps::Steps::new(settings));
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
    use aws_smithy_runtime_api::client::http::{HttpConnectorFuture, SharedHttpConnector, http_client_fn};
    use aws_smithy_runtime_api::shared::IntoShared;
    use aws_smithy_types::body::SdkBody;
    use credits_payments::signature::Secret;

    use super::{SOONEST_REREAD, Secrets};

    /// A parameter whose value can be changed, and a count of how often it was read.
    #[derive(Debug, Clone, Default)]
    struct Parameter {
        value: Arc<Mutex<String>>,
        reads: Arc<AtomicUsize>,
    }

    #[derive(Debug)]
    struct Endpoint(Parameter);

    impl aws_smithy_runtime_api::client::http::HttpConnector for Endpoint {
        fn call(&self, _: aws_sdk_ssm::config::http::HttpRequest) -> HttpConnectorFuture {
            self.0.reads.fetch_add(1, Ordering::SeqCst);
            let parameter = serde_json::json!({ "Name": "/secret", "Value": *self.0.value.lock().unwrap() });
            let body = serde_json::json!({ "Parameter": parameter }).to_string();
            let response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body));
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    impl Parameter {
        fn set(&self, value: &str) {
            value.clone_into(&mut self.value.lock().unwrap());
        }

        fn secrets(&self) -> Secrets {
            let endpoint = self.clone();
            let http = http_client_fn(move |_, _| SharedHttpConnector::new(Endpoint(endpoint.clone())));
            let config = aws_sdk_ssm::Config::builder()
                .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
                .region(aws_sdk_ssm::config::Region::new("us-east-1"))
                .credentials_provider(aws_sdk_ssm::config::Credentials::new("id", "key", None, None, "test"))
                .http_client(IntoShared::<aws_sdk_ssm::config::SharedHttpClient>::into_shared(http))
                .build();
            let client = aws_sdk_ssm::Client::from_conf(config);
            Secrets::in_parameter(client, "/secret".into(), Duration::from_mins(5))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_kept_for_a_while_and_a_rotated_one_is_found_at_once() {
        let parameter = Parameter::default();
        parameter.set("whsec_old");
        let secrets = parameter.secrets();
        assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_old")]);
        parameter.set("whsec_new whsec_old");
        assert_eq!(secrets.active().await.unwrap().len(), 1, "it is kept");
        // A flood of forged events does not become one of reads.
        secrets.reread().await.unwrap();
        assert_eq!(parameter.reads.load(Ordering::SeqCst), 1);
        tokio::time::advance(SOONEST_REREAD).await;
        assert_eq!(secrets.reread().await.unwrap(), [Secret::new("whsec_new"), Secret::new("whsec_old")]);
        parameter.set("whsec_new");
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(secrets.active().await.unwrap(), [Secret::new("whsec_new")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_parameter_is_no_secret_that_could_sign() {
        let parameter = Parameter::default();
        parameter.set("  ");
        assert!(parameter.secrets().active().await.is_err());
    }
}
