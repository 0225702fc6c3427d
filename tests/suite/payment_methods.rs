//! The stored payment method, the list of payments, and the preview of a tier.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

impl World {
    async fn method(&self, method: Method, key: Option<&str>, body: Option<Value>) -> Answer {
        self.call(method, "/v1/workspaces/acme/payment-method", key, body.as_ref()).await
    }

    async fn preview(&self, tier: &str) -> Answer {
        let path = "/v1/workspaces/acme/subscription/preview";
        self.call(Method::POST, path, None, Some(&json!({ "tier": tier }))).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_the_stored_method_is_shown_replaced_and_removed() {
    let world = World::new().await;
    world.put_on_plan("acme", "team").await;
    let none = world.method(Method::GET, None, None).await;
    assert_eq!((none.status, none.body), (200, json!({ "payment_method": null })));
    let bought = world.open_top_up("acme", "pack_1k", "pack").await.body;
    let pay = format!("/_local/checkouts/{}/pay", bought["checkout_id"].as_str().unwrap());
    world.local(Method::POST, &pay, Some(&json!({ "outcome": "succeeded", "method": "link" }))).await;
    world.drain().await;
    let method = world.method(Method::GET, None, None).await.body["payment_method"].clone();
    assert_eq!((&method["type"], &method["exp_year"]), (&json!("link"), &Value::Null));
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201, "the method is charged");

    let setup = world.method(Method::POST, Some("setup"), Some(json!({}))).await;
    assert_eq!(setup.status, 201, "{}", setup.body);
    let again = world.method(Method::POST, Some("setup"), Some(json!({}))).await;
    assert_eq!((again.status, again.replayed, &again.body), (200, true, &setup.body));
    world.pay(setup.body["checkout_id"].as_str().unwrap(), "succeeded").await;
    world.drain().await;
    let replaced = world.method(Method::GET, None, None).await.body["payment_method"].clone();
    assert_eq!((&replaced["type"], replaced["last4"].is_string()), (&json!("card"), true));

    let in_use = world.method(Method::DELETE, None, None).await;
    assert_eq!((in_use.status, in_use.body["code"].as_str()), (409, Some("payment_method_in_use")));
    world.subscription(Method::DELETE, "acme", None).await;
    let removed = world.method(Method::DELETE, None, None).await;
    assert_eq!((removed.status, removed.body), (200, json!({ "payment_method": null })));
    assert_eq!(world.method(Method::GET, None, None).await.body["payment_method"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_url_of_another_origin_is_refused() {
    let world = World::with_packs(0).await;
    for body in [json!({ "pack": "pack_9", "return_url": "https://evil.example/" })] {
        let refused = world.call(Method::POST, "/v1/workspaces/acme/top-ups", Some("k"), Some(&body)).await;
        assert_eq!(refused.fields(), ["return_url", "pack"]);
    }
    let foreign = json!({ "return_url": "//evil.example" });
    assert_eq!(world.method(Method::POST, Some("k"), Some(foreign)).await.fields(), ["return_url"]);
    let own = json!({ "pack": "pack_1k", "return_url": format!("{}/hub?tab=1", world.stack.url()) });
    let opened = world.call(Method::POST, "/v1/workspaces/acme/top-ups", Some("k"), Some(&own)).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_top_up_says_how_far_it_has_come_and_payments_are_listed() {
    let world = World::with_packs(0).await;
    let opened = world.open_top_up("acme", "pack_1k", "bank").await.body;
    let status = format!("/v1/workspaces/acme/top-ups/{}", opened["top_up_id"].as_str().unwrap());
    assert_eq!(world.get(&status).await["status"], "open");
    let pay = format!("/_local/checkouts/{}/pay", opened["checkout_id"].as_str().unwrap());
    let bank = json!({ "outcome": "processing", "method": "sepa_debit" });
    world.local(Method::POST, &pay, Some(&bank)).await;
    world.drain().await;
    assert_eq!(world.get(&status).await["status"], "processing");
    world.advance(4 * 86_400).await;
    assert_eq!(world.get(&status).await["status"], "processing", "four days later");
    let listed = world.get("/v1/workspaces/acme/payments").await["payments"][0].clone();
    assert_eq!(
        (&listed["status"], &listed["description"]),
        (&json!("processing"), &json!("1000 AI credits"))
    );
    let settle = format!("/_local/payments/{}/settle", listed["payment_id"].as_str().unwrap());
    world.local(Method::POST, &settle, Some(&json!({ "outcome": "succeeded" }))).await;
    world.drain().await;
    let paid = world.get(&status).await;
    assert!(paid["status"] == "paid" && paid["paid_at"].is_string(), "{paid}");
    assert_eq!(world.available("acme").await, "1000");

    world.buy("acme", "pack_5k", "card").await;
    world.drain().await;
    let page = world.get("/v1/workspaces/acme/payments?limit=1").await;
    assert_eq!(page["payments"][0]["amount"], json!({ "amount": 4500, "currency": "USD" }));
    assert!(page["payments"][0]["receipt_url"].is_string(), "{page}");
    let next = format!("/v1/workspaces/acme/payments?cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = world.get(&next).await;
    assert_eq!((rest["payments"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    let other = world.get("/v1/workspaces/acme/payments").await;
    assert_eq!(other["payments"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_preview_states_the_price_and_start_of_a_tier() {
    let world = World::with_card().await;
    let start = world.preview("tier_2k").await;
    assert_eq!(start.status, 200, "{}", start.body);
    assert_eq!(
        (&start.body["effective"], &start.body["due_now"]["amount"], &start.body["credits_now"]),
        (&json!("now"), &json!(1600), &json!("2000"))
    );
    assert_eq!(world.preview("tier_9").await.fields(), ["tier"]);
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404, "a preview writes nothing");
    world.subscribe("acme", "tier_2k").await;
    let up = world.preview("tier_10k").await.body;
    let dear = json!({ "tier": "tier_10k", "expected_due_now": { "amount": 1, "currency": "USD" } });
    let refused = world.subscription(Method::PUT, "acme", Some(dear)).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("price_changed")));
    assert_eq!(refused.body["due_now"]["currency"], "USD");
    let euros = json!({ "tier": "tier_10k", "expected_due_now": { "amount": 999_999, "currency": "EUR" } });
    assert_eq!(world.subscription(Method::PUT, "acme", Some(euros)).await.status, 409);
    assert_eq!(world.charges().await.len(), 1, "nothing was charged");
    let fair = json!({ "tier": "tier_10k", "expected_due_now": up["due_now"] });
    let changed = world.subscription(Method::PUT, "acme", Some(fair)).await;
    assert_eq!((changed.status, &changed.body["tier"]), (200, &json!("tier_10k")));
    assert!(changed.body["charged"]["amount"].as_u64() <= up["due_now"]["amount"].as_u64());
    let down = world.preview("tier_2k").await.body;
    assert_eq!((&down["effective"], &down["due_now"]["amount"]), (&json!("next_period"), &json!(0)));
    assert_eq!(down["next_charge"]["amount"], 1600);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_checkout_with_tax_or_a_discount_grants() {
    let world = World::with_packs(0).await;
    for (key, paying, received) in [
        ("tax", json!({ "outcome": "succeeded", "tax_percent": 19 }), 1190),
        ("half", json!({ "outcome": "succeeded", "discount_percent": 50 }), 500),
        ("free", json!({ "outcome": "succeeded", "discount_percent": 100 }), 0),
    ] {
        let before = world.available("acme").await.parse::<u64>().unwrap();
        let opened = world.open_top_up("acme", "pack_1k", key).await.body;
        let pay = format!("/_local/checkouts/{}/pay", opened["checkout_id"].as_str().unwrap());
        let paid = world.local(Method::POST, &pay, Some(&paying)).await;
        assert_eq!(paid["status"], 200, "{key}: {paid}");
        world.drain().await;
        assert_eq!(world.available("acme").await, (before + 1000).to_string(), "{key}");
        let events = world.events("PaymentReceived").await;
        assert_eq!(events.last().unwrap()["price"]["amount"], received, "{key}: the charged amount");
    }
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_paid_checkout_whose_events_were_lost_is_found() {
    let world = World::with_packs(0).await;
    let opened = world.open_top_up("acme", "pack_1k", "pack").await.body;
    let pay = format!("/_local/checkouts/{}/pay", opened["checkout_id"].as_str().unwrap());
    world.local(Method::POST, &pay, Some(&json!({ "outcome": "succeeded", "lost": true }))).await;
    assert_eq!(world.available("acme").await, "0");
    world.advance(25 * 3_600).await;
    assert_eq!(world.available("acme").await, "1000");
    let method = world.method(Method::GET, None, None).await;
    assert_eq!(method.body["payment_method"]["type"], "card");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_new_method_pays_for_what_waited_for_one() {
    let world = World::new().await;
    world.put_on_plan("acme", "team").await;
    let automatic = json!({ "enabled": true, "threshold": "100", "pack": "pack_1k" });
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&automatic)).await;
    world.drain().await;
    assert!(world.charges().await.is_empty());
    let setup = world.method(Method::POST, Some("setup"), Some(json!({}))).await;
    world.pay(setup.body["checkout_id"].as_str().unwrap(), "succeeded").await;
    world.advance(16 * 60).await;
    assert_eq!(world.available("acme").await, "1000");
    // A declined renewal is retried with the method that replaces the old one.
    let renews_at = crate::subscribing::time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.card_is("acme", "declined").await;
    world.advance_to(renews_at).await;
    assert_eq!(world.subscribed("acme").await["status"], "past_due");
    world.card_is("acme", "succeeded").await;
    let setup = world.method(Method::POST, Some("again"), Some(json!({}))).await;
    world.pay(setup.body["checkout_id"].as_str().unwrap(), "succeeded").await;
    world.advance(16 * 60).await;
    assert_eq!(world.subscribed("acme").await["status"], "active");
    world.reconciled("acme").await;
}
