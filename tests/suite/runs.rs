//! Workflow runs: failed steps (M10), the monthly allowance (M13), and runs after a top-up (M14).

use std::sync::Arc;

use credits_local::Options;
use credits_runtime::catalogue::DEPLOYED;
use reqwest::Method;
use serde_json::{Value, json};

use crate::table::{Table, failed};
use crate::world::{Answer, World};

const RUNS: &str = "/v1/workspaces/acme/runs";

async fn start(world: &World, key: &str) -> Answer {
    let body = json!({ "workflow_id": "wf_1", "trigger": "scheduled" });
    world.call(Method::POST, RUNS, Some(key), Some(&body)).await
}

async fn complete(world: &World, key: &str, run: &Answer) -> Answer {
    let path = format!("{RUNS}/{}/complete", run.body["run_id"].as_str().unwrap());
    world.call(Method::POST, &path, Some(key), Some(&json!({}))).await
}

async fn status(world: &World, run: &Answer) -> Value {
    world.get(&format!("{RUNS}/{}", run.body["run_id"].as_str().unwrap())).await
}

fn step(run: &Answer, credits: &str) -> Value {
    let consumer = json!({ "kind": "workflow_step", "workflow_id": "wf_1", "run_id": run.body["run_id"], "step_id": "s2" });
    json!({ "operation": "text.generate", "credits": credits, "consumer": consumer })
}

/// Starts a stack in which the free plan allows `runs` runs a month.
async fn with_runs(runs: u64) -> World {
    let catalogue = DEPLOYED.replace("\"monthly_runs\": 100 ", &format!("\"monthly_runs\": {runs} "));
    assert_ne!(catalogue, DEPLOYED);
    let world = World::with(&Options { catalogue: Some(catalogue), ..Options::default() }).await;
    world.put_workspace("acme").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_a_refused_step_fails_its_run_and_keeps_earlier_steps() {
    let world = World::with_packs(1).await;
    let run = start(&world, "run").await;
    assert_eq!((run.status, &run.body["status"]), (201, &json!("running")), "{}", run.body);
    assert_eq!(world.debit("acme", "step-1", &step(&run, "999")).await.status, 201);
    assert_eq!(world.debit("acme", "step-2", &step(&run, "2")).await.status, 402);
    let failed = status(&world, &run).await;
    assert_eq!(failed["status"], "failed");
    let failure =
        json!({ "code": "insufficient_credits", "step_id": "s2", "required": "2", "available": "1" });
    assert_eq!(failed["failure"], failure);
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit"]);
    // The run keeps its first failure, and a failed run can't be completed.
    assert_eq!(world.debit("acme", "step-3", &step(&run, "3")).await.status, 402);
    assert_eq!(status(&world, &run).await, failed);
    let closed = complete(&world, "done", &run).await;
    assert_eq!((closed.status, closed.body["code"].as_str()), (409, Some("run_closed")));
    // M14: after a top-up, the next run starts and its steps pass. The failed run stays failed.
    world.buy("acme", "pack_1k", "more").await;
    let next = start(&world, "next").await;
    assert_eq!(world.debit("acme", "step-2b", &step(&next, "2")).await.status, 201);
    assert_eq!(complete(&world, "done-2", &next).await.body["status"], "succeeded");
    assert_eq!(status(&world, &run).await["status"], "failed");
}

/// A step of an unknown run is refused in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_step_costs_one_more_request() {
    let world = World::with_packs(0).await;
    let run = start(&world, "run").await;
    let (refused, requests) = world.requests_of(world.debit("acme", "a", &step(&run, "1"))).await;
    assert_eq!((refused.status, requests.len()), (402, 2), "{requests:?}");
    let unknown = Answer { body: json!({ "run_id": "run_of_the_hub" }), ..run };
    assert_eq!(world.debit("acme", "b", &step(&unknown, "1")).await.status, 402);
}

/// A 402 would promise that the run is marked as failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_failure_that_cannot_be_stored_is_answered_503() {
    let world = World::with_packs(0).await;
    let run = start(&world, "run").await;
    let table = Table::of(&world);
    let consumer = step(&run, "1")["consumer"].clone();
    table.suffers(
        std::iter::once(crate::table::TableFault::Pass)
            .chain(std::iter::repeat_n(failed(500, "InternalServerError"), 100)),
    );
    let (code, body, _) = crate::contention::call_as(&table, "k", "1", &consumer).await;
    assert_eq!((code, body["code"].as_str()), (503, Some("unavailable")));
    assert_eq!(status(&world, &run).await["status"], "running");
    table.suffers([]);
    assert_eq!(crate::contention::call_as(&table, "k", "1", &consumer).await.0, 402);
    assert_eq!(status(&world, &run).await["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_failed_runs_count_against_the_monthly_allowance() {
    let world = with_runs(3).await;
    let first = start(&world, "a").await;
    assert_eq!((&first.body["allowance"]["used"], &first.body["allowance"]["limit"]), (&json!(1), &json!(3)));
    assert_eq!(world.debit("acme", "d", &step(&first, "1")).await.status, 402);
    assert_eq!(start(&world, "b").await.body["allowance"]["used"], 2);
    let third = start(&world, "c").await;
    assert_eq!(third.body["allowance"]["used"], 3);
    let refused = start(&world, "d2").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("run_allowance_exhausted")));
    assert_eq!((&refused.body["used"], &refused.body["limit"]), (&json!(3), &json!(3)));
    let resets_at: jiff::Timestamp = refused.body["resets_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(resets_at.to_string().split_at(7).1, "-01T00:00:00Z");
    let again = start(&world, "c").await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &third.body));
    let listed = world.get(RUNS).await;
    assert_eq!(listed["allowance"], third.body["allowance"], "the listing shows this month's use");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_of_10_lets_10_of_24_concurrent_starts_pass() {
    let world = Arc::new(with_runs(10).await);
    let tasks: Vec<_> = (0..24)
        .map(|index| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { start(&world, &format!("run-{index}")).await })
        })
        .collect();
    let (mut used, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let answer = task.await.unwrap();
        match answer.status {
            201 => used.push(answer.body["allowance"]["used"].as_u64().unwrap()),
            403 => refused += 1,
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert_eq!((used.len(), used.iter().max(), refused), (10, Some(&10), 14));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_starts_pass_and_count_once_each() {
    let world = Arc::new(World::with_packs(0).await);
    let tasks: Vec<_> = (0..32)
        .map(|index| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { start(&world, &format!("run-{index}")).await })
        })
        .collect();
    let mut used = Vec::new();
    for task in tasks {
        let answer = task.await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        used.push(answer.body["allowance"]["used"].as_u64().unwrap());
    }
    assert_eq!((used.len(), used.iter().max()), (32, Some(&32)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_completed_once_and_listed_newest_first() {
    let world = World::with_packs(0).await;
    let (first, second) = (start(&world, "a").await, start(&world, "b").await);
    let done = complete(&world, "done", &first).await;
    assert_eq!((done.status, &done.body["status"]), (200, &json!("succeeded")));
    let again = complete(&world, "done", &first).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &done.body));
    assert_eq!(complete(&world, "twice", &first).await.body["code"], "run_closed");
    assert_eq!(complete(&world, "done", &second).await.body["code"], "idempotency_key_reused");
    let listed = world.get(RUNS).await;
    assert_eq!((&listed["runs"][0]["run_id"], &listed["runs"][1]), (&second.body["run_id"], &done.body));
    assert_eq!(world.get(&format!("{RUNS}?status=succeeded")).await["runs"], json!([done.body]));
    assert_eq!(world.get(&format!("{RUNS}?status=failed")).await["runs"], json!([]));
    for (path, status, code) in [
        (format!("{RUNS}?status=lost"), 422, "invalid_request"),
        (format!("{RUNS}/run_none"), 404, "not_found"),
        ("/v1/workspaces/nobody/runs".to_owned(), 404, "workspace_not_found"),
        (format!("/v1/workspaces/other/runs/{}", first.body["run_id"].as_str().unwrap()), 404, "not_found"),
    ] {
        let refused = world.call(Method::GET, &path, None, None).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (status, Some(code)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_start_is_not_counted() {
    let world = World::with_packs(0).await;
    let body = json!({ "workflow_id": "a b", "trigger": "whim", "when": "now" });
    let refused = world.call(Method::POST, RUNS, Some("k"), Some(&body)).await;
    assert_eq!(refused.fields(), vec!["workflow_id", "trigger", "when"]);
    let body = json!({ "workflow_id": "wf", "trigger": "manual" });
    let nowhere = world.call(Method::POST, "/v1/workspaces/nobody/runs", Some("k"), Some(&body)).await;
    assert_eq!((nowhere.status, nowhere.body["code"].as_str()), (404, Some("workspace_not_found")));
    assert_eq!(start(&world, "k").await.body["allowance"]["used"], 1);
}
