//! What calls request and write, counted on a local stack with the deployed functions.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use credits_aws::telemetry;
use credits_local::database::Stream;
use credits_local::{Options, Stack};
use model::items::{TableItem, every_item, of_kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::settings::Settings;

/// A log writer that counts lines and bytes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The capacity, the log lines and the metrics of one call or invocation.
#[derive(Debug, Clone, Default)]
pub struct Use {
    pub write_units: f64,
    pub read_units: f64,
    pub lines: f64,
    /// With 26 bytes that `CloudWatch` adds to each line.
    pub log_bytes: f64,
    /// The metrics in the lines, with their dimensions.
    pub metrics: BTreeSet<String>,
}

/// Everything that is counted.
pub struct Counts {
    pub debit: Use,
    pub replay: Use,
    pub refusal: Use,
    /// A refusal by an instance that knows the balance from an earlier one.
    pub further_refusal: Use,
    /// The count of one debit of a workspace, and of each further one in the same batch.
    pub usage: Use,
    pub further_usage: Use,
    pub sweep: Use,
    pub check: Use,
    pub digest: Use,
    /// The bytes that a debit leaves in the table and in the index.
    pub table_bytes: f64,
    pub index_bytes: f64,
    /// API Gateway's line of a call.
    pub access_bytes: f64,
}

/// The bytes that `CloudWatch` adds to each line.
const LINE_OVERHEAD: f64 = 26.0;
/// The bytes that DynamoDB adds to each stored item, in the table and in the index.
const ITEM_OVERHEAD: f64 = 100.0;
/// An id of a request, as API Gateway makes it.
const REQUEST_ID: &str = "JKJaXmPLvHcESHA=";
const WORKSPACE: &str = "workspace-0001";

struct Bench {
    stack: Stack,
    http: reqwest::Client,
    lines: Lines,
    token: String,
}

impl Bench {
    async fn start() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        telemetry::log_to(move || writer.clone());
        telemetry::collect("ai-credits-prod").unwrap();
        let begins_at = Some("2026-11-15T12:00:00Z".parse().unwrap());
        let options = Options { stream: Stream::Held, begins_at, ..Options::default() };
        let stack = Stack::start(&options).await.unwrap();
        let token = stack.token("*", "credits:spend credits:read credits:manage").unwrap();
        Self { stack, http: reqwest::Client::new(), lines, token }
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> u16 {
        let path = format!("/v1/workspaces/{WORKSPACE}{path}");
        let method = if path.ends_with(WORKSPACE) { Method::PUT } else { Method::POST };
        self.stack.call((method, &path), &self.token, key, Some(body)).await.unwrap().0
    }

    async fn debit(&self, key: &str) -> u16 {
        let consumer = json!({ "kind": "workflow_step", "workflow_id": "lead-enrichment",
            "run_id": "run-0123456789abcdef", "step_id": "step-1" });
        let body = json!({ "operation": "text.generate", "model": "standard", "consumer": consumer,
            "units": { "input_tokens": 1_200, "output_tokens": 800 } });
        self.post("/debits", key, &body).await
    }

    /// Debits more than there is. A refused step of a workflow would also look for its run.
    async fn overspend(&self, key: &str) -> u16 {
        let consumer = json!({ "kind": "action", "feature": "assistant", "user_id": "ada" });
        let body = json!({ "operation": "text.generate", "credits": "900000", "consumer": consumer });
        self.post("/debits", key, &body).await
    }

    async fn requests(&self, method: Method) -> Value {
        let url = format!("{}/_local/requests", self.stack.url());
        self.http.request(method, url).send().await.unwrap().json().await.unwrap()
    }

    /// Counts what a future does.
    async fn count<T>(&self, of: impl Future<Output = T>) -> (T, Use) {
        let of = Box::pin(of);
        telemetry::flush_to(std::io::sink());
        self.lines.0.lock().unwrap().clear();
        self.requests(Method::DELETE).await;
        let done = of.await;
        let requests = self.requests(Method::GET).await;
        telemetry::flush_to(self.lines.clone());
        let logged = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
        let mut used = Use::default();
        for request in requests.as_array().unwrap() {
            used.write_units += request["write_units"].as_f64().unwrap();
            used.read_units += request["read_units"].as_f64().unwrap();
            if request["operation"] == "TransactWriteItems" && request["write_units"].as_f64() == Some(0.0) {
                // A cancelled transaction reports no capacity, and consumes that of its two items.
                used.write_units += 4.0;
            }
        }
        // The embedded database is in the same process, and logs its errors.
        for line in logged.lines().filter(|line| !line.contains("\"error response\"")) {
            let document: Value = serde_json::from_str(line).unwrap();
            let local_id = document["request_id"].as_str().unwrap_or(REQUEST_ID);
            used.lines += 1.0;
            used.log_bytes += line.replace(local_id, REQUEST_ID).len() as f64 + LINE_OVERHEAD;
            used.metrics.extend(metrics_of(line));
        }
        (done, used)
    }

    /// Delivers the records of balances from the `from`th one, in one batch. Returns the number of all.
    async fn deliver(&self, from: usize) -> usize {
        let records = self.stack.records(None).unwrap().0;
        let of_balance =
            |record: &&Value| record["dynamodb"]["Keys"]["pk"]["S"] == format!("balance#{WORKSPACE}");
        let records: Vec<Value> = records.iter().filter(of_balance).cloned().collect();
        let batch: Vec<&Value> = records.iter().skip(from).collect();
        let answer = self.stack.fire("project", json!({ "Records": batch })).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]));
        records.len()
    }
}

/// Returns the metrics of a line in `CloudWatch`'s embedded format.
fn metrics_of(line: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(line).unwrap();
    let directives = document["_aws"]["CloudWatchMetrics"].as_array().cloned().unwrap_or_default();
    let mut names = Vec::new();
    for directive in directives {
        let dimensions = directive["Dimensions"][0].as_array().cloned().unwrap_or_default();
        let others = dimensions.iter().filter_map(Value::as_str).filter(|name| *name != "Stack");
        let of: Vec<String> = others.map(|name| document[name].to_string()).collect();
        names.extend(
            directive["Metrics"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| format!("{} {}", it["Name"], of.join(" ")).trim_end().to_owned()),
        );
    }
    names
}

/// Returns an upper bound of an item's size, of the attributes that `kept` admits.
fn bytes_of(item: &TableItem, kept: impl Fn(&str) -> bool) -> f64 {
    let sized = item.iter().filter(|(name, _)| kept(name)).map(|(name, value)| name.len() + size_of(value));
    sized.sum::<usize>() as f64 + ITEM_OVERHEAD
}

fn size_of(value: &aws_sdk_dynamodb::types::AttributeValue) -> usize {
    use aws_sdk_dynamodb::types::AttributeValue as Value;
    match value {
        Value::S(text) => text.len(),
        Value::N(digits) => digits.len() / 2 + 2,
        Value::B(bytes) => bytes.as_ref().len(),
        Value::L(list) => 3 + list.iter().map(|value| 1 + size_of(value)).sum::<usize>(),
        Value::M(map) => 3 + map.iter().map(|(name, value)| 1 + name.len() + size_of(value)).sum::<usize>(),
        _ => 1,
    }
}

impl Counts {
    pub async fn of_a_stack(settings: &Settings) -> Self {
        let bench = Bench::start().await;
        let profile = json!({ "name": "Acme", "plan": "free", "billing_email": "billing@acme.example" });
        assert_eq!(bench.post("", "put", &profile).await, 201);
        let grant = json!({ "credits": "1000", "kind": "prepaid", "reason": "welcome" });
        assert_eq!(bench.post("/grants", "grant", &grant).await, 201);
        assert_eq!(bench.debit("first").await, 201);
        // The month's first count also lists it for the audit.
        let begun = bench.deliver(0).await;
        let (status, debit) = bench.count(bench.debit("k-0123456789abcdef")).await;
        assert!(status == 201 && debit.lines < 2.0, "one line a debit: {debit:?}");
        let (counted, usage) = bench.count(bench.deliver(begun)).await;
        let (status, replay) = bench.count(bench.debit("k-0123456789abcdef")).await;
        assert_eq!((status, counted), (200, begun + 1));
        for key in ["one", "two"] {
            bench.debit(key).await;
        }
        let (_, two) = bench.count(bench.deliver(counted)).await;
        let (status, refusal) = bench.count(bench.overspend("much")).await;
        let (further_status, further_refusal) = bench.count(bench.overspend("again")).await;
        assert_eq!((status, further_status), (402, 402));
        assert!(
            further_refusal.write_units == 0.0 && further_refusal.read_units <= 2.0,
            "{further_refusal:?}"
        );
        let (_, sweep) = bench.count(bench.stack.fire("renewal", json!({ "schedule": "sweep" }))).await;
        let (_, check) = bench.count(bench.stack.fire("project", json!({ "schedule": "checks" }))).await;
        let (_, digest) = bench.count(bench.stack.fire("notify", json!({ "schedule": "digests" }))).await;
        let items = every_item(&bench.stack).await;
        let one = format!("entry#{WORKSPACE}#key#one");
        let entry = of_kind(&items, &one).next().unwrap();
        let indexed = |name: &str| ["pk", "sk", "index_pk", "index_sk", "credits", "detail"].contains(&name);
        let access = settings.access_log.replace("$context.requestId", REQUEST_ID);
        let access = access.replace("$context.routeKey", "POST /v1/workspaces/{workspace_id}/debits");
        let access = access.replace("$context.status", "201").replace("$context.responseLatency", "12");
        let access = access.replace("$context.error.message", "-");
        Self {
            further_usage: Use {
                write_units: two.write_units - usage.write_units,
                read_units: two.read_units - usage.read_units,
                ..Use::default()
            },
            table_bytes: bytes_of(entry, |_| true),
            index_bytes: bytes_of(entry, indexed),
            access_bytes: access.len() as f64 + LINE_OVERHEAD,
            debit,
            replay,
            refusal,
            further_refusal,
            usage,
            sweep,
            check,
            digest,
        }
    }
}
