//! Holds: credits are reserved, captured without a transaction, and settled (M4).

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, consumer, micros};

pub(crate) fn placing(credits: &str, ttl_seconds: u64) -> Value {
    json!({ "credits": credits, "ttl_seconds": ttl_seconds, "operation": "text.summarize", "consumer": consumer() })
}

pub(crate) fn step(number: usize) -> Value {
    json!({ "kind": "workflow_step", "workflow_id": "nightly", "run_id": "run-1", "step_id": format!("step-{number}") })
}

pub(crate) fn capturing(credits: &str) -> Value {
    json!({ "operation": "text.generate", "credits": credits, "consumer": consumer() })
}

impl World {
    pub(crate) async fn holds(&self, path: &str, key: &str, body: &Value) -> Answer {
        let path = format!("/v1/workspaces/acme/holds{path}");
        self.call(Method::POST, &path, Some(key), Some(body)).await
    }

    /// Places a hold for half an hour and returns its id.
    pub(crate) async fn place(&self, key: &str, credits: &str) -> String {
        let placed = self.holds("", key, &placing(credits, 1_800)).await;
        assert_eq!(placed.status, 201, "{}", placed.body);
        placed.body["hold_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn capture(&self, hold: &str, key: &str, credits: &str) -> Answer {
        self.holds(&format!("/{hold}/captures"), key, &capturing(credits)).await
    }

    pub(crate) async fn settle(&self, hold: &str, key: &str, body: &Value) -> Answer {
        self.holds(&format!("/{hold}/settle"), key, body).await
    }

    pub(crate) async fn held(&self, hold: &str) -> Value {
        self.get(&format!("/v1/workspaces/acme/holds/{hold}")).await
    }
}

/// Returns a hold's credits, captured credits, remaining credits and status.
pub(crate) fn shown(hold: &Value) -> [&str; 4] {
    ["credits", "captured", "remaining", "status"].map(|member| hold[member].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_hold_is_captured_and_settled_and_its_rest_released() {
    let world = World::with_packs(1).await;
    let placed = world.holds("", "place", &placing("75", 1_800)).await;
    assert_eq!((placed.status, shown(&placed.body)), (201, ["75", "0", "75", "open"]));
    let hold = placed.body["hold_id"].as_str().unwrap();
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("925"), &json!("75")));
    assert_eq!(balance["consumed_this_month"], "0");

    let priced = json!({ "operation": "text.generate", "model": "standard",
        "units": { "input_tokens": 1_200, "output_tokens": 800 }, "consumer": step(1) });
    let first = world.holds(&format!("/{hold}/captures"), "c1", &priced).await;
    assert_eq!(
        (first.status, &first.body["credits"], &first.body["remaining"]),
        (201, &json!("2.3"), &json!("72.7"))
    );
    let second = world.capture(hold, "c2", "70").await;
    assert_eq!((second.status, &second.body["remaining"]), (201, &json!("2.7")));
    // A replay returns the first answer, whatever was captured since.
    let again = world.holds(&format!("/{hold}/captures"), "c1", &priced).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
    assert_eq!(world.capture(hold, "c2", "69").await.body["code"], "idempotency_key_reused");
    assert_eq!(shown(&world.held(hold).await), ["75", "72.3", "2.7", "open"]);
    assert_eq!(world.balance("acme").await["consumed_this_month"], "0");

    let settled = world.settle(hold, "settle", &json!({ "credits": "1.5" })).await;
    assert_eq!((settled.status, shown(&settled.body)), (200, ["75", "73.8", "0", "settled"]));
    let again = world.settle(hold, "settle", &json!({ "credits": "1.5" })).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &settled.body));
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("926.2"), &json!("0")));
    assert_eq!(balance["consumed_this_month"], "73.8");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
    let entry = &world.entries("acme").await[0];
    assert_eq!(
        (&entry["credits"], &entry["lines"], &entry["hold_ids"]),
        (&json!("-73.8"), &json!(3), &json!([hold]))
    );
    assert_eq!(entry["operations"], json!({ "text.generate": "72.3", "text.summarize": "1.5" }));
    let placed_again = world.holds("", "place", &placing("75", 1_800)).await;
    assert_eq!((placed_again.status, &placed_again.body), (200, &placed.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_of_20_concurrent_holds_of_75_on_500_six_are_placed() {
    let world = std::sync::Arc::new(World::new().await);
    world.put_workspace("acme").await;
    let grant = json!({ "credits": "500", "kind": "prepaid", "reason": "test" });
    assert_eq!(
        world.call(Method::POST, "/v1/workspaces/acme/grants", Some("g"), Some(&grant)).await.status,
        201
    );
    let mut running = tokio::task::JoinSet::new();
    for number in 0..20 {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move { world.holds("", &format!("h{number}"), &placing("75", 600)).await });
    }
    let answers = running.join_all().await;
    let granted = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 402);
    assert!(
        refused
            .clone()
            .all(|answer| answer.body["required"] == "75" && answer.body["code"] == "insufficient_credits")
    );
    // A call that gives up under contention is answered 503 and may be retried.
    let busy = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!(granted + refused.count() + busy, 20);
    assert!(granted == 6 || (granted < 6 && busy > 0), "{granted} granted");
    let balance = world.balance("acme").await;
    assert_eq!(micros([&balance["held"]]), granted as i128 * 75_000_000);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_placed_together_take_one_transaction_each_way() {
    let world = World::with_packs(1).await;
    let is_transaction = |it: &&Value| it["operation"] == "TransactWriteItems";
    let bulk = json!({ "kind": "bulk", "job_id": "job-1", "feature": "enrichment" });
    let body = json!({ "credits": "19", "count": 50, "ttl_seconds": 3_600, "operation": "record.enrich", "consumer": bulk });
    let (placed, requests) = world.requests_of(world.holds("/batch", "p", &body)).await;
    assert_eq!(placed.status, 201, "{}", placed.body);
    let writes = requests.iter().filter(is_transaction).count();
    assert_eq!((placed.body["holds"].as_array().unwrap().len(), writes), (50, 1));
    assert_eq!(world.holds("/batch", "p", &body).await.body, placed.body);
    assert_eq!(world.holds("/batch", "q", &body).await.body["code"], "insufficient_credits");
    let ids: Vec<&str> = placed.body["holds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hold| hold["hold_id"].as_str().unwrap())
        .collect();
    for hold in &ids[..10] {
        assert_eq!(world.capture(hold, "c", "7").await.status, 201);
    }
    let settling = json!({ "hold_ids": ids });
    let (settled, requests) = world.requests_of(world.holds("/batch/settle", "s", &settling)).await;
    assert_eq!(settled.status, 200, "{}", settled.body);
    assert_eq!(requests.iter().filter(is_transaction).count(), 1, "{requests:?}");
    assert_eq!(shown(&settled.body["holds"][9]), ["19", "7", "0", "settled"]);
    assert_eq!(shown(&settled.body["holds"][10]), ["19", "0", "0", "settled"]);
    let again = world.holds("/batch/settle", "s", &settling).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &settled.body));
    assert_eq!(world.available("acme").await, "930");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_above_its_hold_is_refused_unless_it_extends_it() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "10").await;
    let refused = world.capture(&hold, "c1", "12").await;
    assert_eq!((refused.status, &refused.body["code"]), (402, &json!("insufficient_credits")));
    assert_eq!(
        ["required", "available", "shortfall"].map(|it| &refused.body[it]),
        [&json!("12"), &json!("10"), &json!("2")]
    );
    let extending = |credits: &str| {
        let mut body = capturing(credits);
        body["extend"] = json!(true);
        body
    };
    let path = format!("/{hold}/captures");
    let grown = world.holds(&path, "c1", &extending("12")).await;
    assert_eq!((grown.status, &grown.body["remaining"]), (201, &json!("0")));
    let again = world.holds(&path, "c1", &extending("12")).await;
    assert_eq!((again.status, &again.body), (200, &grown.body));
    assert_eq!(shown(&world.held(&hold).await), ["12", "12", "0", "open"]);
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("988"), &json!("12")));
    let beyond = world.holds(&path, "c2", &extending("989")).await;
    assert_eq!(
        (beyond.status, &beyond.body["available"], &beyond.body["shortfall"]),
        (402, &json!("988"), &json!("1"))
    );

    assert_eq!(
        world.settle(&hold, "s", &json!({ "credits": "8" })).await.body["code"],
        "insufficient_credits"
    );
    assert_eq!(
        world.settle(&hold, "place", &json!({ "credits": "8" })).await.body["code"],
        "idempotency_key_reused"
    );
    let short = world.settle(&hold, "s", &json!({ "credits": "1000", "extend": true })).await;
    assert_eq!((short.status, &short.body["shortfall"]), (402, &json!("12")));
    let settled = world.settle(&hold, "s", &json!({ "credits": "8", "extend": true })).await;
    assert_eq!((settled.status, shown(&settled.body)), (200, ["20", "20", "0", "settled"]));
    assert_eq!(world.available("acme").await, "980");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capture_after_a_hundred_is_refused_as_hold_full() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "1000").await;
    for number in 0..100 {
        let user = format!("user-{number}");
        let body = json!({ "operation": "text.generate", "model": "standard", "credits": "1.5",
            "consumer": { "kind": "action", "feature": "drafts", "user_id": user } });
        let captured = world.holds(&format!("/{hold}/captures"), &format!("c{number}"), &body).await;
        assert_eq!(captured.status, 201, "{}", captured.body);
    }
    let full = world.capture(&hold, "more", "1").await;
    assert_eq!((full.status, &full.body["code"]), (409, &json!("hold_full")));
    assert_eq!(world.settle(&hold, "s", &json!({ "credits": "2" })).await.body["captured"], "152");
    assert_eq!(world.reconciled("acme").await, ["top_up", "hold_settled"]);
    world.drain().await;
    let users = world.get("/v1/workspaces/acme/usage?group_by=user").await;
    assert!(
        users["groups"]
            .as_array()
            .unwrap()
            .contains(&json!({ "key": "user-99", "credits": "1.5", "count": 1 }))
    );
}

/// A placeholder of an expression has no hyphen, so both words would get the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_capture_whose_words_differ_only_in_a_hyphen_is_stored() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "10").await;
    // With this rate card, the word of the call is `_5y`. The word of this consumer is `-5y`.
    assert_eq!(world.get("/v1/catalog").await["rate_card"]["version"], "2026-11-01");
    let body = json!({ "operation": "text.generate", "model": "standard", "credits": "1",
        "consumer": { "kind": "action", "feature": "assistant", "user_id": "user-72242" } });
    let captured = world.holds(&format!("/{hold}/captures"), "c", &body).await;
    assert_eq!((captured.status, &captured.body["remaining"]), (201, &json!("9")), "{}", captured.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_a_run_fails_only_if_the_balance_refuses_its_step() {
    let world = World::with_packs(1).await;
    let run = json!({ "workflow_id": "nightly", "trigger": "scheduled" });
    let mut runs = Vec::new();
    for key in ["one", "two", "three"] {
        let run = world.call(Method::POST, "/v1/workspaces/acme/runs", Some(key), Some(&run)).await;
        runs.push(run.body["run_id"].as_str().unwrap().to_owned());
    }
    let step = |run: &str| json!({ "kind": "workflow_step", "workflow_id": "nightly", "run_id": run, "step_id": "s" });
    let mut body = placing("2000", 60);
    body["consumer"] = step(&runs[0]);
    assert_eq!(world.holds("", "too-much", &body).await.status, 402);
    body = placing("20", 60);
    body["consumer"] = step(&runs[1]);
    let hold = world.holds("", "enough", &body).await.body["hold_id"].as_str().unwrap().to_owned();
    let above = json!({ "operation": "text.generate", "credits": "21", "consumer": step(&runs[1]) });
    assert_eq!(world.holds(&format!("/{hold}/captures"), "c", &above).await.status, 402);
    let status =
        async |run: &str| world.get(&format!("/v1/workspaces/acme/runs/{run}")).await["status"].clone();
    assert_eq!((status(&runs[0]).await, status(&runs[1]).await), (json!("failed"), json!("running")));
    let last = json!({ "credits": "21" });
    assert_eq!(world.settle(&hold, "s", &last).await.status, 402);
    assert_eq!(status(&runs[1]).await, "running");
    let mails = world.mails().await;
    assert_eq!(mails.iter().filter(|mail| mail["subject"].as_str().unwrap().contains("nightly")).count(), 1);

    // The balance should pay the rest, and has only 980 credits.
    let beyond = json!({ "credits": "1001", "extend": true });
    assert_eq!(world.settle(&hold, "s", &beyond).await.body["shortfall"], "1");
    let of_another = json!({ "operation": "text.generate", "credits": "1001", "extend": true, "consumer": step(&runs[2]) });
    assert_eq!(world.holds(&format!("/{hold}/captures"), "c2", &of_another).await.status, 402);
    for run in &runs[1..] {
        let failure = world.get(&format!("/v1/workspaces/acme/runs/{run}")).await["failure"].take();
        assert_eq!((&failure["required"], &failure["available"]), (&json!("1001"), &json!("1000")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_input_of_a_hold_is_refused_by_field() {
    let world = World::with_packs(1).await;
    for (body, fields) in [
        (placing("10", 0), vec!["ttl_seconds"]),
        (placing("10", 31_536_000), vec!["ttl_seconds"]),
        (placing("-1", 60), vec!["credits"]),
        (json!({}), vec!["credits", "ttl_seconds", "operation", "consumer"]),
        (
            json!({ "credits": "1", "ttl_seconds": "60", "operation": "no.such", "consumer": 5, "count": 2 }),
            vec!["ttl_seconds", "consumer", "operation", "count"],
        ),
    ] {
        assert_eq!(world.holds("", "k", &body).await.fields(), fields, "{body}");
    }
    let mut several = placing("999999999999", 60);
    several["count"] = json!(2);
    assert_eq!(world.holds("/batch", "k", &several).await.fields(), ["credits"]);
    several["count"] = json!(51);
    assert_eq!(world.holds("/batch", "k", &several).await.fields(), ["count"]);
    assert_eq!(world.holds("/batch", "k", &placing("1", 60)).await.fields(), ["count"]);

    let hold = world.place("k", "10").await;
    assert_eq!(
        world.holds(&format!("/{hold}/captures"), "c", &json!({ "extend": 1 })).await.fields(),
        ["extend", "operation", "units", "consumer"]
    );
    assert_eq!(
        world.settle(&hold, "s", &json!({ "credits": "0", "more": 1 })).await.fields(),
        ["credits", "more"]
    );
    for hold_ids in [json!([]), json!(["a", "a"]), json!([1]), json!("a"), json!(vec!["a"; 51])] {
        assert_eq!(
            world.holds("/batch/settle", "s", &json!({ "hold_ids": hold_ids })).await.fields(),
            ["hold_ids"]
        );
    }
    assert_eq!(
        world.holds("/batch/settle", "s", &json!({ "hold_ids": [hold, "no-such"] })).await.body["code"],
        "not_found"
    );
    assert_eq!(world.capture("no-such", "c", "1").await.body["code"], "not_found");
    assert_eq!(shown(&world.held(&hold).await), ["10", "0", "10", "open"]);

    assert_eq!(world.settle(&hold, "s", &json!({})).await.status, 200);
    assert_eq!(world.settle(&hold, "another", &json!({})).await.body["code"], "hold_closed");
    assert_eq!(world.settle(&hold, "third", &json!({ "credits": "1" })).await.body["code"], "hold_closed");
    assert_eq!(world.capture(&hold, "c", "1").await.body["code"], "hold_closed");
    assert_eq!(world.settle(&hold, "k", &json!({})).await.body["code"], "idempotency_key_reused");
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_not_found_by_another_workspace() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    let hold = world.place("k", "10").await;
    for (method, path) in [(Method::GET, ""), (Method::POST, "/captures"), (Method::POST, "/settle")] {
        let body = if path == "/captures" { capturing("1") } else { json!({}) };
        let body = (method == Method::POST).then_some(&body);
        let answer =
            world.call(method, &format!("/v1/workspaces/other/holds/{hold}{path}"), Some("k"), body).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("not_found")));
    }
    assert_eq!(shown(&world.held(&hold).await), ["10", "0", "10", "open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_captures_cost_what_the_readme_says() {
    let world = World::with_packs(1).await;
    let units =
        |requests: &[Value]| requests.iter().map(|it| it["write_units"].as_f64().unwrap()).sum::<f64>();
    let (placed, mut all) = world.requests_of(world.holds("", "k", &placing("500", 600))).await;
    let hold = placed.body["hold_id"].as_str().unwrap().to_owned();
    for number in 0..20 {
        let operation = ["text.classify", "text.summarize", "text.generate"][number % 3];
        let body = json!({ "operation": operation, "model": "standard", "consumer": step(number),
            "units": { "input_tokens": 1_000 + 37 * number, "output_tokens": 200 } });
        let key = format!("run-1/step-{number}");
        let (captured, requests) =
            world.requests_of(world.holds(&format!("/{hold}/captures"), &key, &body)).await;
        assert_eq!(captured.status, 201, "{}", captured.body);
        assert_eq!((requests.len(), &requests[0]["operation"]), (1, &json!("UpdateItem")), "{requests:?}");
        if number < 14 {
            assert!(units(&requests) < 1.5, "after {number}");
        }
        all.extend(requests);
    }
    let (settled, requests) = world.requests_of(world.settle(&hold, "s", &json!({}))).await;
    assert_eq!(settled.status, 200);
    all.extend(requests);
    let said = format!("twenty calls paid from a hold {}", units(&all));
    assert!(include_str!("../../docs/deploying.md").contains(&said), "{said}: {all:#?}");
}
