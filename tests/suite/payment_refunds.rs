//! Refunds by the operator: through Stripe, once per key, and never more than was paid (M5).

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, answer};

/// Starts a stack in which `acme` has paid USD 10.00 for 1,000 credits, and returns the id of the payment.
async fn paid() -> (World, String) {
    let world = World::with_card().await;
    let payment = world.get("/v1/workspaces/acme/payments").await["payments"][0]["payment_id"].clone();
    (world, payment.as_str().unwrap().to_owned())
}

impl World {
    async fn refund(&self, key: &str, payment_id: &str, body: &Value) -> Answer {
        let path = format!("/v1/workspaces/acme/payments/{payment_id}/refund");
        self.call(Method::POST, &path, Some(key), Some(body)).await
    }

    /// Lists the amounts of the refunds at Stripe, newest first.
    async fn refunds_at_stripe(&self) -> Vec<u64> {
        let request = self.bare(Method::GET, "/_local/provider/v1/refunds?limit=100");
        let listed = answer(request.bearer_auth("sk_local")).await.body;
        let refunds = listed["data"].as_array().unwrap_or_else(|| panic!("{listed}")).iter();
        refunds.map(|refund| refund["amount"].as_u64().unwrap()).collect()
    }

    async fn fail_refunds(&self, failure: &Value) {
        self.local(Method::POST, "/_local/provider/failures", Some(failure)).await;
    }
}

fn part(amount: u64) -> Value {
    json!({ "amount": amount, "reason": "bought by mistake" })
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_payment_is_refunded_in_part_and_then_in_full() {
    let (world, payment) = paid().await;
    let first = world.refund("k1", &payment, &part(400)).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let amount = json!({ "amount": 400, "currency": "USD" });
    assert_eq!(
        (&first.body["payment_id"], &first.body["amount"], &first.body["status"]),
        (&json!(payment), &amount, &json!("succeeded"))
    );
    assert_eq!(world.available("acme").await, "600", "the credits are taken back at once");
    let again = world.refund("k1", &payment, &part(400)).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &first.body));
    assert_eq!(world.refund("k1", &payment, &part(401)).await.body["code"], "idempotency_key_reused");
    let more = world.refund("k2", &payment, &part(601)).await;
    assert_eq!((more.status, more.body["code"].as_str()), (422, Some("exceeds_payment")));
    let rest = world.refund("k3", &payment, &json!({ "reason": "all of it" })).await;
    assert_eq!((rest.status, &rest.body["amount"]["amount"]), (201, &json!(600)));
    assert_eq!(world.refund("k4", &payment, &part(1)).await.body["code"], "exceeds_payment");
    assert_eq!(
        (world.refunds_at_stripe().await, world.available("acme").await.as_str()),
        (vec![600, 400], "0")
    );
    let listed = world.get("/v1/workspaces/acme/payments").await["payments"][0].clone();
    assert_eq!((&listed["status"], &listed["refunded"]["amount"]), (&json!("refunded"), &json!(1000)));
    world.drain().await;
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "claw_back -400", "claw_back -600"]);
}

/// Stripe answers 500 before or after it makes the refund. A retry under the same key and the sweep find the refund.
#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refund_whose_answer_is_lost_is_made_once() {
    for executed in [false, true] {
        for by_sweep in [false, true] {
            let (world, payment) = paid().await;
            let failure = json!({ "path": "refunds", "status": 500, "count": 1, "executed": executed });
            world.fail_refunds(&failure).await;
            let first = world.refund("k", &payment, &part(400)).await;
            assert_eq!((first.status, first.body["code"].as_str()), (503, Some("unavailable")));
            if by_sweep {
                world.advance(16 * 60).await;
                assert_eq!(world.refunds_at_stripe().await, [400], "executed {executed}");
            }
            let again = world.refund("k", &payment, &part(400)).await;
            assert_eq!(again.body["amount"]["amount"], 400, "{}", again.body);
            world.advance(26 * 3_600).await;
            assert_eq!(
                world.refunds_at_stripe().await,
                [400],
                "executed {executed}, by the sweep {by_sweep}"
            );
            assert_eq!(world.available("acme").await, "600");
            world.reconciled("acme").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_ten_concurrent_full_refunds_make_one() {
    let (world, payment) = paid().await;
    let world = Arc::new(world);
    let mut refunds = tokio::task::JoinSet::new();
    for number in 0..10 {
        let (world, payment) = (Arc::clone(&world), payment.clone());
        refunds.spawn(async move {
            world.refund(&format!("k{number}"), &payment, &json!({ "reason": "all" })).await
        });
    }
    let answers = refunds.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| [201, 422].contains(&answer.status)));
    world.drain().await;
    assert_eq!((world.refunds_at_stripe().await, world.available("acme").await.as_str()), (vec![1000], "0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_disputed_payment_is_not_refunded() {
    let (world, payment) = paid().await;
    world.local(Method::POST, &format!("/_local/payments/{payment}/dispute"), Some(&json!({}))).await;
    let refused = world.refund("k", &payment, &part(400)).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("payment_disputed")));
    assert!(world.refunds_at_stripe().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refund_that_fails_later_returns_the_credits() {
    let (world, payment) = paid().await;
    let refund = world.refund("k", &payment, &part(400)).await.body["refund_id"].clone();
    let path = format!("/_local/refunds/{}", refund.as_str().unwrap());
    world.local(Method::POST, &path, Some(&json!({ "status": "failed" }))).await;
    assert_eq!(world.available("acme").await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_only_the_operator_refunds_and_only_known_payments() {
    let (world, payment) = paid().await;
    world.put_workspace("bolt").await;
    let path = format!("/v1/workspaces/acme/payments/{payment}/refund");
    let token = world.token("acme", "credits:manage").await;
    let own =
        world.bare(Method::POST, &path).bearer_auth(token).header("idempotency-key", "k").json(&part(1));
    assert_eq!(answer(own).await.body["code"], "workspace_forbidden");
    assert_eq!(
        world.call(Method::POST, &path, None, Some(&part(1))).await.body["code"],
        "idempotency_key_missing"
    );
    let of_another = format!("/v1/workspaces/bolt/payments/{payment}/refund");
    let of_another = world.call(Method::POST, &of_another, Some("k"), Some(&part(1))).await;
    assert_eq!(of_another.body["code"], "not_found");
    assert_eq!(world.refund("k", "pi_none", &part(1)).await.body["code"], "not_found");
    assert_eq!(
        world.refund("k", &payment, &json!({ "amount": 0, "x": 1 })).await.fields(),
        ["amount", "reason", "x"]
    );
    assert!(world.refunds_at_stripe().await.is_empty());
}

/// Such as one of Stripe's other mode, which an event has named.
#[tokio::test(flavor = "multi_thread")]
async fn m05_a_payment_that_stripe_does_not_have_is_not_found() {
    let (world, payment) = paid().await;
    let top_up = world.open_top_up("acme", "pack_1k", "unknown").await.body;
    let metadata = json!({ "workspace_id": "acme", "top_up_id": top_up["top_up_id"] });
    let intent = json!({ "id": "pi_elsewhere", "amount": 1000, "amount_received": 1000, "currency": "usd", "metadata": metadata });
    world.tell("payment_intent.succeeded", &intent).await;
    world.drain().await;
    for key in ["k1", "k1", "k2"] {
        let refused = world.refund(key, "pi_elsewhere", &part(400)).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (404, Some("not_found")), "{key}");
    }
    assert_eq!(world.sweep().await["done"], 0, "nothing is left to the sweep");
    assert_eq!(world.refund("k3", &payment, &part(400)).await.status, 201);
}
