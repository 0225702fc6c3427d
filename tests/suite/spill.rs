//! The month's usage item: it counts all groups while they fit into one write unit, and groups beyond have their own items.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_store::usage::repair::Repair;
use credits_store::usage::rollup::Spending;
use model::items::{TableItem, every_item, of_kind, put_all, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::rollup::{balance_records, deliver, is_as_spent, spendings_of, spent};
use crate::table::{Table, TableFault};
use crate::usage::step;
use crate::world::World;

/// Debits whose groups the month's item can't hold.
const DEBITS: usize = 60;

async fn usage_items(world: &World) -> Vec<TableItem> {
    of_kind(&every_item(&world.stack).await, "usage#").cloned().collect()
}

fn month_item(items: &[TableItem]) -> TableItem {
    items.iter().find(|item| text(item, "pk") == "usage#acme").unwrap().clone()
}

/// Returns the write units of the requests that write.
fn written(requests: &[Value]) -> Vec<f64> {
    let units = requests.iter().map(|request| request["write_units"].as_f64().unwrap());
    units.filter(|units| *units > 0.0).collect()
}

/// Nine workflows are one write unit a debit on all 31 days of a month.
#[tokio::test(flavor = "multi_thread")]
async fn m09_a_small_month_is_one_item_of_one_write_unit() {
    let world = World::with_packs(2).await;
    world.next_month().await;
    for debit in 0..62 {
        let body = step(&format!("workflow-{}", debit % 9), "12.345678");
        assert_eq!(world.debit("acme", &debit.to_string(), &body).await.status, 201);
        let ((), requests) = world.requests_of_project(world.drain()).await;
        // The month's first write also lists it for the audit, in the index.
        let units = if debit == 0 { 2.0 } else { 1.0 };
        assert_eq!(written(&requests), [units], "debit {debit}: {requests:?}");
        world.advance(12 * 3_600 - 60).await;
    }
    let own = usage_items(&world).await.into_iter().filter(|item| text(item, "pk") != "usage#acme");
    assert_eq!(own.count(), 0, "no group has an item of its own");
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_groups_that_do_not_fit_get_items_of_their_own() {
    let (world, table) = spent(DEBITS).await;
    for record in balance_records(&world).chunks(3) {
        deliver(&world, record).await;
    }
    let items = usage_items(&world).await;
    assert_eq!(text(&month_item(&items), "layout"), "full");
    assert!(items.iter().all(|item| text(item, "index_pk").is_empty() || text(item, "index_pk") == "checks"));
    let held = month_item(&items)["breakdowns"].as_m().unwrap().clone();
    let own: Vec<String> = items.iter().map(|item| text(item, "sk")).filter(|sk| sk.contains('#')).collect();
    assert!(held["workflow"].as_m().unwrap().len() > 3 && own.len() > 20, "{held:?} {own:?}");
    for name in held["workflow"].as_m().unwrap().keys() {
        assert!(!own.contains(&format!("workflow#{name}")), "{name} has two homes");
    }
    is_as_spent(&world, &table, DEBITS).await;
}

/// The batch that makes the month full ends after each of its writes, with and without the answer of the last one. It is
/// redelivered in halves and whole.
#[tokio::test(flavor = "multi_thread")]
async fn m09_a_spill_that_ends_halfway_counts_once() {
    for passed in 0..6 {
        for last in [TableFault::RequestLost, TableFault::AnswerLost] {
            let (world, table) = spent(DEBITS).await;
            let records = balance_records(&world);
            let (begun, rest) = records.split_at(20);
            deliver(&world, begun).await;
            let lost = std::iter::once(last.clone()).chain(std::iter::repeat_n(TableFault::RequestLost, 200));
            table.suffers(std::iter::repeat_n(TableFault::Pass, passed).chain(lost));
            let counted = table.store.usage().roll_up(&"acme".parse().unwrap(), &spendings_of(rest)).await;
            assert!(counted.is_err(), "after {passed} writes");
            table.suffers([]);
            let (half, other) = rest.split_at(rest.len() / 3);
            for batch in [half, other, rest, half] {
                deliver(&world, batch).await;
            }
            is_as_spent(&world, &table, DEBITS).await;
        }
    }
}

/// Delivers the records until a few debits are counted. Returns the spendings of all others.
async fn begun(world: &World) -> Vec<Spending> {
    let records = balance_records(world);
    let first =
        records.iter().position(|record| !spendings_of(std::slice::from_ref(record)).is_empty()).unwrap();
    let (few, rest) = records.split_at(first + 3);
    deliver(world, few).await;
    assert_eq!(text(&month_item(&usage_items(world).await), "layout"), "open");
    spendings_of(rest)
}

/// An invocation reads the open month and is about to write. Another one makes the month full, counts the same records in
/// items of their own, and ends before it writes the month. The first one must not count them in the month.
#[tokio::test(flavor = "multi_thread")]
async fn m09_an_overlap_with_a_spill_counts_once() {
    let acme = "acme".parse().unwrap();
    // The writes of a whole spill: the month becomes full, each group is written, and the month is.
    let (like, counting) = spent(DEBITS).await;
    let rest = begun(&like).await;
    let before = counting.transactions();
    counting.store.usage().roll_up(&acme, &rest).await.unwrap();
    let writes = counting.transactions() - before;
    assert!(writes > 20, "{writes}");

    let (world, slow) = spent(DEBITS).await;
    let rest = begun(&world).await;
    let go_on = Arc::new(Notify::new());
    slow.suffers([TableFault::Waits(Arc::clone(&go_on))]);
    let (store, one, of) = (slow.store.clone(), rest[..1].to_vec(), acme.clone());
    let late = tokio::spawn(async move { store.usage().roll_up(&of, &one).await });
    while slow.transactions() <= DEBITS {
        tokio::task::yield_now().await;
    }
    let fast = Table::of(&world);
    let lost = std::iter::repeat_n(TableFault::RequestLost, 100);
    fast.suffers(std::iter::repeat_n(TableFault::Pass, writes - 1).chain(lost));
    assert!(fast.store.usage().roll_up(&acme, &rest).await.is_err());
    go_on.notify_one();
    // On a busy machine the write that waits may time out after three seconds. Then its records are redelivered below.
    drop(late.await.unwrap());
    deliver(&world, &balance_records(&world)).await;
    is_as_spent(&world, &slow, DEBITS).await;
}

/// Adds 7 credits to each tally of a group's own item.
async fn tamper(world: &World) {
    let mut own: Vec<TableItem> =
        usage_items(world).await.into_iter().filter(|item| text(item, "sk").contains('#')).collect();
    for item in &mut own {
        item.insert("credits".to_owned(), AttributeValue::N("7".to_owned()));
    }
    let mut month = month_item(&usage_items(world).await);
    let breakdowns = month.get_mut("breakdowns").unwrap();
    let AttributeValue::M(maps) = breakdowns else { panic!("the breakdowns are a map") };
    let Some(AttributeValue::M(workflows)) = maps.get_mut("workflow") else { panic!("workflows are a map") };
    for tally in workflows.values_mut() {
        *tally = AttributeValue::B(Blob::new([1, 7, 1]));
    }
    own.push(month);
    put_all(&world.stack, own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_the_repair_of_a_full_month_leaves_groups_at_home() {
    let (world, table) = spent(DEBITS).await;
    let records = balance_records(&world);
    let (most, rest) = records.split_at(records.len() - 10);
    for batch in most.chunks(3) {
        deliver(&world, batch).await;
    }
    let homes = |items: Vec<TableItem>| -> BTreeSet<String> {
        let workflows = month_item(&items)["breakdowns"].as_m().unwrap()["workflow"].as_m().unwrap().clone();
        workflows.into_keys().collect()
    };
    let before = homes(usage_items(&world).await);
    tamper(&world).await;
    table.at("2026-12-01T02:00:00Z");
    let (acme, month) = ("acme".parse().unwrap(), "2026-11".parse().unwrap());
    assert_eq!(table.store.usage_audit().repair(&acme, month).await.unwrap(), Repair::Done);
    assert_eq!(homes(usage_items(&world).await), before);
    // The repair counted these too.
    deliver(&world, rest).await;
    is_as_spent(&world, &table, DEBITS).await;
}

/// Makes a month as an older release stored it: lists of numbers, and an item in the index for each group.
async fn made_older(world: &World) {
    let mut month = month_item(&usage_items(world).await);
    let mut items = Vec::new();
    let mut maps: HashMap<String, AttributeValue> = HashMap::new();
    for by in ["operation", "consumer", "day", "workflow", "feature", "user"] {
        let usage = format!("/v1/workspaces/acme/usage?month=2026-11&limit=1000&group_by={by}");
        for group in world.get(&usage).await["groups"].as_array().unwrap() {
            let credits = AttributeValue::N(group["credits"].as_str().unwrap().to_owned());
            let count = AttributeValue::N(group["count"].to_string());
            let is_open = ["workflow", "feature", "user"].contains(&by);
            let (map, member) = match group["key"].as_str() {
                None => ("none", by),
                Some(key) if !is_open => (by, key),
                Some(key) => {
                    items.push(HashMap::from([
                        ("pk".to_owned(), AttributeValue::S("usage#acme#2026-11".to_owned())),
                        ("sk".to_owned(), AttributeValue::S(format!("{by}#{key}"))),
                        ("index_pk".to_owned(), AttributeValue::S(format!("usage#acme#2026-11#{by}"))),
                        ("index_sk".to_owned(), AttributeValue::S(format!("{:027}#{key}", 1))),
                        ("credits".to_owned(), credits),
                        (
                            "detail".to_owned(),
                            AttributeValue::M(HashMap::from([("count".to_owned(), count)])),
                        ),
                        ("counted".to_owned(), month["counted"].clone()),
                    ]));
                    continue;
                }
            };
            let of = maps.entry(map.to_owned()).or_insert_with(|| AttributeValue::M(HashMap::new()));
            let AttributeValue::M(members) = of else { panic!("it is a map") };
            members.insert(member.to_owned(), AttributeValue::L(vec![credits, count]));
        }
    }
    month.insert("breakdowns".to_owned(), AttributeValue::M(maps));
    month.remove("layout");
    items.push(month);
    put_all(&world.stack, items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_a_month_of_an_older_release_is_counted_on() {
    let (world, table) = spent(DEBITS).await;
    let records = balance_records(&world);
    let (before, after) = records.split_at(12);
    deliver(&world, before).await;
    assert_eq!(text(&month_item(&usage_items(&world).await), "layout"), "open");
    made_older(&world).await;
    for batch in [before, after, after] {
        deliver(&world, batch).await;
    }
    let month = month_item(&usage_items(&world).await);
    assert_eq!((month.get("layout"), month["breakdowns"].as_m().unwrap().get("workflow")), (None, None));
    assert!(month["breakdowns"].as_m().unwrap()["day"].as_m().unwrap().values().all(AttributeValue::is_l));
    is_as_spent(&world, &table, DEBITS).await;
}
