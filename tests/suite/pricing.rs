//! Workspaces' own prices: each call is priced by the version in effect when it is written, on every function instance (M2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use credits_aws::sources::SystemClock;
use credits_local::Options;
use credits_local::conflicts::Conflicts;
use credits_store::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::holds::placing;
use crate::world::{Answer, World, consumer};

fn call() -> Value {
    json!({ "operation": "text.generate", "units": { "records": 0 }, "consumer": consumer() })
}

impl World {
    async fn price(&self, workspace: &str, prices: &Value) -> Answer {
        self.call(Method::PUT, &format!("/v1/workspaces/{workspace}/pricing"), None, Some(prices)).await
    }

    async fn quote(&self, workspace: &str, body: &Value) -> Value {
        let path = format!("/v1/workspaces/{workspace}/quotes");
        self.call(Method::POST, &path, None, Some(body)).await.body["credits"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_own_prices_apply_to_their_workspace_at_once() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    world.buy("other", "pack_1k", "other").await;
    let none = world.get("/v1/workspaces/acme/pricing").await;
    assert_eq!(none, json!({ "version": 0, "multiplier": "1", "operations": [], "models": [] }));
    assert_eq!(world.debit("acme", "a", &call()).await.body["credits"], "0.5");

    let prices = json!({
        "multiplier": "0.5",
        "operations": [{ "operation": "text.generate", "base": "3", "rates": [{ "unit": "pages", "credits": "2", "per": 1 }] },
                       { "operation": "own.only", "base": "7" }],
        "models": [{ "model": "tuned", "multiplier": "10", "aliases": ["tuned-2"] }],
    });
    let set = world.price("acme", &prices).await;
    assert_eq!((set.status, &set.body["version"]), (200, &json!(1)), "{}", set.body);
    assert_eq!(world.get("/v1/workspaces/acme/pricing").await, set.body);
    assert_eq!(world.price("acme", &prices).await.body["version"], 1, "the same prices keep their version");

    let pages = |model: &str| json!({ "operation": "text.generate", "model": model, "units": { "pages": 2 }, "consumer": consumer() });
    let debit = world.debit("acme", "b", &pages("tuned-2")).await;
    // (3 + 2 × 2) × 10 × 0.5
    assert_eq!((&debit.body["credits"], &debit.body["pricing"]), (&json!("35"), &json!(1)), "{}", debit.body);
    assert_eq!(world.debit("acme", "c", &call()).await.fields(), ["units.records"]);
    let only = json!({ "operation": "own.only", "units": { "images": null, "records": null }, "consumer": consumer() });
    assert_eq!(world.debit("acme", "d", &only).await.fields(), ["units.input_tokens"]);
    let stated = json!({ "operation": "own.only", "credits": "1", "consumer": consumer() });
    let stated = world.debit("acme", "e", &stated).await;
    assert_eq!((stated.status, &stated.body["pricing"]), (201, &Value::Null));
    assert_eq!(world.quote("acme", &pages("tuned")).await, "35");
    let batch = json!({ "lines": [pages("tuned"), pages("large")] });
    let batch = world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("f"), Some(&batch)).await;
    // (3 + 2 × 2) × 3.5 × 0.5 = 12.25
    assert_eq!(batch.body["credits"], "47.25");
    // The first call of the key replays although its price has changed.
    let replay = world.debit("acme", "a", &call()).await;
    assert_eq!((replay.replayed, &replay.body["credits"]), (true, &json!("0.5")));
    assert_eq!(world.quote("other", &call()).await, "0.5");
    assert_eq!(world.debit("other", "a", &pages("large")).await.fields(), ["units.pages"]);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_settlements_follow_and_captures_keep_their_holds_prices() {
    let world = World::with_packs(1).await;
    let mut hold = placing("1", 600);
    hold.as_object_mut().unwrap().remove("credits");
    hold["units"] = json!({ "records": 10 });
    // text.summarize: 0.3 + 10 × 0.3
    let placed = world.holds("", "h1", &hold).await;
    assert_eq!(placed.body["credits"], "3.3");
    let first = placed.body["hold_id"].as_str().unwrap().to_owned();
    world.price("acme", &json!({ "multiplier": "2" })).await;
    let placed = world.holds("", "h2", &hold).await;
    assert_eq!(placed.body["credits"], "6.6");
    let second = placed.body["hold_id"].as_str().unwrap().to_owned();
    assert_eq!(world.holds("", "h1", &hold).await.body["credits"], "3.3", "a replay");

    let one = json!({ "operation": "text.summarize", "units": { "records": 1 }, "consumer": consumer() });
    let capture = async |hold: &str, key: &str| {
        world.holds(&format!("/{hold}/captures"), key, &one).await.body["credits"].clone()
    };
    assert_eq!((capture(&first, "c1").await, capture(&second, "c2").await), (json!("0.6"), json!("1.2")));
    let last = json!({ "units": { "records": 2 }, "overrun": "extend" });
    assert_eq!(world.settle(&first, "s1", &last).await.body["captured"], "2.4", "0.6 + 0.9 × 2");
    world.price("acme", &json!({})).await;
    assert_eq!(world.settle(&second, "s2", &last).await.body["captured"], "2.1", "1.2 + 0.9");
    let settled = &world.entries("acme").await[0];
    assert_eq!(settled["pricing"], json!([1, 2]));
    world.reconciled("acme").await;
}

/// A unit that only the hold's version prices is captured, although another version is in effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_capture_has_prices_that_have_ended_since() {
    let world = World::with_packs(1).await;
    world.price("acme", &json!({ "operations": [{ "operation": "own.part", "base": "2" }] })).await;
    let hold = world.place("h", "10").await;
    let none = json!({ "operation": "text.classify", "units": { "records": 0 }, "consumer": consumer() });
    world.price("acme", &json!({})).await;
    // The function learns the version that is in effect.
    world.debit("acme", "d", &none).await;
    let mut part = none.clone();
    part["operation"] = json!("own.part");
    part["units"] = json!({ "records": 0 });
    assert_eq!(world.holds(&format!("/{hold}/captures"), "c", &part).await.fields(), ["units.records"]);
    world
        .price(
            "acme",
            &json!({ "operations": [{ "operation": "own.part", "base": "2", "per_record": "1" }] }),
        )
        .await;
    let second = world.place("h2", "10").await;
    world.price("acme", &json!({})).await;
    world.debit("acme", "d2", &none).await;
    let captured = world.holds(&format!("/{second}/captures"), "c2", &part).await;
    assert_eq!((captured.status, &captured.body["credits"]), (201, &json!("2")), "{}", captured.body);
    assert_eq!(world.debit("acme", "d3", &part).await.fields(), ["operation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_shows_a_workspace_its_prices() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    world
        .price(
            "acme",
            &json!({ "multiplier": "0.9", "operations": [{ "operation": "text.generate", "base": "9" }] }),
        )
        .await;
    let get = async |workspace: &str, token: &str| {
        let request =
            world.bare(Method::GET, &format!("/v1/catalog?workspace={workspace}")).bearer_auth(token);
        crate::world::answer(request).await
    };
    let own = world.token("acme", "credits:read").await;
    let operator = world.token("*", "credits:manage").await;
    for token in [&own, &operator] {
        let shown = get("acme", token).await;
        assert_eq!(
            (shown.status, &shown.body["pricing"]),
            (200, &json!({ "version": 1, "multiplier": "0.9" }))
        );
        let operations = shown.body["rate_card"]["operations"].as_array().unwrap();
        let replaced = operations.iter().find(|it| it["operation"] == "text.generate").unwrap();
        assert_eq!(*replaced, json!({ "operation": "text.generate", "base": "9" }));
        assert!(operations.len() > 5, "the rate card's other operations stay");
    }
    assert_eq!(get("other", &own).await.status, 403);
    assert_eq!(get("none", &operator).await.status, 404);
    assert_eq!(get("other", &operator).await.body["pricing"], Value::Null);
    let unknown = world.call(Method::GET, "/v1/catalog?plan=pro", None, None).await;
    assert_eq!(unknown.fields(), ["plan"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_prices_are_refused_by_field() {
    let world = World::with_packs(0).await;
    let rate = |per: u64, credits: &str| json!({ "unit": "images", "credits": credits, "per": per });
    for (body, fields) in [
        (json!({ "multiplier": "-1" }), vec!["multiplier"]),
        (json!({ "multiplier": 1 }), vec!["multiplier"]),
        (
            json!({ "operations": [{ "base": "-0.1" }, { "operation": "a b" }] }),
            vec!["operations.0.operation", "operations.0.base", "operations.1.operation"],
        ),
        (
            json!({ "operations": [{ "operation": "a", "rates": [rate(10, "1"), rate(1, "-1")] }] }),
            vec!["operations.0.rates.0.per", "operations.0.rates.1.credits"],
        ),
        (
            json!({ "operations": [{ "operation": "a", "rates": [rate(1, "1"), rate(1000, "1")] }] }),
            vec!["operations.0.rates.1"],
        ),
        (json!({ "operations": [{ "operation": "a" }, { "operation": "a" }] }), vec!["operations.1"]),
        (json!({ "models": [{ "model": "a", "aliases": ["b"] }, { "model": "b" }] }), vec!["models.1"]),
        (json!({ "models": [{ "model": "a", "price": "1" }], "extra": 1 }), vec!["models.0.price", "extra"]),
    ] {
        assert_eq!(world.price("acme", &body).await.fields(), fields, "{body}");
    }
    assert_eq!(world.price("none", &json!({})).await.status, 404);
    let token = world.token("acme", "credits:manage").await;
    let own = world.bare(Method::PUT, "/v1/workspaces/acme/pricing").bearer_auth(token).json(&json!({}));
    assert_eq!(crate::world::answer(own).await.status, 403, "a workspace can't set its own prices");
}

/// 64 tasks debit, on the balance and on lanes, while the prices change. Each entry has the price of the version that it
/// names, and none is written before its version began or after it had ended.
#[tokio::test(flavor = "multi_thread")]
async fn m02_64_tasks_are_priced_by_the_version_in_effect() {
    let options = Options { conflicts: Conflicts::On, ..Options::default() };
    let world = Arc::new(World::with(&options).await);
    world.put_workspace("acme").await;
    world.buy("acme", "pack_25k", "pack").await;
    let running = Arc::new(AtomicUsize::new(64));
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let (world, running) = (Arc::clone(&world), Arc::clone(&running));
        tasks.spawn(async move {
            for number in 0..50 {
                let key = format!("{task}-{number}");
                let mut debit = world.debit("acme", &key, &call()).await;
                while debit.status == 503 {
                    debit = world.debit("acme", &key, &call()).await;
                }
                assert_eq!(debit.status, 201, "{}", debit.body);
            }
            running.fetch_sub(1, Ordering::Relaxed);
        });
    }
    // When each version was set: between the two instants.
    let mut set: BTreeMap<u64, [jiff::Timestamp; 2]> = BTreeMap::new();
    for version in 1..=6 {
        if running.load(Ordering::Relaxed) == 0 {
            break;
        }
        let before = SystemClock.now();
        let operation = json!({ "operation": "text.generate", "base": "0.01", "per_record": "0" });
        let prices = json!({ "multiplier": version.to_string(), "operations": [operation] });
        let mut answer = world.price("acme", &prices).await;
        while answer.status == 503 {
            answer = world.price("acme", &prices).await;
        }
        assert_eq!((answer.status, &answer.body["version"]), (200, &json!(version)), "{}", answer.body);
        set.insert(version, [before, SystemClock.now()]);
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let entries = world.entries("acme").await;
    let debits: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "debit").collect();
    assert_eq!(debits.len(), 64 * 50);
    let versions: BTreeSet<u64> = debits.iter().filter_map(|debit| debit["pricing"].as_u64()).collect();
    assert!(versions.len() > 2, "{versions:?}");
    for debit in debits {
        let version = debit["pricing"].as_u64().unwrap_or_default();
        let expected = if version == 0 { 500_000 } else { 10_000 * i128::from(version) };
        assert_eq!(-crate::world::micros([&debit["credits"]]), expected, "{debit}");
        let at: jiff::Timestamp = debit["at"].as_str().unwrap().parse().unwrap();
        if let Some([_, ended]) = set.get(&(version + 1)) {
            assert!(at <= *ended, "written after version {version} had ended: {debit}");
        }
        if let Some([begun, _]) = set.get(&version) {
            // Entries have whole milliseconds.
            assert!(
                at.as_millisecond() >= begun.as_millisecond(),
                "written before version {version} began: {debit}"
            );
        }
    }
    world.reconciled("acme").await;
}
