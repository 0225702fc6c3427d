//! Events: each matches its schema in `infra/events/`, each has an id of its own, and poison records block nothing.

use std::collections::HashSet;
use std::path::Path;

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::subscribing::time;
use crate::world::World;

impl World {
    async fn all_events(&self) -> Vec<Value> {
        self.drain().await;
        let events = self.local(Method::GET, "/_local/events", None).await;
        // SES publishes its own events on the account's default bus.
        let ours = events.as_array().unwrap().iter().filter(|event| event["source"] == "ai-credits");
        ours.cloned().collect()
    }
}

fn schema(name: &str) -> jsonschema::Validator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/events");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// Charges under settings without a limit, as an older version stored them, reaches a limit, and refunds a payment.
async fn automatic_top_up_and_a_refund(world: &World) {
    let mut automatic = json!({ "enabled": true, "threshold": "5", "pack": "pack_1k", "monthly_limit": 1 });
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&automatic)).await;
    world.forget_monthly_limit().await;
    world.drain().await;
    let bought = world.charges().await.last().unwrap()["id"].clone();
    automatic["monthly_limit"] = json!(1);
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&automatic)).await;
    world.take("acme", "bought", "1000").await;
    world.drain().await;
    let path = format!("/_local/payments/{}/refund", bought.as_str().unwrap());
    world.local(Method::POST, &path, Some(&json!({}))).await;
}

/// Grants credits that expire within a day, to a workspace with expiry notices.
async fn credits_expire_tomorrow(world: &World) {
    world.put_on_plan("expiring", "free").await;
    let alerts = json!({ "low_balance": { "enabled": false },
        "expiry": { "enabled": true, "recipients": ["ops@acme.example"] } });
    world.call(Method::PUT, "/v1/workspaces/expiring/alerts", None, Some(&alerts)).await;
    let end = world.advance(0).await + SignedDuration::from_hours(23);
    let grant = json!({ "credits": "5", "kind": "promotional", "expires_at": end, "reason": "welcome" });
    world.call(Method::POST, "/v1/workspaces/expiring/grants", Some("grant"), Some(&grant)).await;
}

/// Returns a stack in which every event has occurred.
pub async fn every_event_occurred() -> World {
    let world = World::with_card().await;
    let alert = json!({ "low_balance": { "enabled": true, "threshold": "100", "thresholds": [{ "credits": "50" }],
        "recipients": ["ops@acme.example"] } });
    world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&alert)).await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    credits_expire_tomorrow(&world).await;
    let hold = world.place("short", "10").await;
    world.take("acme", "all", "2990").await;
    let more = json!({ "credits": "20", "overrun": "take_available" });
    assert_eq!(world.settle(&hold, "short-settle", &more).await.body["uncollected"], "10");
    let start = json!({ "workflow_id": "report", "trigger": "event" });
    let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some("run"), Some(&start)).await.body;
    let consumer =
        json!({ "kind": "workflow_step", "workflow_id": "report", "run_id": run["run_id"], "step_id": "s" });
    let step = json!({ "operation": "text.generate", "credits": "1", "consumer": consumer });
    assert_eq!(world.debit("acme", "step", &step).await.status, 402);
    let metadata = json!({ "workspace_id": "acme", "top_up_id": "top_none" });
    let stray = json!({ "id": "pi_stray", "amount": 5, "currency": "usd", "metadata": metadata });
    assert_eq!(world.tell("payment_intent.succeeded", &stray).await.status, 200);
    automatic_top_up_and_a_refund(&world).await;
    world.card_is("acme", "authentication_required").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.status, 200);
    world.drain().await;
    world.card_is("acme", "declined").await;
    let automatic = json!({ "enabled": true, "threshold": "5", "pack": "pack_1k" });
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&automatic)).await;
    world.advance_to(renews_at + SignedDuration::from_hours(6 * 24)).await;
    world.put_on_plan("acme", "enterprise").await;
    let agreement = json!({ "credit_limit": "100", "commitment": null,
        "invoicing": { "price_per_credit_micros": 10_000, "currency": "USD" } });
    world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&agreement)).await;
    world.take("acme", "beyond", "50").await;
    world.advance(32 * 86_400).await;
    world.drain().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_matches_its_schema_and_has_a_unique_id() {
    let world = every_event_occurred().await;
    let events = world.all_events().await;
    let mut names = HashSet::new();
    for event in &events {
        let name = event["detail-type"].as_str().unwrap();
        let wrong: Vec<String> =
            schema(name).iter_errors(&event["detail"]).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        names.insert(name.to_owned());
    }
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/events")).unwrap();
    let schemas: HashSet<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, schemas, "each event is published, and each has a schema");
    let ids: HashSet<&str> =
        events.iter().map(|event| event["detail"]["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
}

/// Returns a record of the table's stream in Lambda's form.
fn record(sequence_number: &str, image: &Value) -> Value {
    json!({ "eventID": format!("e{sequence_number}"), "eventName": "INSERT", "dynamodb": {
        "ApproximateCreationDateTime": 1_795_000_000.0, "Keys": {}, "NewImage": image,
        "SequenceNumber": sequence_number } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_does_not_block_the_records_after_it() {
    let world = World::with_packs(0).await;
    let poison =
        json!({ "pk": { "S": "balance#acme" }, "sk": { "S": "balance" }, "spendable": { "S": "secret" } });
    let invoice = json!({ "pk": { "S": "invoice#acme" }, "sk": { "S": "000001" }, "invoice": { "M": {
        "invoice_id": { "S": "INV-000001" }, "month": { "S": "2026-11" }, "lines": { "L": [] },
        "issued_at": { "S": "2026-12-01T00:05:00Z" },
        "total": { "M": { "amount": { "N": "5" }, "currency": { "S": "USD" } } } } } });
    let records =
        json!({ "Records": [record("1", &poison), json!({ "eventID": "e2" }), record("3", &invoice)] });
    let answer = world.stack.fire("project", records.clone()).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    world.stack.fire("project", records).await.unwrap();
    let told: Vec<Value> = world.all_events().await;
    let names: Vec<&str> = told.iter().map(|event| event["detail-type"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["RecordUnread", "RecordUnread", "InvoiceReady"]);
    assert_eq!(told[2]["detail"], told[5]["detail"], "a redelivery publishes the same event again");
    assert!(!json!(told).to_string().contains("secret"), "events have no content of the record");
}

/// Without the report, the events that follow from the balance would be missing unnoticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_sums_overflow_is_reported() {
    let world = World::with_packs(0).await;
    let balance = |version: u64| {
        json!({ "pk": { "S": "balance#acme" }, "sk": { "S": "balance" }, "spendable": { "N": "7e22" },
            "used": { "N": "0" }, "prepaid": { "N": "0" }, "credit_limit": { "N": "0" },
            "expires_next": { "N": "4102444800000" }, "changes": { "L": [] }, "held": { "N": "7e22" },
            "closed": { "M": {} }, "epoch": { "N": "0" }, "version": { "N": version.to_string() },
            "last": { "S": "key#k" }, "top_up_at": { "N": "5" } })
    };
    let mut overflows = record("1", &balance(2));
    overflows["dynamodb"]["OldImage"] = balance(1);
    let answer = world.stack.fire("project", json!({ "Records": [overflows] })).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    let published = world.all_events().await;
    let names: Vec<&str> = published.iter().map(|event| event["detail-type"].as_str().unwrap()).collect();
    assert_eq!(names, ["RecordUnread"]);
    assert_eq!(published[0]["detail"]["reason"], "a sum is out of range");
}
