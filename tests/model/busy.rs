//! A model of a busy table: how DynamoDB behaves when many callers write to the same items.
//!
//! | rule | here | source |
//! | --- | --- | --- |
//! | a transaction or write that meets another transaction on an item is cancelled | `TransactionConflict` | DynamoDB's developer guide, Transaction conflict handling |
//! | a transaction holds its items for 6 to 12 ms | `TRANSACTION` | measured by others; docs/benchmarks.md |
//! | a partition, also of an index, accepts 1,000 write units a second | throttled beyond | developer guide, Partitions |
//! | a write takes 3 to 6 ms, a read 2 to 4, and each way over the network 0.3 to 0.8 | | measured by others |
//!
//! Each item has a partition of its own, as a busy item gets one in DynamoDB.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use credits_aws::intercept::answering_client;
use credits_local::database::{Stream, create_table};
use credits_store::{Clock, Sources, Store};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{Dice, Embedded, Seeded, VirtualClock};

/// The table's name.
const TABLE: &str = "credits";

/// How long a transaction holds its items, in microseconds.
const TRANSACTION: (u64, u64) = (6_000, 12_000);
/// The duration of a write of one item, in microseconds.
const WRITE: (u64, u64) = (3_000, 6_000);
/// The duration of a read or of a refusal, in microseconds.
const READ: (u64, u64) = (2_000, 4_000);
/// The network latency of a request or a response, in microseconds.
const WAY: (u64, u64) = (300, 800);

/// The write units that a partition accepts per second.
const UNITS_A_SECOND: f64 = 1_000.0;
/// The write units that a cancelled transaction consumes per item.
const CANCELLED_UNITS: f64 = 2.0;
/// The write units that an idle partition accepts at once.
const BURST_UNITS: f64 = 100.0;

/// Counters of the table's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    pub requests: u64,
    /// Requests that met a transaction on an item.
    pub conflicts: u64,
    /// Requests that a partition throttled.
    pub throttled: u64,
    /// Consumed write units, including those of the index.
    pub write_units: f64,
}

/// A busy table.
#[derive(Debug, Clone)]
pub struct Busy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Embedded,
    clock: VirtualClock,
    dice: Dice,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The items that a transaction holds.
    locked: HashSet<String>,
    /// The write units that each partition has left, and when they were computed.
    partitions: HashMap<String, (f64, Option<Instant>)>,
    seen: Seen,
}

impl Busy {
    /// Creates an empty table.
    pub async fn new(seed: u64) -> Self {
        let inner = Inner {
            database: Embedded::default(),
            clock: VirtualClock::at("2026-11-23T12:00:00Z"),
            dice: Dice::of(seed),
            state: Mutex::default(),
        };
        let busy = Self(Arc::new(inner));
        create_table(&busy.client(), TABLE, Stream::Off).await.unwrap();
        busy
    }

    /// Returns a store on the table, as one process of a function has it.
    #[must_use]
    pub fn store(&self, seed: u64) -> Store {
        let clock: Arc<dyn Clock> = Arc::new(self.0.clock.clone());
        Store::new(self.client(), TABLE, Sources::new(clock, Arc::new(Seeded::of(seed))))
    }

    /// Returns the counters.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.0.state().seen
    }

    /// Resets the counters.
    pub fn forget(&self) {
        self.0.state().seen = Seen::default();
    }

    fn client(&self) -> Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url("http://model")
            .http_client({
                let inner = Arc::clone(&self.0);
                answering_client(move |request| Arc::clone(&inner).answer(request))
            })
            .build();
        Client::from_conf(config)
    }
}

impl Inner {
    async fn answer(self: Arc<Self>, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        self.pass(WAY).await;
        let (status, body) = self.carry_out(&operation, body).await;
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&self.clock.now()).unwrap();
        self.pass(WAY).await;
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        response.headers_mut().insert("date", date);
        Ok(response)
    }

    async fn carry_out(&self, operation: &str, mut body: Value) -> (u16, String) {
        self.state().seen.requests += 1;
        match operation {
            "TransactWriteItems" => {
                let writes = body["TransactItems"].as_array().cloned().unwrap_or_default();
                let writes: Vec<Write> = writes.iter().map(Write::of_transaction).collect();
                body["ReturnConsumedCapacity"] = json!("INDEXES");
                self.transact(&writes, &body).await
            }
            "UpdateItem" | "PutItem" | "DeleteItem" => {
                body["ReturnConsumedCapacity"] = json!("INDEXES");
                self.write(&Write::of(&body), operation, &body).await
            }
            _ => {
                self.pass(READ).await;
                self.database.answer(operation, &body.to_string())
            }
        }
    }

    async fn transact(&self, writes: &[Write], body: &Value) -> (u16, String) {
        let refused = self.state().begin(writes);
        if let Some(reasons) = refused {
            self.pass(READ).await;
            return cancelled(&reasons);
        }
        self.pass(TRANSACTION).await;
        let (status, answer) = self.database.answer("TransactWriteItems", &body.to_string());
        let mut state = self.state();
        for write in writes {
            state.locked.remove(&write.item);
        }
        state.charge(writes, &answer);
        (status, answer)
    }

    async fn write(&self, write: &Write, operation: &str, body: &Value) -> (u16, String) {
        let refused = self.state().refuses(write);
        if let Some(kind) = refused {
            self.pass(READ).await;
            return failed(kind);
        }
        self.pass(WRITE).await;
        if self.state().is_locked(write) {
            return failed("TransactionConflictException");
        }
        let (status, answer) = self.database.answer(operation, &body.to_string());
        self.state().charge(std::slice::from_ref(write), &answer);
        (status, answer)
    }

    async fn pass(&self, (least, most): (u64, u64)) {
        tokio::time::sleep(Duration::from_micros(self.dice.between(least, most))).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The item of a write, and the index partition that it touches.
#[derive(Debug)]
struct Write {
    item: String,
    /// The partition of the index; absent if the write has no `Item`.
    index: Option<String>,
}

impl Write {
    fn of_transaction(action: &Value) -> Self {
        let kinds = ["Put", "Update", "Delete", "ConditionCheck"];
        Self::of(kinds.iter().map(|kind| &action[*kind]).find(|write| !write.is_null()).unwrap_or(action))
    }

    fn of(write: &Value) -> Self {
        let key = if write["Item"].is_null() { &write["Key"] } else { &write["Item"] };
        let text = |value: &Value| value["S"].as_str().map(str::to_owned);
        let item = format!("{}/{}", text(&key["pk"]).unwrap(), text(&key["sk"]).unwrap());
        Self { item, index: text(&write["Item"]["index_pk"]) }
    }
}

impl State {
    /// Locks the items of a transaction, or returns the cancellation reasons.
    fn begin(&mut self, writes: &[Write]) -> Option<Vec<&'static str>> {
        let mut reasons = Vec::new();
        for write in writes {
            // A partition admits a request before DynamoDB checks for conflicts.
            reasons.push(if self.is_worn_out(write) {
                "ThrottlingError"
            } else if self.locked.contains(&write.item) {
                "TransactionConflict"
            } else {
                "None"
            });
        }
        let conflicts = reasons.contains(&"TransactionConflict");
        if reasons.iter().any(|reason| *reason != "None") {
            self.seen.conflicts += u64::from(conflicts);
            self.seen.throttled += u64::from(!conflicts);
            // A transaction that was admitted and then cancelled consumes write units.
            for write in writes.iter().filter(|_| !reasons.contains(&"ThrottlingError")) {
                *self.left(write.item.clone()) -= CANCELLED_UNITS;
            }
            return Some(reasons);
        }
        self.locked.extend(writes.iter().map(|write| write.item.clone()));
        None
    }

    fn refuses(&mut self, write: &Write) -> Option<&'static str> {
        if self.is_locked(write) {
            return Some("TransactionConflictException");
        }
        let worn_out = self.is_worn_out(write);
        self.seen.throttled += u64::from(worn_out);
        worn_out.then_some("ProvisionedThroughputExceededException")
    }

    /// Returns whether a transaction holds the item of a write, and counts the conflict.
    fn is_locked(&mut self, write: &Write) -> bool {
        let locked = self.locked.contains(&write.item);
        self.seen.conflicts += u64::from(locked);
        locked
    }

    fn is_worn_out(&mut self, write: &Write) -> bool {
        let index = write.index.as_ref().map(|index| format!("index {index}"));
        [Some(write.item.clone()), index].into_iter().flatten().any(|partition| *self.left(partition) <= 0.0)
    }

    /// Returns the write units that a partition has left now.
    fn left(&mut self, partition: String) -> &mut f64 {
        let now = Instant::now();
        let (left, at) = self.partitions.entry(partition).or_insert((BURST_UNITS, None));
        let passed = at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        *left = (*left + passed * UNITS_A_SECOND).min(BURST_UNITS);
        *at = Some(now);
        left
    }

    /// Subtracts the cost of a write from its partitions. The cost of a transaction is spread evenly over its items.
    fn charge(&mut self, writes: &[Write], answer: &str) {
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let capacity = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.first().cloned().unwrap_or_default(),
            one => one.clone(),
        };
        let units = |value: &Value| value["CapacityUnits"].as_f64().unwrap_or_default();
        let (all, table) = (units(&capacity), units(&capacity["Table"]));
        self.seen.write_units += all;
        let listed: Vec<&Write> = writes.iter().filter(|write| write.index.is_some()).collect();
        for write in writes {
            *self.left(write.item.clone()) -= table / writes.len() as f64;
        }
        for write in &listed {
            let index = format!("index {}", write.index.as_deref().unwrap_or_default());
            *self.left(index) -= (all - table) / listed.len() as f64;
        }
    }
}

fn cancelled(reasons: &[&str]) -> (u16, String) {
    let reasons: Vec<Value> = reasons.iter().map(|code| json!({ "Code": code })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled", "CancellationReasons": reasons,
    });
    (400, body.to_string())
}

fn failed(kind: &str) -> (u16, String) {
    let body = json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": "no" });
    (400, body.to_string())
}
