//! The table's stream as events on a bus: facts of committed writes, each told at least once and under one name.
//!
//! A record that can't be read is told of as such, so that a rule can lay it aside, and those behind it go on. Where the
//! bus can't be reached, the stream is asked to come again from the first record that was not told.

use std::collections::HashMap;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use credits_core::event::{Event, SOURCE};
use credits_core::id::WorkspaceId;
use credits_runtime::{EventFunction, Settings, StartError, start};
use credits_store::error::{Chain, Corrupt};
use credits_store::stream::{Record, UnreadRecord};
use credits_store::{Fault, Store};
use serde_json::{Value, json};
use tokio::time::Instant;

pub mod facts;

/// The `detail-type` of a record that can't be read.
pub const UNREAD: &str = "RecordUnread";

/// How many events one request to the bus carries (`PutEvents`).
const MOST_ENTRIES: usize = 10;

/// The function: a store to read versions from, and the bus.
#[derive(Debug)]
pub struct Project {
    store: Store,
    bus: Client,
    bus_name: String,
}

/// Why a record is not told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    /// It can't be read, and never will be.
    #[error("the record can't be read")]
    Unread(#[from] UnreadRecord),
    /// An item in it is not as we write it.
    #[error("the record's item can't be read")]
    Corrupt(#[from] Corrupt),
    /// It can't be told now.
    #[error("the store failed")]
    Store(#[from] Fault),
}

/// An event that waits to be sent, and the record that it is of.
struct Outgoing {
    sequence_number: String,
    name: &'static str,
    detail: Value,
}

impl Project {
    /// Puts the function together.
    #[must_use]
    pub fn new(store: Store, bus: Client, bus_name: String) -> Self {
        Self { store, bus, bus_name }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let bus = Client::from_conf(bus_config(settings)?);
        Ok(Self::new(start::store(settings)?, bus, settings.bus_name()?))
    }

    /// Tells all records of a batch, and gives the sequence number from which the stream has to come again.
    async fn tell(&self, records: &[Value], deadline: Instant) -> Option<String> {
        let store = self.store.until(deadline);
        let mut versions = HashMap::new();
        let mut outgoing = Vec::new();
        for raw in records {
            match events_of(&store, raw, &mut versions).await {
                Ok(events) => outgoing.extend(events),
                Err(Untold::Store(fault)) => {
                    tracing::warn!(error = %Chain(&fault), "the rest of the stream has to come again");
                    let failed = self.send(&outgoing).await;
                    return Some(failed.unwrap_or_else(|| sequence_number(raw)));
                }
                Err(unread) => {
                    tracing::error!(reason = reason_of(&unread), "a stream record can't be read");
                    outgoing.push(laid_aside(raw, &unread));
                }
            }
        }
        self.send(&outgoing).await
    }

    /// Sends events in order, and gives the sequence number of the first that was not taken.
    async fn send(&self, outgoing: &[Outgoing]) -> Option<String> {
        for chunk in outgoing.chunks(MOST_ENTRIES) {
            let entries = chunk.iter().map(|event| {
                PutEventsRequestEntry::builder()
                    .source(SOURCE)
                    .detail_type(event.name)
                    .detail(event.detail.to_string())
                    .event_bus_name(&self.bus_name)
                    .build()
            });
            let sent = self.bus.put_events().set_entries(Some(entries.collect())).send().await;
            let refused = match &sent {
                Ok(output) => output.entries().iter().position(|entry| entry.error_code().is_some()),
                Err(error) => {
                    tracing::warn!(error = %Chain(error), "the bus could not be reached");
                    Some(0)
                }
            };
            if let Some(event) = refused.and_then(|at| chunk.get(at)) {
                tracing::warn!(event = event.name, "the bus did not take an event");
                return Some(event.sequence_number.clone());
            }
        }
        None
    }
}

impl EventFunction for Project {
    type Error = std::convert::Infallible;

    async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, Self::Error> {
        let records = event["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
        let failed = self.tell(records, deadline).await;
        let failures: Vec<Value> =
            failed.into_iter().map(|sequence_number| json!({ "itemIdentifier": sequence_number })).collect();
        tracing::info!(records = records.len(), failed = failures.len(), "projected");
        Ok(json!({ "batchItemFailures": failures }))
    }
}

async fn events_of(
    store: &Store,
    raw: &Value,
    versions: &mut HashMap<WorkspaceId, u64>,
) -> Result<Vec<Outgoing>, Untold> {
    let record = Record::parse(raw)?;
    let Some(written) = record.read()? else { return Ok(Vec::new()) };
    let mut events = Vec::new();
    for told in facts::of(&written) {
        let version = match (told.version, &told.workspace_id) {
            (Some(version), _) => version,
            (None, Some(workspace)) => version_of(store, workspace, versions).await?,
            (None, None) => 0,
        };
        let facts::Told { event_id, workspace_id, at, fact, .. } = told;
        let name = fact.name();
        let event = Event { event_id, workspace_id, version, at: at.unwrap_or(record.at), fact };
        let sequence_number = record.sequence_number.clone();
        events.push(Outgoing { sequence_number, name, detail: json!(event) });
    }
    Ok(events)
}

/// The version of a workspace's balance, read once a batch.
async fn version_of(
    store: &Store,
    workspace: &WorkspaceId,
    versions: &mut HashMap<WorkspaceId, u64>,
) -> Result<u64, Fault> {
    if let Some(version) = versions.get(workspace) {
        return Ok(*version);
    }
    let version = store.peek_balance(workspace).await?.map_or(0, |balance| balance.version);
    versions.insert(workspace.clone(), version);
    Ok(version)
}

/// What is told of a record that can't be read: which one, and why, and nothing of what is in it.
fn laid_aside(raw: &Value, why: &Untold) -> Outgoing {
    let detail = json!({
        "event_id": format!("unread-{}", raw["eventID"].as_str().unwrap_or_default()),
        "record_id": raw["eventID"],
        "keys": raw["dynamodb"]["Keys"],
        "sequence_number": raw["dynamodb"]["SequenceNumber"],
        "reason": reason_of(why),
    });
    Outgoing { sequence_number: sequence_number(raw), name: UNREAD, detail }
}

/// Why a record is laid aside, without what its items hold.
fn reason_of(why: &Untold) -> String {
    match why {
        Untold::Corrupt(corrupt) => corrupt.to_string(),
        why => why.to_string(),
    }
}

fn sequence_number(raw: &Value) -> String {
    raw["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned()
}

fn bus_config(settings: Settings) -> Result<aws_sdk_eventbridge::Config, StartError> {
    let endpoint = settings.endpoint("AWS_ENDPOINT_URL_EVENTBRIDGE");
    Ok(config(&settings.region()?, settings.credentials()?, endpoint))
}

/// The configuration of a client of the bus.
#[must_use]
pub fn config(
    region: &str,
    credentials: aws_sdk_eventbridge::config::Credentials,
    endpoint: Option<String>,
) -> aws_sdk_eventbridge::Config {
    let mut config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
        .region(aws_sdk_eventbridge::config::Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(start::https_client())
        .timeout_config(start::timeouts())
        .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::standard().with_max_attempts(4));
    config.set_endpoint_url(endpoint);
    config.build()
}
