//! Automatic top-up for calls that cost more than the balance, and its mails about limits (M5, M11).

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

/// Starts a stack with a workspace that has 1,000 credits, a card, and automatic top-up at 100 credits.
async fn topping_up(monthly_limit: &Value) -> World {
    let world = World::with_packs(1).await;
    let body =
        json!({ "enabled": true, "threshold": "100", "pack": "pack_1k", "monthly_limit": monthly_limit });
    assert_eq!(
        world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&body)).await.status,
        201
    );
    world.drain().await;
    world
}

/// Returns the status of an answer, and its field `top_up`.
fn refusal(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.body["top_up"].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_call_above_the_balance_starts_automatic_top_up() {
    let world = topping_up(&Value::Null).await;
    assert_eq!(refusal(&world.take("acme", "large", "2500").await), (402, Some("started")));
    assert_eq!(refusal(&world.take("acme", "large", "2500").await), (402, Some("started")));
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (2, "3000"));
    assert_eq!(world.take("acme", "large", "2500").await.status, 201);
    world.advance(3_600).await;
    assert_eq!(world.charges().await.len(), 2, "no further pack is bought for the call");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_stray_call_of_a_million_credits_buys_nothing() {
    let world = topping_up(&Value::Null).await;
    for credits in ["4000.000001", "1000000"] {
        assert_eq!(refusal(&world.take("acme", credits, credits).await), (402, Some("limit")), "{credits}");
    }
    world.advance(3_600).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (0, "1000"));
    assert_eq!(refusal(&world.take("acme", "fits", "4000").await), (402, Some("started")));
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (3, "4000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_no_pack_is_bought_if_the_limit_allows_too_few() {
    let world = topping_up(&json!(1)).await;
    assert_eq!(refusal(&world.take("acme", "two", "2001").await), (402, Some("limit")));
    assert_eq!(refusal(&world.take("acme", "one", "2000").await), (402, Some("started")));
    world.drain().await;
    assert_eq!(world.take("acme", "one", "2000").await.status, 201);
    world.drain().await;
    assert_eq!(world.charges().await.len(), 1);
    assert_eq!(refusal(&world.take("acme", "more", "1").await), (402, Some("limit")));
    let waits = |subject: &&String| subject.starts_with("Automatic top-up of Acme waits until");
    assert_eq!(world.subjects().await.iter().filter(waits).count(), 1);
}

/// Automatic top-up that is paused, off or without a card can charge nothing, so the refusal has no `top_up`.
#[tokio::test(flavor = "multi_thread")]
async fn m05_a_refusal_omits_a_top_up_that_cannot_charge() {
    let world = topping_up(&Value::Null).await;
    let large = async |key: &str| world.take("acme", key, "1500").await;
    let payment = world.get("/v1/workspaces/acme/payments").await["payments"][0]["payment_id"].clone();
    let path = format!("/_local/payments/{}/refund", payment.as_str().unwrap());
    world.local(Method::POST, &path, Some(&json!({ "amount": 100 }))).await;
    assert_eq!(refusal(&large("paused").await), (402, None));
    let off = json!({ "enabled": false });
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&off)).await;
    assert_eq!(refusal(&large("off").await), (402, None));
    world.call(Method::DELETE, "/v1/workspaces/acme/payment-method", None, None).await;
    let on = json!({ "enabled": true, "threshold": "100", "pack": "pack_1k" });
    world.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(&on)).await;
    assert_eq!(refusal(&large("no-card").await), (402, None));
    world.advance(3_600).await;
    assert!(world.charges().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_hold_a_capture_and_a_batch_start_automatic_top_up_too() {
    let consumer = json!({ "kind": "action", "feature": "chat", "user_id": "u" });
    let hold = |credits: &str| json!({ "credits": credits, "ttl_seconds": 600, "operation": "text.generate", "consumer": consumer });
    let line = json!({ "operation": "text.generate", "credits": "800", "consumer": consumer });
    let holds = "/v1/workspaces/acme/holds";
    let world = topping_up(&Value::Null).await;
    let answer = world.call(Method::POST, holds, Some("hold"), Some(&hold("1500"))).await;
    assert_eq!(refusal(&answer), (402, Some("started")));
    let world = topping_up(&Value::Null).await;
    let batch = json!({ "lines": [line, line] });
    let answer = world.call(Method::POST, "/v1/workspaces/acme/debits/batch", Some("b"), Some(&batch)).await;
    assert_eq!(refusal(&answer), (402, Some("started")));
    world.drain().await;
    assert_eq!(world.charges().await.len(), 1);
    // The hold keeps 900 credits and 100 are spendable. The call needs 1,900 more, which are two packs.
    let world = topping_up(&Value::Null).await;
    let placed = world.call(Method::POST, holds, Some("hold"), Some(&hold("900"))).await.body;
    let path = format!("{holds}/{}/captures", placed["hold_id"].as_str().unwrap());
    let capture =
        json!({ "operation": "text.generate", "credits": "2900", "consumer": consumer, "extend": true });
    let answer = world.call(Method::POST, &path, Some("capture"), Some(&capture)).await;
    assert_eq!(refusal(&answer), (402, Some("started")), "{}", answer.body);
    world.drain().await;
    assert_eq!(world.charges().await.len(), 2);
    assert_eq!(world.call(Method::POST, &path, Some("capture"), Some(&capture)).await.status, 201);
}

/// If Stripe is down when the call is refused, the sweep buys the packs later.
#[tokio::test(flavor = "multi_thread")]
async fn m05_the_packs_for_a_call_are_bought_after_an_outage() {
    let world = topping_up(&Value::Null).await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    assert_eq!(refusal(&world.take("acme", "large", "1500").await), (402, Some("started")));
    world.drain().await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": false }))).await;
    world.advance(16 * 60).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "2000"));
    world.advance(3_600).await;
    assert_eq!(world.charges().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_three_charges_in_an_hour_defer_the_next_with_a_mail() {
    let world = topping_up(&Value::Null).await;
    for spent in 1..=4 {
        assert_eq!(world.take("acme", &format!("k{spent}"), "1000").await.status, 201);
        world.drain().await;
    }
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (3, "0"));
    let waits = |subject: &&String| subject.starts_with("Automatic top-up of Acme waits until");
    assert_eq!(world.subjects().await.iter().filter(waits).count(), 1);
    world.advance(3_600 + 16 * 60).await;
    assert_eq!(world.charges().await.len(), 4);
    assert_eq!(world.subjects().await.iter().filter(waits).count(), 1);
}

/// Settings stored before the default limit existed keep charging without a limit, and one mail says so.
#[tokio::test(flavor = "multi_thread")]
async fn m05_settings_without_a_limit_are_kept_and_mailed_once() {
    let world = topping_up(&Value::Null).await;
    world.forget_monthly_limit().await;
    let unlimited = "Automatic top-up of Acme has no monthly limit";
    for spent in 1..=12 {
        assert_eq!(world.take("acme", &format!("k{spent}"), "1000").await.status, 201);
        world.advance(3_600 + 16 * 60).await;
    }
    assert_eq!(world.charges().await.len(), 12);
    assert_eq!(world.subjects().await.iter().filter(|subject| *subject == unlimited).count(), 1);
}
