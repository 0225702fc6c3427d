//! Logs and metrics: they have no secrets and no payloads, and the runbook explains them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use credits_aws::telemetry;
use credits_local::Options;
use credits_payments::signature::{Secret, sign};
use jiff::Timestamp;
use model::items::{every_item, of_kind, put_all};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{NowForTests, World};

/// The marker in every input.
const CANARY: &str = "canary";
/// The one marked value that logs may show. It proves that the search finds markers.
const WORKSPACE: &str = "canary-the-workspace";
const WEBHOOK_SECRET: &str = "whsec_canary";

/// A log writer that keeps the lines with a marker.
#[derive(Debug, Clone, Default)]
struct Cage(Arc<Mutex<Vec<String>>>);

impl Write for Cage {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        if text.to_lowercase().contains(CANARY) {
            self.0.lock().unwrap().push(text);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    async fn plant(&self, method: Method, path: &str, body: &Value) -> u16 {
        self.call(method, path, Some(&format!("canary-key-{path}")), Some(body)).await.status
    }
}

fn under(path: &str) -> String {
    format!("/v1/workspaces/{WORKSPACE}{path}")
}

/// Makes calls with the marker in every field, of which some succeed and some are refused.
async fn plant_in_calls(world: &World) {
    let workspace =
        json!({ "name": "Canary Ltd", "plan": "team", "billing_email": "billing@canary.example" });
    assert_eq!(world.plant(Method::PUT, &under(""), &workspace).await, 201);
    let grant = json!({ "credits": "100", "kind": "prepaid", "reason": "canary of a reason" });
    assert_eq!(world.plant(Method::POST, &under("/grants"), &grant).await, 201);
    let low = json!({ "enabled": true, "threshold": "99", "recipients": ["ada@canary.example"] });
    assert_eq!(world.plant(Method::PUT, &under("/alerts"), &json!({ "low_balance": low })).await, 201);
    let run = json!({ "workflow_id": "canary-flow", "trigger": "scheduled" });
    assert_eq!(world.plant(Method::POST, &under("/runs"), &run).await, 201);
    let consumer = json!({ "kind": "action", "feature": "canary-feature", "user_id": "canary-user" });
    for (credits, status) in [("2", 201), ("500", 402)] {
        let debit = json!({ "operation": "text.generate", "credits": credits, "consumer": consumer });
        let key = format!("canary-{credits}");
        assert_eq!(world.debit(WORKSPACE, &key, &debit).await.status, status);
    }
    let refused =
        json!({ "canary": "canary", "operation": "canary", "credits": "canary", "consumer": "canary" });
    assert_eq!(world.plant(Method::POST, &under("/debits"), &refused).await, 422);
    assert_eq!(world.plant(Method::PUT, &under("/subscription"), &json!({ "tier": "canary" })).await, 422);
    for path in ["/v1/workspaces/ada@canary.example/balance", "/v1/workspaces/Canary%20Ltd/balance"] {
        assert_eq!(world.call(Method::GET, path, None, None).await.status, 404);
    }
    for query in ["cursor=canary", "canary=canary", "kind=canary", "limit=canary"] {
        let path = under(&format!("/ledger?{query}"));
        assert_eq!(world.call(Method::GET, &path, None, None).await.status, 422, "{query}");
    }
    let path = under("/debits");
    let broken = world.bare(Method::POST, &path).bearer_auth("canary.canary.canary").body("{canary");
    assert_eq!(crate::world::answer(broken).await.status, 401);
    let token = world.token(WORKSPACE, "credits:spend").await;
    let broken = world.bare(Method::POST, &path).bearer_auth(token).header("idempotency-key", "canary");
    let broken = broken.header("content-type", "application/json").body("{\"canary\": canary}");
    assert_eq!(crate::world::answer(broken).await.status, 400);
}

/// Delivers events with the marker in every field: well-formed, of the wrong shape, and forged.
async fn plant_in_events(world: &World) {
    let object = json!({ "id": "cs_canary", "payment_intent": "pi_1", "payment_status": "paid",
        "amount_total": 1000, "currency": "usd", "customer": "cus_canary",
        "customer_details": { "email": "payer@canary.example" },
        "metadata": { "top_up_id": "canary", "workspace_id": "canary" } });
    let mut misshapen = object.clone();
    misshapen["amount_total"] = json!("canary");
    misshapen["payment_status"] = json!(["canary"]);
    for (object, statuses) in [(&object, [200, 200]), (&misshapen, [400, 422])] {
        let event =
            json!({ "id": "evt_canary", "type": "checkout.session.completed", "data": { "object": object } });
        let event = event.to_string();
        let now = Timestamp::now_for_tests();
        let signature = sign(event.as_bytes(), &Secret::new(WEBHOOK_SECRET), now).unwrap();
        let status = world.deliver(event.clone().into_bytes(), Some(&signature)).await.status;
        assert!(statuses.contains(&status), "{status}");
        let forged = sign(event.as_bytes(), &Secret::new("whsec_canary_of_another"), now).unwrap();
        assert_eq!(world.deliver(event.into_bytes(), Some(&forged)).await.status, 400);
    }
    assert_eq!(world.deliver(b"canary".to_vec(), Some("t=1,v1=canary")).await.status, 400);
}

/// Replaces the table's items by unreadable ones and invokes functions with malformed orders. Returns their errors.
async fn plant_in_the_table(world: &World) -> Vec<String> {
    let mut spoilt = every_item(&world.stack).await;
    for item in &mut spoilt {
        for (name, value) in item.iter_mut() {
            if !["pk", "sk", "index_pk", "index_sk"].contains(&name.as_str()) {
                *value = AttributeValue::S("canary".into());
            }
        }
    }
    put_all(&world.stack, spoilt.clone()).await;
    assert!(of_kind(&spoilt, "balance#").next().is_some());
    for path in
        ["/balance", "/ledger", "/usage", "/alerts", "/subscription", "/agreement", "/invoices", "/runs"]
    {
        let status = world.call(Method::GET, &under(path), None, None).await.status;
        assert!([200, 404, 503].contains(&status), "{path}: {status}");
    }
    world.drain().await;
    let mut said = Vec::new();
    for (function, order) in [
        ("project", json!({ "canary": "canary" })),
        ("project", json!({ "schedule": "canary" })),
        ("project", json!({ "recount": { "workspace_id": "Canary Ltd", "month": "canary" } })),
        ("notify", json!({ "source": "ai-credits", "detail": { "canary": "canary" } })),
        ("notify", json!({ "canary": "ada@canary.example" })),
        ("renewal", json!({ "unstick": "canary" })),
    ] {
        said.extend(world.stack.fire(function, order).await.err());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_metrics_have_no_secrets_addresses_or_payloads() {
    let cage = Cage::default();
    let writer = cage.clone();
    telemetry::log_to(move || writer.clone());
    telemetry::collect("suite").unwrap();
    let options = Options { webhook_secret: Secret::new(WEBHOOK_SECRET), ..Options::default() };
    let world = World::with(&options).await;
    plant_in_calls(&world).await;
    plant_in_events(&world).await;
    world.drain().await;
    let bounced = json!({ "address": "ada@canary.example", "kind": "bounce" });
    world.local(Method::POST, "/_local/mail/feedback", Some(&bounced)).await;
    world.drain().await;
    let said = plant_in_the_table(&world).await;
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(!said.concat().to_lowercase().contains(CANARY), "{said:?}");
    let lines = cage.0.lock().unwrap().clone();
    assert!(!lines.is_empty(), "the search finds the workspace's id");
    for line in &lines {
        assert!(!line.replace(WORKSPACE, "").to_lowercase().contains(CANARY), "{line}");
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let mut metrics = Vec::new();
    telemetry::flush_to(&mut metrics);
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(!metrics.to_lowercase().contains(CANARY), "{metrics}");
    for line in metrics.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let dimensions = &document["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0];
        assert!(
            // `Reason` counts ignored events, which other tests of this process deliver.
            [
                json!(["Stack"]),
                json!(["Stack", "Code"]),
                json!(["Stack", "Step"]),
                json!(["Stack", "Reason"])
            ]
            .contains(dimensions),
            "{dimensions}: AWS charges for each value of a dimension as for a metric"
        );
    }
    for name in ["Refusals", "PaymentsUnmatched", "RecordsUnread", "MailsSent"] {
        assert!(metrics.contains(&format!("\"{name}\":")), "{name}: {metrics}");
    }
}

/// Reads every Rust file under a folder as one text.
fn code(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.extension() {
        _ if path.is_dir() => code(&path),
        Some(kind) if kind == "rs" => std::fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    };
    entries.map(read).collect()
}

/// Returns the names between each `before` and the next `after` in a text.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split(after).next().unwrap().trim()).collect()
}

#[test]
fn the_runbook_explains_every_alarm_and_every_metric() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let deployed = read("template.yaml") + &read("infra/operations.yaml");
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<String> =
        between(&runbook, "\n## ", "\n").iter().map(|it| it.to_lowercase()).collect();
    let alarms = between(&deployed, "docs/runbook.md#", ")");
    assert_eq!(alarms.len(), 18, "{alarms:?}");
    for alarm in alarms {
        assert!(headings.contains(alarm), "{alarm} is not in {headings:?}");
    }
    let code = ["shared", "functions"].map(|folder| code(&root.join(folder))).concat();
    let counted: BTreeSet<&str> =
        ["counter!(\"", "histogram!(\""].iter().flat_map(|made| between(&code, made, "\"")).collect();
    let flat = deployed.replace(' ', "");
    let watched = between(&flat, "Namespace:AiCredits\nMetricName:", "\n");
    let drawn = between(&deployed, "[\"AiCredits\", \"", "\"");
    assert!(watched.len() >= 6 && drawn.len() > watched.len(), "{watched:?} {drawn:?}");
    for name in watched.iter().chain(&drawn) {
        assert!(counted.contains(name), "no code counts {name}: {counted:?}");
    }
    for name in counted {
        assert!(runbook.contains(&format!("`{name}`")), "the runbook does not explain {name}");
    }
}
