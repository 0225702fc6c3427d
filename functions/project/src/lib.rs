//! The table's stream, as events on a bus and as counts of what each month took.
//!
//! Events are facts of committed writes, each told at least once and under one name; counts are exact whatever is
//! redelivered. A record that can't be read is told of as such, so that a rule can lay it aside, and those behind it go
//! on. Where the bus or the table can't be reached, the stream is asked to come again from the first record that was
//! not worked off.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::SharedHttpClient;
use credits_runtime::steps::Steps;
use credits_runtime::{EventFunction, Settings, StartError, connection, start};
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

use events::Bus;
use records::Known;

/// The function: a store to count in and to read versions from, and the bus.
#[derive(Debug)]
pub struct Project {
    store: Store,
    bus: Bus,
}

impl Project {
    /// Puts the function together.
    #[must_use]
    pub fn new(store: Store, client: Client, bus_name: String) -> Self {
        Self { store, bus: Bus { client, name: bus_name } }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let config = bus_config(settings)?.to_builder().interceptor(Steps::new(settings)).build();
        let bus = Client::from_conf(config);
        Ok(Self::new(start::store(settings)?, bus, settings.bus_name()?))
    }

    /// Counts and tells all records of a batch, and gives the sequence number from which the stream has to come again.
    async fn project(&self, records: &[Value], deadline: Instant) -> Option<String> {
        let store = self.store.until(deadline);
        let known: Vec<Known<'_>> = records.iter().map(Known::read).collect();
        let uncounted = match counts::count(&store, &known).await {
            Ok(()) => None,
            Err((place, fault)) => {
                tracing::warn!(error = %Chain(&fault), "what is not counted has to come again");
                Some(place)
            }
        };
        let untold = self.bus.tell(&store, &known).await;
        let first = [uncounted, untold].into_iter().flatten().min()?;
        known.get(first).map(Known::sequence_number)
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
        tracing::info!(records = records.len(), failed = failures.len(), "projected");
        Ok(json!({ "batchItemFailures": failures }))
    }
}

fn bus_config(settings: Settings) -> Result<aws_sdk_eventbridge::Config, StartError> {
    let endpoint = settings.endpoint("AWS_ENDPOINT_URL_EVENTBRIDGE");
    let http_client = connection::https_client_of(settings)?;
    Ok(config(&settings.region()?, settings.credentials()?, endpoint, http_client))
}

/// The configuration of a client of the bus.
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
        .timeout_config(start::timeouts())
        .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::standard().with_max_attempts(4));
    config.set_endpoint_url(endpoint);
    config.build()
}
