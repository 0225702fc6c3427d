//! Lanes: a busy workspace's credits are spread over several items, and every promise stays exact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::balance::Balance;
use credits_core::grant::GrantKind;
use credits_core::id::Id;
use credits_local::Options;
use credits_local::conflicts::Conflicts;
use credits_store::debits::{DebitRefusal, Posted};
use credits_store::grants::{GrantOrder, Term};
use credits_store::holds::{HoldOrder, NamedHolds};
use credits_store::ledger::LedgerQuery;
use credits_store::{Clock, KeyUse};
use jiff::{SignedDuration, Timestamp};
use model::items::{TableItem, every_item, of_kind, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::contention::{cause, claim, purpose};
use crate::table::{Table, TableFault, cancelled};
use crate::world::{World, consumer, micros};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A stack on which `acme` has 1,000 prepaid credits, and a store on its table.
async fn acme() -> (World, Table) {
    let world = World::with_packs(0).await;
    let table = Table::of(&world);
    grant(&table, "prepaid", "1000", Term::Prepaid).await;
    (world, table)
}

async fn grant(table: &Table, key: &str, credits: &str, term: Term) -> Id {
    let order = GrantOrder { amount: credits.parse().unwrap(), term, reason: "a test".into() };
    let Posted { entry, .. } = table.store.grants().grant(&claim(key, key), &order).await.unwrap();
    entry.entry_id
}

async fn take(table: &Table, key: &str, credits: &str) -> Result<KeyUse, DebitRefusal> {
    let posted = table.store.debits().debit(&claim(key, key), credits.parse().unwrap(), cause()).await;
    posted.map(|posted| posted.key_use)
}

/// Debits one credit by another instance, whose first three attempts conflict.
async fn open_lanes(world: &World, like: &Table, key: &str) {
    let table = Table::of(world);
    table.at(&like.clocks.function.now().to_string());
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    assert_eq!(take(&table, key, "1").await.unwrap(), KeyUse::First);
}

async fn balance(table: &Table) -> Balance {
    table.store.balances().get(&"acme".parse().unwrap()).await.unwrap().unwrap()
}

async fn lanes_of(world: &World) -> Vec<TableItem> {
    of_kind(&every_item(&world.stack).await, "lane#").cloned().collect()
}

async fn stored_balance(world: &World) -> TableItem {
    of_kind(&every_item(&world.stack).await, "balance#").next().unwrap().clone()
}

fn number(item: &TableItem, name: &str) -> String {
    item[name].as_n().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_conflicts_in_one_call_open_lanes() {
    let (world, table) = acme().await;
    take(&table, "quiet", "1").await.unwrap();
    assert_eq!(
        (lanes_of(&world).await.len(), stored_balance(&world).await.contains_key("lanes_first")),
        (0, false)
    );
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    take(&table, "busy", "1").await.unwrap();
    assert_eq!(lanes_of(&world).await.len(), 16);
    let stored = stored_balance(&world).await;
    // A reserve of 1 % of the addition and 1, and half of the rest for 16 lanes.
    assert_eq!(
        (number(&stored, "lanes_reserve"), number(&stored, "lanes_allotted")),
        ("11".into(), "494".into())
    );
    assert_eq!(number(&stored, "spendable"), "494");
    let shown = balance(&table).await;
    assert_eq!((shown.spendable.to_string().as_str(), shown.used.to_string().as_str()), ("998", "2"));
    assert!(shown.is_consistent().unwrap());
    assert_eq!(world.available("acme").await, "998");

    // The next call is one transaction: on the lane of the call before.
    let before = table.transactions();
    take(&table, "again", "2").await.unwrap();
    let sent = table.transactions.lock().unwrap()[before..].to_vec();
    assert!(sent.len() == 1 && sent[0].contains("lane#acme#") && !sent[0].contains("balance#"), "{sent:?}");
    assert_eq!(take(&table, "again", "2").await.unwrap(), KeyUse::Replay);
    assert_eq!(world.available("acme").await, "996");
    world.reconciled("acme").await;

    // Events show what the balance and its lanes have together.
    world.buy("acme", "pack_1k", "more").await;
    world.drain().await;
    let events = world.local(Method::GET, "/_local/events", None).await;
    let added = events.as_array().unwrap().iter().find(|event| event["detail"]["kind"] == "top_up").unwrap();
    assert_eq!(added["detail"]["available"], "1996");
    assert_eq!(lanes_of(&world).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_call_on_a_lane_is_counted() {
    let (world, table) = acme().await;
    table.at(&world.advance(0).await.to_string());
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    take(&table, "busy", "1").await.unwrap();
    let before = table.transactions();
    take(&table, "free", "0").await.unwrap();
    let sent = table.transactions.lock().unwrap()[before..].to_vec();
    assert!(sent.len() == 1 && sent[0].contains("lane#acme#"), "{sent:?}");
    world.drain().await;
    let counted = world.usage_by("acme", "operation").await;
    assert_eq!(counted["text.generate"], ("1".to_owned(), 2));
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_that_needs_the_lanes_recalls_them() {
    let (world, table) = acme().await;
    open_lanes(&world, &table, "busy").await;
    take(&table, "all", "999").await.unwrap();
    assert_eq!((lanes_of(&world).await.len(), world.available("acme").await.as_str()), (0, "0"));
    let stored = stored_balance(&world).await;
    assert!(!stored.contains_key("lanes_first") && !stored.contains_key("index_pk"), "{stored:?}");
    assert!(matches!(take(&table, "one", "1").await, Err(DebitRefusal::Insufficient { .. })));
    world.reconciled("acme").await;
}

/// The lanes stay open, and the refusal shows what the balance and its lanes have together.
#[tokio::test(flavor = "multi_thread")]
async fn m11_an_oversized_debit_is_refused_without_a_recall() {
    let (world, table) = acme().await;
    open_lanes(&world, &table, "busy").await;
    take(&table, "on-a-lane", "9").await.unwrap();
    let refused = take(&table, "too-much", "990.000001").await;
    let Err(DebitRefusal::Insufficient { balance, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((balance.available.to_string().as_str(), balance.exhaustion), ("990", None));
    assert_eq!(lanes_of(&world).await.len(), 16);
    assert_eq!(take(&table, "all", "990").await.unwrap(), KeyUse::First);
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_holds_and_their_ends_take_credits_of_lanes() {
    let (world, table) = acme().await;
    table.at(&world.advance(0).await.to_string());
    let purpose = purpose();
    let place = async |key: &str, credits: &str| {
        let order = HoldOrder {
            amount: credits.parse().unwrap(),
            priced_with: None,
            lasts: HOUR,
            named: NamedHolds { count: None, purpose: &purpose },
        };
        table.store.holds().place(&claim(key, key), order).await
    };
    open_lanes(&world, &table, "busy").await;
    let small = place("small", "10").await.unwrap();
    assert_eq!(lanes_of(&world).await.len(), 16, "the balance covers it");
    let large = place("large", "900").await.unwrap();
    assert_eq!((lanes_of(&world).await.len(), world.available("acme").await.as_str()), (0, "89"));
    assert!(matches!(place("more", "90").await, Err(DebitRefusal::Insufficient { .. })));
    let end = async |hold: &Id, key: &str, body: Value| {
        world
            .call(Method::POST, &format!("/v1/workspaces/acme/holds/{hold}/settle"), Some(key), Some(&body))
            .await
    };
    assert_eq!(end(&large.holds[0].hold_id, "settle-large", json!({})).await.status, 200);
    assert_eq!(world.available("acme").await, "989");
    open_lanes(&world, &table, "busy-again").await;
    // A settlement of more than its hold takes the rest from balance and lanes together.
    let more = json!({ "credits": "900", "extend": true });
    assert_eq!(end(&small.holds[0].hold_id, "settle-small", more).await.status, 200);
    assert_eq!((lanes_of(&world).await.len(), world.available("acme").await.as_str()), (0, "98"));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_lanes_end_with_a_grants_expiry() {
    let (world, table) = acme().await;
    let now = table.at("2026-11-23T12:00:00Z");
    let ends = now + SignedDuration::from_mins(2);
    grant(&table, "short", "500", Term::Until(GrantKind::Promotional, ends)).await;
    open_lanes(&world, &table, "busy").await;
    let ends_at: BTreeSet<String> =
        lanes_of(&world).await.iter().map(|lane| number(lane, "ends_at")).collect();
    assert_eq!(ends_at, BTreeSet::from([ends.as_millisecond().to_string()]));
    take(&table, "in-time", "20").await.unwrap();
    table.pass(SignedDuration::from_mins(2));
    // The grant's 479 unused credits expire. The debit before counts, although it was on a lane.
    take(&table, "late", "1").await.unwrap();
    let shown = balance(&table).await;
    assert_eq!((shown.spendable.to_string().as_str(), lanes_of(&world).await.len()), ("999", 0));
    assert_eq!(world.reconciled("acme").await.iter().filter(|kind| *kind == "expiry").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_takes_what_debits_on_lanes_have_left() {
    let (world, table) = acme().await;
    let ends = table.at("2026-11-23T12:00:00Z") + HOUR;
    let gift = grant(&table, "gift", "300", Term::Until(GrantKind::Promotional, ends)).await;
    open_lanes(&world, &table, "busy").await;
    take(&table, "lane", "9").await.unwrap();
    let Posted { entry, .. } =
        table.store.grants().void(&claim("void", "void"), &gift, "a mistake").await.unwrap();
    assert_eq!(entry.credits.to_string(), "-290");
    assert_eq!(
        (lanes_of(&world).await.len(), balance(&table).await.spendable.to_string().as_str()),
        (0, "1000")
    );
    world.reconciled("acme").await;
}

/// The reserve of open lanes depends on the thresholds, so new ones wait for the lanes' settlement and come with it.
#[tokio::test(flavor = "multi_thread")]
async fn m15_a_new_threshold_recalls_lanes() {
    let (world, table) = acme().await;
    let recipients = json!(["low@example.com"]);
    let set = async |threshold: &str| {
        let alerts =
            json!({ "low_balance": { "enabled": true, "threshold": threshold, "recipients": recipients } });
        world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&alerts)).await.status
    };
    open_lanes(&world, &table, "busy").await;
    assert_eq!((set("100").await, lanes_of(&world).await.len()), (201, 0));
    open_lanes(&world, &table, "busy-again").await;
    assert_eq!(number(&stored_balance(&world).await, "lanes_reserve"), "101");
    // The write that crosses the threshold is a write of the balance, which tells the alert.
    take(&table, "cross", "898").await.unwrap();
    world.drain().await;
    let events = world.local(Method::GET, "/_local/events", None).await;
    let low: Vec<&Value> =
        events.as_array().unwrap().iter().filter(|event| event["detail-type"] == "CreditsLow").collect();
    assert_eq!(low.len(), 1, "{low:?}");
    assert_eq!(low[0]["detail"]["available"], "100");
}

/// A call that recalls lanes ends after each of its writes, with and without the answer of the last one. Its retry makes
/// the debit once, and no credit is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_ends_halfway_loses_nothing() {
    // The attempt at the balance, the stops of the first lanes and of one in between, and the settlement.
    for passed in [0, 1, 2, 3, 10, 16, 17, 18, 19, 20] {
        for last in [TableFault::RequestLost, TableFault::AnswerLost] {
            let (world, table) = acme().await;
            open_lanes(&world, &table, "busy").await;
            take(&table, "lane", "3").await.unwrap();
            let lost = std::iter::once(last.clone()).chain(std::iter::repeat_n(TableFault::RequestLost, 200));
            table.suffers(std::iter::repeat_n(TableFault::Pass, passed).chain(lost));
            let first = take(&table, "large", "900").await;
            table.suffers([]);
            // Other calls leave the recall to its leader for a while.
            table.pass(SignedDuration::from_secs(2));
            assert_eq!(
                world.available("acme").await,
                if first.is_ok() || is_there(&table).await { "96" } else { "996" }
            );
            // Another instance, which knows of no lane and meets no conflict, is not in the way.
            let other = Table::of(&world);
            assert_eq!(take(&other, "small", "1").await.unwrap(), KeyUse::First, "after {passed} writes");
            // This clock stands still during a call. A call that learns of the recall now waits in vain.
            let soon = tokio::time::Instant::now() + std::time::Duration::from_millis(600);
            let brief = table.store.until(soon);
            let again = brief.debits().debit(&claim("large", "large"), "900".parse().unwrap(), cause()).await;
            if again.is_err() {
                table.pass(SignedDuration::from_secs(2));
                take(&table, "large", "900").await.unwrap();
            }
            assert_eq!(world.available("acme").await, "95", "after {passed} writes");
            world.reconciled("acme").await;
        }
    }
}

async fn is_there(table: &Table) -> bool {
    table.store.debits().earlier_posting(&claim("large", "large")).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_ends_idle_lanes() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    table.at(&world.advance(0).await.to_string());
    open_lanes(&world, &table, "busy").await;
    take(&table, "lane", "5").await.unwrap();
    world.advance(60).await;
    assert_eq!(lanes_of(&world).await.len(), 16);
    world.advance(25 * 60).await;
    assert_eq!((lanes_of(&world).await.len(), world.available("acme").await.as_str()), (0, "994"));
    assert!(!stored_balance(&world).await.contains_key("index_pk"));
    world.reconciled("acme").await;
}

/// A lane in use lasts longer, up to the instant at which the balance is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_in_use_lasts() {
    let (world, table) = acme().await;
    let began = table.at("2026-11-23T12:00:00Z");
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 3));
    take(&table, "busy", "1").await.unwrap();
    for minute in 0..20 {
        take(&table, &format!("minute-{minute}"), "1").await.unwrap();
        table.pass(SignedDuration::from_mins(1));
    }
    let ends = lanes_of(&world).await.iter().map(|lane| number(lane, "ends_at").parse().unwrap()).max();
    let ends = Timestamp::from_millisecond(ends.unwrap()).unwrap();
    assert!(ends > began + SignedDuration::from_mins(20), "{ends}");
    assert_eq!(number(&stored_balance(&world).await, "lane_generation"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_lists_debits_on_lanes_in_order() {
    let (world, table) = acme().await;
    let table = Arc::new(table);
    open_lanes(&world, &table, "busy").await;
    table.suffers(std::iter::repeat_n(cancelled(&["TransactionConflict", "None"]), 1));
    take(&table, "first", "1").await.unwrap();
    for minute in 0..4 {
        table.at(&format!("2026-11-23T12:0{minute}:00Z"));
        // Concurrent calls take a lane each.
        let mut calls = JoinSet::new();
        for call in 0..10 {
            let table = Arc::clone(&table);
            calls.spawn(async move { take(&table, &format!("call-{minute}-{call}"), "1").await });
        }
        for taken in calls.join_all().await {
            assert_eq!(taken.unwrap(), KeyUse::First);
        }
    }
    let items = every_item(&world.stack).await;
    let shards: BTreeSet<String> = of_kind(&items, "entry#").map(|entry| text(entry, "index_pk")).collect();
    assert!(shards.len() > 3, "{shards:?}");
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let query = LedgerQuery { limit: 7, after: after.as_ref(), kind: None };
        let page = table.store.ledger().page(&"acme".parse().unwrap(), &query).await.unwrap();
        listed.extend(page.items.into_iter().map(|entry| (entry.at, entry.entry_id)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), 43);
    assert!(listed.is_sorted_by(|one, other| one > other), "{listed:?}");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_64_busy_tasks_spend_exactly_the_balance() {
    let world = Arc::new(World::with(&Options { conflicts: Conflicts::On, ..Options::default() }).await);
    world.put_workspace("acme").await;
    for pack in 0..5 {
        world.buy("acme", "pack_1k", &format!("pack-{pack}")).await;
    }
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for call in 0..200 {
                    let key = format!("{task}-{call}");
                    let mut status = world.take("acme", &key, "1").await.status;
                    // On a slow machine a call may be given up, as `busy.rs` shows that it is not on a fast one.
                    while status == 503 {
                        status = world.take("acme", &key, "1").await.status;
                    }
                    statuses.push(if status == 200 { 201 } else { status });
                }
                statuses
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.extend(task.await.unwrap());
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(402), statuses.len()), (5_000, 7_800, 12_800));
    let stored = stored_balance(&world).await;
    assert!(stored.contains_key("lane_generation"), "lanes were opened: {stored:?}");
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["consumed_this_month"]), (&json!("0"), &json!("5000")));
    assert_eq!(world.reconciled("acme").await.len(), 5_005);
    world.drain().await;
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

/// Concurrent callers that debit until the test stops them. Stopping returns the credits of each debit answered with 201.
struct BusyCallers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<BTreeMap<String, i128>>,
}

impl BusyCallers {
    fn start(world: &Arc<World>, callers: usize) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for caller in 0..callers {
            let (world, stop) = (Arc::clone(world), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut paid = BTreeMap::new();
                for call in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let key = format!("busy-{caller}-{call}");
                    let answer = world.take("acme", &key, "1.5").await;
                    assert!([201, 402, 503].contains(&answer.status), "{}", answer.body);
                    // A call that was given up may have been made. A retry finds out.
                    let answer =
                        if answer.status == 503 { world.take("acme", &key, "1.5").await } else { answer };
                    if [200, 201].contains(&answer.status) {
                        paid.insert(key, micros([&answer.body["credits"]]));
                    }
                }
                paid
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> i128 {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await.into_iter().flat_map(BTreeMap::into_values).sum()
    }
}

/// How often the balance is read until a test gives up waiting for lanes.
const MAX_READS: usize = 200_000;

/// Waits until lanes are open, which the busy callers bring about.
async fn until_lanes_open(world: &World) {
    let key = [("pk", "balance#acme"), ("sk", "balance")];
    let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
    for _ in 0..MAX_READS {
        let read = world.stack.client().get_item().table_name(world.stack.table());
        let read = read.set_key(Some(key.clone().into())).consistent_read(true).send().await.unwrap();
        if read.item.unwrap().contains_key("lanes_first") {
            return;
        }
    }
    panic!("no lanes were opened");
}

/// No caller debits meanwhile, so the webhook alone ends the lanes.
#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refund_takes_the_credits_of_open_lanes() {
    let options = Options { conflicts: Conflicts::On, ..Options::default() };
    let world = Arc::new(World::with_card_on(&options).await);
    world.buy("acme", "pack_5k", "large-pack").await;
    let payments = world.get("/v1/workspaces/acme/payments").await;
    let payment_id = payments["payments"][0]["payment_id"].as_str().unwrap().to_owned();
    let callers = BusyCallers::start(&world, 24);
    until_lanes_open(&world).await;
    let paid = callers.stop().await;
    assert!(!lanes_of(&world).await.is_empty());
    let refund = format!("/_local/payments/{payment_id}/refund");
    let refund = world.local(Method::POST, &refund, Some(&json!({}))).await;
    assert_eq!(refund["events"][0]["status"], 200, "{refund}");
    assert!(lanes_of(&world).await.is_empty());
    let entries = world.entries("acme").await;
    assert_eq!(entries[0]["kind"], "claw_back");
    let debits = entries.iter().filter(|entry| entry["kind"] == "debit").map(|entry| &entry["credits"]);
    assert_eq!(-micros(debits), paid);
    world.reconciled("acme").await;
}

/// While callers debit on lanes, everything happens that closes the balance, needs the lanes' credits, or changes what they
/// depend on. No credit is lost or made.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_exact_through_everything_else() {
    let options = Options { conflicts: Conflicts::On, ..Options::default() };
    let world = Arc::new(World::with_card_on(&options).await);
    world.buy("acme", "pack_5k", "large-pack").await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    let payments = world.get("/v1/workspaces/acme/payments").await;
    let refunded = payments["payments"][1]["payment_id"].as_str().unwrap().to_owned();
    let post = async |path: &str, key: &str, body: Value| {
        world.call(Method::POST, &format!("/v1/workspaces/acme/{path}"), Some(key), Some(&body)).await
    };

    let plenty = json!({ "credits": "100000", "kind": "prepaid", "reason": "for a busy day" });
    assert_eq!(post("grants", "plenty", plenty).await.status, 201);
    let callers = BusyCallers::start(&world, 24);
    until_lanes_open(&world).await;
    let job = json!({ "credits": "90000", "operation": "text.generate", "ttl_seconds": 600, "consumer": consumer() });
    let held = post("holds", "job", job).await;
    assert_eq!(held.status, 201, "{}", held.body);
    until_lanes_open(&world).await;
    // Moving the clock by a call would wait for the stream, which the callers keep busy.
    let soon = world.stack.now() + SignedDuration::from_mins(20);
    let gift = json!({ "credits": "30000", "kind": "promotional", "reason": "a gift", "expires_at": format!("{soon:.0}") });
    let gift = post("grants", "gift", gift).await;
    let other = json!({ "credits": "40000", "kind": "promotional", "reason": "a gift", "expires_at": format!("{soon:.0}") });
    assert_eq!((gift.status, post("grants", "other", other).await.status), (201, 201));
    until_lanes_open(&world).await;
    let void = format!("grants/{}/void", gift.body["grant_id"].as_str().unwrap());
    assert_eq!(post(&void, "void", json!({ "reason": "a mistake" })).await.status, 200);
    until_lanes_open(&world).await;
    let settle = format!("holds/{}/settle", held.body["hold_id"].as_str().unwrap());
    assert_eq!(post(&settle, "settle", json!({ "credits": "1000" })).await.status, 200);
    until_lanes_open(&world).await;
    let low =
        json!({ "low_balance": { "enabled": true, "threshold": "50", "recipients": ["low@example.com"] } });
    let set = world.call(Method::PUT, "/v1/workspaces/acme/alerts", None, Some(&low)).await;
    assert_eq!(set.status, 201, "{}", set.body);
    until_lanes_open(&world).await;
    let refund =
        world.local(Method::POST, &format!("/_local/payments/{refunded}/refund"), Some(&json!({}))).await;
    assert_eq!(refund["events"][0]["status"], 200, "{refund}");
    until_lanes_open(&world).await;
    // The other gift expires, and the month ends with a renewal.
    world.stack.sleep_until(soon + SignedDuration::from_mins(1)).unwrap();
    until_lanes_open(&world).await;
    let renews_at: Timestamp = world.subscribed("acme").await["renews_at"].as_str().unwrap().parse().unwrap();
    for minutes in [-30, 20] {
        world.stack.sleep_until(renews_at + SignedDuration::from_mins(minutes)).unwrap();
        world.stack.fire("renewal", json!({ "schedule": "renewals" })).await.unwrap();
        until_lanes_open(&world).await;
    }
    let paid = callers.stop().await;

    world.advance(30 * 60).await;
    let kinds = world.reconciled("acme").await;
    for kind in ["void", "expiry", "claw_back", "hold_settled"] {
        assert!(kinds.iter().any(|listed| listed == kind), "{kind} is not in the ledger");
    }
    assert_eq!(kinds.iter().filter(|kind| *kind == "allocation").count(), 2);
    let entries = world.entries("acme").await;
    let debits = entries.iter().filter(|entry| entry["kind"] == "debit").map(|entry| &entry["credits"]);
    assert_eq!(-micros(debits), paid);
    assert!(lanes_of(&world).await.is_empty());
    world.drain().await;
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}
