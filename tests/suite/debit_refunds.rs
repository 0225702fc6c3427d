//! Refunds of debits, of a batch's calls and of captures: exactly once, as they were paid, in the month of the debit (M2).

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::holds::placing;
use crate::world::{Answer, World, consumer, taking};

impl World {
    async fn refund_debit(&self, debit: &str, key: &str, order: &Value) -> Answer {
        self.call(Method::POST, &format!("/v1/workspaces/acme/debits/{debit}/refund"), Some(key), Some(order))
            .await
    }

    async fn debit_id(&self, key: &str, credits: &str) -> String {
        let debit = self.take("acme", key, credits).await;
        assert_eq!(debit.status, 201, "{}", debit.body);
        debit.body["debit_id"].as_str().unwrap().to_owned()
    }

    async fn grant(&self, key: &str, credits: &str, expires_at: &str) -> String {
        let body =
            json!({ "credits": credits, "kind": "promotional", "expires_at": expires_at, "reason": "test" });
        let granted = self.call(Method::POST, "/v1/workspaces/acme/grants", Some(key), Some(&body)).await;
        assert_eq!(granted.status, 201, "{}", granted.body);
        granted.body["grant_id"].as_str().unwrap().to_owned()
    }

    async fn days(&self, days: i64) -> String {
        let at = self.advance(0).await + jiff::SignedDuration::from_hours(24 * days);
        at.to_string()
    }
}

fn of(credits: &str) -> Value {
    json!({ "credits": credits, "reason": "timeout" })
}

fn shown(answer: &Answer) -> (u16, &str, &str) {
    let text = |name: &str| answer.body[name].as_str().unwrap_or_default();
    (answer.status, text("credits"), text("refundable"))
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_debit_is_refunded_in_parts_and_never_above_it() {
    let world = World::with_packs(1).await;
    let debit = world.debit_id("d", "10").await;
    let first = world.refund_debit(&debit, "r1", &of("4")).await;
    assert_eq!(shown(&first), (201, "4", "6"));
    assert_eq!(first.body["debit_id"], json!(debit));
    let replay = world.refund_debit(&debit, "r1", &of("4")).await;
    assert_eq!((replay.status, replay.replayed, &replay.body), (200, true, &first.body));
    assert_eq!(world.refund_debit(&debit, "r1", &of("5")).await.status, 409);
    let above = world.refund_debit(&debit, "r2", &of("6.000001")).await;
    assert_eq!(
        (above.status, &above.body["code"], &above.body["refundable"]),
        (422, &json!("exceeds_debit"), &json!("6"))
    );
    let rest = json!({ "reason": "quality", "note": "wrong language" });
    assert_eq!(shown(&world.refund_debit(&debit, "r2", &rest).await), (201, "6", "0"));
    assert_eq!(world.refund_debit(&debit, "r3", &rest).await.body["code"], "exceeds_debit");
    assert_eq!(world.available("acme").await, "1000");

    let entries = world.entries("acme").await;
    let refunds: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "debit_refund").collect();
    assert_eq!(
        (refunds.len(), &refunds[0]["note"], &refunds[0]["reason"]),
        (2, &json!("wrong language"), &json!("quality"))
    );
    let entry = entries.iter().find(|entry| entry["kind"] == "debit").unwrap();
    assert_eq!((&entry["credits"], &entry["refunded"]), (&json!("-10"), &json!("10")));
    world.drain().await;
    let usage = world.get("/v1/workspaces/acme/usage").await;
    assert_eq!((&usage["total"], &usage["groups"][0]["count"]), (&json!("0"), &json!(1)));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_debits_and_invalid_refunds_are_refused() {
    let world = World::with_packs(1).await;
    world.put_workspace("other").await;
    world.buy("other", "pack_1k", "pack").await;
    let elsewhere = world.take("other", "d", "5").await.body["debit_id"].as_str().unwrap().to_owned();
    let grant = world.entries("acme").await[0]["entry_id"].as_str().unwrap().to_owned();
    world.advance(60).await;
    for unknown in
        [elsewhere.as_str(), grant.as_str(), "deb_1", "hold_1", "deb_01a2305e18407780780c0e4d0f698b1d"]
    {
        assert_eq!(world.refund_debit(unknown, "k", &of("1")).await.status, 404, "{unknown}");
    }
    let debit = world.debit_id("d", "5").await;
    for (order, fields) in [
        (json!({}), vec!["reason"]),
        (json!({ "reason": "anger", "credits": "0", "note": "a\nb" }), vec!["credits", "reason", "note"]),
        (json!({ "reason": "other", "line": 0 }), vec!["line"]),
        (json!({ "reason": "other", "line": 500, "extra": 1 }), vec!["line", "extra"]),
        (json!({ "reason": "other", "capture_id": "cap_1" }), vec!["capture_id"]),
        (json!({ "reason": "other", "capture_id": "cap_1", "line": 1 }), vec!["capture_id"]),
    ] {
        assert_eq!(world.refund_debit(&debit, "k", &order).await.fields(), fields, "{order}");
    }
    let path = format!("/v1/workspaces/acme/debits/{debit}/refund");
    for (workspace, scope, status) in
        [("acme", "credits:refund", 403), ("*", "credits:manage", 403), ("*", "credits:refund", 201)]
    {
        let token = world.token(workspace, scope).await;
        let request =
            world.bare(Method::POST, &path).bearer_auth(token).header("idempotency-key", "t").json(&of("1"));
        assert_eq!(crate::world::answer(request).await.status, status, "{workspace} {scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_calls_of_a_batch_and_captures_are_refunded_one_by_one() {
    let world = World::with_packs(1).await;
    let line = |operation: &str, credits: &str| json!({ "operation": operation, "credits": credits, "consumer": consumer() });
    let batch = json!({ "lines": [line("text.extract", "1"), line("text.generate", "2"), line("text.generate", "3")] });
    let batch = world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("b"), Some(&batch)).await;
    let batch = batch.body["debit_id"].as_str().unwrap().to_owned();
    let one =
        |line: usize, credits: &str| json!({ "line": line, "credits": credits, "reason": "provider_error" });
    assert_eq!(shown(&world.refund_debit(&batch, "b1", &one(1, "0.5")).await), (201, "0.5", "1.5"));
    assert_eq!(world.refund_debit(&batch, "b2", &one(1, "1.6")).await.body["refundable"], "1.5");
    assert_eq!(world.refund_debit(&batch, "b2", &one(3, "1")).await.fields(), ["line"]);
    let all = json!({ "reason": "duplicate" });
    assert_eq!(shown(&world.refund_debit(&batch, "b3", &all).await), (201, "5.5", "0"));

    let placed = world.holds("", "h", &placing("10", 600)).await;
    let hold = placed.body["hold_id"].as_str().unwrap().to_owned();
    assert_eq!(world.refund_debit(&hold, "h0", &all).await.status, 404, "an open hold has no debit");
    let capture = world.holds(&format!("/{hold}/captures"), "c", &taking("4")).await;
    let capture = capture.body["capture_id"].as_str().unwrap().to_owned();
    // A second hold that is settled together with the first.
    let second = world.place("h2", "7").await;
    world.holds(&format!("/{second}/captures"), "c2", &taking("7")).await;
    let together = json!({ "hold_ids": [hold, second] });
    assert_eq!(world.holds("/batch/settle", "s", &together).await.status, 200);
    let of_capture = json!({ "capture_id": capture, "credits": "1", "reason": "cancelled" });
    assert_eq!(shown(&world.refund_debit(&hold, "h1", &of_capture).await), (201, "1", "3"));
    assert_eq!(
        world.refund_debit(&second, "h5", &of_capture).await.fields(),
        ["capture_id"],
        "of another hold"
    );
    assert_eq!(shown(&world.refund_debit(&second, "h3", &all).await), (201, "7", "0"));
    assert_eq!(shown(&world.refund_debit(&hold, "h4", &all).await), (201, "3", "0"));
    assert_eq!(world.available("acme").await, "1000");
    world.drain().await;
    let operations = world.usage_by("acme", "operation").await;
    assert!(operations.values().all(|(credits, _)| credits == "0"), "{operations:?}");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_refunds_never_exceed_the_debit() {
    let world = Arc::new(World::with_packs(1).await);
    let debit = world.debit_id("d", "10").await;
    let mut refunds = JoinSet::new();
    for key in 0..16 {
        let (world, debit) = (Arc::clone(&world), debit.clone());
        refunds.spawn(async move {
            let mut answer = world.refund_debit(&debit, &format!("r{key}"), &of("3")).await;
            while answer.status == 503 {
                answer = world.refund_debit(&debit, &format!("r{key}"), &of("3")).await;
            }
            answer.status
        });
    }
    let statuses = refunds.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 422].contains(status)));
    assert_eq!(world.available("acme").await, "999");
    world.drain().await;
    world.reconciled("acme").await;
}

/// A debit of an earlier epoch was paid by a grant that runs and one that has ended, and by prepaid credits.
#[tokio::test(flavor = "multi_thread")]
async fn credits_return_as_they_were_paid() {
    let world = World::with_packs(1).await;
    let short = world.days(2).await;
    let long = world.days(60).await;
    world.grant("short", "10", &short).await;
    let running = world.grant("long", "20", &long).await;
    // 10 of the first grant, 20 of the second, 20 prepaid.
    let debit = world.debit_id("d", "50").await;
    assert_eq!(world.available("acme").await, "980");
    world.advance(3 * 24 * 3_600).await;
    assert_eq!(world.available("acme").await, "980", "the first grant is used up when it ends");
    let refund = world.refund_debit(&debit, "r", &of("25")).await;
    assert_eq!(shown(&refund), (201, "25", "25"), "{}", refund.body);
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["prepaid"]), (&json!("1005"), &json!("990")));
    let grants = balance["grants"].as_array().unwrap();
    let left = |id: &str| grants.iter().find(|grant| grant["grant_id"] == id).unwrap();
    // Of 25 credits return 5 to the ended grant, 10 to the running one and 10 to the prepaid sum.
    assert_eq!(left(&running)["remaining"], "10");
    let returned = left(refund.body["refund_id"].as_str().unwrap());
    assert_eq!((&returned["remaining"], &returned["kind"]), (&json!("5"), &json!("promotional")));
    assert_eq!(world.days(30).await[..10], returned["expires_at"].as_str().unwrap()[..10]);
    assert_eq!(shown(&world.refund_debit(&debit, "r2", &of("25")).await), (201, "25", "0"));
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["prepaid"]), (&json!("1030"), &json!("1000")));
    world.drain().await;
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_of_a_voided_grant_return_for_30_days() {
    let world = World::with_packs(0).await;
    let grant = world.grant("long", "20", &world.days(300).await).await;
    let debit = world.debit_id("d", "15").await;
    let void = json!({ "reason": "test" });
    let path = format!("/v1/workspaces/acme/grants/{grant}/void");
    let voided = world.call(Method::POST, &path, Some("v"), Some(&void)).await;
    assert_eq!((voided.status, &voided.body["credits"]), (200, &json!("5")), "{}", voided.body);
    let refund = world.refund_debit(&debit, "r", &of("15")).await;
    assert_eq!(shown(&refund), (201, "15", "0"));
    let balance = world.balance("acme").await;
    assert_eq!(balance["grants"].as_array().unwrap().len(), 1);
    let returned = &balance["grants"][0];
    assert_eq!((&returned["grant_id"], &returned["remaining"]), (&refund.body["refund_id"], &json!("15")));
    assert_eq!(world.days(30).await[..10], returned["expires_at"].as_str().unwrap()[..10]);
    world.advance(31 * 24 * 3_600).await;
    assert_eq!(world.available("acme").await, "0");
    world.reconciled("acme").await;
}

/// An expired credit that a hold had kept pays a capture; its refund does not expire at once.
#[tokio::test(flavor = "multi_thread")]
async fn credits_that_expired_in_a_hold_return_for_30_days() {
    let world = World::with_packs(0).await;
    world
        .grant("short", "20", &(world.advance(0).await + jiff::SignedDuration::from_hours(1)).to_string())
        .await;
    let placed = world.holds("", "h", &placing("12", 7_200)).await;
    let hold = placed.body["hold_id"].as_str().unwrap().to_owned();
    world.advance(3_700).await;
    assert_eq!(world.available("acme").await, "0");
    assert_eq!(world.settle(&hold, "s", &json!({ "credits": "9" })).await.status, 200);
    let entry = &world.entries("acme").await;
    let settled = entry.iter().find(|entry| entry["kind"] == "hold_settled").unwrap();
    assert_eq!(settled["paid_by_expired"], "9");
    assert_eq!(shown(&world.refund_debit(&hold, "r", &of("4")).await), (201, "4", "5"));
    assert_eq!(world.available("acme").await, "4");
    world.drain().await;
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_goes_down_in_the_month_of_the_debit() {
    let world = World::with_packs(1).await;
    let debit = world.debit_id("d", "10").await;
    let month = world.advance(0).await.to_string()[..7].to_owned();
    world.drain().await;
    world.advance(70 * 24 * 3_600).await;
    world.debit_id("later", "1").await;
    assert_eq!(shown(&world.refund_debit(&debit, "r", &of("4")).await).0, 201);
    world.drain().await;
    let usage = world.get(&format!("/v1/workspaces/acme/usage?month={month}&group_by=day")).await;
    assert_eq!((&usage["total"], &usage["groups"][0]["credits"]), (&json!("6"), &json!("6")), "{usage}");
    assert_eq!(world.get("/v1/workspaces/acme/usage").await["total"], "1");
    assert_eq!(world.available("acme").await, "993");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_on_a_lane_is_refunded() {
    let options = credits_local::Options {
        conflicts: credits_local::conflicts::Conflicts::On,
        ..credits_local::Options::default()
    };
    let world = Arc::new(World::with(&options).await);
    world.put_workspace("acme").await;
    world.buy("acme", "pack_5k", "pack").await;
    let mut debits = JoinSet::new();
    for key in 0..64 {
        let world = Arc::clone(&world);
        debits.spawn(async move {
            let mut ids = Vec::new();
            for number in 0..10 {
                let mut debit = world.take("acme", &format!("{key}-{number}"), "1").await;
                while debit.status == 503 {
                    debit = world.take("acme", &format!("{key}-{number}"), "1").await;
                }
                ids.push(debit.body["debit_id"].as_str().unwrap().to_owned());
            }
            ids
        });
    }
    let ids: Vec<String> = debits.join_all().await.into_iter().flatten().collect();
    for (key, debit) in ids.iter().step_by(40).enumerate() {
        let refund = world.refund_debit(debit, &format!("r{key}"), &of("0.5")).await;
        assert_eq!(shown(&refund), (201, "0.5", "0.5"), "{}", refund.body);
    }
    assert_eq!(world.available("acme").await, "4368");
    world.drain().await;
    world.reconciled("acme").await;
}
