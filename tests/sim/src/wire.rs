//! The connection from the functions to the table. Requests on it are lost, delayed or refused, or their responses are
//! lost.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use credits_aws::intercept::answering_client;
use credits_store::Clock as _;
use jiff::SignedDuration;
use jiff::fmt::rfc2822::DateTimePrinter;
use model::VirtualClock;
use serde_json::{Value, json};

use crate::bugs::{Bugs, Wrong};
use crate::call::CALL;
use crate::faults::{Faults, WireFault};
use crate::item::{number, text};
use crate::table::{Key, NAME, SimTable, Stored, keys_of};
use crate::timeline::{Timeline, TimelineEvent};
use crate::trace::SimTrace;

/// The connection of one function. It injects faults unless it is the onlooker's.
#[derive(Debug, Clone)]
pub struct SimWire {
    pub function: &'static str,
    /// Whether the connection has no faults and no latency.
    pub onlooker: bool,
    /// Whether writes are delayed, so that they are based on old reads.
    pub slow: bool,
    /// The state that all connections share.
    pub ground: Arc<Ground>,
}

/// The state that all connections share.
#[derive(Debug)]
pub struct Ground {
    pub table: SimTable,
    pub faults: Faults,
    pub clock: VirtualClock,
    /// The scheduled events.
    pub timeline: Timeline,
    pub trace: SimTrace,
    pub bugs: Bugs,
}

type Answered = Result<(u16, String), ConnectorError>;

impl SimWire {
    /// Returns the connection as a client of the SDK.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        let wire = self.clone();
        answering_client(move |request| wire.clone().answer(request, CALL.try_with(|number| *number).ok()))
    }

    async fn answer(self, request: HttpRequest, by: Option<u64>) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let (status, body) = self.send(&operation, body, by).await?;
        let fast = SignedDuration::from_mins(if self.ground.bugs.is(Wrong::FastClock) { 15 } else { 0 });
        let now = self.ground.clock.now() + fast;
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        response.headers_mut().insert("date", date);
        Ok(response)
    }

    async fn send(&self, operation: &str, body: Value, by: Option<u64>) -> Answered {
        let Ground { table, bugs, .. } = &*self.ground;
        if self.onlooker {
            return Ok(table.carry_out(operation, &body, by));
        }
        let body = bugs.in_request(body);
        let keys = keys_of(operation, &body);
        let answered = if keys.is_empty() {
            self.read(operation, &body, by).await?
        } else {
            match self.write(operation, &body, keys, by).await {
                Err(_) if bugs.is(Wrong::NoAnswerIsSuccess) => (200, "{}".to_owned()),
                answered => answered?,
            }
        };
        Ok(bugs.in_answer(answered))
    }

    async fn read(&self, operation: &str, body: &Value, by: Option<u64>) -> Answered {
        let Ground { table, faults, .. } = &*self.ground;
        self.before(operation, "").await?;
        self.pass(2_000, 4_000).await;
        let consistent = body["ConsistentRead"] == true || operation == "BatchGetItem";
        if !consistent && faults.strikes(WireFault::Stale) {
            let behind = SignedDuration::from_millis(faults.between(1, 2_000) as i64);
            return Ok(table.read_behind(operation, body, behind));
        }
        Ok(table.carry_out(operation, body, by))
    }

    /// Sends a write in a task of its own: it still arrives if its invocation is dropped.
    async fn write(&self, operation: &str, body: &Value, keys: Vec<Key>, by: Option<u64>) -> Answered {
        let (wire, operation, body) = (self.clone(), operation.to_owned(), body.clone());
        tokio::spawn(async move { wire.deliver(&operation, &body, keys, by).await }).await.unwrap()
    }

    async fn deliver(&self, operation: &str, body: &Value, keys: Vec<Key>, by: Option<u64>) -> Answered {
        let Ground { table, faults, bugs, .. } = &*self.ground;
        let what = named(&keys);
        if self.slow {
            self.pass(20_000, 8_000_000).await;
        }
        self.before(operation, &what).await?;
        if faults.strikes(WireFault::Throttled) {
            self.note(operation, &what, "throttled");
            return Ok(failed("ProvisionedThroughputExceededException"));
        }
        if faults.strikes(WireFault::Conflict) {
            self.note(operation, &what, "meets a conflict");
            let met: Vec<bool> = keys.iter().map(|_| faults.between(0, 1) == 0).collect();
            return Ok(conflict(operation, &met));
        }
        let read = table.item(&keys[0]);
        if bugs.is(Wrong::GetThenPut) {
            self.pass(5_000, 10_000).await;
        }
        if let Err(met) = table.lock(&keys) {
            self.note(operation, &what, "meets another transaction");
            return Ok(conflict(operation, &met));
        }
        self.carry_out(operation, body, (&keys, &what, read), by).await
    }

    /// Commits a write, changed by the planted bug if there is one.
    async fn commit(
        &self,
        operation: &str,
        body: &Value,
        read: Option<Stored>,
        by: Option<u64>,
    ) -> (u16, String) {
        let Ground { table, bugs, .. } = &*self.ground;
        if let Some(reversed) = bugs.apart().filter(|_| operation == "TransactWriteItems") {
            return self.commit_apart(body, reversed, by).await;
        }
        let before = read.as_ref().and_then(|read| table.item(&key_of_item(read)));
        let (status, answer) = table.carry_out(operation, body, by);
        if let (Some(read), Some(before), 200) = (read, before, status)
            && bugs.is(Wrong::GetThenPut)
            && let Some(mut item) = table.item(&key_of_item(&read)).map(|item| Value::clone(&item))
        {
            for name in ["spendable", "used", "prepaid", "held"].iter().filter(|name| read[name].is_object())
            {
                let put = number(&read, name) + number(&item, name) - number(&before, name);
                item[name] = json!({ "N": put.to_string() });
            }
            let put = json!({ "TableName": NAME, "Item": item });
            table.carry_out("PutItem", &put, by);
        }
        (status, answer)
    }

    async fn commit_apart(&self, body: &Value, reversed: bool, by: Option<u64>) -> (u16, String) {
        let Ground { table, faults, .. } = &*self.ground;
        let items = body["TransactItems"].as_array().unwrap();
        let mut order: Vec<usize> = (0..items.len()).collect();
        if reversed {
            order.reverse();
        }
        for place in order {
            let one = json!({ "TransactItems": [items[place]] });
            let (status, answer) = table.carry_out("TransactWriteItems", &one, by);
            if status != 200 {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let mut reasons = vec![json!({ "Code": "None" }); items.len()];
                reasons[place] = answer["CancellationReasons"][0].clone();
                return cancelled(&reasons);
            }
            if faults.strikes(WireFault::Crash) {
                return (500, "{}".to_owned());
            }
            self.pass(2_000, 6_000).await;
        }
        (200, "{}".to_owned())
    }

    async fn carry_out(
        &self,
        operation: &str,
        body: &Value,
        (keys, what, read): (&[Key], &str, Option<Stored>),
        by: Option<u64>,
    ) -> Answered {
        let Ground { table, faults, timeline, clock, .. } = &*self.ground;
        self.pass(3_000, 12_000).await;
        let (status, mut answer) = self.commit(operation, body, read, by).await;
        table.unlock(keys);
        self.note(operation, what, if status == 200 { "is written" } else { "is refused" });
        if faults.strikes(WireFault::AnswerLost) {
            self.note(operation, what, "the answer is lost");
            return Err(self.lost().await);
        }
        if faults.strikes(WireFault::ServerError) {
            self.note(operation, what, "is answered with 500 after the commit");
            return Ok((500, json!({ "message": "internal" }).to_string()));
        }
        let token = body["ClientRequestToken"].is_string();
        if status == 200 && token && faults.strikes(WireFault::Duplicated) {
            let at = clock.now() + SignedDuration::from_mins(faults.between(11, 60) as i64);
            timeline.put(at, TimelineEvent::Request { operation: operation.to_owned(), body: body.clone() });
        }
        if status != 200 && faults.strikes(WireFault::MixedReasons) {
            answer = mixed(&answer);
            self.note(operation, what, "reasons are mixed");
        }
        self.pass(300, 800).await;
        Ok((status, answer))
    }

    async fn before(&self, operation: &str, what: &str) -> Result<(), ConnectorError> {
        let faults = &self.ground.faults;
        self.pass(300, 800).await;
        if faults.strikes(WireFault::Delayed) {
            self.note(operation, what, "is delayed");
            // One request in five may arrive after its sender has given up.
            let most = if faults.between(1, 5) == 1 { 10_000_000 } else { 2_000_000 };
            self.pass(20_000, most).await;
        }
        if faults.strikes(WireFault::RequestLost) {
            self.note(operation, what, "is lost");
            return Err(self.lost().await);
        }
        Ok(())
    }

    /// Returns the error of a broken connection, at once or after five seconds.
    async fn lost(&self) -> ConnectorError {
        if self.ground.faults.between(0, 1) == 0 {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        ConnectorError::io("the connection broke".into())
    }

    async fn pass(&self, least: u64, most: u64) {
        tokio::time::sleep(Duration::from_micros(self.ground.faults.between(least, most))).await;
    }

    fn note(&self, operation: &str, what: &str, fate: &str) {
        self.ground.trace.line(&format!("  {}: {operation} of {what} {fate}", self.function));
    }
}

fn named(keys: &[Key]) -> String {
    keys.iter().map(|(pk, _)| pk.as_str()).collect::<Vec<_>>().join(" + ")
}

fn failed(kind: &str) -> (u16, String) {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{kind}");
    (400, json!({ "__type": kind, "message": "no" }).to_string())
}

fn conflict(operation: &str, met: &[bool]) -> (u16, String) {
    if operation != "TransactWriteItems" {
        return failed("TransactionConflictException");
    }
    let mut reasons: Vec<Value> =
        met.iter().map(|met| json!({ "Code": if *met { "TransactionConflict" } else { "None" } })).collect();
    if !met.contains(&true) {
        reasons[0] = json!({ "Code": "TransactionConflict" });
    }
    cancelled(&reasons)
}

fn cancelled(reasons: &[Value]) -> (u16, String) {
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    (400, json!({ "__type": kind, "Message": "cancelled", "CancellationReasons": reasons }).to_string())
}

fn key_of_item(item: &Value) -> Key {
    (text(item, "pk").to_owned(), text(item, "sk").to_owned())
}

/// Adds conflicts to the cancellation reasons: for each item without a reason, and for each failed condition but the
/// first.
fn mixed(answer: &str) -> String {
    let mut answer: Value = serde_json::from_str(answer).unwrap();
    let mut failed = 0;
    for reason in answer["CancellationReasons"].as_array_mut().into_iter().flatten() {
        failed += u32::from(reason["Code"] == "ConditionalCheckFailed");
        if reason["Code"] == "None" || reason["Code"].is_null() || failed > 1 {
            *reason = json!({ "Code": "TransactionConflict" });
        }
    }
    answer.to_string()
}
