//! Batches: many AI calls as one posting, either all of them or the first that the balance covers (M4).

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, consumer, micros};

impl World {
    async fn batch(&self, key: &str, body: &Value) -> Answer {
        self.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some(key), Some(body)).await
    }
}

fn record(number: usize) -> Value {
    let user = format!("user-{}", number % 3);
    json!({ "operation": "record.enrich", "credits": "2.5",
        "consumer": { "kind": "bulk", "job_id": "job-1", "feature": "enrichment", "list_id": "leads", "user_id": user } })
}

fn records(count: usize, partial: bool) -> Value {
    json!({ "lines": (0..count).map(record).collect::<Vec<_>>(), "partial": partial })
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_batch_is_one_posting_and_is_replayed() {
    let world = World::with_packs(1).await;
    let action = json!({ "operation": "text.generate", "model": "standard",
        "units": { "input_tokens": 1_200, "output_tokens": 800 }, "consumer": consumer() });
    let body = json!({ "lines": [record(0), action, record(1)] });
    let posted = world.batch("k", &body).await;
    assert_eq!(posted.status, 201, "{}", posted.body);
    let lines = json!([{ "credits": "2.5" }, { "credits": "2.3" }, { "credits": "2.5" }]);
    assert_eq!((&posted.body["credits"], &posted.body["lines"]), (&json!("7.3"), &lines));
    assert_eq!((&posted.body["accepted"], posted.body.get("refused_from")), (&json!(3), None));
    let again = world.batch("k", &body).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &posted.body));
    assert_eq!(world.batch("k", &records(2, false)).await.body["code"], "idempotency_key_reused");
    assert_eq!(world.take("acme", "k", "1").await.body["code"], "idempotency_key_reused");
    assert_eq!(world.available("acme").await, "992.7");
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit"]);
    let entry = &world.entries("acme").await[0];
    assert_eq!((&entry["lines"], &entry["asked"]), (&json!(3), &json!(3)));
    assert_eq!(entry["operations"], json!({ "record.enrich": "5", "text.generate": "2.3" }));
    let csv = world.bare(Method::GET, "/v1/workspaces/acme/ledger?kind=debit").header("accept", "text/csv");
    let csv = csv
        .bearer_auth(world.token("acme", "credits:read").await)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(csv.contains("-7.3") && csv.contains("3 calls"), "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_every_line_of_a_batch_is_counted_as_a_call() {
    let world = World::with_packs(2).await;
    assert_eq!(world.batch("all", &records(300, false)).await.status, 201);
    assert_eq!(world.take("acme", "one", "2").await.status, 201);
    world.drain().await;
    let users = world.get("/v1/workspaces/acme/usage?group_by=user").await;
    assert_eq!(users["total"], "752");
    assert_eq!(users["groups"][0], json!({ "key": "user-2", "credits": "250", "count": 100 }));
    let operations = world.get("/v1/workspaces/acme/usage?group_by=operation").await;
    assert_eq!(operations["groups"][0], json!({ "key": "record.enrich", "credits": "750", "count": 300 }));
    let verified = world.local(Method::POST, "/_local/verify", None).await;
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_an_unaffordable_batch_takes_nothing_and_fails_its_run() {
    let world = World::with_packs(1).await;
    let run = json!({ "workflow_id": "nightly", "trigger": "scheduled" });
    let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some("run"), Some(&run)).await.body;
    let step = json!({ "kind": "workflow_step", "workflow_id": "nightly", "run_id": run["run_id"], "step_id": "enrich" });
    let line = json!({ "operation": "record.enrich", "credits": "3", "consumer": step });
    let refused = world.batch("k", &json!({ "lines": vec![line; 400] })).await;
    assert_eq!((refused.status, &refused.body["required"]), (402, &json!("1200")));
    assert_eq!((&refused.body["available"], &refused.body["shortfall"]), (&json!("1000"), &json!("200")));
    let path = format!("/v1/workspaces/acme/runs/{}", run["run_id"].as_str().unwrap());
    assert_eq!(world.get(&path).await["status"], "failed");
    assert_eq!(
        world
            .mails()
            .await
            .iter()
            .filter(|mail| mail["subject"].as_str().unwrap().contains("nightly"))
            .count(),
        1
    );
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

/// Each run's failure names its first step and what its own steps cost. Usage counts the refused batch once as blocked.
#[tokio::test(flavor = "multi_thread")]
async fn m12_a_refused_batch_reports_each_run_its_own_cost() {
    let world = World::with_packs(1).await;
    let mut lines = Vec::new();
    for (workflow, credits) in [("nightly", "700"), ("hourly", "200"), ("nightly", "300")] {
        let run = json!({ "workflow_id": workflow, "trigger": "scheduled" });
        let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some(workflow), Some(&run)).await.body;
        let step = json!({ "kind": "workflow_step", "workflow_id": workflow, "run_id": run["run_id"], "step_id": credits });
        lines.push(json!({ "operation": "record.enrich", "credits": credits, "consumer": step }));
    }
    let refused = world.batch("k", &json!({ "lines": lines })).await;
    assert_eq!((refused.status, &refused.body["required"]), (402, &json!("1200")));
    for (line, step, required) in [(0, "700", "1000"), (1, "200", "200")] {
        let run = lines[line]["consumer"]["run_id"].as_str().unwrap();
        let failure = world.get(&format!("/v1/workspaces/acme/runs/{run}")).await["failure"].take();
        assert_eq!((&failure["step_id"], &failure["required"]), (&json!(step), &json!(required)));
    }
    let mails = world.mails().await;
    let text = mails.last().unwrap()["text"].as_str().unwrap();
    assert!(
        text.contains("needs 1000 credits. It was part of a batch that needs more than the 1000"),
        "{text}"
    );
    let required: Vec<_> = world.events("RunFailed").await.iter().map(|it| it["required"].clone()).collect();
    assert_eq!(required, ["1000", "200"]);
    // Before the clock is moved, which may begin another month.
    let history = world.get("/v1/workspaces/acme/usage/history?months=1").await;
    assert_eq!(history["months"][0]["blocked_credits"], "1200");
    world.advance(3_900).await;
    let subjects = world.subjects().await;
    assert_eq!(subjects.last().unwrap(), "1 more run of hourly failed: out of AI credits");
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_a_partial_batch_takes_the_first_lines_it_can_afford() {
    let world = World::with_packs(1).await;
    assert_eq!(world.take("acme", "before", "92").await.status, 201);
    // 908 credits cover 363 lines of 2.5.
    let cut = world.batch("k", &records(400, true)).await;
    assert_eq!(
        (cut.status, &cut.body["accepted"], &cut.body["refused_from"]),
        (201, &json!(363), &json!(363))
    );
    assert_eq!((&cut.body["credits"], cut.body["lines"].as_array().unwrap().len()), (&json!("907.5"), 363));
    let again = world.batch("k", &records(400, true)).await;
    assert_eq!((again.status, &again.body), (200, &cut.body));
    assert_eq!(world.available("acme").await, "0.5");
    let none = world.batch("more", &records(2, true)).await;
    assert_eq!((none.status, &none.body["required"]), (402, &json!("2.5")));
    assert_eq!(world.reconciled("acme").await, ["top_up", "debit", "debit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_batches_never_overspend() {
    let world = std::sync::Arc::new(World::with_packs(1).await);
    let mut running = tokio::task::JoinSet::new();
    for task in 0..16 {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move { world.batch(&format!("b{task}"), &records(50, true)).await });
    }
    let mut accepted = 0;
    for answer in running.join_all().await {
        assert!([201, 402, 503].contains(&answer.status), "{}", answer.body);
        accepted += answer.body["accepted"].as_u64().unwrap_or(0);
    }
    let left = micros([&json!(world.available("acme").await)]);
    assert_eq!(left, 1_000_000_000 - i128::from(accepted) * 2_500_000);
    assert!((0..2_500_000).contains(&left) || accepted < 400, "{left}");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_invalid_lines_takes_nothing() {
    let world = World::with_packs(1).await;
    let mut body = records(4, false);
    body["lines"][1]["credits"] = json!("-1");
    body["lines"][3] =
        json!({ "operation": "nothing.known", "credits": "1", "consumer": consumer(), "x": 1 });
    assert_eq!(world.batch("k", &body).await.fields(), ["lines.1.credits", "lines.3.operation", "lines.3.x"]);
    for (lines, fields) in [
        (json!([]), vec!["lines"]),
        (json!(vec![record(0); 501]), vec!["lines"]),
        (json!("all"), vec!["lines"]),
        (json!([record(0), 5]), vec!["lines.1"]),
        (Value::Null, vec!["lines"]),
    ] {
        assert_eq!(world.batch("k", &json!({ "lines": lines })).await.fields(), fields);
    }
    let dear = json!({ "operation": "text.generate", "credits": "999999999999", "consumer": consumer() });
    assert_eq!(world.batch("k", &json!({ "lines": [dear, dear] })).await.fields(), ["lines"]);
    assert_eq!(
        world.batch("k", &json!({ "lines": [record(0)], "partial": "yes" })).await.fields(),
        ["partial"]
    );
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_100_lines_costs_under_20_write_units() {
    let world = World::with_packs(1).await;
    let lines: Vec<Value> = (0..100)
        .map(|number| {
            json!({ "operation": "record.enrich", "model": "standard",
                "units": { "input_tokens": 1_000 + number, "output_tokens": 300 + number, "records": 1 },
                "consumer": { "kind": "bulk", "job_id": "job-1", "feature": "enrichment", "list_id": "leads" } })
        })
        .collect();
    let (answer, requests) = world.requests_of(world.batch("k", &json!({ "lines": lines }))).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0]["write_units"].as_f64().unwrap() < 20.0, "{requests:?}");
}
