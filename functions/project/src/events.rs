//! Publishes facts as events on the bus, in the order of the stream: each at least once, and always under the same id.

use std::collections::{HashMap, HashSet};

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use credits_core::event::{Event, SOURCE};
use credits_core::id::WorkspaceId;
use credits_store::balances::BalanceStanding;
use credits_store::error::Chain;
use credits_store::{Fault, Store};
use serde_json::{Value, json};

use crate::facts::OutgoingEvent;
use crate::records::{ParsedRecord, UNREAD};

/// The `detail-type` of the event that every write of a low balance repeats.
const TOP_UP_WANTED: &str = "TopUpWanted";

/// The maximum number of events that one `PutEvents` request carries.
const MAX_ENTRIES: usize = 10;

/// An `EventBridge` bus.
#[derive(Debug)]
pub(crate) struct EventBus {
    pub client: Client,
    pub name: String,
}

/// An event to publish.
struct Outgoing {
    /// The index of the event's record in the batch.
    place: usize,
    name: &'static str,
    detail: Value,
}

impl EventBus {
    /// Publishes the events of all records of a batch. Returns the index of the first record that has to be delivered
    /// again, if any.
    pub async fn publish(&self, store: &Store, records: &[ParsedRecord<'_>]) -> Option<usize> {
        let mut standings = HashMap::new();
        let mut outgoing = Vec::new();
        for (place, known) in records.iter().enumerate() {
            if let Some(why) = &known.unread {
                metrics::counter!("RecordsUnread").increment(1);
                tracing::error!(reason = why.reason(), "a stream record can't be read");
                outgoing.push(Outgoing { place, name: UNREAD, detail: known.laid_aside(why) });
            }
            match events_of(store, known, &mut standings).await {
                Ok(events) => {
                    let events = events.into_iter();
                    outgoing.extend(events.map(|(name, detail)| Outgoing { place, name, detail }));
                }
                Err(fault) => {
                    tracing::warn!(error = %Chain(&fault), "the rest of the batch has to be delivered again");
                    return Some(self.send(&outgoing).await.unwrap_or(place));
                }
            }
        }
        self.send(&once_a_batch(outgoing)).await
    }

    /// Sends events in order. Returns the record index of the first event that the bus did not accept, if any.
    async fn send(&self, outgoing: &[Outgoing]) -> Option<usize> {
        for chunk in outgoing.chunks(MAX_ENTRIES) {
            let entries = chunk.iter().map(|event| {
                PutEventsRequestEntry::builder()
                    .source(SOURCE)
                    .detail_type(event.name)
                    .detail(event.detail.to_string())
                    .event_bus_name(&self.name)
                    .build()
            });
            let sent = self.client.put_events().set_entries(Some(entries.collect())).send().await;
            let refused = match &sent {
                Ok(output) => output.entries().iter().position(|entry| entry.error_code().is_some()),
                Err(error) => {
                    tracing::warn!(error = %Chain(error), "the bus could not be reached");
                    Some(0)
                }
            };
            if refused.is_none() {
                metrics::counter!("EventsTold").increment(u64::try_from(chunk.len()).unwrap_or_default());
            }
            if let Some(event) = refused.and_then(|at| chunk.get(at)) {
                tracing::warn!(event = event.name, "the bus did not accept an event");
                return Some(event.place);
            }
        }
        None
    }
}

/// Keeps only the last `TopUpWanted` event of each workspace, since every write of a low balance repeats it.
fn once_a_batch(mut outgoing: Vec<Outgoing>) -> Vec<Outgoing> {
    let mut seen = HashSet::new();
    outgoing.reverse();
    outgoing
        .retain(|event| event.name != TOP_UP_WANTED || seen.insert(event.detail["workspace_id"].to_string()));
    outgoing.reverse();
    outgoing
}

async fn events_of(
    store: &Store,
    known: &ParsedRecord<'_>,
    standings: &mut HashMap<WorkspaceId, BalanceStanding>,
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let mut events = Vec::new();
    for outgoing in known.events.clone() {
        let OutgoingEvent { event_id, workspace_id, balance_version, at, fact } = outgoing;
        let (version, fact) = match (balance_version, &workspace_id) {
            (Some(version), _) => (version, fact),
            (None, Some(workspace)) => {
                let standing = standing_of(store, workspace, standings).await?;
                (standing.version, fact.with_available(standing.available))
            }
            (None, None) => (0, fact),
        };
        let name = fact.name();
        let event = Event { event_id, workspace_id, version, at: at.unwrap_or(known.at), fact };
        events.push((name, json!(event)));
    }
    Ok(events)
}

/// Returns the standing of a workspace's balance, which is read once per batch.
async fn standing_of(
    store: &Store,
    workspace: &WorkspaceId,
    standings: &mut HashMap<WorkspaceId, BalanceStanding>,
) -> Result<BalanceStanding, Fault> {
    if let Some(standing) = standings.get(workspace) {
        return Ok(*standing);
    }
    let standing = store.balances().standing(workspace).await?.unwrap_or_default();
    standings.insert(workspace.clone(), standing);
    Ok(standing)
}
