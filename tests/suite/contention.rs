//! Conflicts, throttles and lost answers, which no emulator produces. The wire of [`Table`] injects them below the real
//! function and the real SDK.

use std::sync::Arc;
use std::time::Duration;

use credits_core::batch::PricedCall;
use credits_core::hold::Purpose;
use credits_core::ledger::Cause;
use credits_core::metadata::Metadata;
use credits_core::rate_card::PriceVersion;
use credits_core::top_up_page::TopUpPage;
use credits_runtime::event::HttpEvent;
use credits_runtime::start::respond;
use credits_runtime::{TopUpUrl, catalogue};
use credits_store::debits::DebitRefusal;
use credits_store::{Claim, Fault as StoreFault, Fingerprint};
use serde_json::{Value, json};

use crate::table::{Table, TableFault, cancelled, failed};
use crate::world::{World, consumer, taking};

/// Debits through the store, under a key.
async fn debit(
    table: &Table,
    key: &str,
    credits: &str,
) -> Result<credits_store::debits::Posted, DebitRefusal> {
    let claim = claim(key, credits);
    table.store.debits().debit(&claim, credits.parse().unwrap(), cause()).await
}

pub fn claim(key: &str, payload: &str) -> Claim {
    Claim {
        workspace_id: "acme".parse().unwrap(),
        key: key.parse().unwrap(),
        fingerprint: Fingerprint::of(&[payload.as_bytes()]),
    }
}

/// Returns the cause of a debit of one credit for a consumer.
pub fn call_cause(consumer: Value) -> Cause {
    let consumer = serde_json::from_value(consumer).unwrap();
    let call = PricedCall::stated("text.generate".parse().unwrap(), consumer, "1".parse().unwrap());
    Cause::debit(call, PriceVersion::of("v1".parse().unwrap()))
}

/// Returns the purpose of a hold of the test's consumer.
pub fn purpose() -> Purpose {
    Purpose {
        operation: "text.generate".parse().unwrap(),
        priced_by: PriceVersion::of("v1".parse().unwrap()),
        consumer: serde_json::from_value(consumer()).unwrap(),
        metadata: Metadata::default(),
    }
}

pub fn cause() -> Cause {
    call_cause(consumer())
}

/// Debits through the function, called as API Gateway calls it. Returns the status, the body and `Retry-After`.
async fn call(table: &Table, key: &str, credits: &str, time: Duration) -> (i64, Value, Option<String>) {
    call_with(table, key, &taking(credits), time).await
}

/// Debits through the function for a consumer.
pub async fn call_as(
    table: &Table,
    key: &str,
    credits: &str,
    consumer: &Value,
) -> (i64, Value, Option<String>) {
    let mut body = taking(credits);
    body["consumer"] = consumer.clone();
    call_with(table, key, &body, LONG).await
}

async fn call_with(table: &Table, key: &str, body: &Value, time: Duration) -> (i64, Value, Option<String>) {
    let function = debit_function(table);
    let event: HttpEvent = serde_json::from_value(json!({
        "routeKey": "POST /v1/workspaces/{workspace_id}/debits",
        "rawPath": "/v1/workspaces/acme/debits",
        "headers": { "content-type": "application/json", "idempotency-key": key },
        "pathParameters": { "workspace_id": "acme" },
        "requestContext": {
            "authorizer": { "jwt": { "claims": { "scope": "credits:spend", "workspace": "acme" } } },
            "http": { "method": "POST" }, "timeEpoch": 0,
        },
        "body": body.to_string(), "isBase64Encoded": false,
    }))
    .unwrap();
    let response = respond(&function, event, tokio::time::Instant::now() + time).await;
    let body = match response.body {
        Some(aws_lambda_events::encodings::Body::Text(text)) => serde_json::from_str(&text).unwrap(),
        other => panic!("expected a text body, not {other:?}"),
    };
    let retry_after = response.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status_code, body, retry_after)
}

fn debit_function(table: &Table) -> debit::DebitFunction {
    debit::DebitFunction::new(
        table.store.clone(),
        Arc::new(catalogue::deployed().unwrap()),
        TopUpUrl::new(Some(TopUpPage::at("https://hub.test".into()))),
    )
}

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_beside_a_failed_condition_is_retried() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    for busy in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
        for codes in [["ConditionalCheckFailed", busy], [busy, "ConditionalCheckFailed"], [busy, "None"]] {
            table.suffers([cancelled(&codes), cancelled(&codes)]);
            let key = format!("{busy}-{}", codes.join("-"));
            let (status, body, _) = call(&table, &key, "1", LONG).await;
            assert_eq!(status, 201, "{codes:?}: {body}");
        }
    }
    assert_eq!(world.available("acme").await, "991");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_or_failing_table_is_retried() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.suffers([
        failed(400, "ThrottlingException"),
        failed(400, "ProvisionedThroughputExceededException"),
        failed(400, "RequestLimitExceeded"),
        failed(400, "TransactionInProgressException"),
        failed(500, "InternalServerError"),
        failed(503, "ServiceUnavailable"),
        TableFault::RequestLost,
    ]);
    let (status, body, _) = call(&table, "k", "1", LONG).await;
    assert_eq!((status, &body["credits"]), (201, &json!("1")));
    assert_eq!((table.transactions(), world.available("acme").await.as_str()), (8, "999"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_60_attempts_the_answer_is_503() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 100));
    let (status, body, retry_after) = call(&table, "k", "1", LONG).await;
    assert_eq!((status, body["code"].as_str(), retry_after.as_deref()), (503, Some("contended"), Some("1")));
    // Beside these, the call has tried twenty times to open lanes.
    let debits = table.transactions.lock().unwrap().iter().filter(|body| body.contains("entry#acme")).count();
    assert_eq!(debits, 60);
    table.suffers(std::iter::repeat_n(TableFault::RequestLost, 100));
    let (status, body, retry_after) = call(&table, "k", "1", LONG).await;
    assert_eq!(
        (status, body["code"].as_str(), retry_after.as_deref()),
        (503, Some("unavailable"), Some("5"))
    );
    table.suffers([]);
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(call(&table, "k", "1", LONG).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_starts_beyond_the_deadline() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.suffers([cancelled(&["TransactionConflict", "None"])]);
    let (status, body, _) = call(&table, "k", "1", Duration::from_millis(200)).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("contended")));
    assert_eq!(table.transactions(), 1);
}

/// The retry finds the entry of the first attempt. The caller gets 201, since no earlier call made the debit.
#[tokio::test(flavor = "multi_thread")]
async fn a_debit_with_a_lost_answer_is_made_once_and_answers_201() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.suffers([TableFault::AnswerLost]);
    let (status, _, _) = call(&table, "k", "1", LONG).await;
    assert_eq!((status, table.transactions()), (201, 2));
    assert_eq!(call(&table, "k", "1", LONG).await.0, 200);
    assert_eq!(world.available("acme").await, "999");
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_and_access_errors_are_faults_and_not_refusals() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    for fault in [
        cancelled(&["ValidationError", "None"]),
        failed(400, "ValidationException"),
        failed(400, "AccessDeniedException"),
    ] {
        table.suffers([fault]);
        let refused = debit(&table, "k", "1").await;
        assert!(matches!(
            refused,
            Err(DebitRefusal::Fault(StoreFault::Corrupt(_) | StoreFault::Unavailable(_)))
        ));
    }
    let (status, body, _) = {
        table.suffers([cancelled(&["ValidationError"])]);
        call(&table, "k", "1", LONG).await
    };
    assert_eq!((status, body["code"].as_str()), (503, Some("unavailable")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_is_one_transaction_of_a_balance_and_an_entry() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    debit(&table, "run-1", "3.4").await.unwrap();
    let sent: Value = serde_json::from_str(&table.transactions.lock().unwrap()[0]).unwrap();
    let (update, put) = (&sent["TransactItems"][0]["Update"], &sent["TransactItems"][1]["Put"]);
    insta::assert_snapshot!(text(update, "UpdateExpression"), @"SET #last = :last ADD version :version, spendable :spendable, used :used, c2026_11 :c2026_11 REMOVE c2026_09, c2026_08, c2026_07");
    insta::assert_snapshot!(text(update, "ConditionExpression"), @"spendable >= :when_spendable AND expires_next > :when_expires_next");
    insta::assert_json_snapshot!(update["ExpressionAttributeValues"], @r#"
    {
      ":c2026_11": {
        "N": "3.4"
      },
      ":last": {
        "S": "key#run-1"
      },
      ":spendable": {
        "N": "-3.4"
      },
      ":used": {
        "N": "3.4"
      },
      ":version": {
        "N": "1"
      },
      ":when_expires_next": {
        "N": "1795435200000"
      },
      ":when_spendable": {
        "N": "3.4"
      }
    }
    "#);
    insta::assert_snapshot!(text(put, "ConditionExpression"), @"attribute_not_exists(pk)");
    for write in [update, put] {
        assert_eq!(text(write, "ReturnValuesOnConditionCheckFailure"), "ALL_OLD");
    }
    assert_eq!(sent["TransactItems"].as_array().unwrap().len(), 2);
}

fn text<'a>(write: &'a Value, member: &str) -> &'a str {
    write[member].as_str().unwrap()
}
