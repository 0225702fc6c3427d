//! Due items: the sweep handles each kind of them, and the webhook a period that begins (M6, M8).

use aws_sdk_dynamodb::types::AttributeValue;
use credits_local::Options;
use credits_local::database::Stream;
use credits_store::table::keys;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all, text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::holds::placing;
use crate::subscribing::time;
use crate::world::World;

/// Counts the ledger entries in the table. A call of the API would close what is due first.
async fn entries(world: &World) -> usize {
    of_kind(&every_item(&world.stack).await, "entry#").count()
}

async fn grant(world: &World, hours: i64) {
    let end = world.advance(0).await + SignedDuration::from_hours(hours);
    let body = json!({ "credits": "5", "kind": "promotional", "expires_at": end, "reason": "welcome" });
    let path = "/v1/workspaces/acme/grants";
    assert_eq!(world.call(Method::POST, path, Some("grant"), Some(&body)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_the_sweep_expires_a_grant_of_an_idle_workspace() {
    let world = World::with_packs(0).await;
    grant(&world, 2).await;
    world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(3)).unwrap();
    assert_eq!(entries(&world).await, 1);
    assert_eq!(world.sweep().await["done"], 1);
    assert_eq!(entries(&world).await, 2, "the ledger has the expiry");
    assert_eq!(world.sweep().await["done"], 0, "the grant is no longer due");
    assert_eq!(world.reconciled("acme").await, ["grant", "expiry"]);
}

/// Starts a stack in which an agreement, a grant, its expiry notice and a checkout are due within 40 days.
async fn with_one_of_each() -> World {
    let world = World::with(&Options { stream: Stream::Off, ..Options::default() }).await;
    world.put_on_plan("acme", "enterprise").await;
    let agreement = json!({ "credit_limit": "500", "commitment": null,
        "invoicing": { "price_per_credit_micros": 10_000, "currency": "USD" } });
    let path = "/v1/workspaces/acme/agreement";
    assert_eq!(world.call(Method::PUT, path, None, Some(&agreement)).await.status, 201);
    grant(&world, 2).await;
    let alerts = json!({ "low_balance": { "enabled": false },
        "expiry": { "enabled": true, "recipients": ["ops@acme.example"] } });
    assert_eq!(world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&alerts)).await.status, 201);
    assert_eq!(world.open_top_up("acme", "pack_1k", "pack").await.status, 201);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_failing_items_are_postponed_quarantined_and_unstuck() {
    let world = with_one_of_each().await;
    let broken = ["agreement#", "balance#", "purchase#"];
    // Items that the store can't read, as after an edit by hand.
    let (mut kept, mut corrupted) = (Vec::new(), Vec::new());
    for item in every_item(&world.stack).await {
        if !broken.iter().any(|kind| of_kind(std::slice::from_ref(&item), kind).next().is_some()) {
            continue;
        }
        let mut changed = item.clone();
        for (name, value) in &mut changed {
            if matches!(value, AttributeValue::M(_) | AttributeValue::N(_)) && name != "version" {
                *value = AttributeValue::S("broken".into());
            }
        }
        kept.push(item);
        corrupted.push(changed);
    }
    assert_eq!(kept.len(), 3);
    put_all(&world.stack, corrupted).await;
    world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(24 * 40)).unwrap();
    let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
    assert_eq!(failed, "0 due items were left, 4 postponed and 0 quarantined");
    for _ in 0..4 {
        world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(6)).unwrap();
        drop(world.stack.fire("renewal", json!({})).await);
    }
    assert!(world.stack.fire("renewal", json!({})).await.is_ok(), "quarantined items fail no sweep");
    // An operator fixes the items where they are: still quarantined, and with their count of failures.
    let stuck: Vec<_> = every_item(&world.stack).await;
    let repaired = kept.into_iter().map(|item| {
        let now = of_kind(&stuck, item["pk"].as_s().unwrap()).next().unwrap();
        let places = ["index_pk", "index_sk", "failures"].into_iter();
        let places = places.filter_map(|name| Some((name.to_owned(), now.get(name)?.clone())));
        item.clone().into_iter().chain(places).collect()
    });
    put_all(&world.stack, repaired.collect()).await;
    let swept = world.stack.fire("renewal", json!({ "unstick": true })).await.unwrap();
    assert_eq!(swept["done"], 4);
    assert_eq!(world.kinds("acme").await, ["grant 5", "expiry -5"]);
}

/// A hold that can't be read, as after an edit by hand. Version 0.1 put open holds among the other due items, so one may
/// still be there.
#[tokio::test(flavor = "multi_thread")]
async fn m04_a_failing_hold_is_postponed_quarantined_and_unstuck() {
    for is_older in [false, true] {
        let world = World::with_packs(1).await;
        assert_eq!(world.holds("", "hold", &placing("10", 60)).await.status, 201);
        let hold = of_kind(&every_item(&world.stack).await, "hold#").next().unwrap().clone();
        let mut broken = hold.clone();
        broken.insert("captures".to_owned(), AttributeValue::S("broken".to_owned()));
        if is_older {
            let position = text(&hold, "index_sk").strip_prefix("acme#").unwrap().to_owned();
            let partition = keys::due(&"acme".parse().unwrap());
            broken.insert("index_pk".to_owned(), AttributeValue::S(partition));
            broken.insert("index_sk".to_owned(), AttributeValue::S(position));
        }
        put_all(&world.stack, vec![broken]).await;
        world.stack.sleep_until(world.advance(0).await + SignedDuration::from_mins(2)).unwrap();
        for failure in 1..=5 {
            let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
            let quarantined = usize::from(failure == 5);
            let counts = format!("{} postponed and {quarantined} quarantined", 1 - quarantined);
            assert_eq!(failed, format!("0 due items were left, {counts}"), "{failure}, {is_older}");
            world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(6)).unwrap();
        }
        let mut stuck = of_kind(&every_item(&world.stack).await, "hold#").next().unwrap().clone();
        stuck.insert("captures".to_owned(), hold["captures"].clone());
        put_all(&world.stack, vec![stuck]).await;
        assert_eq!(world.sweep().await["done"], 0, "a quarantined hold is not due");
        assert_eq!(world.stack.fire("renewal", json!({ "unstick": true })).await.unwrap()["done"], 1);
        assert_eq!(world.balance("acme").await["held"], "0");
    }
}

/// The webhook closes the balance in the first seconds of a period, before any sweep or call.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_refund_event_begins_the_period_that_is_due() {
    let world = World::with(&Options { stream: Stream::Off, ..Options::default() }).await;
    world.put_on_plan("acme", "team").await;
    let pack = world.buy("acme", "pack_1k", "pack").await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    assert_eq!(world.sweep().await["done"], 1, "the period is paid ahead");
    world.stack.sleep_until(renews_at + SignedDuration::from_secs(2)).unwrap();
    let refund: Value = json!({ "id": "ch_1", "payment_intent": pack["payment_id"], "amount_refunded": 500, "currency": "usd" });
    let now = world.advance(0).await;
    assert_eq!(world.tell_at("charge.refunded", &refund, now).await.status, 200);
    let items = every_item(&world.stack).await;
    let balance = of_kind(&items, "balance#acme").next().unwrap();
    assert_eq!(balance["epoch"], AttributeValue::N("3".into()), "{balance:?}");
    world.reconciled("acme").await;
}

/// Replaces the table's items by earlier ones, as a restore to a point in time does.
#[expect(clippy::disallowed_methods, reason = "a test acts as an operator")]
async fn restore(world: &World, to: Vec<model::items::TableItem>) {
    for item in every_item(&world.stack).await {
        let delete = world.stack.client().delete_item().table_name(world.stack.table());
        delete.key("pk", item["pk"].clone()).key("sk", item["sk"].clone()).send().await.unwrap();
    }
    put_all(&world.stack, to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_restoring_the_table_charges_no_renewal_again() {
    let world = World::with(&Options { stream: Stream::Off, ..Options::default() }).await;
    world.put_on_plan("acme", "team").await;
    world.buy("acme", "pack_1k", "pack").await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    let before = every_item(&world.stack).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    assert_eq!(world.sweep().await["done"], 1);
    let charged = world.charges().await.len();
    for hours in [1, 30] {
        restore(&world, before.clone()).await;
        world.stack.sleep_until(renews_at + SignedDuration::from_hours(hours)).unwrap();
        assert_eq!(world.sweep().await["done"], 1, "{hours} hours later");
        assert_eq!(world.charges().await.len(), charged, "{hours} hours later");
        assert_eq!(world.subscribed("acme").await["period"], 2);
        assert_eq!(world.available("acme").await, "3000");
    }
}
