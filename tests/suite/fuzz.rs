//! Mutated requests, events and stream records: none is answered 5xx, and none stops a function.
//!
//! `AI_CREDITS_FUZZ_CASES` sets how often each call is mutated, 100 by default. A failed assertion prints its input.

use credits_payments::signature::{Secret, sign};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Number, Value, json};

use crate::openapi::{self, Described};
use crate::world::{NowForTests, WEBHOOK_SECRET, World, answer, taking};

/// A pseudorandom generator with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn cases() -> usize {
    #[expect(clippy::disallowed_methods, reason = "tests have no `Settings`")]
    let asked = std::env::var("AI_CREDITS_FUZZ_CASES");
    asked.ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

/// Returns an unusual value: of a wrong type, out of range, or hostile text.
fn odd(random: &mut Random) -> Value {
    let deep = (0..200).fold(json!(0), |inner, _| json!([inner]));
    let texts = [
        "",
        "0",
        "-1",
        "1e9",
        "NaN",
        "٣",
        "\u{0}",
        "\u{202e}a",
        "a#b",
        "#key#",
        "2026-13",
        "9".repeat(40).as_str(),
    ]
    .map(|text| json!(text));
    let others = [
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        Value::Number(Number::from_f64(1e300).unwrap()),
        json!([]),
        json!({}),
        json!("x".repeat(5_000)),
        json!({ "kind": "action" }),
        deep,
    ];
    if random.below(2) == 0 { random.one_of(&texts).clone() } else { random.one_of(&others).clone() }
}

/// Changes one place of a JSON document.
fn mutate(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(members) if !members.is_empty() && random.below(5) > 0 => {
            let names: Vec<String> = members.keys().cloned().collect();
            let name = random.one_of(&names).clone();
            match random.below(6) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert(format!("{name}x"), odd(random))),
                _ => mutate(members.get_mut(&name).unwrap(), random),
            }
        }
        Value::Array(items) if !items.is_empty() && random.below(5) > 0 => {
            let at = random.below(items.len());
            match random.below(4) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => mutate(&mut items[at], random),
            }
        }
        Value::String(text) if !text.is_empty() && random.below(3) > 0 => {
            let mut letters: Vec<char> = text.chars().collect();
            let at = random.below(letters.len());
            letters[at] = *random.one_of(&['#', '-', '9', '.', 'é', '\n', '/', '\u{0}']);
            *text = letters.into_iter().collect();
        }
        value => *value = odd(random),
    }
}

/// Returns a document's bytes. One time in eight, they are truncated, changed in one byte, or followed by a repetition.
fn spoilt(value: &Value, random: &mut Random) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    if random.below(8) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes.truncate(at),
            1 => bytes[at] = 0xFF,
            _ => bytes.extend_from_within(..at),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutated_request_is_answered_5xx() {
    let world = World::with_packs(1).await;
    let token = world.token("*", "credits:spend credits:read credits:manage").await;
    let mut random = Random(0x5DEE_CE66_D123_4567);
    for Described { method, path, body } in openapi::calls() {
        let path = path
            .replace("{workspace_id}", "acme")
            .replace("{grant_id}", "grt_1")
            .replace("{run_id}", "run_1");
        for case in 0..cases() {
            let mut request = world.bare(method.clone(), &path).bearer_auth(&token);
            let mut sent = Value::Null;
            if let Some(body) = &body {
                sent = body.clone();
                (0..=random.below(3)).for_each(|_| mutate(&mut sent, &mut random));
                request = request.header("idempotency-key", format!("{case}"));
                request = request.header("content-type", "application/json").body(spoilt(&sent, &mut random));
            } else {
                let names =
                    ["limit", "cursor", "kind", "month", "group_by", "from", "to", "format", "status", "x"];
                let value = odd(&mut random);
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                sent["query"] = json!(value);
                request =
                    request.query(&[(*random.one_of(&names), value.chars().take(2_000).collect::<String>())]);
            }
            let answered = answer(request).await;
            assert!(answered.status < 500, "{method} {path} {sent}: {}", answered.body);
        }
    }
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutated_signed_event_is_answered_5xx() {
    let world = World::with_packs(1).await;
    let object = json!({ "id": "cs_1", "payment_intent": "pi_1", "payment_status": "paid", "amount_total": 1000,
        "amount": 1000, "amount_refunded": 10, "currency": "usd", "customer": "cus_1", "status": "lost",
        "metadata": { "top_up_id": "top_1", "workspace_id": "acme" } });
    let kinds = [
        "checkout.session.completed",
        "payment_intent.succeeded",
        "charge.refunded",
        "charge.dispute.created",
        "charge.dispute.closed",
        "payment_intent.payment_failed",
        "unheard.of",
    ];
    let mut random = Random(0xBADC_0FFE_E0DD_F00D);
    for _ in 0..cases() * 10 {
        let kind = *random.one_of(&kinds);
        let mut event = json!({ "id": "evt_1", "type": kind, "data": { "object": object } });
        (0..=random.below(3)).for_each(|_| mutate(&mut event, &mut random));
        let body = spoilt(&event, &mut random);
        let signature = sign(&body, &Secret::new(WEBHOOK_SECRET), Timestamp::now_for_tests()).unwrap();
        let answered = world.deliver(body, Some(&signature)).await;
        assert!(answered.status < 500, "{event}: {}", answered.body);
    }
    assert_eq!(world.available("acme").await, "1000", "only a payment for our top-up grants credits");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutated_record_or_event_stops_the_stream() {
    let world = World::with_packs(1).await;
    assert_eq!(world.debit("acme", "k", &taking("5")).await.status, 201);
    world.drain().await;
    let (records, _) = world.stack.records(None).unwrap();
    let events = world.local(Method::GET, "/_local/events", None).await;
    let mut random = Random(0x0123_4567_89AB_CDEF);
    for _ in 0..cases() * 3 {
        let mut record = random.one_of(&records).clone();
        (0..=random.below(3)).for_each(|_| mutate(&mut record, &mut random));
        let batch = json!({ "Records": [record] });
        let told = world.stack.fire("project", batch.clone()).await;
        assert_eq!(told.as_ref().map(|told| told["batchItemFailures"].clone()), Ok(json!([])), "{batch}");
        let mut event = random.one_of(events.as_array().unwrap()).clone();
        mutate(&mut event, &mut random);
        // The function may refuse the event, which then ends in the dead-letter queue.
        drop(world.stack.fire("notify", event).await);
        let mut order = json!({ "recount": { "workspace_id": "acme", "month": "2026-11" } });
        mutate(&mut order, &mut random);
        drop(world.stack.fire("project", order).await);
    }
    assert_eq!(world.available("acme").await, "995");
}
