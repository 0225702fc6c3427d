//! The stand-in event bus: accepts `PutEvents`, and queues events for the functions that template.yaml's rules name.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use credits_store::{Clock, Sources};
use serde::Deserialize;
use serde_json::{Value, json};

/// The number of events that [`Bus::shown`] keeps.
const MAX_SHOWN: usize = 10_000;

/// A rule of the bus: which events go to which function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name of the function's binary.
    pub function: String,
    pub source: String,
    /// The `detail-type` values that match.
    pub names: Vec<String>,
    /// The values of `detail.kind` that match; all if there are none.
    pub kinds: Vec<String>,
}

#[derive(Debug)]
pub struct Bus {
    rules: Vec<Rule>,
    sources: Sources,
    kept: Mutex<BusState>,
}

#[derive(Debug, Default)]
struct BusState {
    waiting: VecDeque<QueuedEvent>,
    shown: VecDeque<Value>,
    dead: Vec<Value>,
}

/// An event that waits for a function.
#[derive(Debug)]
pub struct QueuedEvent {
    pub event: Value,
    /// The name of the function's binary.
    pub function: String,
    /// How many invocations have failed.
    pub failures: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<PutEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEntry {
    source: String,
    detail_type: String,
    detail: String,
}

impl Rule {
    fn matches(&self, name: &str, detail: &Value) -> bool {
        let has_kind = self.kinds.is_empty() || self.kinds.iter().any(|kind| detail["kind"] == kind.as_str());
        has_kind && self.names.iter().any(|it| it == name)
    }
}

impl Bus {
    #[must_use]
    pub fn new(rules: Vec<Rule>, sources: Sources) -> Self {
        Self { rules, sources, kept: Mutex::default() }
    }

    /// Handles `PutEvents`.
    pub fn put(&self, body: &[u8], clock: &dyn Clock) -> Result<Value, serde_json::Error> {
        let put: PutEvents = serde_json::from_slice(body)?;
        let mut answers = Vec::new();
        for entry in put.entries {
            let detail: Value = serde_json::from_str(&entry.detail)?;
            let id = self.publish(&entry.source, &entry.detail_type, &detail, clock);
            answers.push(json!({ "EventId": id }));
        }
        Ok(json!({ "Entries": answers, "FailedEntryCount": 0 }))
    }

    /// Publishes an event, queues it for each matching rule, and returns its id.
    pub fn publish(&self, source: &str, name: &str, detail: &Value, clock: &dyn Clock) -> String {
        let id = self.sources.new_id("bus").to_string();
        let event = json!({
            "id": id, "source": source, "detail-type": name, "time": clock.now(), "detail": detail,
        });
        let mut kept = self.kept();
        let rules = self.rules.iter().filter(|rule| rule.source == source);
        for rule in rules.filter(|rule| rule.matches(name, detail)) {
            let (event, function) = (event.clone(), rule.function.clone());
            kept.waiting.push_back(QueuedEvent { event, function, failures: 0 });
        }
        if kept.shown.len() >= MAX_SHOWN {
            kept.shown.pop_front();
        }
        kept.shown.push_back(event);
        id
    }

    /// Takes the next event that waits for a function.
    pub fn next(&self) -> Option<QueuedEvent> {
        self.kept().waiting.pop_front()
    }

    /// Queues a failed event again, behind all others: Lambda retries some minutes later.
    pub fn put_back(&self, waiting: QueuedEvent) {
        self.kept().waiting.push_back(waiting);
    }

    /// Moves an event to the dead letters, with the error of its last attempt.
    pub fn bury(&self, function: &str, event: &Value, error: &str) {
        self.kept().dead.push(json!({ "function": function, "event": event, "error": error }));
    }

    /// Returns the latest published events, oldest first.
    pub fn shown(&self) -> Vec<Value> {
        self.kept().shown.iter().cloned().collect()
    }

    /// Returns the dead letters, oldest first.
    pub fn dead(&self) -> Vec<Value> {
        self.kept().dead.clone()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BusState> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
