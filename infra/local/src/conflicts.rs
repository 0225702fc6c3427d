//! Conflicts of transactions, which the embedded database does not have: it executes one request after the other.
//!
//! As in `DynamoDB`, a transaction holds its items for a few milliseconds. Another transaction or write on one of them is
//! cancelled (Developer Guide, Transaction conflict handling). So a busy workspace behaves as it does when it is deployed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use credits_store::Sources;
use serde_json::{Value, json};

/// How long a transaction holds its items, in milliseconds: from 6 to 12, as others have measured.
const HELD_MILLIS: u64 = 6;
const HELD_LONGER_MILLIS: u64 = 6;

/// Whether transactions conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflicts {
    #[default]
    Off,
    On,
}

/// The items that transactions hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldItems(Arc<Mutex<HashSet<String>>>);

/// The items of one transaction. Dropping it releases them, also if the invocation dies.
struct HeldByTransaction {
    all: HeldItems,
    keys: Vec<String>,
}

impl HeldItems {
    /// Holds the items of a transaction for its time, before the database executes it. Returns the response for a request
    /// that meets another transaction.
    pub async fn pass(&self, operation: &str, body: &Value, sources: &Sources) -> Option<HttpResponse> {
        let keys = keys_of(operation, body);
        let is_transaction = operation == "TransactWriteItems";
        {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let met: Vec<bool> = keys.iter().map(|key| held.contains(key)).collect();
            if met.contains(&true) {
                return Some(if is_transaction { cancelled(&met) } else { refused() });
            }
            if !is_transaction {
                return None;
            }
            held.extend(keys.iter().cloned());
        }
        let _held = HeldByTransaction { all: self.clone(), keys };
        let millis = HELD_MILLIS.saturating_add(sources.below(HELD_LONGER_MILLIS));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        None
    }
}

impl Drop for HeldByTransaction {
    fn drop(&mut self) {
        let mut held = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            held.remove(key);
        }
    }
}

/// Returns the keys of the items that a request writes or checks.
fn keys_of(operation: &str, body: &Value) -> Vec<String> {
    match operation {
        "TransactWriteItems" => {
            let actions = body["TransactItems"].as_array().into_iter().flatten();
            actions.filter_map(|action| Some(key_of(action.as_object()?.values().next()?))).collect()
        }
        "PutItem" | "UpdateItem" | "DeleteItem" => vec![key_of(body)],
        _ => Vec::new(),
    }
}

fn key_of(write: &Value) -> String {
    let key = if write["Item"].is_null() { &write["Key"] } else { &write["Item"] };
    format!("{}/{}", key["pk"]["S"], key["sk"]["S"])
}

fn cancelled(met: &[bool]) -> HttpResponse {
    let code = |met: &bool| json!({ "Code": if *met { "TransactionConflict" } else { "None" } });
    let reasons: Vec<Value> = met.iter().map(code).collect();
    response(&json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled", "CancellationReasons": reasons,
    }))
}

fn refused() -> HttpResponse {
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionConflictException";
    response(&json!({ "__type": kind, "message": "Transaction is ongoing for the item" }))
}

fn response(body: &Value) -> HttpResponse {
    let status = StatusCode::try_from(400).unwrap_or_else(|_| unreachable!("400 is a status"));
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
