//! The sweep: many subscriptions due at once, concurrent sweeps, and sweeps that fail (M6).

use aws_sdk_dynamodb::types::AttributeValue;
use credits_local::Options;
use credits_local::database::Stream;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all};
use model::renewals::{charges, renew_all, subscribe};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

impl World {
    /// Lists every charge at Stripe's stand-in.
    pub async fn charges(&self) -> Vec<Value> {
        charges(&self.http, &self.stack).await
    }

    pub async fn sweep(&self) -> Value {
        self.stack.fire("renewal", json!({})).await.unwrap()
    }
}

/// Starts a stack without the stream, whose delivery would take longer than the sweeps.
async fn without_stream() -> World {
    World::with(&Options { stream: Stream::Off, ..Options::default() }).await
}

/// Each subscription is charged once and granted once. `cargo bench --bench renewals` does the same with 10,000.
#[tokio::test(flavor = "multi_thread")]
async fn m06_500_renewals_swept_twice_and_stopped_are_paid_once() {
    let world = without_stream().await;
    Box::pin(renew_all(&world.stack, 500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_failing_subscription_is_quarantined_and_blocks_none() {
    let world = without_stream().await;
    let renews_at = subscribe(&world.stack, 21).await;
    let items = every_item(&world.stack).await;
    // An item that the store can't read, as after an edit by hand.
    let mut broken = of_kind(&items, "subscription#ws00007").next().unwrap().clone();
    broken.insert("enrolment".into(), AttributeValue::S("broken".into()));
    put_all(&world.stack, vec![broken]).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    let before = world.charges().await.len();
    let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
    assert_eq!(failed, "0 due items were left, 1 postponed and 0 quarantined");
    assert_eq!(world.charges().await.len() - before, 20, "the others are renewed");
    for _ in 0..4 {
        world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(4)).unwrap();
        drop(world.stack.fire("renewal", json!({})).await);
    }
    assert!(world.stack.fire("renewal", json!({})).await.is_ok(), "a quarantined item fails no sweep");
    put_all(
        &world.stack,
        of_kind(&items, "subscription#ws00007")
            .map(|item| {
                let mut repaired = item.clone();
                repaired.insert("index_pk".into(), AttributeValue::S("stuck".into()));
                repaired
            })
            .collect(),
    )
    .await;
    world.stack.fire("renewal", json!({ "unstick": true })).await.unwrap();
    assert_eq!(world.charges().await.len() - before, 21, "an operator has fixed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_sweep_during_an_outage_leaves_all_items_to_the_next() {
    let world = without_stream().await;
    let renews_at = subscribe(&world.stack, 4).await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    for _ in 0..8 {
        let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
        assert_eq!(failed, "4 due items were left, 0 postponed and 0 quarantined");
    }
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": false }))).await;
    assert_eq!(world.sweep().await["done"], 4);
    assert_eq!(world.subscribed("acme").await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_concurrent_debits_pass_while_periods_begin() {
    // The stack drains its stream before it moves the clock, and these debits would keep the stream busy.
    let options = credits_local::Options {
        stream: credits_local::database::Stream::Off,
        ..credits_local::Options::default()
    };
    let world = std::sync::Arc::new(World::with_card_on(&options).await);
    world.subscribe("acme", "tier_2k").await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let spenders: Vec<_> = (0..3)
        .map(|spender| {
            let (world, stop) = (std::sync::Arc::clone(&world), std::sync::Arc::clone(&stop));
            tokio::spawn(async move {
                let mut calls = 0_i128;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    assert_eq!(world.take("acme", &format!("{spender}-{calls}"), "0.01").await.status, 201);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for _ in 0..12 {
        world.advance(10 * 86_400).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut calls = 0;
    for spender in spenders {
        calls += spender.await.unwrap();
    }
    let kinds = world.reconciled("acme").await;
    // 120 days have four or five allocations, the first included.
    let allocations = kinds.iter().filter(|kind| *kind == "allocation").count();
    let expiries = kinds.iter().filter(|kind| *kind == "expiry").count();
    assert!((4..=5).contains(&allocations) && expiries == allocations - 1, "{kinds:?}");
    let debits = world.entries("acme").await.into_iter().filter(|entry| entry["kind"] == "debit");
    let taken: Vec<Value> = debits.map(|entry| entry["credits"].clone()).collect();
    assert_eq!(crate::world::micros(taken.iter()), calls * -10_000);
}
