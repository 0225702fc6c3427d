//! The table: the embedded database with DynamoDB's further behaviour. Concurrent transactions on an item are
//! cancelled, a token makes a transaction idempotent for ten minutes, and an index lags. Each commit is logged; the
//! stream is built from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use credits_store::Clock as _;
use jiff::{SignedDuration, Timestamp};
use model::{Embedded, VirtualClock};
use serde_json::{Value, json};

use crate::item::with_grants;
use crate::lanes::with_lanes;

/// The table's name.
pub const NAME: &str = "credits";

/// How long a token makes a transaction idempotent.
const TOKEN_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// The key of an item: `pk` and `sk`.
pub type Key = (String, String);

/// An immutable version of an item.
pub type Stored = Arc<Value>;

/// A change of an item.
#[derive(Debug, Clone)]
pub struct TableChange {
    pub key: Key,
    /// The item before; `None` if it is new.
    pub before: Option<Stored>,
    /// The item after; `None` if it was deleted.
    pub after: Option<Stored>,
}

/// The changes of one request.
#[derive(Debug, Clone)]
pub struct Commit {
    pub at: Timestamp,
    /// The number of the call that made it; `None` for a background task.
    pub by: Option<u64>,
    pub changes: Vec<TableChange>,
}

/// The table with its lagging replica and its log of commits.
#[derive(Debug)]
pub struct SimTable {
    clock: VirtualClock,
    database: Embedded,
    replica: Embedded,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Key, Stored>,
    locked: BTreeSet<Key>,
    tokens: BTreeMap<String, (Timestamp, String, String)>,
    commits: Vec<Commit>,
    /// The number of commits that the replica has applied.
    replicated: usize,
}

impl SimTable {
    /// Creates a table without items.
    #[must_use]
    pub fn new(clock: VirtualClock, database: Embedded, replica: Embedded) -> Self {
        Self { clock, database, replica, state: Mutex::default() }
    }

    /// Executes a request. Returns the status and the body.
    pub fn carry_out(&self, operation: &str, body: &Value, by: Option<u64>) -> (u16, String) {
        let keys = keys_of(operation, body);
        if keys.is_empty() {
            return self.database.answer(operation, &body.to_string());
        }
        let mut bare = body.clone();
        let token = bare.as_object_mut().and_then(|body| body.remove("ClientRequestToken"));
        let (token, text) = (token.and_then(|token| token.as_str().map(str::to_owned)), bare.to_string());
        if let Some(known) = token.as_ref().and_then(|token| self.known(token, &text)) {
            return known;
        }
        let (status, answer) = self.database.answer(operation, &text);
        if status == 200 {
            self.log(keys, by);
            if let Some(token) = token {
                let mut state = self.state.lock().unwrap();
                state.tokens.insert(token, (self.clock.now(), text, answer.clone()));
            }
        }
        (status, answer)
    }

    /// Executes an eventually consistent read of the state `behind` ago.
    pub fn read_behind(&self, operation: &str, body: &Value, behind: SignedDuration) -> (u16, String) {
        self.replicate(self.clock.now() - behind);
        self.replica.answer(operation, &body.to_string())
    }

    /// Locks the items of a transaction. Fails if another transaction holds some of them, and returns which.
    pub fn lock(&self, keys: &[Key]) -> Result<(), Vec<bool>> {
        let mut state = self.state.lock().unwrap();
        let met: Vec<bool> = keys.iter().map(|key| state.locked.contains(key)).collect();
        if met.contains(&true) {
            return Err(met);
        }
        state.locked.extend(keys.iter().cloned());
        Ok(())
    }

    /// Unlocks the items of a transaction.
    pub fn unlock(&self, keys: &[Key]) {
        let mut state = self.state.lock().unwrap();
        for key in keys {
            state.locked.remove(key);
        }
    }

    /// Returns the current version of an item.
    #[must_use]
    pub fn item(&self, key: &Key) -> Option<Stored> {
        self.state.lock().unwrap().items.get(key).cloned()
    }

    /// Returns a workspace's current balance with its running grants.
    #[must_use]
    pub fn balance(&self, workspace: &str) -> Option<Value> {
        let balance = self.item(&(format!("balance#{workspace}"), "balance".to_owned()))?;
        let lanes: Vec<Stored> = {
            let (state, prefix) = (self.state.lock().unwrap(), format!("lane#{workspace}#"));
            let from = state.items.range((prefix.clone(), String::new())..);
            from.take_while(|((pk, _), _)| pk.starts_with(&prefix))
                .map(|(_, lane)| Arc::clone(lane))
                .collect()
        };
        let balance = with_lanes(&balance, lanes.iter().map(|lane| &**lane)).expect("the lanes are right");
        let running = self.item(&(format!("grant#{workspace}"), "running".to_owned()));
        Some(with_grants(&balance, running.as_deref()).expect("a balance and its grants are of one close"))
    }

    /// Returns all items, ordered by key.
    #[must_use]
    pub fn items(&self) -> Vec<(Key, Stored)> {
        let state = self.state.lock().unwrap();
        state.items.iter().map(|(key, item)| (key.clone(), Arc::clone(item))).collect()
    }

    /// Returns the number of commits.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.state.lock().unwrap().commits.len()
    }

    /// Returns the commits from a number on, counted from 0.
    #[must_use]
    pub fn commits_from(&self, number: usize) -> Vec<Commit> {
        self.state.lock().unwrap().commits[number..].to_vec()
    }

    fn known(&self, token: &str, text: &str) -> Option<(u16, String)> {
        let state = self.state.lock().unwrap();
        let (at, first, answer) = state.tokens.get(token)?;
        if self.clock.now().duration_since(*at) > TOKEN_LASTS {
            return None;
        }
        if first == text {
            return Some((200, answer.clone()));
        }
        let kind = "com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException";
        Some((400, json!({ "__type": kind, "message": "another request" }).to_string()))
    }

    fn log(&self, keys: Vec<Key>, by: Option<u64>) {
        let mut state = self.state.lock().unwrap();
        let mut changes = Vec::new();
        for key in keys {
            let asked = json!({
                "TableName": NAME, "ConsistentRead": true,
                "Key": { "pk": { "S": key.0 }, "sk": { "S": key.1 } },
            });
            let (_, answer) = self.database.answer("GetItem", &asked.to_string());
            let mut answer: Value = serde_json::from_str(&answer).unwrap();
            let after = Some(answer["Item"].take()).filter(|item| !item.is_null()).map(Arc::new);
            let before = match &after {
                Some(after) => state.items.insert(key.clone(), Arc::clone(after)),
                None => state.items.remove(&key),
            };
            if before != after {
                changes.push(TableChange { key, before, after });
            }
        }
        state.commits.push(Commit { at: self.clock.now(), by, changes });
    }

    fn replicate(&self, until: Timestamp) {
        let mut state = self.state.lock().unwrap();
        while let Some(commit) = state.commits.get(state.replicated).filter(|commit| commit.at <= until) {
            for TableChange { key, after, .. } in &commit.changes {
                let (operation, body) = if let Some(item) = after {
                    ("PutItem", json!({ "TableName": NAME, "Item": **item }))
                } else {
                    let key = json!({ "pk": { "S": key.0 }, "sk": { "S": key.1 } });
                    ("DeleteItem", json!({ "TableName": NAME, "Key": key }))
                };
                let (status, answer) = self.replica.answer(operation, &body.to_string());
                assert_eq!(status, 200, "{answer}");
            }
            state.replicated += 1;
        }
    }
}

/// Returns the keys of the items that a request writes or checks; none for a read.
#[must_use]
pub fn keys_of(operation: &str, body: &Value) -> Vec<Key> {
    match operation {
        "TransactWriteItems" => body["TransactItems"].as_array().unwrap().iter().map(written_by).collect(),
        "PutItem" | "UpdateItem" | "DeleteItem" => vec![key_of(body)],
        _ => Vec::new(),
    }
}

fn written_by(action: &Value) -> Key {
    key_of(action.as_object().unwrap().values().next().unwrap())
}

fn key_of(write: &Value) -> Key {
    let key = if write["Item"].is_null() { &write["Key"] } else { &write["Item"] };
    let text = |name: &str| key[name]["S"].as_str().unwrap().to_owned();
    (text("pk"), text("sk"))
}

impl SimTable {
    /// Creates the replica's table with the schema of the first.
    pub fn make_replica(&self) {
        let (_, described) = self.database.answer("DescribeTable", &json!({ "TableName": NAME }).to_string());
        let table = &serde_json::from_str::<Value>(&described).unwrap()["Table"];
        let index = &table["GlobalSecondaryIndexes"][0];
        let asked = json!({
            "TableName": NAME, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": table["AttributeDefinitions"], "KeySchema": table["KeySchema"],
            "GlobalSecondaryIndexes": [{
                "IndexName": index["IndexName"], "KeySchema": index["KeySchema"],
                "Projection": index["Projection"],
            }],
        });
        let (status, answer) = self.replica.answer("CreateTable", &asked.to_string());
        assert_eq!(status, 200, "{answer}");
    }
}
