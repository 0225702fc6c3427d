//! How holds end: by a settlement, or by their expiry (M4).

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::WorkspaceId;
use credits_store::Fault;
use credits_store::KeyUse;
use credits_store::holds::HoldRefusal;
use credits_store::holds::settle::{SettleOrder, Settled};
use credits_store::table::keys;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all, renamed};
use reqwest::Method;
use serde_json::{Value, json};

use crate::contention::claim;
use crate::holds::{capturing, placing, shown, step};
use crate::subscribing::time;
use crate::table::{Table, TableFault};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn m09_each_capture_of_a_settled_hold_is_counted_as_a_call() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "100").await;
    for number in 0..4 {
        let body = json!({ "operation": "text.classify", "credits": "2", "consumer": step(number) });
        assert_eq!(world.holds(&format!("/{hold}/captures"), &format!("c{number}"), &body).await.status, 201);
    }
    assert_eq!(world.capture(&hold, "by-hand", "5").await.status, 201);
    world.drain().await;
    assert_eq!(world.get("/v1/workspaces/acme/usage?group_by=operation").await["total"], "0");
    assert_eq!(world.settle(&hold, "settle", &json!({})).await.status, 200);
    world.drain().await;
    let workflows = world.get("/v1/workspaces/acme/usage?group_by=workflow").await;
    assert_eq!(workflows["total"], "13");
    assert_eq!(workflows["groups"][0], json!({ "key": "nightly", "credits": "8", "count": 4 }));
    assert_eq!(workflows["groups"][1], json!({ "key": null, "credits": "5", "count": 1 }));
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

/// One ledger entry has no room for the calls of 20 full holds.
#[tokio::test(flavor = "multi_thread")]
async fn holds_with_too_many_calls_are_settled_in_two_halves() {
    let world = Arc::new(World::with_packs(1).await);
    let mut body = placing("1", 600);
    body["count"] = json!(20);
    let placed = world.holds("/batch", "p", &body).await;
    let ids: Vec<String> = placed.body["holds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hold| hold["hold_id"].as_str().unwrap().to_owned())
        .collect();
    let mut filling = tokio::task::JoinSet::new();
    for (place, hold) in ids.iter().cloned().enumerate() {
        let world = Arc::clone(&world);
        filling.spawn(async move {
            for call in 0..100 {
                let id = |name: &str| format!("{name:-<10}{place:027}{call:027}");
                let step = json!({ "kind": "workflow_step", "workflow_id": id("wf"), "run_id": id("run"), "step_id": id("step") });
                let body = json!({ "operation": "text.generate", "credits": "0.01", "consumer": step });
                let path = format!("/{hold}/captures");
                assert_eq!(world.holds(&path, &format!("{place}-{call}"), &body).await.status, 201);
            }
        });
    }
    filling.join_all().await;
    let refused = world.holds("/batch/settle", "all", &json!({ "hold_ids": ids })).await;
    assert_eq!((refused.status, refused.fields()), (422, vec!["hold_ids"]));
    for (key, half) in [("one", &ids[..10]), ("two", &ids[10..])] {
        let settled = world.holds("/batch/settle", key, &json!({ "hold_ids": half })).await;
        assert_eq!(settled.status, 200, "{}", settled.body);
    }
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_a_hold_and_completing_a_run_need_no_body() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "10").await;
    let run = json!({ "workflow_id": "nightly", "trigger": "manual" });
    let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some("run"), Some(&run)).await.body;
    let run = run["run_id"].as_str().unwrap();
    for (key, path) in [("s", format!("holds/{hold}/settle")), ("c", format!("runs/{run}/complete"))] {
        let path = format!("/v1/workspaces/acme/{path}");
        assert_eq!(world.call(Method::POST, &path, Some(key), None).await.status, 200, "{path}");
        let again = world.call(Method::POST, &path, Some(key), Some(&json!({}))).await;
        assert_eq!((again.status, again.replayed), (200, true), "{path}");
    }
    let batch = world.call(Method::POST, "/v1/workspaces/acme/holds/batch/settle", Some("b"), None).await;
    assert_eq!(batch.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_or_a_reader_releases_an_expired_hold() {
    let world = World::with_packs(1).await;
    for met in [false, true] {
        let hold = world.place(&format!("place-{met}"), "100").await;
        assert_eq!(world.capture(&hold, "c", "30").await.status, 201);
        if met {
            // No sweep runs, so the reader is the first to find the expired hold. DynamoDB's clock counts whole seconds.
            let expires_at = time(&world.held(&hold).await["expires_at"]);
            world.stack.sleep_until(expires_at + SignedDuration::from_secs(2)).unwrap();
        } else {
            world.advance(1_800 + 900).await;
            // The test reads the table, since a read through the API would release the hold too.
            let items = every_item(&world.stack).await;
            let ended = of_kind(&items, "hold").filter(|item| item["pk"].as_s().unwrap().ends_with(&hold));
            assert!(ended.map(|item| &item["end"]).eq([&AttributeValue::S("expired".into())]));
        }
        assert_eq!(shown(&world.held(&hold).await), ["100", "30", "0", "expired"]);
        assert_eq!(world.balance("acme").await["held"], "0");
        assert_eq!(world.capture(&hold, "late", "1").await.body["code"], "hold_closed");
        assert_eq!(world.capture(&hold, "c", "30").await.status, 200, "a replay is answered");
        let settled = world.settle(&hold, "s", &json!({})).await;
        assert_eq!((settled.status, &settled.body["hold_id"]), (409, &json!(hold)));
    }
    assert_eq!(world.available("acme").await, "940");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_hold_is_released_before_a_call_is_refused() {
    let world = World::with_packs(1).await;
    for (number, spend) in
        ["debit", "debits", "hold", "capture", "settlement", "reading"].into_iter().enumerate()
    {
        let mut long = placing("1", 86_000);
        long["consumer"] = step(number);
        let open = world.holds("", &format!("open-{number}"), &long).await.body["hold_id"].take();
        let open = open.as_str().unwrap();
        let left = world.available("acme").await;
        let overdue = world.place(&format!("overdue-{number}"), &left).await;
        let expires_at = time(&world.held(&overdue).await["expires_at"]);
        assert_eq!(world.available("acme").await, "0");
        // No sweep runs.
        world.stack.sleep_until(expires_at + SignedDuration::from_secs(2)).unwrap();
        let (key, mut call) = (format!("spend-{number}"), capturing("2"));
        let status = match spend {
            "debit" => world.debit("acme", &key, &call).await.status,
            "debits" => {
                let path = "/v1/workspaces/acme/debits/batch";
                world.call(Method::POST, path, Some(&key), Some(&json!({ "lines": [call] }))).await.status
            }
            "hold" => world.holds("", &key, &placing("2", 60)).await.status,
            "capture" => {
                call["extend"] = json!(true);
                world.holds(&format!("/{open}/captures"), &key, &call).await.status
            }
            "settlement" => {
                world.settle(open, &key, &json!({ "credits": "2", "extend": true })).await.status + 1
            }
            _ => {
                assert_ne!(world.available("acme").await, "0");
                201
            }
        };
        assert_eq!(status, 201, "{spend}");
        assert_eq!(world.held(&overdue).await["status"], "expired");
    }
}

/// A quote counts the hold's remaining credits as available and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_debits_after_an_overdue_hold_all_pass() {
    let world = Arc::new(World::with_packs(1).await);
    let hold = world.place("place", "1000").await;
    assert_eq!(world.capture(&hold, "c", "10").await.status, 201);
    let expires_at = time(&world.held(&hold).await["expires_at"]);
    world.stack.sleep_until(expires_at + SignedDuration::from_secs(2)).unwrap();
    let (quote, requests) = world
        .requests_of(world.call(Method::POST, "/v1/workspaces/acme/quotes", None, Some(&capturing("990"))))
        .await;
    assert_eq!((&quote.body["available"], &quote.body["affordable"]), (&json!("990"), &json!(true)));
    assert!(requests.iter().all(|request| request["write_units"] == 0.0), "{requests:?}");
    let mut spending = tokio::task::JoinSet::new();
    for number in 0..20 {
        let world = Arc::clone(&world);
        spending.spawn(async move { world.take("acme", &format!("k{number}"), "1").await.status });
    }
    assert_eq!(spending.join_all().await, [201; 20]);
    assert_eq!(world.available("acme").await, "970");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_overdue_holds_are_released_together() {
    let world = World::with_packs(1).await;
    let mut ids = Vec::new();
    for (key, count, credits) in [("one", 12, "40"), ("two", 50, "5"), ("three", 50, "5.4")] {
        let mut body = placing(credits, 60);
        body["count"] = json!(count);
        let placed = world.holds("/batch", key, &body).await.body;
        let held = placed["holds"].as_array().unwrap().iter();
        ids.extend(held.map(|hold| hold["hold_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(world.available("acme").await, "0");
    let (captured, others) = ids.split_at(12);
    for hold in captured {
        assert_eq!(world.capture(hold, "c", "1").await.status, 201);
    }
    world.stack.sleep_until(world.stack.now() + SignedDuration::from_mins(2)).unwrap();
    let half = world.take("acme", "half", "500").await;
    assert_eq!(half.status, 201, "{}", half.body);
    // The debit releases no more holds than it needs.
    let open =
        of_kind(&every_item(&world.stack).await, "hold").filter(|item| !item.contains_key("end")).count();
    assert!(open > 10, "{open} are still open");
    assert_eq!(world.take("acme", "rest", "488").await.status, 201);
    for hold in captured {
        assert_eq!(shown(&world.held(hold).await), ["40", "1", "0", "expired"]);
    }
    for hold in others {
        assert_eq!(world.held(hold).await["status"], "expired");
    }
    assert_eq!(
        (world.available("acme").await, world.balance("acme").await["held"].take()),
        ("0".into(), json!("0"))
    );
    let kinds = world.reconciled("acme").await;
    assert!(kinds.iter().filter(|kind| *kind == "hold_settled").count() >= 3, "{kinds:?}");
    world.drain().await;
    let operations = world.get("/v1/workspaces/acme/usage?group_by=operation").await;
    assert_eq!(operations["groups"], json!([{ "key": "text.generate", "credits": "1000", "count": 14 }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_races_with_captures_and_settlements_lose_nothing() {
    let world = std::sync::Arc::new(World::with_packs(1).await);
    for round in 0..6 {
        let hold = world.place(&format!("place-{round}"), "20").await;
        assert_eq!(world.capture(&hold, "first", "1").await.status, 201);
        let expires_at = time(&world.held(&hold).await["expires_at"]);
        world.stack.sleep_until(expires_at - SignedDuration::from_millis(20)).unwrap();
        let mut running = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (world, hold) = (std::sync::Arc::clone(&world), hold.clone());
            running.spawn(async move {
                match number {
                    0 => world.settle(&hold, "settle", &json!({})).await.status,
                    1 | 2 => {
                        world
                            .call(Method::GET, &format!("/v1/workspaces/acme/holds/{hold}"), None, None)
                            .await
                            .status
                    }
                    3 => {
                        world.sweep().await;
                        200
                    }
                    _ => world.capture(&hold, &format!("c{number}"), "2").await.status,
                }
            });
        }
        let statuses = running.join_all().await;
        assert!(statuses.iter().all(|status| [200, 201, 409].contains(status)), "{statuses:?}");
        let captured = statuses.iter().filter(|status| **status == 201).count();
        // The hold has expired, whichever call came first.
        world.stack.sleep_until(expires_at + SignedDuration::from_secs(2)).unwrap();
        let hold = world.held(&hold).await;
        assert_eq!(hold["captured"], (1 + 2 * captured).to_string(), "{hold}");
        assert_eq!(hold["remaining"], "0");
        assert_eq!(world.balance("acme").await["held"], "0");
        world.reconciled("acme").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_that_expire_under_a_hold_do_not_return() {
    let world = World::with_packs(1).await;
    let now = world.stack.now();
    let expires_at = jiff::Timestamp::from_second((now + SignedDuration::from_mins(10)).as_second()).unwrap();
    let grant = json!({ "credits": "50", "kind": "promotional", "expires_at": expires_at, "reason": "test" });
    assert_eq!(
        world.call(Method::POST, "/v1/workspaces/acme/grants", Some("g"), Some(&grant)).await.status,
        201
    );
    let hold = world.place("place", "40").await;
    assert_eq!(world.capture(&hold, "c1", "5").await.status, 201);
    world.advance(900).await;
    // Ten of the grant's 50 credits have expired. The hold keeps the other 40, and captures take these first.
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("1000"), &json!("40")));
    assert_eq!(world.capture(&hold, "c2", "25").await.status, 201, "held credits can be captured");
    assert_eq!(shown(&world.settle(&hold, "s", &json!({})).await.body), ["40", "30", "0", "settled"]);
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("1000"), &json!("0")));
    let kinds = world.reconciled("acme").await;
    assert_eq!(kinds, ["top_up", "grant", "expiry", "expiry", "hold_settled"]);
    let late = &world.entries("acme").await[1];
    assert_eq!(
        (&late["credits"], &late["hold_ids"], &late["grant_ids"]),
        (&json!("-10"), &json!([hold]), &json!([]))
    );
}

/// Returns a workspace whose open holds are in the same index partition as those of `acme`.
fn neighbour_of_acme() -> String {
    let partition = |name: &str| keys::holds(&name.parse::<WorkspaceId>().unwrap());
    let mut names = (0..1_000).map(|number| format!("neighbour-{number}"));
    names.find(|name| partition(name) == partition("acme")).unwrap()
}

/// A call that looks for expired holds reads those of its own workspace, however many another workspace has.
#[tokio::test(flavor = "multi_thread")]
async fn m04_holds_of_another_workspace_add_no_reads() {
    let world = World::with_packs(1).await;
    let neighbour = neighbour_of_acme();
    assert_eq!(world.put_workspace(&neighbour).await.status, 201);
    world.buy(&neighbour, "pack_1k", "pack").await;
    assert_eq!(world.holds("", "long", &placing("10", 3_600)).await.status, 201);
    let path = format!("/v1/workspaces/{neighbour}/holds");
    let placed = world.call(Method::POST, &path, Some("short"), Some(&placing("1", 60))).await;
    let hold = placed.body["hold_id"].as_str().unwrap().to_owned();
    let item =
        of_kind(&every_item(&world.stack).await, &format!("hold#{neighbour}#")).next().unwrap().clone();
    world.stack.sleep_until(time(&placed.body["expires_at"]) + SignedDuration::from_secs(2)).unwrap();

    let reads = async |key: &str| {
        let calls = async {
            assert_eq!(world.take("acme", "too-much", "5000").await.status, 402);
            assert_eq!(world.balance("acme").await["held"], "10");
            assert_eq!(world.take("acme", key, "1").await.status, 201);
        };
        let ((), requests) = world.requests_of(calls).await;
        // Some requests are concurrent, so their order differs.
        let mut requests: Vec<String> = requests.iter().map(Value::to_string).collect();
        requests.sort();
        requests
    };
    // The first refusal is a failed write. The function remembers it, and reads before the next one.
    reads("first").await;
    let before = reads("before").await;
    let copy = |number: usize| {
        let mut copy = renamed(&item, &BTreeMap::from([(hold.as_str(), format!("hold_{number}"))]));
        let position = format!("{}{number}", copy["index_sk"].as_s().unwrap());
        copy.insert("index_sk".into(), AttributeValue::S(position));
        copy
    };
    put_all(&world.stack, (0..10_000).map(copy).collect()).await;
    assert_eq!(reads("after").await, before);
}

/// A store whose clocks stand a minute before the hold expires.
async fn table_before_expiry(world: &World, hold: &str) -> Table {
    let table = Table::of(world);
    let expires_at = time(&world.held(hold).await["expires_at"]);
    table.at(&(expires_at - SignedDuration::from_mins(1)).to_string());
    table
}

async fn settle_in(table: &Table, hold: &str) -> Result<Settled, HoldRefusal> {
    let hold_ids = [hold.parse().unwrap()];
    let order = SettleOrder::of(&hold_ids);
    table.store.holds().settle(&claim("settle", "settle"), order).await
}

/// The metric of spent credits adds up the captures of first uses.
#[tokio::test(flavor = "multi_thread")]
async fn m04_a_settlement_with_a_lost_response_returns_its_sum() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "50").await;
    assert_eq!(world.capture(&hold, "c", "20").await.status, 201);
    let table = table_before_expiry(&world, &hold).await;
    table.suffers([TableFault::AnswerLost]);
    let settled = settle_in(&table, &hold).await.unwrap();
    assert_eq!((settled.key_use, settled.captured.to_string().as_str()), (KeyUse::First, "20"));
    let again = settle_in(&table, &hold).await.unwrap();
    assert_eq!((again.key_use, again.captured.to_string().as_str()), (KeyUse::Replay, "0"));
}

/// A sum out of range stays out of range, so a retry is of no use.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_sum_is_out_of_range_is_not_retried() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "50").await;
    assert_eq!(world.capture(&hold, "c", "20").await.status, 201);
    let table = table_before_expiry(&world, &hold).await;
    let mut balance = of_kind(&every_item(&world.stack).await, "balance").next().unwrap().clone();
    balance.insert("used".to_owned(), AttributeValue::N("79228162514264337593543.950335".to_owned()));
    put_all(&world.stack, vec![balance]).await;
    let refused = settle_in(&table, &hold).await;
    assert!(matches!(refused, Err(HoldRefusal::Fault(Fault::Corrupt(_)))), "{refused:?}");
}
