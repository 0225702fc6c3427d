//! A store on a stack's table, with clocks and a connection that the test controls.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use credits_aws::connection::loopback_client;
use credits_aws::intercept::intercepting_client;
use credits_store::{Clock, Randomness, Sources, Store};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::world::World;

/// What happens to a write.
#[derive(Debug, Clone)]
pub enum TableFault {
    /// The table executes it and answers.
    Pass,
    /// It does not reach the table. The caller gets this status and body.
    Answers(u16, String),
    /// The table executes it, and the answer is lost.
    AnswerLost,
    /// It does not reach the table, and the caller gets no answer.
    RequestLost,
    /// It reaches the table once the test notifies it.
    Waits(Arc<Notify>),
}

/// Returns a fault that cancels a transaction with these reasons, in DynamoDB's form.
pub fn cancelled(codes: &[&str]) -> TableFault {
    let reasons: Vec<_> = codes.iter().map(|code| serde_json::json!({ "Code": code })).collect();
    let body = serde_json::json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled", "CancellationReasons": reasons,
    });
    TableFault::Answers(400, body.to_string())
}

/// Returns a fault that answers an error of the whole request, in DynamoDB's form.
pub fn failed(status: u16, kind: &str) -> TableFault {
    let body =
        serde_json::json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": "no" });
    TableFault::Answers(status, body.to_string())
}

/// Two clocks that stand still until they are set.
#[derive(Debug, Clone)]
pub struct Clocks {
    pub function: Arc<TestClock>,
    /// Sets the header `Date` of DynamoDB's answers.
    pub database: Arc<TestClock>,
}

#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_second(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A counter in place of randomness: ids differ, and the jitter is zero, so that no retry waits.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Randomness for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
        if bytes.len() > 8 {
            let count = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
            let at = bytes.len() - 8;
            bytes[at..].copy_from_slice(&count);
        }
    }
}

/// A store on the stack's table, whose clocks and faults the test controls.
pub struct Table {
    pub store: Store,
    pub clocks: Clocks,
    /// What happens to the next writes, in order.
    pub faults: Arc<Mutex<Vec<TableFault>>>,
    /// The bodies of all `TransactWriteItems` and `UpdateItem` requests so far.
    pub transactions: Arc<Mutex<Vec<String>>>,
}

impl Table {
    pub fn of(world: &World) -> Self {
        let clocks = Clocks { function: Arc::default(), database: Arc::default() };
        let faults: Arc<Mutex<Vec<TableFault>>> = Arc::default();
        let transactions: Arc<Mutex<Vec<String>>> = Arc::default();
        let commands = Commands {
            date: Arc::clone(&clocks.database),
            faults: Arc::clone(&faults),
            transactions: Arc::clone(&transactions),
        };
        let http = intercepting_client(loopback_client(), move |request, inner| {
            commands.clone().pass(request, inner)
        });
        let config = world.stack.client().config().to_builder().http_client(http).build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        let clock: Arc<dyn Clock> = clocks.function.clone();
        let store =
            Store::new(client, world.stack.table(), Sources::new(clock, Arc::new(Counting::default())));
        let table = Self { store, clocks, faults, transactions };
        table.at("2026-11-23T12:00:00Z");
        table
    }

    /// Sets both clocks to an instant.
    pub fn at(&self, instant: &str) -> Timestamp {
        let instant = instant.parse().unwrap();
        self.clocks.function.set(instant);
        self.clocks.database.set(instant);
        instant
    }

    /// Moves both clocks ahead.
    pub fn pass(&self, time: SignedDuration) {
        for clock in [&self.clocks.function, &self.clocks.database] {
            clock.set(clock.now() + time);
        }
    }

    /// Sets what happens to the next writes, in order. Later writes pass.
    pub fn suffers(&self, faults: impl IntoIterator<Item = TableFault>) {
        *self.faults.lock().unwrap() = faults.into_iter().collect();
    }

    /// Returns the number of writes so far.
    pub fn transactions(&self) -> usize {
        self.transactions.lock().unwrap().len()
    }
}

/// What the connection to the table does to requests.
#[derive(Clone)]
struct Commands {
    date: Arc<TestClock>,
    faults: Arc<Mutex<Vec<TableFault>>>,
    transactions: Arc<Mutex<Vec<String>>>,
}

impl Commands {
    async fn pass(
        self,
        request: HttpRequest,
        inner: SharedHttpConnector,
    ) -> Result<HttpResponse, ConnectorError> {
        let write = request
            .headers()
            .get("x-amz-target")
            .is_some_and(|target| target.ends_with("TransactWriteItems") || target.ends_with("UpdateItem"));
        let fault = write.then(|| self.next_fault(&request)).flatten();
        let lost = || ConnectorError::io("the connection broke".into());
        match fault {
            Some(TableFault::Answers(status, body)) => {
                return Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)));
            }
            Some(TableFault::RequestLost) => return Err(lost()),
            Some(TableFault::AnswerLost) => return inner.call(request).await.and(Err(lost())),
            Some(TableFault::Waits(notified)) => notified.notified().await,
            Some(TableFault::Pass) | None => {}
        }
        let mut response = inner.call(request).await?;
        response.headers_mut().insert("date", http_date(self.date.now()));
        Ok(response)
    }

    fn next_fault(&self, request: &HttpRequest) -> Option<TableFault> {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        self.transactions.lock().unwrap().push(body);
        let mut faults = self.faults.lock().unwrap();
        (!faults.is_empty()).then(|| faults.remove(0))
    }
}

fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
}
