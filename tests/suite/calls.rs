//! AI calls in units: classes, aliases, dates, free calls, metadata, and holds by units with one settlement (M2, M4).

use credits_local::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::holds::placing;
use crate::world::{Answer, World, consumer, taking};

/// Returns a catalogue with one operation of many units, and two rate cards of which the second takes effect in a day.
fn catalogue(starts: &str) -> String {
    let mut catalogue: Value = serde_json::from_str(credits_runtime::catalogue::DEPLOYED).unwrap();
    let rate = |unit: &str, credits: &str, per: u64| json!({ "unit": unit, "credits": credits, "per": per });
    let card = |version: &str, from: &str, base: &str| {
        json!({
            "version": version, "effective_from": from,
            "operations": [
                {
                    "operation": "chat", "base": base, "per_1k_input_tokens": "1",
                    "rates": [rate("output_tokens", "4000", 1_000_000), rate("pages", "0.5", 1)],
                },
                { "operation": "text.generate", "base": "1" },
                { "operation": "text.summarize", "base": "1" },
                { "operation": "free", "per_record": "0" },
            ],
            "models": [
                {
                    "model": "large", "multiplier": "2", "aliases": ["large-2026"],
                    "rates": [rate("cached_input_tokens", "0.1", 1_000)],
                },
            ],
        })
    };
    catalogue.as_object_mut().unwrap().remove("rate_card");
    catalogue["rate_cards"] =
        json!([card("second", starts, "0.2"), card("first", "2026-01-01T00:00:00Z", "0.1")]);
    catalogue.to_string()
}

async fn world() -> World {
    let begins_at = "2026-11-30T12:00:00Z".parse().unwrap();
    let catalogue = Some(catalogue("2026-12-01T12:00:00Z"));
    let world = World::with(&Options { begins_at: Some(begins_at), catalogue, ..Options::default() }).await;
    world.put_workspace("acme").await;
    world.buy("acme", "pack_1k", "pack").await;
    world
}

fn call(operation: &str, model: Option<&str>, units: &Value) -> Value {
    json!({ "operation": operation, "model": model, "units": units, "consumer": consumer() })
}

async fn debited(world: &World, key: &str, body: &Value) -> String {
    let debit = world.debit("acme", key, body).await;
    assert_eq!(debit.status, 201, "{}", debit.body);
    debit.body["credits"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_each_class_of_units_has_its_rate() {
    let world = world().await;
    let all =
        json!({ "input_tokens": 1_000, "cached_input_tokens": 2_000, "output_tokens": 500, "pages": 2 });
    // (0.1 + 1 + 2 × 0.1 + 0.5 × 4 + 2 × 0.5) × 2
    assert_eq!(debited(&world, "a", &call("chat", Some("large"), &all)).await, "8.6");
    assert_eq!(debited(&world, "b", &call("chat", Some("large-2026"), &all)).await, "8.6");
    let refused = world.debit("acme", "c", &call("chat", None, &all)).await;
    assert_eq!(refused.fields(), ["units.cached_input_tokens"], "only the model has its rate");
    assert_eq!(world.debit("acme", "d", &call("chat", Some("large-2027"), &all)).await.fields(), ["model"]);
    let entries = world.entries("acme").await;
    let debits: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "debit").collect();
    assert_eq!(debits.len(), 2);
    for debit in debits {
        assert_eq!((&debit["units"], &debit["model"]), (&all, &json!("large")), "an alias is resolved");
    }
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_newest_rate_card_in_effect_prices_a_call_and_a_replay_keeps_its_price() {
    let world = world().await;
    let body = call("chat", None, &json!({ "input_tokens": 0 }));
    let before = world.debit("acme", "before", &body).await.body;
    assert_eq!((&before["credits"], &before["rate_card"]), (&json!("0.1"), &json!("first")));
    let shown = world.get("/v1/catalog").await;
    assert_eq!(shown["rate_card"]["version"], "first");
    assert_eq!(shown["later_rate_cards"][0]["effective_from"], "2026-12-01T12:00:00Z");

    world.advance(24 * 3_600).await;
    let after = world.debit("acme", "after", &body).await.body;
    assert_eq!((&after["credits"], &after["rate_card"]), (&json!("0.2"), &json!("second")));
    let replay = world.debit("acme", "before", &body).await;
    assert_eq!((replay.replayed, replay.body), (true, before));
    assert_eq!(world.get("/v1/catalog").await["rate_card"]["version"], "second");
    assert_eq!(world.get("/v1/catalog").await["later_rate_cards"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_call_whose_rates_are_zero_is_debited_and_counted() {
    let world = world().await;
    let body = call("free", None, &json!({ "records": 7 }));
    assert_eq!(debited(&world, "a", &body).await, "0");
    assert_eq!(
        world.debit("acme", "b", &taking("0")).await.fields(),
        ["credits"],
        "a caller's own zero is a mistake"
    );
    // Nothing is left, and still the call is free.
    world.take("acme", "all", "1000").await;
    assert_eq!(debited(&world, "c", &body).await, "0");
    let batch = json!({ "lines": [body, body] });
    let batch = world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("d"), Some(&batch)).await;
    assert_eq!(
        (batch.status, &batch.body["credits"], &batch.body["accepted"]),
        (201, &json!("0"), &json!(2))
    );
    let quote = world.call(Method::POST, "/v1/workspaces/acme/quotes", None, Some(&body)).await;
    assert_eq!((&quote.body["credits"], &quote.body["affordable"]), (&json!("0"), &json!(true)));
    world.drain().await;
    let usage = world.get("/v1/workspaces/acme/usage?month=2026-11&group_by=operation").await;
    let free = usage["groups"].as_array().unwrap().iter().find(|group| group["key"] == "free").unwrap();
    assert_eq!((&free["count"], &free["credits"]), (&json!(4), &json!("0")), "{usage}");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_metadata_is_shown_in_the_ledger_and_its_csv() {
    let world = world().await;
    let tagged = |mut body: Value, tag: &str| {
        body["metadata"] = json!({ "tag": tag });
        body
    };
    world.debit("acme", "a", &tagged(taking("1"), "=debit, \"quoted\"")).await;
    let batch = json!({ "lines": [taking("1"), tagged(taking("1"), "line")] });
    world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("b"), Some(&batch)).await;
    let hold = world.holds("", "c", &tagged(placing("10", 60), "hold")).await;
    let hold_id = hold.body["hold_id"].as_str().unwrap();
    world.holds(&format!("/{hold_id}/captures"), "d", &tagged(taking("1"), "capture")).await;
    assert_eq!(world.settle(hold_id, "e", &json!({ "credits": "2" })).await.status, 200);

    let entries = world.entries("acme").await;
    let of = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).collect::<Vec<_>>();
    let shown: Vec<&Value> = of("debit").into_iter().map(|entry| &entry["metadata"]).collect();
    assert!(shown.contains(&&json!({ "tag": "=debit, \"quoted\"" })), "{shown:?}");
    let lines: Vec<&Value> = of("debit").into_iter().map(|entry| &entry["line_metadata"]).collect();
    assert!(lines.contains(&&json!([{ "line": 1, "metadata": { "tag": "line" } }])), "{lines:?}");
    let settled = json!([
        { "line": 0, "metadata": { "tag": "capture" } },
        { "line": 1, "metadata": { "tag": "hold" } },
    ]);
    assert_eq!(of("hold_settled")[0]["line_metadata"], settled);

    let by_credits = world.holds("", "f", &tagged(placing("10", 60), "hold")).await;
    let by_credits = by_credits.body["hold_id"].as_str().unwrap().to_owned();
    let by_units = bounded_hold(&world, "g").await;
    let estimated = json!({ "usage": "estimated" });
    for (hold, last) in [
        (by_credits, json!({ "credits": "2", "metadata": estimated })),
        (by_units, json!({ "units": { "output_tokens": 10 }, "metadata": estimated })),
    ] {
        assert_eq!(world.settle(&hold, &hold, &last).await.status, 200);
        let newest = &world.entries("acme").await[0];
        let own = json!([{ "line": 0, "metadata": estimated }]);
        assert_eq!(newest["line_metadata"], own, "a settlement's metadata takes the place of its hold's");
    }

    let token = world.token("acme", "credits:read").await;
    let csv =
        world.bare(Method::GET, "/v1/workspaces/acme/ledger").bearer_auth(token).header("accept", "text/csv");
    let text = csv.send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#","{""tag"":""=debit, \""quoted\""""}""#), "{text}");
    assert!(text.contains(r#"{""line"":1,""metadata"":{""tag"":""hold""}}"#), "{text}");
    world.reconciled("acme").await;
}

/// Places a hold for up to 1,000 input tokens and 1,000 output tokens of the large model: (0.1 + 1 + 4) × 2 credits.
async fn bounded_hold(world: &World, key: &str) -> String {
    let mut body = placing("1", 60);
    body.as_object_mut().unwrap().remove("credits");
    body["operation"] = json!("chat");
    body["model"] = json!("large-2026");
    body["units"] = json!({ "input_tokens": 1_000, "output_tokens": 1_000 });
    let placed = world.holds("", key, &body).await;
    assert_eq!((placed.status, &placed.body["credits"]), (201, &json!("10.2")), "{}", placed.body);
    let again = world.holds("", key, &body).await;
    assert_eq!((again.replayed, &again.body), (true, &placed.body));
    placed.body["hold_id"].as_str().unwrap().to_owned()
}

fn last(tokens: u64, overrun: Option<&str>) -> Value {
    json!({ "units": { "input_tokens": tokens, "output_tokens": 500 }, "model": "large", "overrun": overrun })
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_an_ai_call_is_a_hold_and_a_settlement_by_units() {
    let world = world().await;
    let hold = bounded_hold(&world, "hold").await;
    // (0.1 + 0.8 + 2) × 2
    let settled = world.settle(&hold, "settle", &last(800, None)).await;
    let shown = |answer: &Answer| {
        let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        (answer.status, text("captured"), text("remaining"), text("uncollected"))
    };
    assert_eq!(shown(&settled), (200, "5.8".into(), "0".into(), "0".into()));
    assert_eq!(world.available("acme").await, "994.2");
    // A price that changes does not change the replay.
    world.advance(24 * 3_600).await;
    let replay = world.settle(&hold, "settle", &last(800, None)).await;
    assert_eq!((replay.replayed, replay.body), (true, settled.body));
    let entry = &world.entries("acme").await[0];
    assert_eq!((&entry["kind"], &entry["rate_cards"]), (&json!("hold_settled"), &json!(["first"])));
    assert_eq!(entry["operations"], json!({ "chat": "5.8" }));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_overrun_decides_what_an_underestimate_costs() {
    let world = world().await;
    let hold = bounded_hold(&world, "refused").await;
    // (0.1 + 20 + 2) × 2 = 44.2 credits of a hold of 10.2.
    let refused = world.settle(&hold, "s1", &last(20_000, Some("refuse"))).await;
    assert_eq!((refused.status, &refused.body["code"]), (402, &json!("insufficient_credits")));
    let extended = world.settle(&hold, "s1", &last(20_000, Some("extend"))).await;
    assert_eq!((extended.status, &extended.body["captured"]), (200, &json!("44.2")));

    let hold = bounded_hold(&world, "short").await;
    world.take("acme", "rest", "935.6").await;
    assert_eq!(world.available("acme").await, "10");
    assert_eq!(world.settle(&hold, "s2", &last(20_000, Some("extend"))).await.status, 402);
    let taken = world.settle(&hold, "s2", &last(20_000, Some("take_available"))).await;
    assert_eq!(
        (taken.status, &taken.body["captured"], &taken.body["uncollected"]),
        (200, &json!("20.2"), &json!("24"))
    );
    let replay = world.settle(&hold, "s2", &last(20_000, Some("take_available"))).await;
    assert_eq!((replay.replayed, &replay.body), (true, &taken.body));
    assert_eq!(world.available("acme").await, "0");
    let entry = &world.entries("acme").await[0];
    assert_eq!((&entry["credits"], &entry["uncollected"]), (&json!("-20.2"), &json!("24")));
    world.drain().await;
    let usage = world.get("/v1/workspaces/acme/usage").await;
    assert_eq!((&usage["uncollected"], &usage["total"]), (&json!("24"), &json!("1000")));
    let events = world.events("CreditsUncollected").await;
    assert_eq!(events.len(), 1, "a replay publishes nothing");
    assert_eq!((&events[0]["credits"], &events[0]["hold_ids"]), (&json!("24"), &json!([hold])));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn take_available_takes_what_concurrent_calls_leave() {
    let world = std::sync::Arc::new(world().await);
    let mut holds = Vec::new();
    for key in 0..8 {
        holds.push(bounded_hold(&world, &format!("hold-{key}")).await);
    }
    let mut settling = tokio::task::JoinSet::new();
    for hold in holds {
        let world = std::sync::Arc::clone(&world);
        settling.spawn(async move {
            let key = format!("settle-{hold}");
            world.settle(&hold, &key, &last(100_000, Some("take_available"))).await
        });
    }
    let mut both = 0;
    for settled in settling.join_all().await {
        assert_eq!(settled.status, 200, "{}", settled.body);
        both += crate::world::micros([&settled.body["captured"], &settled.body["uncollected"]]);
    }
    // Each costs (0.1 + 100 + 2) × 2.
    assert_eq!(both, 8 * 204_200_000);
    assert_eq!(world.available("acme").await, "0");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_a_free_call_can_be_settled() {
    let world = world().await;
    let mut body = placing("1", 60);
    body.as_object_mut().unwrap().remove("credits");
    body["operation"] = json!("free");
    body["units"] = json!({ "records": 5 });
    let placed = world.holds("", "hold", &body).await;
    assert_eq!((placed.status, &placed.body["credits"]), (201, &json!("0.000001")));
    let settle = json!({ "units": { "records": 4 } });
    let settled = world.settle(placed.body["hold_id"].as_str().unwrap(), "settle", &settle).await;
    assert_eq!((settled.status, &settled.body["captured"]), (200, &json!("0")));
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.entries("acme").await[0]["lines"], 1);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_units_of_holds_are_refused_by_field() {
    let world = world().await;
    let mut body = placing("1", 60);
    body["model"] = json!("large");
    assert_eq!(world.holds("", "a", &body).await.fields(), ["model"]);
    body["units"] = json!({ "input_tokens": 1 });
    assert_eq!(world.holds("", "a", &body).await.fields(), ["credits"]);
    body["credits"] = Value::Null;
    assert_eq!(
        world.holds("", "a", &body).await.fields(),
        ["units.input_tokens"],
        "no rate of text.summarize"
    );
    let hold = bounded_hold(&world, "hold").await;
    for (settle, fields) in [
        (json!({ "credits": "1", "units": { "pages": 1 } }), vec!["units"]),
        (json!({ "units": { "images": 1, "seconds": 2 } }), vec!["units.images", "units.seconds"]),
        (json!({ "units": { "pages": 1 }, "model": "tiny" }), vec!["model"]),
        (json!({ "credits": "1", "extend": true, "overrun": "extend" }), vec!["overrun"]),
        (json!({ "credits": "1", "overrun": "all" }), vec!["overrun"]),
        (json!({ "metadata": { "tag": "x" } }), vec!["metadata"]),
    ] {
        assert_eq!(world.settle(&hold, "b", &settle).await.fields(), fields, "{settle}");
    }
}

/// Sums up requests: their operations in order, write units and read units.
fn used(requests: &[Value]) -> (Vec<&str>, f64, f64) {
    let operations = requests.iter().map(|request| request["operation"].as_str().unwrap()).collect();
    let sum = |name: &str| requests.iter().map(|request| request[name].as_f64().unwrap()).sum();
    (operations, sum("write_units"), sum("read_units"))
}

/// docs/calls.md states these figures.
#[tokio::test(flavor = "multi_thread")]
async fn requests_and_units_of_calls_are_as_documented() {
    let world = world().await;
    world.take("acme", "first", "1").await;
    let mut tagged = call("chat", Some("large"), &json!({ "input_tokens": 1_000, "output_tokens": 500 }));
    tagged["metadata"] =
        json!({ "conversation": "c-0123456789abcdef", "team": "search", "request": "req-0123456789abcdef" });
    let (debit, requests) = world.requests_of(world.debit("acme", "tagged", &tagged)).await;
    assert_eq!(used(&requests), (vec!["TransactWriteItems"], 5.0, 0.0), "a debit with metadata");
    let (hold, requests) = world.requests_of(bounded_hold(&world, "hold")).await;
    assert_eq!(used(&requests[..2]), (vec!["GetItem", "TransactWriteItems"], 7.0, 1.0), "a hold");
    let (settled, requests) = world.requests_of(world.settle(&hold, "settle", &last(800, None))).await;
    assert_eq!(settled.status, 200);
    let expected = (vec!["GetItem", "GetItem", "TransactWriteItems"], 8.0, 2.0);
    assert_eq!(used(&requests), expected, "a settlement");
    let path = format!("/v1/workspaces/acme/debits/{}/refund", debit.body["debit_id"].as_str().unwrap());
    let refund = json!({ "reason": "timeout" });
    let call = world.call(Method::POST, &path, Some("refund"), Some(&refund));
    let (refunded, requests) = world.requests_of(call).await;
    assert_eq!(refunded.status, 201);
    let (operations, written, read) = used(&requests);
    assert_eq!(
        (operations.len(), operations.last(), written, read),
        (8, Some(&"TransactWriteItems"), 8.0, 6.0)
    );
}
