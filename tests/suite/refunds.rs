//! Refunds and disputes: they take back what their payment bought, whatever Stripe reports and in any order (M5).

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::subscribing::time;
use crate::world::World;

/// Starts a stack in which `acme` has a pack of 1,000 credits and a subscription of 2,000 a month. Returns the ids of
/// the pack's payment and of the subscription's.
async fn pack_and_period() -> (World, String, String) {
    let world = World::with_card().await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    world.drain().await;
    let listed = world.get("/v1/workspaces/acme/payments").await;
    let payment = |credits: &str| {
        let payments = listed["payments"].as_array().unwrap();
        let payment = payments.iter().find(|payment| payment["credits"] == credits).unwrap();
        payment["payment_id"].as_str().unwrap().to_owned()
    };
    (world, payment("1000"), payment("2000"))
}

impl World {
    /// Changes an object of Stripe's stand-in, checks that its events are accepted, and returns the id of a new object.
    async fn play(&self, path: &str, body: Value) -> String {
        let played = self.local(Method::POST, &format!("/_local/{path}"), Some(&body)).await;
        for event in played["events"].as_array().unwrap_or_else(|| panic!("{played}")) {
            assert_eq!(event["status"], 200, "{event}");
        }
        let made = ["refund_id", "dispute_id"].iter().find_map(|name| played[*name].as_str());
        made.unwrap_or_default().to_owned()
    }

    /// Returns the prepaid credits, and the remaining credits of the subscription's month.
    async fn parts(&self) -> (String, String) {
        let balance = self.balance("acme").await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&balance["prepaid"]), text(&balance["subscription"]["remaining"]))
    }
}

fn parts(prepaid: &str, remaining: &str) -> (String, String) {
    (prepaid.to_owned(), remaining.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refund_of_a_month_leaves_the_pack() {
    let (world, _, period) = pack_and_period().await;
    world.play(&format!("payments/{period}/refund"), json!({})).await;
    assert_eq!(world.parts().await, parts("1000", "0"));
    assert_eq!(world.kinds("acme").await.last().unwrap(), "claw_back -2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_the_pack_pays_what_a_refunded_month_consumed() {
    let (world, _, period) = pack_and_period().await;
    world.take("acme", "spent", "500").await;
    let refund = world.play(&format!("payments/{period}/refund"), json!({ "status": "pending" })).await;
    assert_eq!(world.parts().await, parts("500", "0"));
    world.play(&format!("refunds/{refund}"), json!({ "status": "failed" })).await;
    assert_eq!(world.parts().await, parts("1000", "1500"));
    let kinds = world.kinds("acme").await;
    assert_eq!(kinds[kinds.len() - 2..], ["claw_back -2000", "claw_back_reversed 2000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_expired_credits_of_a_refunded_month_are_not_taken() {
    let (world, _, period) = pack_and_period().await;
    world.subscription(Method::DELETE, "acme", None).await;
    world.take("acme", "spent", "300").await;
    world.advance(32 * 86_400).await;
    assert_eq!(world.available("acme").await, "1000");
    let refund = world.play(&format!("payments/{period}/refund"), json!({})).await;
    assert_eq!(world.available("acme").await, "700");
    world.play(&format!("refunds/{refund}"), json!({ "status": "failed" })).await;
    assert_eq!(world.available("acme").await, "1000");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_refunds_take_a_share_and_never_more_than_was_bought() {
    let (world, pack, period) = pack_and_period().await;
    let listed = world.get("/v1/workspaces/acme/payments").await;
    let paid = listed["payments"].as_array().unwrap().iter().find(|it| it["payment_id"] == period.as_str());
    let half = paid.unwrap()["amount"]["amount"].as_u64().unwrap() / 2;
    for (expected, refund) in [("1000", half), ("0", half)] {
        world.play(&format!("payments/{period}/refund"), json!({ "amount": refund })).await;
        assert_eq!(world.parts().await, parts("1000", expected));
    }
    world.play(&format!("payments/{pack}/refund"), json!({ "amount": 500 })).await;
    world.play(&format!("payments/{pack}/dispute"), json!({ "amount": 1000 })).await;
    assert_eq!(world.parts().await, parts("0", "0"), "a refund and a dispute take no more than was bought");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_each_event_of_a_failed_refund_gives_back_what_it_took() {
    for kind in ["refund.updated", "refund.failed", "charge.refund.updated"] {
        let (world, pack, _) = pack_and_period().await;
        let refund = |status: &str| json!({ "id": "re_1", "object": "refund", "amount": 1000, "charge": "ch_1", "currency": "usd", "payment_intent": pack, "status": status });
        let charge = json!({ "id": "ch_1", "payment_intent": pack, "amount": 1000, "amount_refunded": 1000, "currency": "usd" });
        for (kind, object) in [
            ("refund.created", &refund("pending")),
            ("charge.refunded", &charge),
            (kind, &refund("failed")),
            ("charge.refunded", &charge),
            (kind, &refund("failed")),
            ("refund.created", &refund("pending")),
        ] {
            assert_eq!(world.tell(kind, object).await.status, 200);
        }
        assert_eq!(world.parts().await, parts("1000", "2000"), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_an_inquiry_that_escalates_takes_credits_and_an_appeal_returns_them() {
    let (world, pack, period) = pack_and_period().await;
    for payment in [pack, period] {
        let open = json!({ "status": "warning_needs_response" });
        let dispute = world.play(&format!("payments/{payment}/dispute"), open).await;
        assert_eq!(world.available("acme").await, "3000", "an inquiry takes nothing");
        for (status, available) in [("needs_response", "taken"), ("lost", "taken"), ("won", "3000")] {
            world.play(&format!("disputes/{dispute}"), json!({ "status": status })).await;
            let is = world.available("acme").await;
            assert!(if available == "taken" { is != "3000" } else { is == "3000" }, "{status}: {is}");
        }
    }
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_the_webhook_and_a_debit_record_the_end_of_a_month() {
    for function in ["webhook", "debit"] {
        let (world, pack, period) = pack_and_period().await;
        world.take("acme", "spent", "300").await;
        world.subscription(Method::DELETE, "acme", None).await;
        let ends_at = time(&world.subscribed("acme").await["renews_at"]);
        // No sweep runs until then.
        world.stack.sleep_until(ends_at + SignedDuration::from_secs(5)).unwrap();
        if function == "webhook" {
            world.play(&format!("payments/{pack}/refund"), json!({})).await;
        } else {
            assert_eq!(world.take("acme", "after", "1").await.status, 201);
        }
        world.play(&format!("payments/{period}/refund"), json!({})).await;
        let owed = if function == "webhook" { "-300" } else { "699" };
        assert_eq!(world.available("acme").await, owed, "{function}");
        world.reconciled("acme").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_charge_found_after_its_refund_is_clawed_back() {
    for by_sweep in [false, true] {
        let world = World::with_card().await;
        let failure =
            json!({ "path": "payment_intents", "status": 500, "count": 1, "executed": true, "lost": true });
        world.local(Method::POST, "/_local/provider/failures", Some(&failure)).await;
        assert_eq!(world.subscribe("acme", "tier_2k").await.status, 503);
        let charge = &world.charges().await[0];
        let refund = json!({ "id": "re_1", "object": "refund", "amount": charge["amount"], "charge": "ch_1",
            "currency": "usd", "payment_intent": charge["id"], "status": "succeeded" });
        assert_eq!(world.tell("refund.created", &refund).await.status, 200);
        if by_sweep {
            world.advance(20 * 60).await;
        } else {
            let now = world.advance(0).await;
            world.stack.sleep_until(now + SignedDuration::from_mins(3)).unwrap();
            world.subscribe("acme", "tier_2k").await;
        }
        assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000", "claw_back -2000"]);
    }
}

/// Returns the status of automatic top-up, and the reason of a pause.
async fn auto_top_up(world: &World) -> (Value, Value) {
    let shown = world.get("/v1/workspaces/acme/auto-top-up").await;
    (shown["status"].clone(), shown["paused_reason"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refund_or_a_dispute_pauses_automatic_top_up() {
    for reason in ["refund", "dispute"] {
        let (world, pack, _) = pack_and_period().await;
        let settings = json!({ "enabled": true, "threshold": "100", "pack": "pack_1k" });
        let set = || world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&settings));
        set().await;
        world.drain().await;
        assert_eq!(auto_top_up(&world).await, (json!("on"), Value::Null));
        let charges = world.charges().await.len();
        assert_eq!(world.take("acme", "all", "1950").await.status, 201);
        world.play(&format!("payments/{pack}/{reason}"), json!({})).await;
        world.advance(3_600).await;
        assert_eq!(world.charges().await.len(), charges, "{reason}: nothing is charged again");
        assert_eq!(auto_top_up(&world).await, (json!("paused"), json!(reason)));
        // A person enables it again. It charges the method unless a payment of the method is disputed.
        assert_eq!(set().await.status, 200);
        world.advance(3_600).await;
        let again = usize::from(reason == "refund");
        assert_eq!(world.charges().await.len(), charges + again, "{reason}");
    }
}

/// Each event states the reason, the credits and the new balance. Each mail states the credits.
#[tokio::test(flavor = "multi_thread")]
async fn m05_a_claw_back_and_its_reversal_are_published_and_mailed() {
    let (world, pack, period) = pack_and_period().await;
    world.take("acme", "spent", "500").await;
    let refund = world.play(&format!("payments/{period}/refund"), json!({ "status": "pending" })).await;
    world.drain().await;
    let dispute = world.play(&format!("payments/{pack}/dispute"), json!({})).await;
    let clawed = world.events("CreditsClawedBack").await;
    let told = |event: &Value| {
        [&event["payment_id"], &event["reason"], &event["credits"], &event["available"]].map(Value::clone)
    };
    let of_period = [json!(period), json!("refund"), json!("2000"), json!("500")];
    let of_pack = [json!(pack), json!("dispute"), json!("1000"), json!("-500")];
    assert_eq!(clawed.iter().map(told).collect::<Vec<_>>(), [of_period, of_pack]);
    world.play(&format!("disputes/{dispute}"), json!({ "status": "won" })).await;
    world.drain().await;
    world.play(&format!("refunds/{refund}"), json!({ "status": "failed" })).await;
    let added = world.events("CreditsAdded").await;
    let back = |event: &&Value| event["kind"] == "claw_back_reversed";
    let back: Vec<_> = added
        .iter()
        .filter(back)
        .map(|event| [&event["reason"], &event["credits"], &event["available"]])
        .collect();
    assert_eq!(
        back,
        [
            [&json!("dispute"), &json!("1000"), &json!("500")],
            [&json!("refund"), &json!("2000"), &json!("2500")]
        ]
    );
    let subjects = world.subjects().await;
    let taken: Vec<&String> = subjects.iter().filter(|subject| subject.contains("AI credits were")).collect();
    assert_eq!(
        taken,
        [
            "2000 AI credits were taken back from Acme",
            "1000 AI credits were taken back from Acme",
            "1000 AI credits were returned to Acme",
            "2000 AI credits were returned to Acme",
        ]
    );
    let entries = world.get("/v1/workspaces/acme/ledger?kind=claw_back").await["entries"].clone();
    let reasons: Vec<&Value> = entries.as_array().unwrap().iter().map(|entry| &entry["reason"]).collect();
    assert_eq!(reasons, ["dispute", "refund"]);
}
