//! The project function: publishes the table's stream as events on a bus, and counts it into monthly usage.
//!
//! An event is a fact of a committed write. Each is published at least once, always under the same id. The counts are
//! exact even if records are redelivered. A record that can't be read is published as such, so that a rule can
//! quarantine it, and the records behind it are processed. If the bus or the table can't be reached, the function asks
//! the stream to deliver again from the first record that is not processed.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::SharedHttpClient;
use credits_aws::connection::https_client;
use credits_aws::trace::RequestTracer;
use credits_aws::{Settings, StartError, dynamodb};
use credits_runtime::EventFunction;
use credits_store::Store;
use credits_store::error::Chain;
use serde_json::{Value, json};
use tokio::time::Instant;

mod check;
mod counts;
mod events;
pub mod facts;
mod records;

pub use check::CheckError;
pub use records::UNREAD;

use events::EventBus;
use records::ParsedRecord;

/// The project function with its store and its bus.
#[derive(Debug)]
pub struct Project {
    store: Store,
    bus: EventBus,
}

impl Project {
    /// Creates the function.
    #[must_use]
    pub fn new(store: Store, client: Client, bus_name: String) -> Self {
        Self { store, bus: EventBus { client, name: bus_name } }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let config = bus_config(settings)?.to_builder().interceptor(RequestTracer::new(settings)).build();
        let bus = Client::from_conf(config);
        Ok(Self::new(dynamodb::store(settings)?, bus, settings.bus_name()?))
    }

    /// Counts and publishes all records of a batch. Returns the sequence number from which the stream has to deliver
    /// again, if any.
    async fn project(&self, records: &[Value], deadline: Instant) -> Option<String> {
        let store = self.store.until(deadline);
        let known: Vec<ParsedRecord<'_>> = records.iter().map(ParsedRecord::read).collect();
        let uncounted = match counts::count(&store, &known).await {
            Ok(()) => None,
            Err((place, fault)) => {
                tracing::warn!(error = %Chain(&fault), "what is not counted has to come again");
                Some(place)
            }
        };
        let untold = self.bus.publish(&store, &known).await;
        let first = [uncounted, untold].into_iter().flatten().min()?;
        known.get(first).map(ParsedRecord::sequence_number)
    }
}

impl EventFunction for Project {
    type Error = CheckError;

    async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, CheckError> {
        let Some(records) = event["Records"].as_array() else {
            return check::carry_out(&self.store.until(deadline), event, deadline).await;
        };
        let failed = self.project(records, deadline).await;
        let failures: Vec<Value> =
            failed.into_iter().map(|sequence_number| json!({ "itemIdentifier": sequence_number })).collect();
        if !failures.is_empty() {
            tracing::warn!(records = records.len(), "a part of a batch has to be delivered again");
        }
        Ok(json!({ "batchItemFailures": failures }))
    }
}

fn bus_config(settings: Settings) -> Result<aws_sdk_eventbridge::Config, StartError> {
    let endpoint = settings.endpoint("AWS_ENDPOINT_URL_EVENTBRIDGE");
    Ok(config(&settings.region()?, settings.credentials()?, endpoint, https_client()))
}

/// Returns the configuration of an `EventBridge` client.
#[must_use]
pub fn config(
    region: &str,
    credentials: aws_sdk_eventbridge::config::Credentials,
    endpoint: Option<String>,
    http_client: SharedHttpClient,
) -> aws_sdk_eventbridge::Config {
    let mut config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
        .region(aws_sdk_eventbridge::config::Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(http_client)
        .timeout_config(dynamodb::timeouts())
        .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::standard().with_max_attempts(4));
    config.set_endpoint_url(endpoint);
    config.build()
}
