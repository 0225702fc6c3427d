//! Failures of Stripe: 500s that it repeats under their keys, refusals, outages, deleted customers and failed bank
//! debits (M5, M6).

use reqwest::Method;
use serde_json::{Value, json};

use crate::charging::{billing, renewals, soon, subscribed};
use crate::subscribing::time;
use crate::world::World;

/// Whether Stripe executes a request before it answers 500.
const EXECUTED: [bool; 2] = [false, true];

impl World {
    /// Makes Stripe answer the next request under a path with 500, and repeat that answer under the request's key.
    async fn fails_once(&self, path: &str, executed: bool) {
        let failure = json!({ "path": path, "status": 500, "count": 1, "executed": executed });
        self.local(Method::POST, "/_local/provider/failures", Some(&failure)).await;
    }

    async fn refunds(&self, payment_id: &str) -> Vec<Value> {
        let path = format!("/_local/provider/v1/refunds?payment_intent={payment_id}");
        let listed = self.bare(Method::GET, &path).bearer_auth("sk_local").send().await.unwrap();
        let listed: Value = listed.json().await.unwrap();
        listed["data"].as_array().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_kept_500_is_looked_for_and_charged_under_a_new_key() {
    for (outcome, charges_made) in [("server_error", 0), ("server_error_charged", 1)] {
        let world = World::with_card().await;
        world.card_is("acme", outcome).await;
        let failed = world.subscribe("acme", "tier_2k").await;
        assert_eq!((failed.status, failed.body["code"].as_str()), (503, Some("unavailable")), "{outcome}");
        assert_eq!(world.charges().await.len(), charges_made);
        world.card_is("acme", "succeeded").await;
        let pending = world.subscription(Method::GET, "acme", None).await;
        assert_eq!((pending.status, &pending.body["pending_payment"]), (200, &json!("processing")));
        // The failed key may be replaced after two minutes, and the next sweep runs within 15 minutes.
        world.advance(20 * 60).await;
        assert_eq!(world.subscribed("acme").await["status"], "active", "{outcome}");
        assert_eq!(world.charges().await.len(), 1, "{outcome}");
        assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_definite_refusal_closes_the_charge() {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.card_is("acme", "refused").await;
    let refused = world.subscribe("acme", "tier_10k").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (402, Some("payment_declined")));
    assert!(refused.body["reason"].is_string(), "{}", refused.body);
    world.advance_to(renews_at).await;
    let due = world.subscribed("acme").await;
    assert_eq!((&due["status"], &due["pending_payment"]), (&json!("past_due"), &Value::Null));
    assert!(due["next_charge"]["at"].is_string());
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_cancelling_works_while_stripe_is_down() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.card_is("acme", "server_error").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.status, 503, "a charge is open");
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!((cancelled.status, &cancelled.body["cancel_at_period_end"]), (200, &json!(true)));
    assert_eq!(world.subscribed("acme").await["cancel_at_period_end"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_customer_deleted_at_stripe_gets_a_new_one() {
    let world = World::with_card().await;
    let stored = model::items::every_item(&world.stack).await;
    let card = model::items::of_kind(&stored, "card#acme").next().unwrap();
    let customer = card["customer"].as_s().unwrap();
    let path = format!("/_local/provider/v1/customers/{customer}");
    let deleted = world.bare(Method::DELETE, &path).bearer_auth("sk_local").send().await.unwrap();
    assert_eq!(deleted.status(), 200);
    assert_eq!(world.get("/v1/workspaces/acme/payment-method").await["payment_method"], Value::Null);
    world.buy("acme", "pack_1k", "again").await;
    assert_eq!(world.get("/v1/workspaces/acme/payment-method").await["payment_method"]["type"], "card");
    assert_eq!(world.available("acme").await, "2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_refund_that_stripe_could_not_take_is_made_by_the_sweep() {
    let (world, table, renews_at) = subscribed().await;
    world.stack.sleep_until(table.store.now()).unwrap();
    billing(&world, &table).sweep(soon()).await.unwrap();
    let outage = |down: bool| json!({ "down": down });
    world.local(Method::POST, "/_local/provider/outage", Some(&outage(true))).await;
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!((cancelled.status, &cancelled.body["refunded"]["amount"]), (200, &json!(1600)));
    world.local(Method::POST, "/_local/provider/outage", Some(&outage(false))).await;
    world.advance_to(renews_at).await;
    let payment = renewals(&world).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.refunds(&payment).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_kept_500_of_a_refund_is_not_the_last_word() {
    for executed in EXECUTED {
        let (world, table, renews_at) = subscribed().await;
        world.stack.sleep_until(table.store.now()).unwrap();
        billing(&world, &table).sweep(soon()).await.unwrap();
        world.fails_once("refunds", executed).await;
        let cancelled = world.subscription(Method::DELETE, "acme", None).await;
        assert_eq!((cancelled.status, &cancelled.body["refunded"]["amount"]), (200, &json!(1600)));
        world.advance_to(renews_at).await;
        let payment = renewals(&world).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.refunds(&payment).await.len(), 1, "executed: {executed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_kept_500_of_a_checkout_opens_another() {
    for executed in EXECUTED {
        let world = World::new().await;
        world.put_workspace("acme").await;
        world.fails_once("checkout/sessions", executed).await;
        assert_eq!(world.open_top_up("acme", "pack_1k", "pack").await.status, 503);
        let opened = world.open_top_up("acme", "pack_1k", "pack").await;
        assert_eq!(opened.status, 201, "executed: {executed}");
        world.pay(opened.body["checkout_id"].as_str().unwrap(), "succeeded").await;
        assert_eq!(world.available("acme").await, "1000");
        // The first checkout, which no one saw, expires. Its event names the same purchase.
        world.advance(25 * 3_600).await;
        let path = format!("/v1/workspaces/acme/top-ups/{}", opened.body["top_up_id"].as_str().unwrap());
        assert_eq!(world.get(&path).await["status"], "paid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_kept_500_of_a_setup_checkout_opens_another() {
    let world = World::with_card().await;
    for executed in EXECUTED {
        world.fails_once("checkout/sessions", executed).await;
        let key = format!("setup-{executed}");
        let path = "/v1/workspaces/acme/payment-method";
        let opened = world.call(Method::POST, path, Some(&key), Some(&json!({}))).await;
        assert_eq!(opened.status, 201, "executed: {executed}, {}", opened.body);
        let again = world.call(Method::POST, path, Some(&key), Some(&json!({}))).await;
        assert_eq!(again.body["checkout_id"], opened.body["checkout_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_cancelled_charge_that_was_not_made_is_not_made() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    let before = world.charges().await;
    world.fails_once("payment_intents", false).await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.status, 503);
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!(cancelled.body["pending_payment"], "processing", "its outcome is unknown");
    world.advance(20 * 60).await;
    assert_eq!(world.subscribed("acme").await["pending_payment"], Value::Null);
    assert_eq!(world.charges().await, before);
    assert_eq!(
        world.subscribe("acme", "tier_10k").await.body["tier"],
        "tier_10k",
        "the upgrade can be requested again"
    );
    world.reconciled("acme").await;
}

/// The sweep finds the charge, or the charge's event arrives before the sweep.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_cancelled_charge_that_was_made_is_refunded() {
    for told in [false, true] {
        let world = World::with_card().await;
        world.subscribe("acme", "tier_2k").await;
        let failure =
            json!({ "path": "payment_intents", "status": 500, "count": 1, "executed": true, "lost": true });
        world.local(Method::POST, "/_local/provider/failures", Some(&failure)).await;
        assert_eq!(world.subscribe("acme", "tier_10k").await.status, 503);
        world.subscription(Method::DELETE, "acme", None).await;
        let charges = world.charges().await;
        assert_eq!(charges.len(), 2);
        let unwanted = charges.iter().find(|charge| charge["amount"] != 1600).unwrap();
        if told {
            let now = world.advance(0).await;
            assert_eq!(world.tell_at("payment_intent.succeeded", unwanted, now).await.status, 200);
            let unmatched = world.get("/v1/unmatched-payments").await;
            assert_eq!(unmatched["payments"][0]["reason"], "purchase_withdrawn");
        }
        world.advance(20 * 60).await;
        world.drain().await;
        assert_eq!(world.charges().await.len(), 2);
        let refunds = world.refunds(unwanted["id"].as_str().unwrap()).await;
        assert_eq!((refunds.len(), &refunds[0]["amount"]), (1, &unwanted["amount"]), "event first: {told}");
        let after = world.subscribed("acme").await;
        assert_eq!((&after["tier"], &after["pending_payment"]), (&json!("tier_2k"), &Value::Null));
        assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000"]);
        assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_cancelled_charge_asks_no_one_to_authenticate() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.card_is("acme", "authentication_required").await;
    world.fails_once("payment_intents", true).await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.status, 503);
    world.subscription(Method::DELETE, "acme", None).await;
    world.advance(20 * 60).await;
    let after = world.subscribed("acme").await;
    assert_eq!((&after["payment_action"], &after["pending_payment"]), (&Value::Null, &Value::Null));
    assert!(world.mails().await.iter().all(|mail| !mail["subject"].as_str().unwrap().contains("confirm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_failed_bank_debit_ends_its_charge_within_two_hours() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.card_is("acme", "processing").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.body["pending_payment"], "processing");
    let charges = world.charges().await;
    let debit = charges.iter().find(|charge| charge["status"] == "processing").unwrap();
    let path = format!("/_local/payments/{}/settle", debit["id"].as_str().unwrap());
    world.local(Method::POST, &path, Some(&json!({ "outcome": "failed" }))).await;
    world.advance(2 * 3_600).await;
    let after = world.subscribed("acme").await;
    assert_eq!((&after["tier"], &after["pending_payment"]), (&json!("tier_2k"), &Value::Null));
    assert_eq!(world.charges().await.len(), charges.len());
}
