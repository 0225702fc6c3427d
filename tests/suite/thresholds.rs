//! Several thresholds of the low-balance alert, in credits and as percentages of the allocation (M15).

use credits_core::credits::Credits;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contention::{cause, claim};
use crate::subscribing::time;
use crate::table::{Table, cancelled};
use crate::world::{Answer, World};

const PATH: &str = "/v1/workspaces/acme/alerts";

impl World {
    async fn put_thresholds(&self, thresholds: Value) -> Answer {
        let low_balance =
            json!({ "enabled": true, "thresholds": thresholds, "recipients": ["ops@acme.example"] });
        self.call(Method::PUT, PATH, None, Some(&json!({ "low_balance": low_balance }))).await
    }

    /// Returns the thresholds of the events `CreditsLow` so far.
    async fn crossed(&self) -> Vec<String> {
        self.drain().await;
        let events = self.events("CreditsLow").await;
        events.iter().map(|event| event["threshold"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the amount that each mail about a low balance names as its threshold.
    async fn mailed_thresholds(&self) -> Vec<String> {
        let mails = self.mails().await;
        let texts =
            mails.iter().filter_map(|mail| mail["text"].as_str()?.split("Your alert is set to ").nth(1));
        texts.map(|text| text.split(' ').next().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_each_threshold_is_mailed_once_per_crossing() {
    let world = World::with_packs(1).await;
    assert_eq!(world.put_thresholds(json!([{ "credits": "500" }, { "credits": "100.5" }])).await.status, 201);
    world.take("acme", "above", "499.999999").await;
    assert_eq!(world.crossed().await, [""; 0]);
    world.take("acme", "at", "0.000001").await;
    assert_eq!(world.crossed().await, ["500"]);
    world.take("acme", "between", "399.4").await;
    assert_eq!(world.crossed().await, ["500"]);
    world.take("acme", "second", "0.1").await;
    assert_eq!(world.crossed().await, ["500", "100.5"]);
    world.take("acme", "below", "50").await;
    assert_eq!(world.crossed().await, ["500", "100.5"]);
    assert_eq!(world.mailed_thresholds().await, ["500", "100.5"]);
    world.buy("acme", "pack_1k", "more").await;
    world.take("acme", "again", "600").await;
    assert_eq!(world.crossed().await, ["500", "100.5", "500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_a_debit_across_several_thresholds_sends_one_mail() {
    let world = World::with_packs(1).await;
    let thresholds = json!([{ "credits": "100" }, { "credits": "700" }, { "credits": "500" }]);
    assert_eq!(world.put_thresholds(thresholds.clone()).await.status, 201);
    assert_eq!(world.get(PATH).await["low_balance"]["thresholds"], thresholds, "as set");
    world.take("acme", "deep", "600").await;
    assert_eq!(world.crossed().await, ["700", "500"]);
    assert_eq!(world.mailed_thresholds().await, ["500"]);
    let ids: Vec<_> = world.events("CreditsLow").await.iter().map(|it| it["event_id"].clone()).collect();
    let version = world.balance("acme").await["version"].clone();
    assert_eq!(ids, [json!(format!("low-acme-{version}-700")), json!(format!("low-acme-{version}-500"))]);
    world.take("acme", "rest", "300").await;
    assert_eq!(world.mailed_thresholds().await, ["500", "100"]);
}

/// `threshold` alone is the interface of older clients.
#[tokio::test(flavor = "multi_thread")]
async fn m15_threshold_and_thresholds_are_kept_apart() {
    let world = World::with_packs(1).await;
    let recipients = json!(["ops@acme.example"]);
    let old = json!({ "enabled": true, "threshold": "200", "recipients": recipients });
    let put = world.call(Method::PUT, PATH, None, Some(&json!({ "low_balance": old }))).await;
    assert_eq!(put.body["low_balance"]["thresholds"], json!([]));
    let both = json!({ "enabled": true, "threshold": "200", "thresholds": [{ "credits": "600" }], "recipients": recipients });
    let put = world.call(Method::PUT, PATH, None, Some(&json!({ "low_balance": both }))).await;
    assert_eq!((put.status, &put.body["low_balance"]), (200, &both));
    world.take("acme", "first", "450").await;
    world.take("acme", "second", "400").await;
    assert_eq!(world.crossed().await, ["600", "200"]);
    assert_eq!(world.get(PATH).await["low_balance"], both);
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_wrong_thresholds_are_refused_all_at_once() {
    let world = World::with_packs(0).await;
    let six: Vec<Value> = (1..=6).map(|number| json!({ "credits": number.to_string() })).collect();
    for (threshold, thresholds, fields) in [
        (json!(null), json!([]), vec!["low_balance.threshold"]),
        (json!(null), json!(null), vec!["low_balance.threshold"]),
        (json!(null), json!({ "credits": "5" }), vec!["low_balance.thresholds"]),
        (json!(null), json!(six), vec!["low_balance.thresholds"]),
        (json!("9"), json!(six[..5]), vec!["low_balance.thresholds"]),
        (json!("2"), json!([{ "credits": "2" }]), vec!["low_balance.thresholds.0"]),
        (
            json!(null),
            json!([{ "credits": "2" }, { "percent_of_allocation": 5 }, { "percent_of_allocation": 5 }, { "credits": "2.0" }]),
            vec!["low_balance.thresholds.3.credits"],
        ),
        (
            json!(null),
            json!([{ "percent_of_allocation": 5 }, { "percent_of_allocation": 5 }]),
            vec!["low_balance.thresholds.1"],
        ),
        (
            json!("-1"),
            json!([{}, { "credits": "1", "percent_of_allocation": 1 }, 5, { "credits": "x", "y": 1 }, { "percent_of_allocation": 0 }]),
            vec![
                "low_balance.threshold",
                "low_balance.thresholds.0.credits",
                "low_balance.thresholds.1.percent_of_allocation",
                "low_balance.thresholds.2",
                "low_balance.thresholds.3.credits",
                "low_balance.thresholds.3.y",
                "low_balance.thresholds.4.percent_of_allocation",
            ],
        ),
        (
            json!(null),
            json!([{ "percent_of_allocation": 101 }]),
            vec!["low_balance.thresholds.0.percent_of_allocation"],
        ),
        (
            json!(null),
            json!([{ "percent_of_allocation": 1.5 }]),
            vec!["low_balance.thresholds.0.percent_of_allocation"],
        ),
    ] {
        let low_balance = json!({ "enabled": true, "threshold": threshold, "thresholds": thresholds, "recipients": ["a", "b@c.example", 7] });
        let refused = world.call(Method::PUT, PATH, None, Some(&json!({ "low_balance": low_balance }))).await;
        let fields = [fields, vec!["low_balance.recipients.0", "low_balance.recipients.2"]].concat();
        assert_eq!(refused.fields(), fields, "{low_balance}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_a_percentage_follows_an_upgrade_and_a_downgrade() {
    let world = World::with_card().await;
    assert_eq!(world.take("acme", "prepaid", "1000").await.status, 201);
    let thresholds = json!([{ "percent_of_allocation": 10 }]);
    assert_eq!(world.put_thresholds(thresholds.clone()).await.status, 201);
    world.drain().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.drain().await;
    world.take("acme", "above", "1799.999999").await;
    assert_eq!(world.crossed().await, [""; 0]);
    world.take("acme", "at", "0.000001").await;
    assert_eq!(world.crossed().await, ["200"]);

    assert_eq!(world.subscribe("acme", "tier_10k").await.status, 200);
    world.drain().await;
    assert_eq!(world.put_thresholds(thresholds).await.status, 200);
    let available: Credits = world.available("acme").await.parse().unwrap();
    let above = available.minus("1000.000001".parse().unwrap()).unwrap();
    assert_eq!(world.take("acme", "upgraded", &above.to_string()).await.status, 201);
    assert_eq!(world.crossed().await, ["200"]);
    world.take("acme", "at-upgraded", "0.000001").await;
    assert_eq!(world.crossed().await, ["200", "1000"]);

    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 200);
    world.advance_to(renews_at + SignedDuration::from_mins(5)).await;
    assert_eq!(world.available("acme").await, "2000", "the read starts the period");
    world.drain().await;
    world.take("acme", "downgraded", "1799.9").await;
    assert_eq!(world.crossed().await, ["200", "1000"]);
    world.take("acme", "at-downgraded", "0.1").await;
    assert_eq!(world.crossed().await, ["200", "1000", "200"]);
}

/// An event may arrive twice, late, or after the settings have changed.
#[tokio::test(flavor = "multi_thread")]
async fn m15_an_allocation_changes_only_thresholds_that_follow_it() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.drain().await;
    let added = json!({ "source": "ai-credits", "detail-type": "CreditsAdded",
        "detail": { "workspace_id": "acme", "kind": "allocation" } });
    let version = world.balance("acme").await["version"].clone();
    assert_eq!(world.stack.fire("renewal", added.clone()).await, Ok(json!({ "looked_at": "acme" })));
    world.put_thresholds(json!([{ "credits": "5" }])).await;
    world.put_thresholds(json!([{ "percent_of_allocation": 50 }, { "credits": "5" }])).await;
    let set = world.balance("acme").await["version"].clone();
    assert_eq!(set.as_u64(), version.as_u64().map(|version| version + 2));
    world.stack.fire("renewal", added).await.unwrap();
    assert_eq!(world.balance("acme").await["version"], set, "nothing has changed");
    assert!(world.stack.fire("renewal", json!({ "detail-type": "CreditsAdded" })).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn m15_thresholds_are_set_and_crossed_while_lanes_are_open() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.at(&world.stack.now().to_string());
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    table.store.debits().debit(&claim("busy", "busy"), "1".parse().unwrap(), cause()).await.unwrap();
    assert_eq!(world.put_thresholds(json!([{ "credits": "400" }, { "credits": "200" }])).await.status, 201);
    assert_eq!(world.crossed().await, [""; 0]);
    let table = Table::of(&world);
    table.at(&world.stack.now().to_string());
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    table.store.debits().debit(&claim("again", "again"), "1".parse().unwrap(), cause()).await.unwrap();
    world.take("acme", "deep", "850").await;
    assert_eq!(world.crossed().await, ["400", "200"]);
    assert_eq!(world.mailed_thresholds().await, ["200"]);
}
