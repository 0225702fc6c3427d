//! The table's stream, built from the commits. Its shards are read in order, repeatedly, in part, and with records that
//! can't be read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bugs::Wrong;
use crate::faults::WireFault;
use crate::table::TableChange;
use crate::timeline::TimelineEvent;
use crate::world::World;

/// The number of shards.
const SHARDS: usize = 4;

/// The largest batch, in records, as in template.yaml.
const BATCH: usize = 1_000;

/// The prefixes of the items whose records the function gets, as in template.yaml.
const PREFIXES: [&str; 10] = [
    "alerts#",
    "auto_top_up#",
    "balance#",
    "lane#",
    "entry#",
    "run#",
    "subscription#",
    "payment#",
    "invoice#",
    "purchase#",
];

/// The shards of the stream.
#[derive(Debug, Default)]
pub struct SimStream(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of commits that were added.
    fed: usize,
    numbered: u64,
    shards: [Shard; SHARDS],
    poisoned: u64,
}

#[derive(Debug, Default)]
struct Shard {
    records: VecDeque<Value>,
    /// Whether a read is running or scheduled.
    read: bool,
}

impl World {
    /// Adds new commits to the shards, and schedules the reads.
    pub fn feed_stream(&self) {
        let mut state = self.stream.0.lock().unwrap();
        let commits = self.ground.table.commits_from(state.fed);
        state.fed += commits.len();
        for commit in commits {
            let lost = self.ground.bugs.is(Wrong::LaneRecordsLost);
            let is_lost = |change: &TableChange| lost && change.key.0.starts_with("lane#");
            for change in commit.changes.iter().filter(|change| is_told(change) && !is_lost(change)) {
                state.put(change, commit.at);
                if self.ground.faults.strikes(WireFault::Poison) {
                    state.poison(change);
                }
            }
        }
        let unread = state.shards.iter_mut().enumerate().filter(|(_, it)| !it.read && !it.records.is_empty());
        for (shard, it) in unread {
            it.read = true;
            let at = self.now() + SignedDuration::from_millis(self.ground.faults.between(50, 400) as i64);
            self.ground.timeline.put(at, TimelineEvent::Read { shard });
        }
    }

    /// Invokes the function with the next records of a shard.
    pub async fn read_shard(self: &Arc<Self>, shard: usize) {
        let faults = &self.ground.faults;
        let most = if faults.strikes(WireFault::BatchSplit) { faults.between(1, 5) as usize } else { BATCH };
        let batch: Vec<Value> =
            self.stream.0.lock().unwrap().shards[shard].records.iter().take(most).cloned().collect();
        let event = json!({ "Records": batch });
        let again = faults.strikes(WireFault::BatchAgain);
        let overlaps = again && faults.between(0, 1) == 0;
        if overlaps {
            // Lambda has given up this slow invocation, which runs on beside the next one.
            let (world, event) = (Arc::clone(self), event.clone());
            tokio::spawn(async move { world.invoke_slowly("project", event).await });
        }
        let answer = self.invoke("project", event).await;
        let mut state = self.stream.0.lock().unwrap();
        let it = &mut state.shards[shard];
        it.read = false;
        if let Some(answer) = answer {
            let failed = answer["batchItemFailures"][0]["itemIdentifier"].clone();
            let failed = if self.ground.bugs.is(Wrong::FailedRecordsHidden) { Value::Null } else { failed };
            let done = batch.iter().position(|record| record["dynamodb"]["SequenceNumber"] == failed);
            if !again || overlaps {
                it.records.drain(..done.unwrap_or(batch.len()));
            }
        }
        if !it.records.is_empty() {
            it.read = true;
            let at = self.now() + SignedDuration::from_millis(faults.between(200, 3_000) as i64);
            self.ground.timeline.put(at, TimelineEvent::Read { shard });
        }
    }

    /// Returns how many records can't be read.
    #[must_use]
    pub fn poisoned(&self) -> u64 {
        self.stream.0.lock().unwrap().poisoned
    }
}

impl State {
    fn put(&mut self, change: &TableChange, at: Timestamp) {
        let (pk, sk) = &change.key;
        let shard = pk.bytes().map(usize::from).sum::<usize>() % SHARDS;
        let event = match (&change.before, &change.after) {
            (None, _) => "INSERT",
            (_, None) => "REMOVE",
            _ => "MODIFY",
        };
        let mut record = json!({
            "eventID": self.next(), "eventName": event, "eventSource": "aws:dynamodb",
            "dynamodb": {
                "ApproximateCreationDateTime": at.as_second(),
                "Keys": { "pk": { "S": pk }, "sk": { "S": sk } },
                "SequenceNumber": self.next(), "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        });
        if let Some(before) = &change.before {
            record["dynamodb"]["OldImage"] = Value::clone(before);
        }
        if let Some(after) = &change.after {
            record["dynamodb"]["NewImage"] = Value::clone(after);
        }
        self.shards[shard].records.push_back(record);
    }

    fn poison(&mut self, change: &TableChange) {
        let mut change = change.clone();
        change.key.0 = format!("balance#poison{}", self.poisoned);
        let item = Arc::new(json!({
            "pk": { "S": change.key.0 }, "sk": { "S": change.key.1 }, "spendable": { "S": "a lot" },
        }));
        (change.before, change.after) = (Some(item.clone()), Some(item));
        change.key.1 = "balance".into();
        self.poisoned += 1;
        self.put(&change, Timestamp::UNIX_EPOCH);
    }

    fn next(&mut self) -> String {
        self.numbered += 1;
        format!("{:021}", self.numbered)
    }
}

fn is_told(change: &TableChange) -> bool {
    PREFIXES.iter().any(|prefix| change.key.0.starts_with(prefix))
}
