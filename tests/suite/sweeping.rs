//! The sweep: ten thousand subscriptions due at once, fired twice, killed midway and fired again (M6).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use credits_local::Options;
use credits_local::database::Stream;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::subscribing::time;
use crate::world::World;

const SUBSCRIPTIONS: usize = 10_000;

pub type Item = HashMap<String, AttributeValue>;

/// An item of another workspace: the same, with other names in every text of it.
fn renamed(item: &Item, names: &[(String, String)]) -> Item {
    fn rename(value: &AttributeValue, names: &[(String, String)]) -> AttributeValue {
        match value {
            AttributeValue::S(text) => {
                let renamed = names.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
                AttributeValue::S(renamed)
            }
            AttributeValue::L(list) => AttributeValue::L(list.iter().map(|it| rename(it, names)).collect()),
            AttributeValue::M(map) => {
                AttributeValue::M(map.iter().map(|(name, it)| (name.clone(), rename(it, names))).collect())
            }
            other => other.clone(),
        }
    }
    item.iter().map(|(name, value)| (name.clone(), rename(value, names))).collect()
}

pub async fn every_item(world: &World) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let page = world
            .stack
            .client()
            .scan()
            .table_name(world.stack.table())
            .set_exclusive_start_key(start)
            .send()
            .await
            .unwrap();
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return items;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test fills the table as thousands of calls would")]
pub async fn put_all(world: &World, items: Vec<Item>) {
    for chunk in items.chunks(25) {
        let puts = chunk.iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        });
        world
            .stack
            .client()
            .batch_write_item()
            .request_items(world.stack.table(), puts.collect())
            .send()
            .await
            .unwrap();
    }
}

fn text(item: &Item, name: &str) -> String {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
}

pub fn of_kind<'a>(items: &'a [Item], kind: &'a str) -> impl Iterator<Item = &'a Item> {
    items.iter().filter(move |item| text(item, "pk").starts_with(kind))
}

/// A stack with a subscription of `acme`, and so many others like it.
async fn subscribed(others: usize) -> (World, jiff::Timestamp) {
    let world = World::with(&Options { stream: Stream::Off, ..Options::default() }).await;
    world.put_on_plan("acme", "team").await;
    world.buy("acme", "pack_1k", "pack").await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    let items = every_item(&world).await;
    let kept: Vec<&Item> = ["workspace#", "balance#", "card#", "subscription#"]
        .iter()
        .flat_map(|kind| of_kind(&items, kind))
        .collect();
    let id = world.subscribed("acme").await["subscription_id"].as_str().unwrap().to_owned();
    let copies = (0..others).flat_map(|number| {
        let workspace = format!("ws{number:05}");
        let names = [("acme".to_owned(), workspace.clone()), (id.clone(), format!("sub_{workspace}"))];
        kept.iter()
            .map(|item| {
                let mut copy = renamed(item, &names);
                if copy.contains_key("index_pk") {
                    copy.insert(
                        "index_pk".into(),
                        AttributeValue::S(credits_store::keys::due(&workspace.parse().unwrap())),
                    );
                }
                copy
            })
            .collect::<Vec<_>>()
    });
    put_all(&world, copies.collect()).await;
    (world, renews_at)
}

impl World {
    /// The charges of stored methods that the provider has made, oldest first, without the payments of checkouts.
    pub async fn charges(&self) -> Vec<Value> {
        let (mut charges, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/_local/provider/v1/payment_intents?limit=100{after}");
            let request = self.bare(Method::GET, &path).bearer_auth("sk_local");
            let page: Value = request.send().await.unwrap().json().await.unwrap();
            let intents = page["data"].as_array().unwrap();
            charges.extend(intents.iter().filter(|intent| intent["setup_future_usage"].is_null()).cloned());
            if page["has_more"] == false {
                charges.reverse();
                return charges;
            }
            after = format!("&starting_after={}", intents.last().unwrap()["id"].as_str().unwrap());
        }
    }

    pub async fn sweep(&self) -> Value {
        self.stack.fire("renewal", json!({})).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_ten_thousand_renewals_fired_twice_at_once_and_killed_midway_are_each_charged_and_granted_once() {
    let (world, renews_at) = subscribed(SUBSCRIPTIONS - 1).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    let before = world.charges().await.len();
    let twice = async {
        tokio::join!(world.stack.fire("renewal", json!({})), world.stack.fire("renewal", json!({})))
    };
    let killed = Box::pin(tokio::time::timeout(Duration::from_secs(4), twice)).await;
    assert!(killed.is_err(), "it was killed midway");
    let midway = world.charges().await.len() - before;
    assert!(midway > 0 && midway < SUBSCRIPTIONS, "{midway} were charged");
    // What a killed sweep has begun is asked for again after two minutes.
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(20)).unwrap();
    let (_, requests) = Box::pin(world.requests_of(world.sweep())).await;
    world.sweep().await;
    let charges = world.charges().await;
    let named: HashSet<&str> =
        charges.iter().map(|charge| charge["metadata"]["purchase_id"].as_str().unwrap()).collect();
    assert_eq!(
        (charges.len() - before, named.len() - before),
        (SUBSCRIPTIONS, SUBSCRIPTIONS),
        "each is charged once"
    );
    world.stack.sleep_until(renews_at + SignedDuration::from_mins(5)).unwrap();
    let (_, closing) = Box::pin(world.requests_of(world.sweep())).await;
    print_cost("charge and grant", &requests, SUBSCRIPTIONS - midway);
    print_cost("begin on the date", &closing, SUBSCRIPTIONS);

    let items = every_item(&world).await;
    let mut granted: BTreeMap<String, usize> = BTreeMap::new();
    for entry in of_kind(&items, "entry#").filter(|entry| text(entry, "pk").contains("#sys#payment#")) {
        let cause = entry["detail"].as_m().unwrap();
        let number = |name: &str| cause.get(name).and_then(|value| value.as_n().ok()).cloned();
        if cause["kind"].as_s().unwrap() == "allocation" && number("period").as_deref() == Some("2") {
            assert!(text(entry, "index_pk").starts_with("ledger#"), "it is listed by the close");
            let workspace = text(entry, "pk").split('#').nth(1).unwrap().to_owned();
            *granted.entry(workspace).or_default() += 1;
        }
    }
    assert_eq!(granted.len(), SUBSCRIPTIONS);
    assert!(granted.values().all(|grants| *grants == 1), "each is granted once");
    for balance in of_kind(&items, "balance#") {
        assert_eq!(balance["spendable"].as_n().unwrap(), "3000", "{}", text(balance, "pk"));
    }
}

/// Prints requests and write units of one renewal; past the capture of a test that passes.
fn print_cost(what: &str, requests: &[Value], renewals: usize) {
    let requests: Vec<&Value> = requests.iter().filter(|request| request["function"] == "renewal").collect();
    let units: u64 = requests.iter().map(|request| request["write_units"].as_f64().unwrap() as u64).sum();
    let hundredths = |sum: usize| (sum * 100 / renewals.max(1)).to_string();
    let mut operations: BTreeMap<&str, usize> = BTreeMap::new();
    for request in &requests {
        *operations.entry(request["operation"].as_str().unwrap()).or_default() += 1;
    }
    let printed = writeln!(
        std::io::stderr(),
        "{what}: {} hundredths of a request and {} of a write unit a renewal; {renewals} renewals, {operations:?}",
        hundredths(requests.len()),
        hundredths(units as usize),
    );
    printed.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_subscription_that_keeps_failing_holds_up_no_other_and_is_laid_aside() {
    let (world, renews_at) = subscribed(20).await;
    let items = every_item(&world).await;
    // An item that is not as we write it, as a hand in the table leaves it.
    let mut broken = of_kind(&items, "subscription#ws00007").next().unwrap().clone();
    broken.insert("enrolment".into(), AttributeValue::S("broken".into()));
    put_all(&world, vec![broken]).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    let before = world.charges().await.len();
    let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
    assert_eq!(failed, "0 due items were left, 1 postponed and 0 laid aside");
    assert_eq!(world.charges().await.len() - before, 20, "the others are renewed");
    for _ in 0..4 {
        world.stack.sleep_until(world.advance(0).await + SignedDuration::from_hours(4)).unwrap();
        drop(world.stack.fire("renewal", json!({})).await);
    }
    assert!(world.stack.fire("renewal", json!({})).await.is_ok(), "what is laid aside fails no sweep");
    put_all(
        &world,
        of_kind(&items, "subscription#ws00007")
            .map(|item| {
                let mut mended = item.clone();
                mended.insert("index_pk".into(), AttributeValue::S("stuck".into()));
                mended
            })
            .collect(),
    )
    .await;
    world.stack.fire("renewal", json!({ "unstick": true })).await.unwrap();
    assert_eq!(world.charges().await.len() - before, 21, "an operator has mended it");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_sweep_that_finds_the_provider_down_leaves_everything_for_the_next_one() {
    let (world, renews_at) = subscribed(3).await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    world.stack.sleep_until(renews_at - SignedDuration::from_mins(30)).unwrap();
    for _ in 0..8 {
        let failed = world.stack.fire("renewal", json!({})).await.unwrap_err();
        assert_eq!(failed, "4 due items were left, 0 postponed and 0 laid aside");
    }
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": false }))).await;
    assert_eq!(world.sweep().await["done"], 4);
    assert_eq!(world.subscribed("acme").await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_debits_without_pause_while_periods_turn_under_them_are_refused_only_for_want_of_credits() {
    // Without the stream: the stack works it off before its clock goes on, and spenders without pause keep it busy.
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
    // 120 days are four or five allocations, with the first.
    let allocations = kinds.iter().filter(|kind| *kind == "allocation").count();
    let expiries = kinds.iter().filter(|kind| *kind == "expiry").count();
    assert!((4..=5).contains(&allocations) && expiries == allocations - 1, "{kinds:?}");
    let debits = world.entries("acme").await.into_iter().filter(|entry| entry["kind"] == "debit");
    let taken: Vec<Value> = debits.map(|entry| entry["credits"].clone()).collect();
    assert_eq!(crate::world::micros(taken.iter()), calls * -10_000);
}
