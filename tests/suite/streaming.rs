//! Streams that are paid in parts: captures before each part is shown, so that an answer costs what was shown (M4, M11).

use credits_local::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, consumer, micros};

/// The number of parts of a completed answer, and the tokens of each.
const PARTS: u64 = 20;
const TOKENS: u64 = 300;
const INPUT: u64 = 1_234;

/// Returns a catalogue whose operation `chat` has a base, and `chat.part` the same rates without one.
fn catalogue() -> String {
    let mut catalogue: Value = serde_json::from_str(credits_runtime::catalogue::DEPLOYED).unwrap();
    let rates = json!([
        { "unit": "input_tokens", "credits": "0.5", "per": 1_000 },
        { "unit": "output_tokens", "credits": "1.5", "per": 1_000 },
    ]);
    // One token costs a third of a millionth of a credit.
    let fine = json!([{ "unit": "output_tokens", "credits": "0.333333", "per": 1_000_000 }]);
    catalogue["rate_card"]["operations"] = json!([
        { "operation": "chat", "base": "0.25", "rates": rates },
        { "operation": "chat.part", "rates": rates },
        { "operation": "fine.part", "rates": fine },
        { "operation": "text.summarize", "base": "1" },
    ]);
    catalogue.to_string()
}

/// Starts a stack in which `acme` has these prepaid credits.
async fn world_with(credits: &str) -> World {
    let world = World::with(&Options { catalogue: Some(catalogue()), ..Options::default() }).await;
    world.put_workspace("acme").await;
    let grant = json!({ "credits": credits, "kind": "prepaid", "reason": "test" });
    let granted = world.call(Method::POST, "/v1/workspaces/acme/grants", Some("grant"), Some(&grant)).await;
    assert_eq!(granted.status, 201, "{}", granted.body);
    world
}

/// A stream that a hold pays.
struct PaidStream<'a> {
    world: &'a World,
    hold: String,
}

impl<'a> PaidStream<'a> {
    /// Holds the input and the first part, and pays the input with the base.
    async fn start(world: &'a World) -> Self {
        let hold = json!({
            "operation": "chat", "units": { "input_tokens": INPUT, "output_tokens": TOKENS },
            "ttl_seconds": 600, "consumer": consumer(),
        });
        let placed = world.holds("", "answer", &hold).await;
        // 0.25 + 1.234 × 0.5 + 0.3 × 1.5
        assert_eq!((placed.status, &placed.body["credits"]), (201, &json!("1.317")), "{}", placed.body);
        let stream = Self { world, hold: placed.body["hold_id"].as_str().unwrap().to_owned() };
        let input = stream.capture("input", "chat", &json!({ "input_tokens": INPUT })).await;
        assert_eq!((input.status, &input.body["credits"]), (201, &json!("0.867")), "{}", input.body);
        stream
    }

    async fn capture(&self, key: &str, operation: &str, units: &Value) -> Answer {
        let body = json!({ "operation": operation, "units": units, "consumer": consumer(), "extend": true });
        self.world.holds(&format!("/{}/captures", self.hold), key, &body).await
    }

    /// Pays for a part that has so many tokens.
    async fn part(&self, number: u64, tokens: u64) -> Answer {
        self.capture(&format!("part-{number}"), "chat.part", &json!({ "output_tokens": tokens })).await
    }

    /// Pays for the first parts of a whole answer.
    async fn parts(&self, count: u64) {
        for number in 0..count {
            let part = self.part(number, TOKENS).await;
            assert_eq!((part.status, &part.body["credits"]), (201, &json!("0.45")), "{}", part.body);
        }
    }

    async fn refuses_part(&self, number: u64) {
        let late = self.part(number, TOKENS).await;
        assert_eq!((late.status, &late.body["code"]), (409, &json!("hold_closed")));
    }

    /// Settles the hold, and returns what the stream has cost.
    async fn settle(&self) -> String {
        let settled = self.world.settle(&self.hold, "settle", &json!({})).await;
        assert_eq!((settled.status, &settled.body["status"]), (200, &json!("settled")), "{}", settled.body);
        settled.body["captured"].as_str().unwrap().to_owned()
    }
}

/// Returns the price of an answer that is paid in one piece.
async fn quoted(world: &World, tokens: u64) -> Value {
    let units = json!({ "input_tokens": INPUT, "output_tokens": tokens });
    let call = json!({ "operation": "chat", "units": units, "consumer": consumer() });
    world.call(Method::POST, "/v1/workspaces/acme/quotes", None, Some(&call)).await.body["credits"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_completed_stream_costs_exactly_its_price() {
    let world = world_with("1000").await;
    let stream = PaidStream::start(&world).await;
    stream.parts(PARTS).await;
    assert_eq!(quoted(&world, PARTS * TOKENS).await, "9.867", "0.867 + 20 × 0.45");
    assert_eq!(stream.settle().await, "9.867");
    assert_eq!(world.available("acme").await, "990.133");
    assert_eq!(world.balance("acme").await["held"], "0");
    let entry = &world.entries("acme").await[0];
    assert_eq!((&entry["kind"], &entry["lines"]), (&json!("hold_settled"), &json!(PARTS + 1)));
    assert_eq!(entry["operations"], json!({ "chat": "0.867", "chat.part": "9" }));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_an_aborted_stream_costs_what_was_shown() {
    let world = world_with("1000").await;
    let stream = PaidStream::start(&world).await;
    stream.parts(7).await;
    // A part whose first response was lost is paid once.
    let again = stream.part(6, TOKENS).await;
    assert_eq!((again.status, again.replayed), (200, true), "{}", again.body);
    assert_eq!(quoted(&world, 7 * TOKENS).await, "4.017", "0.867 + 7 × 0.45");
    assert_eq!(stream.settle().await, "4.017");
    stream.refuses_part(7).await;
    assert_eq!(world.available("acme").await, "995.983");
    world.reconciled("acme").await;
}

/// The process that streams may die. The hold expires, and the parts that were shown are paid.
#[tokio::test(flavor = "multi_thread")]
async fn m04_a_stream_that_nobody_settles_costs_what_was_shown() {
    let world = world_with("1000").await;
    let stream = PaidStream::start(&world).await;
    stream.parts(3).await;
    world.advance(601).await;
    assert_eq!(world.available("acme").await, "997.783", "1000 - 0.867 - 3 × 0.45");
    stream.refuses_part(3).await;
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_a_stream_ends_where_the_credits_end() {
    // They cover the input, 4 parts, and 111 tokens of the fifth: 0.867 + 4 × 0.45 + 111 × 0.0015 = 2.8335.
    let world = world_with("2.8349").await;
    let stream = PaidStream::start(&world).await;
    let mut shown = 0;
    let refused = loop {
        let part = stream.part(shown / TOKENS, TOKENS).await;
        match part.status {
            201 => shown += TOKENS,
            _ => break part,
        }
    };
    assert_eq!((shown, refused.status), (4 * TOKENS, 402), "{}", refused.body);
    assert_eq!(
        (&refused.body["required"], &refused.body["available"]),
        (&json!("0.45"), &json!("0.1679")),
        "the refusal says what the rest of the part may cost"
    );
    // The price of a part is in proportion to its tokens.
    let covered = u64::try_from(
        i128::from(TOKENS) * micros([&refused.body["available"]]) / micros([&refused.body["required"]]),
    );
    assert_eq!(covered, Ok(111));
    assert_eq!(stream.part(5, 111).await.status, 201);
    assert_eq!(stream.part(6, 1).await.status, 402, "0.0014 credits pay no token");
    assert_eq!(quoted(&world, 4 * TOKENS + 111).await, "2.8335");
    assert_eq!(stream.settle().await, "2.8335");
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["held"]), (&json!("0.0014"), &json!("0")));
    world.reconciled("acme").await;
}

/// Other calls may spend what a stream would have needed. Together they spend what the workspace has, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn m11_streams_that_share_a_balance_end_where_it_ends() {
    let world = std::sync::Arc::new(world_with("10.567").await);
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..4 {
        let world = std::sync::Arc::clone(&world);
        streams.spawn(async move {
            let hold = json!({
                "operation": "chat.part", "units": { "output_tokens": TOKENS },
                "ttl_seconds": 600, "consumer": consumer(),
            });
            let placed = world.holds("", &format!("answer-{number}"), &hold).await;
            assert_eq!(placed.status, 201, "{}", placed.body);
            let hold = placed.body["hold_id"].as_str().unwrap().to_owned();
            let stream = PaidStream { world: &world, hold };
            let mut shown = 0;
            while shown < PARTS {
                let part = stream.part(shown, TOKENS).await;
                match part.status {
                    201 | 200 => shown += 1,
                    402 => break,
                    503 => {}
                    _ => panic!("{}", part.body),
                }
            }
            let settled = world.settle(&stream.hold, &format!("settle-{number}"), &json!({})).await;
            assert_eq!(micros([&settled.body["captured"]]), i128::from(shown) * 450_000);
            shown
        });
    }
    let shown: u64 = streams.join_all().await.into_iter().sum();
    // 23 × 0.45 = 10.35, and 0.217 pay no part.
    assert_eq!((shown, world.available("acme").await), (23, "0.217".to_owned()));
    world.reconciled("acme").await;
}

/// A part is rounded up to a millionth of a credit, so a part whose price has more digits costs up to a millionth more.
#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_rounded_up_by_less_than_a_millionth() {
    let world = world_with("1").await;
    let stream = PaidStream { world: &world, hold: world.place("hold", "0.5").await };
    let part = |tokens: u64| json!({ "output_tokens": tokens });
    // 100 × 0.000000333333 = 0.0000333333
    for key in ["a", "b"] {
        assert_eq!(stream.capture(key, "fine.part", &part(100)).await.body["credits"], "0.000034");
    }
    // A million tokens have an exact price.
    assert_eq!(stream.capture("c", "fine.part", &part(1_000_000)).await.body["credits"], "0.333333");
    assert_eq!(stream.settle().await, "0.333401");
    world.reconciled("acme").await;
}

#[test]
fn calls_page_shows_the_tested_example() {
    let example = include_str!("../../examples/stream/answer.ts");
    let begins_at = example.find("// The operation of the answer.").unwrap();
    let shown = example[begins_at..].split("\n\n// Yields").next().unwrap();
    assert!(include_str!("../../docs/calls.md").contains(shown), "docs/calls.md must show:\n{shown}");
}
