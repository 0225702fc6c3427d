//! The client of `DynamoDB`, and the store on it.

use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, SharedHttpClient, SharedInterceptor,
    StalledStreamProtectionConfig,
};
use credits_store::Store;

use crate::connection::https_client;
use crate::settings::Settings;
use crate::sources;
use crate::start_error::StartError;
use crate::trace::RequestTracer;

/// The timeout of a new connection to AWS, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout of one attempt of a request to AWS.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Creates the store of a deployed function.
pub fn store(settings: Settings) -> Result<Store, StartError> {
    let endpoint = settings.endpoint("AWS_ENDPOINT_URL_DYNAMODB");
    let config = dynamodb_config(&settings.region()?, settings.credentials()?, endpoint, https_client());
    let tracer = SharedInterceptor::permanent(RequestTracer::new(settings));
    let client = aws_sdk_dynamodb::Client::from_conf(config.to_builder().interceptor(tracer).build());
    let store = Store::new(client, &settings.table()?, sources::system());
    Ok(store.opening_lanes(settings.lane_opening()?))
}

/// Creates the configuration of a `DynamoDB` client. The SDK retries reads; the store retries writes itself.
#[must_use]
pub fn dynamodb_config(
    region: &str,
    credentials: Credentials,
    endpoint: Option<String>,
    http_client: SharedHttpClient,
) -> aws_sdk_dynamodb::Config {
    let mut config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(http_client)
        .timeout_config(timeouts())
        // Credentials last as long as the process, and neither requests nor responses are streams.
        .identity_cache(IdentityCache::no_cache())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(4));
    config.set_endpoint_url(endpoint);
    config.build()
}

/// Returns the timeouts of requests to AWS.
#[must_use]
pub fn timeouts() -> TimeoutConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    timeouts.operation_attempt_timeout(ATTEMPT_TIMEOUT).build()
}
