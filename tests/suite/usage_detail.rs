//! Details of usage: calls of some days, grouped by one attribute and filtered by another (M9).

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

const DETAIL: &str = "/v1/workspaces/acme/usage/detail";

fn call(consumer: &Value, model: Option<&str>, credits: &str) -> Value {
    json!({ "operation": "text.generate", "model": model, "credits": credits, "consumer": consumer })
}

fn step(workflow: &str) -> Value {
    json!({ "kind": "workflow_step", "workflow_id": workflow, "run_id": "run_1", "step_id": "s1" })
}

fn action(user: &str) -> Value {
    json!({ "kind": "action", "feature": "chat", "user_id": user })
}

/// Makes a world with a debit of a workflow, a batch of a workflow and a person, and a settled hold of a person.
async fn world() -> World {
    let world = World::with_packs(1).await;
    world.debit("acme", "a", &call(&step("nightly"), Some("standard"), "6")).await;
    let lines =
        json!({ "lines": [call(&step("nightly"), None, "1"), call(&action("ada"), Some("standard"), "2")] });
    world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("b"), Some(&lines)).await;
    let hold = json!({
        "operation": "text.extract", "credits": "5", "ttl_seconds": 60, "consumer": action("bob"),
    });
    let hold = world.holds("", "c", &hold).await.body["hold_id"].as_str().unwrap().to_owned();
    assert_eq!(world.settle(&hold, "d", &json!({ "credits": "3" })).await.status, 200);
    world
}

fn groups(detail: &Value) -> Vec<(Option<&str>, &str, u64)> {
    detail["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["key"].as_str(), it["credits"].as_str().unwrap(), it["count"].as_u64().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_a_detail_groups_and_filters_the_calls_of_the_ledger() {
    let world = world().await;
    let all = world.get(DETAIL).await;
    assert_eq!((&all["total"], &all["count"], &all["complete"]), (&json!("12"), &json!(4), &json!(true)));
    assert_eq!(groups(&all), [(Some("nightly"), "7", 2), (None, "5", 2)]);
    let by_model = world.get(&format!("{DETAIL}?group_by=model&workflow=nightly")).await;
    assert_eq!(by_model["filter"], json!({ "by": "workflow", "key": "nightly" }));
    assert_eq!(groups(&by_model), [(Some("standard"), "6", 1), (None, "1", 1)]);
    assert_eq!(by_model["days"].as_array().unwrap().len(), 1);
    let by_user = world.get(&format!("{DETAIL}?group_by=user&feature=chat")).await;
    assert_eq!(groups(&by_user), [(Some("bob"), "3", 1), (Some("ada"), "2", 1)]);
    let by_operation = world.get(&format!("{DETAIL}?group_by=operation&user=bob")).await;
    assert_eq!(groups(&by_operation), [(Some("text.extract"), "3", 1)]);
    let by_feature = world.get(&format!("{DETAIL}?group_by=feature&model=standard")).await;
    assert_eq!(groups(&by_feature), [(None, "6", 1), (Some("chat"), "2", 1)]);
    let none = world.get(&format!("{DETAIL}?workflow=weekly")).await;
    assert_eq!((&none["total"], &none["entries"], groups(&none).len()), (&json!("0"), &json!(4), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn m09_a_detail_has_the_days_that_it_is_asked_for() {
    let world = world().await;
    let first = today(&world).await;
    world.local(Method::POST, "/_local/clock", Some(&json!({ "advance_seconds": 3 * 86_400 }))).await;
    world.debit("acme", "e", &call(&action("ada"), None, "2")).await;
    let last = today(&world).await;
    let one = world.get(&format!("{DETAIL}?from={last}&group_by=feature")).await;
    assert_eq!((groups(&one), &one["first_day"]), (vec![(Some("chat"), "2", 1)], &json!(last)));
    assert_eq!(one["days"], json!([{ "day": last, "credits": "2", "count": 1 }]));
    let both = world.get(&format!("{DETAIL}?from={first}&to={last}&group_by=feature")).await;
    assert_eq!((both["days"].as_array().unwrap().len(), &both["total"]), (2, &json!("14")));
}

/// Returns the present day in UTC.
async fn today(world: &World) -> String {
    world.get("/v1/workspaces/acme/balance").await["as_of"].as_str().unwrap()[..10].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_details_are_refused_by_parameter() {
    let world = world().await;
    for (query, fields) in [
        ("from=2026-13-01", vec!["from"]),
        ("from=2020-01-01&to=2999-01-01", vec!["from", "to"]),
        ("from=2026-11-23T00:00:00Z", vec!["from"]),
        ("group_by=day", vec!["group_by"]),
        ("workflow=a&user=b", vec!["user", "workflow"]),
        ("tenant=a", vec!["tenant"]),
    ] {
        let refused = world.call(Method::GET, &format!("{DETAIL}?{query}"), None, None).await;
        assert_eq!(refused.fields(), fields, "{query}");
    }
    assert_eq!(world.call(Method::GET, "/v1/workspaces/ghost/usage/detail", None, None).await.status, 404);
}
