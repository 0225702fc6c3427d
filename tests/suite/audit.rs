//! The audit: a check that fails does not stop the others, and a long month is recounted in slices.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_store::usage::audit::{Audit, QUIET_AFTER};
use credits_store::usage::recount::RecountSlice;
use credits_store::usage::repair::Repair;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all, text};
use serde_json::{Value, json};

use crate::rollup::{balance_records, deliver, is_as_spent, spent};
use crate::table::TableFault;
use crate::usage::step;
use crate::world::World;

const DEBITS: usize = 60;
const SLICE: RecountSlice = RecountSlice { entries: 10, until: None };

async fn checks(world: &World, slice_entries: usize) -> Result<Value, String> {
    world.stack.fire("project", json!({ "schedule": { "checks_in_slices": slice_entries } })).await
}

/// Returns the workspaces whose months await a check, in the order of their dates.
async fn waiting(world: &World) -> Vec<(String, String)> {
    let items = every_item(&world.stack).await;
    let checks = of_kind(&items, "usage#").filter(|item| text(item, "index_pk") == "checks");
    let mut dates: Vec<_> = checks.map(|item| (text(item, "index_sk"), text(item, "pk"))).collect();
    dates.sort();
    dates.into_iter().map(|(date, pk)| (pk, date.split('#').next().unwrap().to_owned())).collect()
}

/// Makes a workspace's ledger unreadable, or readable again.
async fn set_cause(world: &World, workspace: &str, cause: &AttributeValue) -> AttributeValue {
    let items = every_item(&world.stack).await;
    let mut entry = of_kind(&items, &format!("entry#{workspace}#key#one")).next().unwrap().clone();
    let before = entry.insert("detail".to_owned(), cause.clone()).unwrap();
    put_all(&world.stack, vec![entry]).await;
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_a_check_that_fails_is_postponed_and_the_others_run() {
    let world = World::with_packs(1).await;
    for workspace in ["bad", "good"] {
        world.put_workspace(workspace).await;
        world.buy(workspace, "pack_1k", "pack").await;
        world.debit(workspace, "one", &step("report", "2")).await;
        world.drain().await;
        world.advance(1).await;
    }
    let cause = set_cause(&world, "bad", &AttributeValue::S("unreadable".to_owned())).await;
    let now = world.advance(0).await;
    let mut at = now + SignedDuration::from_hours(26);
    let millis = |date: &str| date.parse::<i64>().unwrap();
    // The second failure is postponed twice as long.
    for hours in [1, 2, 4] {
        world.stack.sleep_until(at).unwrap();
        assert_eq!(checks(&world, 100).await.unwrap_err(), "the checks of 1 months failed");
        let waiting = waiting(&world).await;
        let of = |pk: &str| waiting.iter().filter(|(of, _)| of == pk).map(|(_, date)| millis(date)).min();
        let pause = of("usage#bad").unwrap() - at.as_millisecond();
        assert!((0..60_000).contains(&(pause - hours * 3_600_000)), "{hours} hours, and not {pause} ms");
        // The good check was behind the bad one. It was right, so its next date is a day later or none.
        assert!(of("usage#good").is_none_or(|date| date > at.as_millisecond()), "{waiting:?}");
        at += SignedDuration::from_hours(hours) + SignedDuration::from_mins(1);
    }
    set_cause(&world, "bad", &cause).await;
    world.stack.sleep_until(at).unwrap();
    assert!(checks(&world, 100).await.is_ok());
    assert!(waiting(&world).await.iter().all(|(_, date)| millis(date) > at.as_millisecond()));
}

/// Returns how many pages of a ledger were read.
fn pages(requests: &[Value]) -> usize {
    requests.iter().filter(|it| it["operation"] == "Query").count()
}

/// One slice counts 10 entries. An invocation that is killed at any write leaves the slice before in force.
#[tokio::test(flavor = "multi_thread")]
async fn m09_a_recount_goes_on_after_a_kill_at_each_write() {
    let (world, table) = spent(DEBITS).await;
    for batch in balance_records(&world).chunks(20) {
        deliver(&world, batch).await;
    }
    table.at("2026-12-01T02:00:00Z");
    let audit = table.store.usage_audit().in_slices(SLICE);
    let (acme, month) = ("acme".parse().unwrap(), "2026-11".parse().unwrap());
    for passed in [0, 1] {
        assert_eq!(audit.check(&acme, month, QUIET_AFTER).await.unwrap(), Audit::Unfinished);
        for last in [TableFault::RequestLost, TableFault::AnswerLost] {
            let lost = std::iter::once(last).chain(std::iter::repeat_n(TableFault::RequestLost, 100));
            table.suffers(std::iter::repeat_n(TableFault::Pass, passed).chain(lost));
            assert!(audit.check(&acme, month, QUIET_AFTER).await.is_err(), "after {passed} writes");
            table.suffers([]);
        }
    }
    let mut slices = 0;
    let differences = loop {
        match audit.check(&acme, month, QUIET_AFTER).await.unwrap() {
            Audit::Unfinished => slices += 1,
            Audit::Compared(differences) => break differences,
            Audit::Moving => panic!("the month's ledger is complete"),
        }
    };
    // 64 entries are seven slices. Two were counted before, and the head of one more was written before its answer was lost.
    assert!((3..=4).contains(&slices), "{slices} slices");
    assert!(differences.iter().all(|difference| difference.of == "topped_up"), "{differences:?}");
    is_as_spent(&world, &table, DEBITS).await;
}

/// The function continues the slices that an earlier invocation stored, and repairs the month.
#[tokio::test(flavor = "multi_thread")]
async fn m09_the_function_continues_the_slices_of_a_killed_one() {
    let (world, table) = spent(DEBITS).await;
    for batch in balance_records(&world).chunks(20) {
        deliver(&world, batch).await;
    }
    world.stack.sleep_until("2026-12-03T02:00:00Z".parse().unwrap()).unwrap();
    table.at("2026-12-03T02:00:00Z");
    let (acme, month) = ("acme".parse().unwrap(), "2026-11".parse().unwrap());
    let audit = table.store.usage_audit().in_slices(SLICE);
    for _ in 0..4 {
        assert_eq!(audit.repair(&acme, month).await.unwrap(), Repair::Unfinished);
    }
    let order = json!({ "recount": { "workspace_id": "acme", "month": "2026-11", "slice_entries": 10 } });
    let (answer, requests) = Box::pin(world.requests_of_project(world.stack.fire("project", order))).await;
    assert_eq!(answer.unwrap(), json!({ "recounted": true }));
    // Three pages of the ledger are left, and one query reads the groups.
    assert_eq!(pages(&requests), 4, "{requests:?}");
    // A check counts from the month's beginning, in slices of one invocation.
    let (answer, requests) = Box::pin(world.requests_of_project(checks(&world, 10))).await;
    assert_eq!(answer.unwrap(), json!({ "checked": 1 }));
    assert_eq!(pages(&requests), 9, "the due checks, seven pages and the groups: {requests:?}");
    assert_eq!(waiting(&world).await, []);
    is_as_spent(&world, &table, DEBITS).await;
}
