//! Usage counted from the stream, exactly once, although batches are redelivered, overlap and fail.

use std::collections::BTreeMap;
use std::io::Write as _;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_local::Options;
use credits_local::database::Stream;
use credits_store::stream::Record;
use credits_store::usage::audit::{Audit, QUIET_AFTER};
use credits_store::usage::rollup::Spending;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contention::{call_cause, claim};
use crate::table::{Table, TableFault};
use crate::usage::step;
use crate::world::{World, micros};

const WORKFLOWS: usize = 200;
const PEOPLE: usize = 7;

/// Returns the amount of a debit, in millionths, and its consumer. Both follow from the debit's number.
fn share(debit: usize) -> (i128, Value) {
    let micros = 1 + i128::try_from(debit * 7_919 % 3_000_000).unwrap();
    let workflow = format!("wf-{}", debit * 31 % WORKFLOWS);
    let consumer = if debit.is_multiple_of(5) {
        json!({ "kind": "action", "feature": "assistant", "user_id": format!("u{}", debit % PEOPLE) })
    } else {
        json!({ "kind": "workflow_step", "workflow_id": workflow, "run_id": "r", "step_id": "s" })
    };
    (micros, consumer)
}

/// Starts a stack in which `acme` has made `debits` debits. Its stream is not delivered, so the test reads the records.
pub(crate) async fn spent(debits: usize) -> (World, Table) {
    let world = World::with(&Options { stream: Stream::Held, ..Options::default() }).await;
    world.put_workspace("acme").await;
    for pack in 0..4 {
        world.buy("acme", "pack_25k", &format!("pack-{pack}")).await;
    }
    let table = Table::of(&world);
    for debit in 0..debits {
        let (micros, consumer) = share(debit);
        let credits = credits_core::credits::Credits::from_micros(micros).unwrap().to_string();
        let cause = call_cause(consumer);
        let claim = claim(&format!("d{debit}"), &credits);
        table.store.debits().debit(&claim, credits.parse().unwrap(), cause).await.unwrap();
    }
    (world, table)
}

/// Reads the stream's records of balances. `project` counts debits from these records and not from ledger entries.
pub(crate) fn balance_records(world: &World) -> Vec<Value> {
    let (mut records, mut place) = (Vec::new(), None);
    while let Some((page, next)) = world.stack.records(place) {
        let of_balance = |record: &Value| {
            record["dynamodb"]["Keys"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("balance#"))
        };
        records.extend(page.into_iter().filter(of_balance));
        place = Some(next);
    }
    records
}

pub(crate) async fn deliver(world: &World, records: &[Value]) {
    let answer = world.stack.fire("project", json!({ "Records": records })).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
}

/// Returns what the debits of some records spent.
pub(crate) fn spendings_of(records: &[Value]) -> Vec<Spending> {
    let read = |record: &Value| Record::parse(record).unwrap().read().unwrap();
    records.iter().filter_map(read).filter_map(|it| it.spending().map(|(_, of)| of)).collect()
}

/// Counts a batch over a connection that fails after `broken_after` writes. Returns whether the batch was counted.
async fn deliver_badly(table: &Table, records: &[Value], broken_after: usize) -> bool {
    let lost =
        [TableFault::AnswerLost, TableFault::RequestLost, TableFault::RequestLost, TableFault::RequestLost];
    let faults =
        std::iter::repeat_n(TableFault::Pass, broken_after).chain(lost.into_iter().cycle().take(200));
    table.suffers(faults);
    let counted = table.store.usage().roll_up(&"acme".parse().unwrap(), &spendings_of(records)).await;
    table.suffers([]);
    counted.is_ok()
}

/// Computes from the debits themselves what each group consumed: key → (millionths, count).
fn expected(debits: usize, member: &str) -> BTreeMap<String, (i128, u64)> {
    let mut groups = BTreeMap::new();
    for (micros, consumer) in (0..debits).map(share) {
        let key = consumer[member].as_str().unwrap_or("null").to_owned();
        let group: &mut (i128, u64) = groups.entry(key).or_default();
        *group = (group.0 + micros, group.1 + 1);
    }
    groups
}

async fn counted(world: &World, group_by: &str) -> BTreeMap<String, (i128, u64)> {
    let usage =
        world.get(&format!("/v1/workspaces/acme/usage?month=2026-11&limit=1000&group_by={group_by}")).await;
    let group = |group: &Value| {
        let key = group["key"].as_str().unwrap_or("null").to_owned();
        (key, (micros([&group["credits"]]), group["count"].as_u64().unwrap()))
    };
    usage["groups"].as_array().unwrap().iter().map(group).collect()
}

pub(crate) async fn is_as_spent(world: &World, table: &Table, debits: usize) {
    for (group_by, member) in
        [("workflow", "workflow_id"), ("feature", "feature"), ("user", "user_id"), ("consumer", "kind")]
    {
        assert_eq!(counted(world, group_by).await, expected(debits, member), "{group_by}");
    }
    // The audit compares the month, since it has ended.
    table.at("2026-12-01T02:00:00Z");
    let audit = table
        .store
        .usage_audit()
        .check(&"acme".parse().unwrap(), "2026-11".parse().unwrap(), QUIET_AFTER)
        .await
        .unwrap();
    let Audit::Compared(differences) = audit else { panic!("expected a comparison") };
    // The records of the top-ups were not delivered, so these may differ.
    assert!(differences.iter().all(|difference| difference.of == "topped_up"), "{differences:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_3000_redelivered_entries_are_counted_once() {
    const DEBITS: usize = 3_000;
    let (world, table) = spent(DEBITS).await;
    let records = balance_records(&world);
    let mut broken = 0;
    for (round, (size, step)) in [(150, 105), (110, 110)].into_iter().enumerate() {
        for (place, start) in (0..records.len()).step_by(step).enumerate() {
            let batch = &records[start..records.len().min(start + size)];
            if round == 0 && place % 4 == 0 && !deliver_badly(&table, batch, place % 150).await {
                broken += 1;
                // Lambda bisects a batch after a failure.
                deliver(&world, &batch[..batch.len() / 2]).await;
            }
            deliver(&world, batch).await;
        }
    }
    assert!(broken > 5, "{broken} batches failed");
    is_as_spent(&world, &table, DEBITS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_batches_cost_fewer_writes_per_entry() {
    let (world, table) = spent(1_510).await;
    let records = balance_records(&world);
    let spending: Vec<&Value> = records
        .iter()
        .filter(|record| Record::parse(record).unwrap().read().unwrap().unwrap().spending().is_some())
        .collect();
    let mut rest: Vec<Value> = spending.into_iter().cloned().collect();
    let mut costs = Vec::new();
    for (size, batches) in [(1, 110), (10, 40), (100, 10)] {
        let ((), requests) = world
            .requests_of_project(Box::pin(async {
                for _ in 0..batches {
                    let batch: Vec<Value> = rest.drain(..size).collect();
                    deliver(&world, &batch).await;
                }
            }))
            .await;
        let units = |request: &Value| request["write_units"].as_f64().unwrap();
        let written: f64 = requests.iter().map(units).sum();
        #[expect(clippy::cast_precision_loss, reason = "the counts are small")]
        let per_entry = written / (size * batches) as f64;
        // The test harness does not capture what is written to stderr directly.
        writeln!(std::io::stderr(), "{per_entry:.2} write units an entry, in batches of {size}").unwrap();
        costs.push(per_entry);
    }
    assert!(rest.is_empty() && costs.is_sorted_by(|a, b| a > b), "{costs:?}");
    is_as_spent(&world, &table, 1_510).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_differs_from_the_ledger_raises_the_alarm() {
    let world = World::with_packs(1).await;
    for debit in 0..5 {
        world.debit("acme", &debit.to_string(), &step("report", "2")).await;
    }
    world.drain().await;
    let month = world.get("/v1/workspaces/acme/usage").await["month"].as_str().unwrap().to_owned();
    #[expect(clippy::disallowed_methods, reason = "the test tampers with the table")]
    let tampered = world.stack.client().update_item().table_name(world.stack.table());
    tampered
        .key("pk", AttributeValue::S("usage#acme".into()))
        .key("sk", AttributeValue::S(month.clone()))
        .update_expression("SET breakdowns.workflow.report = :more")
        .expression_attribute_values(":more", AttributeValue::B(Blob::new([3, 0xa7, 0xd8, 0xc0, 5])))
        .send()
        .await
        .unwrap();
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    let found = json!({
        "workspace_id": "acme", "month": month, "of": "workflow report", "ledger": "10 in 5", "kept": "11 in 5",
    });
    assert_eq!(verified["differences"], json!([found]));
    let now = world.advance(0).await;
    world.stack.sleep_until(now + SignedDuration::from_hours(26)).unwrap();
    let checks = || world.stack.fire("project", json!({ "schedule": "checks" }));
    for _ in 0..2 {
        assert_eq!(checks().await.unwrap_err(), "the usage of 1 months differs from the ledger");
    }
    let order = json!({ "recount": { "workspace_id": "acme", "month": month } });
    assert_eq!(world.stack.fire("project", order).await.unwrap(), json!({ "recounted": true }));
    assert_eq!(checks().await.unwrap(), json!({ "checked": 1 }));
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(
        verified,
        json!({ "workspaces": 1, "months": verified["months"], "entries": verified["entries"], "differences": [] })
    );
    let usage = world.get(&format!("/v1/workspaces/acme/usage?month={month}")).await;
    assert_eq!(usage["groups"][0], json!({ "key": "report", "credits": "10", "count": 5 }));
    // Later debits are added to the recounted usage.
    world.debit("acme", "more", &step("report", "2")).await;
    world.drain().await;
    let total = micros([&world.balance("acme").await["consumed_this_month"]]);
    assert_eq!(
        total,
        if month == world.get("/v1/workspaces/acme/usage").await["month"] { 12_000_000 } else { 2_000_000 }
    );
}
