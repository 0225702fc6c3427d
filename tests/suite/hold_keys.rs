//! Holds: the digests that tell captures apart, the shortfall of a refusal, and how far a hold may grow (M4, M11).

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::batch::PricedCall;
use credits_core::id::Id;
use credits_store::KeyUse;
use credits_store::holds::capture::CaptureOrder;
use credits_store::holds::settle::SettleOrder;
use credits_store::holds::{HoldOrder, HoldRefusal, NamedHolds, OnExcess};
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all};
use reqwest::Method;
use serde_json::{Value, json};

use crate::contention::{claim, purpose};
use crate::holds::{capturing, placing, shown};
use crate::table::Table;
use crate::world::{Answer, World, taking};

fn extending(credits: &str) -> Value {
    let mut body = capturing(credits);
    body["extend"] = json!(true);
    body
}

impl World {
    pub(crate) async fn grant_prepaid(&self, key: &str, credits: &str) {
        let grant = json!({ "credits": credits, "kind": "prepaid", "reason": "test" });
        let granted = self.call(Method::POST, "/v1/workspaces/acme/grants", Some(key), Some(&grant)).await;
        assert_eq!(granted.status, 201, "{}", granted.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_keys_with_the_same_unsalted_digest_are_two_captures() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "50").await;
    // Both keys have the unsalted digest `AN1BcIpl`, 48 bits.
    for key in ["run_1/step_4926800", "run_1/step_27454670"] {
        assert_eq!(world.capture(&hold, key, "10").await.status, 201);
        assert!(world.capture(&hold, key, "10").await.replayed);
    }
    assert_eq!(shown(&world.settle(&hold, "s", &json!({})).await.body), ["50", "20", "0", "settled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_capture_and_its_settlement_may_share_a_key() {
    let world = World::with_packs(1).await;
    let (one, other) = (world.place("one", "50").await, world.place("other", "50").await);
    let captured = world.capture(&one, "key", "10").await;
    assert_ne!(world.capture(&other, "key", "10").await.body["capture_id"], captured.body["capture_id"]);
    let settled = world.settle(&one, "key", &json!({ "credits": "5" })).await;
    assert_eq!((settled.status, shown(&settled.body)), (200, ["50", "15", "0", "settled"]));
    assert!(world.settle(&one, "key", &json!({ "credits": "5" })).await.replayed);
    assert_eq!(world.capture(&one, "key", "10").await.body, captured.body);
}

/// The unsalted digest of the key `run-1/step-1`: the first 48 bits of SHA-256, in base64.
const UNSALTED_KEY: &str = "aL5qq3Ha";
/// The unsalted digest of the fingerprint of the request `first`: the first 24 bits of SHA-256, in base64.
const UNSALTED_FINGERPRINT: &str = "BdNS";

/// Rewrites a hold's only capture in the form that older versions stored, with unsalted digests.
async fn store_as_before(world: &World) {
    let items = every_item(&world.stack).await;
    let mut hold: HashMap<_, _> = of_kind(&items, "hold").next().unwrap().clone();
    let [AttributeValue::B(key), AttributeValue::B(trace)] = &hold["captures"].as_l().unwrap()[..] else {
        panic!("{hold:?}")
    };
    assert_eq!((key.as_ref().len(), trace.as_ref().len() > 12), (12, true));
    let trace = format!("{UNSALTED_FINGERPRINT}{}", std::str::from_utf8(&trace.as_ref()[12..]).unwrap());
    let before = [UNSALTED_KEY.to_owned(), trace].map(AttributeValue::S);
    hold.insert("captures".to_owned(), AttributeValue::L(before.to_vec()));
    put_all(&world.stack, vec![hold]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_capture_with_unsalted_digests_is_found() {
    let world = World::with_packs(1).await;
    let table = Table::of(&world);
    let purpose = purpose();
    let lasts = SignedDuration::from_hours(1);
    let order = HoldOrder {
        amount: "50".parse().unwrap(),
        priced_with: None,
        lasts,
        named: NamedHolds { count: None, purpose: &purpose },
    };
    let placed = table.store.holds().place(&claim("place", "hold"), order).await.unwrap();
    let hold_id: &Id = &placed.holds[0].hold_id;
    let line = PricedCall::stated(purpose.operation.clone(), purpose.consumer.clone(), "10".parse().unwrap());
    let capture = async |key: &str, payload: &str| {
        let order =
            CaptureOrder { hold_id, line: &line, priced_by: &purpose.priced_by, on_excess: OnExcess::Refuse };
        table.store.holds().capture(&claim(key, payload), order).await
    };
    assert_eq!(capture("run-1/step-1", "first").await.unwrap().key_use, KeyUse::First);
    store_as_before(&world).await;

    let again = capture("run-1/step-1", "first").await.unwrap();
    assert_eq!((again.key_use, again.remaining.to_string().as_str()), (KeyUse::Replay, "40"));
    assert!(again.capture_id.as_str().ends_with(&format!("_{UNSALTED_KEY}")), "{:?}", again.capture_id);
    let earlier =
        table.store.holds().captured_before(&claim("run-1/step-1", "first"), hold_id).await.unwrap();
    assert_eq!(earlier, Some(again));
    assert!(matches!(capture("run-1/step-1", "second").await, Err(HoldRefusal::KeyReused)));
    assert_eq!(capture("run-1/step-2", "first").await.unwrap().remaining.to_string(), "30");
    let settle = SettleOrder::of(std::slice::from_ref(hold_id));
    let settled = table.store.holds().settle(&claim("settle", "settle"), settle).await.unwrap();
    assert_eq!(settled.captured.to_string(), "20");
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_key_with_a_colliding_digest_is_no_replay() {
    let world = World::with_packs(1).await;
    let hold = world.place("place", "50").await;
    assert_eq!(world.capture(&hold, "key", "10").await.status, 201);
    // The fingerprint covers the key. It changes as if another key with the same digest had made the capture.
    let mut item = of_kind(&every_item(&world.stack).await, "hold").next().unwrap().clone();
    let mut elements = item["captures"].as_l().unwrap().clone();
    let mut trace = elements[1].as_b().unwrap().as_ref().to_vec();
    trace[0] ^= 1;
    elements[1] = AttributeValue::B(Blob::new(trace));
    item.insert("captures".to_owned(), AttributeValue::L(elements));
    put_all(&world.stack, vec![item]).await;
    let refused = world.capture(&hold, "key", "10").await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("idempotency_key_reused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_settlement_is_replayed_under_its_own_key_only() {
    let world = World::with_packs(1).await;
    let [one, two, three] =
        [world.place("1", "10").await, world.place("2", "10").await, world.place("3", "10").await];
    let batch = async |key: &str, holds: &[&String]| {
        world.holds("/batch/settle", key, &json!({ "hold_ids": holds })).await
    };
    assert_eq!(world.settle(&one, "single", &json!({})).await.status, 200);
    let refused = world.settle(&one, "free", &json!({})).await;
    assert_eq!(
        (refused.status, &refused.body["code"], &refused.body["hold_id"]),
        (409, &json!("hold_closed"), &json!(one))
    );
    assert_eq!(batch("free", &[&one]).await.body["code"], "hold_closed");
    assert!(world.settle(&one, "single", &json!({})).await.replayed);
    // A batch settles its open holds and leaves a settled one as it is. Its key then replays the batch.
    let settled = batch("some", &[&one, &two]).await;
    assert_eq!((settled.status, settled.replayed), (200, false));
    let again = batch("some", &[&one, &two]).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &settled.body));
    assert_eq!(batch("some", &[&one, &two, &three]).await.body["code"], "idempotency_key_reused");
    assert_eq!(batch("free", &[&one, &two]).await.body["hold_id"], json!(one));
    assert_eq!(world.take("acme", "some", "1").await.body["code"], "idempotency_key_reused");
    assert_eq!(world.take("acme", "free", "1").await.status, 201);
}

/// Makes a call that costs 5 credits. A capture and a settlement may take them from their hold.
async fn spend(world: &World, call: &str, hold: &str, key: &str) -> Answer {
    let post = async |path: &str, body: &Value| {
        world.call(Method::POST, &format!("/v1/workspaces/acme/{path}"), Some(key), Some(body)).await
    };
    match call {
        "debit" => post("debits", &taking("5")).await,
        "batch" => post("debits/batch", &json!({ "lines": [taking("2"), taking("3")] })).await,
        "partial" => {
            post("debits/batch", &json!({ "lines": [taking("5"), taking("3")], "partial": true })).await
        }
        "hold" => post("holds", &placing("5", 60)).await,
        "holds" => {
            let mut body = placing("2.5", 60);
            body["count"] = json!(2);
            post("holds/batch", &body).await
        }
        "capture" => post(&format!("holds/{hold}/captures"), &extending("5")).await,
        _ => post(&format!("holds/{hold}/settle"), &json!({ "credits": "5", "extend": true })).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_the_shortfall_includes_debt() {
    for (call, kept) in [
        ("debit", ""),
        ("batch", ""),
        ("partial", ""),
        ("hold", ""),
        ("holds", ""),
        ("capture", "0"),
        ("capture", "3"),
        ("settlement", "0"),
        ("settlement", "3"),
    ] {
        let world = World::new().await;
        world.put_workspace("acme").await;
        let top_up = world.buy("acme", "pack_1k", "pack").await;
        let hold = world.place("place", "10").await;
        let captured = if kept == "3" { "7" } else { "10" };
        assert_eq!(world.capture(&hold, "c", captured).await.status, 201);
        assert_eq!(world.take("acme", "take", "900").await.status, 201);
        let charge = json!({ "id": "ch_1", "payment_intent": top_up["payment_id"], "amount": 1_000, "amount_refunded": 1_000, "currency": "usd" });
        assert_eq!(world.tell("charge.refunded", &charge).await.status, 200);
        assert_eq!(world.available("acme").await, "-910");

        let refused = spend(&world, call, &hold, "key").await;
        let (available, shortfall) = if kept == "3" { ("-907", "912") } else { ("-910", "915") };
        assert_eq!(
            (refused.status, &refused.body["available"], &refused.body["shortfall"]),
            (402, &json!(available), &json!(shortfall)),
            "{call} {kept}"
        );
        world.grant_prepaid("less", "911.999999").await;
        let rest = if kept == "3" { "0.000001" } else { "3.000001" };
        assert_eq!(spend(&world, call, &hold, "key").await.body["shortfall"], rest);
        world.grant_prepaid("rest", rest).await;
        assert!(spend(&world, call, &hold, "key").await.status < 300, "{call} {kept}");
        assert_eq!(world.available("acme").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_hold_grows_to_at_most_12_integer_digits() {
    const MOST: &str = "999999999999.999999";
    let world = World::with_packs(0).await;
    world.grant_prepaid("one", MOST).await;
    world.grant_prepaid("two", MOST).await;
    let hold = world.place("place", "999999999999").await;
    let path = format!("/{hold}/captures");
    assert_eq!(world.capture(&hold, "all", "999999999999").await.status, 201);
    assert_eq!(world.holds(&path, "above", &extending("1")).await.fields(), ["extend"]);
    assert_eq!(
        world.settle(&hold, "above", &json!({ "credits": "1", "extend": true })).await.fields(),
        ["extend"]
    );
    assert_eq!(world.holds(&path, "rest", &extending("0.999999")).await.status, 201);
    assert_eq!(world.holds(&path, "more", &extending("0.000001")).await.fields(), ["extend"]);
    assert_eq!(shown(&world.held(&hold).await), [MOST, MOST, "0", "open"]);
    assert_eq!(world.settle(&hold, "s", &json!({})).await.status, 200);
    assert_eq!(world.available("acme").await, MOST);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_a_capture_that_grows_its_hold_is_never_lost() {
    let world = Arc::new(World::with_packs(1).await);
    for round in 0..12 {
        let hold = world.place(&format!("place-{round}"), "1").await;
        // Nothing remains of the hold before and after a capture that grows it. Only its total shows the growth.
        assert_eq!(world.capture(&hold, "all", "1").await.status, 201);
        let mut running = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (world, hold) = (Arc::clone(&world), hold.clone());
            running.spawn(async move {
                if number == 0 {
                    return (
                        number,
                        world.settle(&hold, &format!("settle-{round}"), &json!({})).await.status,
                    );
                }
                let path = format!("/{hold}/captures");
                (number, world.holds(&path, &format!("c{number}"), &extending("2")).await.status)
            });
        }
        let statuses = running.join_all().await;
        assert!(statuses.iter().all(|(_, status)| [200, 201, 409].contains(status)), "{statuses:?}");
        let grown = statuses.iter().filter(|(_, status)| *status == 201).count();
        let shown = world.held(&hold).await;
        assert_eq!(
            (&shown["captured"], &shown["status"]),
            (&json!((1 + 2 * grown).to_string()), &json!("settled"))
        );
        assert_eq!(world.balance("acme").await["held"], "0", "{statuses:?}");
    }
    world.reconciled("acme").await;
}
