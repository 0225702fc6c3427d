//! The requests to DynamoDB that calls make, and their write units.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::grant::GrantKind;
use credits_store::grants::{GrantOrder, Term};
use jiff::{SignedDuration, Timestamp};
use model::items::{TableItem, every_item, of_kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::contention::{cause, claim};
use crate::table::Table;
use crate::world::World;

fn is_one_transaction_of_the_debit_function(requests: &[Value]) {
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(
        (&requests[0]["function"], &requests[0]["operation"]),
        (&json!("debit"), &json!("TransactWriteItems"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_a_replay_and_a_refusal_are_one_request_each() {
    let world = World::with_packs(1).await;
    let (answer, requests) = world.requests_of(world.take("acme", "k", "1")).await;
    assert_eq!(answer.status, 201);
    is_one_transaction_of_the_debit_function(&requests);
    assert!(requests[0]["write_units"].as_f64().unwrap() <= 5.0, "{requests:?}");
    let (answer, requests) = world.requests_of(world.take("acme", "k", "1")).await;
    assert_eq!(answer.status, 200);
    is_one_transaction_of_the_debit_function(&requests);
    let (answer, requests) = world.requests_of(world.take("acme", "other", "1000")).await;
    assert_eq!(answer.status, 402);
    is_one_transaction_of_the_debit_function(&requests);
}

/// Returns the operations of the debit function, and checks that they wrote nothing and read at most two units.
fn operations_of_a_refusal(requests: &[Value]) -> Vec<&str> {
    let units = |name: &str| requests.iter().map(|it| it[name].as_f64().unwrap()).sum::<f64>();
    assert!(units("write_units") == 0.0 && units("read_units") <= 2.0, "{requests:?}");
    requests.iter().map(|it| it["operation"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_a_second_refusal_reads_and_writes_nothing() {
    let world = World::with_packs(1).await;
    assert_eq!(world.take("acme", "all", "1000").await.status, 201);
    assert_eq!(world.take("acme", "first", "1").await.status, 402);
    let (answer, requests) = world.requests_of(world.take("acme", "second", "1")).await;
    assert_eq!((answer.status, &answer.body["available"]), (402, &json!("0")));
    assert_eq!(operations_of_a_refusal(&requests), ["BatchGetItem"]);

    let replay = world.take("acme", "all", "1000").await;
    assert_eq!((replay.status, replay.replayed), (200, true), "a replay is answered at zero");
    let reused = world.take("acme", "all", "2").await;
    assert_eq!((reused.status, reused.body["code"].as_str()), (409, Some("idempotency_key_reused")));
}

/// Credits that arrive are seen by the next call, through whichever instance they came.
#[tokio::test(flavor = "multi_thread")]
async fn m11_no_refusal_outlives_the_balance_that_caused_it() {
    let world = World::with_packs(0).await;
    for round in 0..3 {
        let key = |name: &str| format!("{name}-{round}");
        assert_eq!(world.take("acme", &key("early"), "10").await.status, 402);
        assert_eq!(world.take("acme", &key("again"), "10").await.status, 402);
        let grant = json!({ "credits": "10", "kind": "prepaid", "reason": "welcome" });
        let path = "/v1/workspaces/acme/grants";
        assert_eq!(world.call(Method::POST, path, Some(&key("grant")), Some(&grant)).await.status, 201);
        assert_eq!(world.take("acme", &key("again"), "10").await.status, 201);
    }
    // A call that the refused balance covers costs no read.
    world.buy("acme", "pack_1k", "pack").await;
    assert_eq!(world.take("acme", "above", "5000").await.status, 402);
    let (answer, requests) = world.requests_of(world.take("acme", "covered", "1")).await;
    assert_eq!(answer.status, 201);
    is_one_transaction_of_the_debit_function(&requests);
}

#[test]
fn the_docs_explain_every_parameter_of_the_template() {
    let parameters = include_str!("../../template.yaml").split("\nConditions:").next().unwrap();
    let named = parameters.lines().filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    let named: Vec<&str> = named.filter(|name| name.starts_with(char::is_uppercase)).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(include_str!("../../docs/deploying.md").contains(&format!("| `{name}` |")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_200_top_ups_a_debit_costs_5_write_units() {
    let world = World::with_packs(0).await;
    let table = Table::of(&world);
    table.at("2024-11-23T12:00:00Z");
    for top_up in 0..200 {
        let order =
            GrantOrder { amount: "1234.567891".parse().unwrap(), term: Term::Prepaid, reason: "pack".into() };
        let key = format!("top-up-{top_up}");
        table.store.grants().grant(&claim(&key, &key), &order).await.unwrap();
        let key = format!("debit-{top_up}");
        table.store.debits().debit(&claim(&key, &key), "1.234567".parse().unwrap(), cause()).await.unwrap();
        table.pass(SignedDuration::from_hours(88));
    }
    let item = small_balance(&world).await;
    assert!(item.keys().filter(|name| name.starts_with("c2")).count() <= 2);
    let (answer, requests) = world.requests_of(world.take("acme", "now", "1")).await;
    assert_eq!(answer.status, 201);
    is_one_transaction_of_the_debit_function(&requests);
    assert!(requests[0]["write_units"].as_f64().unwrap() <= 5.0, "{requests:?}");
}

/// Each grant expires at its own time and causes a close.
#[tokio::test(flavor = "multi_thread")]
async fn m08_with_100_grants_a_debit_costs_5_write_units() {
    let world = World::with_packs(0).await;
    let table = Table::of(&world);
    table.at(&world.stack.now().to_string());
    for number in 1..=100 {
        let end = table.store.now() + SignedDuration::from_hours(number);
        let term = Term::Until(GrantKind::Promotional, Timestamp::from_second(end.as_second()).unwrap());
        let order = GrantOrder { amount: "12.345678".parse().unwrap(), term, reason: "welcome".into() };
        let key = format!("grant-{number}");
        table.store.grants().grant(&claim(&key, &key), &order).await.unwrap();
    }
    let shown = world.balance("acme").await;
    assert_eq!((&shown["available"], shown["grants"].as_array().unwrap().len()), (&json!("1234.5678"), 100));
    small_balance(&world).await;
    world.drain().await;
    let (answer, requests) = world.requests_of(world.take("acme", "now", "20")).await;
    assert_eq!(answer.status, 201);
    is_one_transaction_of_the_debit_function(&requests);
    assert!(requests[0]["write_units"].as_f64().unwrap() <= 5.0, "{requests:?}");
    world.advance(3 * 24 * 60 * 60).await;
    // 72 grants have expired. The debit had spent the first and most of the second.
    let shown = world.balance("acme").await;
    assert_eq!((&shown["available"], shown["grants"].as_array().unwrap().len()), (&json!("345.678984"), 28));
    let kinds = world.reconciled("acme").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "expiry").count(), 71);
}

/// Reads the balance item and checks that it is below 1 KB.
async fn small_balance(world: &World) -> TableItem {
    let items = every_item(&world.stack).await;
    let item = of_kind(&items, "balance#acme").next().unwrap().clone();
    let size: usize = item.iter().map(|(name, value)| name.len() + size_of(value)).sum();
    assert!(size < 1024, "the balance item has {size} bytes: {item:?}");
    item
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_longest_ids_a_debit_costs_5_write_units() {
    let world = World::with_packs(0).await;
    let id = "x".repeat(64);
    world.put_workspace(&id).await;
    world.buy(&id, "pack_1k", "pack").await;
    let body = json!({
        "operation": "document.generate", "model": "standard",
        "units": { "input_tokens": 123_456, "output_tokens": 12_345, "records": 12 },
        "consumer": { "kind": "workflow_step", "workflow_id": id, "run_id": id, "step_id": id },
    });
    let (answer, requests) = world.requests_of(world.debit(&id, &"k".repeat(255), &body)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(requests[0]["write_units"].as_f64().unwrap() <= 5.0, "{requests:?}");
}

/// Returns an upper bound of a value's size in bytes. DynamoDB packs two digits of a number into a byte.
fn size_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len() + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + size_of(value)).sum::<usize>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() + size_of(value)).sum::<usize>()
        }
        _ => 1,
    }
}
