//! Stripe's events: accepted only with a valid signature, and applied exactly once in any order.

use std::collections::HashMap;
use std::sync::Arc;

use credits_payments::signature::{Secret, sign};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{NowForTests, WEBHOOK_SECRET, World};

/// An open top-up, with the objects of its events.
struct Sale {
    top_up: Value,
    payment: String,
}

impl Sale {
    async fn open(world: &World, key: &str) -> Self {
        let top_up = world.open_top_up("acme", "pack_1k", key).await.body;
        Self { top_up, payment: format!("pi_{key}") }
    }

    fn metadata(&self) -> Value {
        json!({ "workspace_id": "acme", "top_up_id": self.top_up["top_up_id"] })
    }

    fn session(&self) -> Value {
        json!({
            "id": self.top_up["checkout_id"], "payment_intent": self.payment, "payment_status": "paid",
            "amount_total": 1000, "currency": "usd",
            "client_reference_id": self.top_up["top_up_id"], "metadata": self.metadata(),
        })
    }

    fn intent(&self) -> Value {
        json!({
            "id": self.payment, "amount": 1000, "amount_received": 1000, "currency": "usd",
            "metadata": self.metadata(),
        })
    }

    fn refund(&self, refunded: u64) -> Value {
        json!({
            "id": "ch_1", "payment_intent": self.payment, "amount": 1000, "amount_refunded": refunded,
            "currency": "usd",
        })
    }

    fn dispute(&self, id: &str, amount: u64, status: &str) -> Value {
        json!({ "id": id, "charge": "ch_1", "payment_intent": self.payment, "amount": amount, "currency": "usd", "status": status })
    }
}

/// Delivers an event and checks that it is accepted.
async fn told(world: &World, kind: &str, object: &Value) {
    let answer = world.tell(kind, object).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "received": true })), "{kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_fresh_signature_of_an_active_secret_is_accepted() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let event =
        json!({ "id": "evt_1", "type": "checkout.session.completed", "data": { "object": sale.session() } });
    let (body, now) = (event.to_string().into_bytes(), Timestamp::now_for_tests());
    let signed = |secret: &str, minutes| {
        sign(&body, &Secret::new(secret), now + SignedDuration::from_mins(minutes)).unwrap()
    };
    let right = signed(WEBHOOK_SECRET, 0);
    let mut altered = body.clone();
    altered[20] ^= 1;
    let refused = [
        world.deliver(body.clone(), None).await,
        world.deliver(body.clone(), Some("")).await,
        world.deliver(body.clone(), Some(&signed("whsec_wrong", 0))).await,
        world.deliver(body.clone(), Some(&signed(WEBHOOK_SECRET, -10))).await,
        world.deliver(body.clone(), Some(&signed(WEBHOOK_SECRET, 10))).await,
        world.deliver(altered, Some(&right)).await,
    ];
    for answer in refused {
        assert_eq!((answer.status, answer.body["code"].as_str()), (400, Some("signature_invalid")));
    }
    assert_eq!(world.available("acme").await, "0");
    assert_eq!(world.deliver(body.clone(), Some(&right)).await.status, 200);
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.deliver(vec![b' '; 1024 * 1024], Some(&right)).await.body["code"], "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base64_body_is_verified_over_its_raw_bytes() {
    use base64::Engine as _;
    use credits_aws::Settings;
    use credits_aws::secrets::Secrets;
    use credits_aws::settings::SecretSetting;

    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let event =
        json!({ "id": "evt_1", "type": "payment_intent.succeeded", "data": { "object": sale.intent() } })
            .to_string();
    let signature = sign(event.as_bytes(), &Secret::new(WEBHOOK_SECRET), Timestamp::now_for_tests()).unwrap();
    let setting = SecretSetting::Plain(Secret::new(format!("whsec_next {WEBHOOK_SECRET}")));
    let store =
        credits_store::Store::new(world.stack.client(), world.stack.table(), credits_aws::sources::system());
    let function = topup_webhook::TopUpWebhook::new(
        store,
        Secrets::from_setting(setting, Settings).unwrap(),
        credits_payments::event::Mode::Test,
    );
    let event = json!({
        "routeKey": "POST /v1/webhooks/stripe", "rawPath": "/v1/webhooks/stripe",
        "headers": HashMap::from([("stripe-signature", signature)]),
        "requestContext": { "http": { "method": "POST" }, "timeEpoch": 0 },
        "body": base64::engine::general_purpose::STANDARD.encode(event), "isBase64Encoded": true,
    });
    let event = serde_json::from_value(event).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let response = credits_runtime::start::respond(&function, event, deadline).await;
    assert_eq!(response.status_code, 200);
    assert_eq!(world.available("acme").await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_is_stored_from_any_event_with_its_customer() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let (mut intent, mut session) = (sale.intent(), sale.session());
    intent["customer"] = json!(null);
    session["customer"] = json!("cus_1");
    for (kind, object) in [("payment_intent.succeeded", intent), ("checkout.session.completed", session)] {
        told(&world, kind, &object).await;
    }
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
    // The stand-in does not know this customer, so the test reads the stored item.
    let stored = model::items::every_item(&world.stack).await;
    let card = model::items::of_kind(&stored, "card#acme").next().unwrap();
    assert_eq!(card["customer"].as_s().unwrap(), "cus_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_events_of_one_payment_grant_once() {
    let world = Arc::new(World::with_packs(0).await);
    let sale = Arc::new(Sale::open(&world, "order").await);
    let tasks: Vec<_> = (0..24)
        .map(|index| {
            let (world, sale) = (Arc::clone(&world), Arc::clone(&sale));
            tokio::spawn(async move {
                match index % 3 {
                    0 => told(&world, "checkout.session.completed", &sale.session()).await,
                    1 => told(&world, "payment_intent.succeeded", &sale.intent()).await,
                    _ => told(&world, "checkout.session.async_payment_succeeded", &sale.session()).await,
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_event_type_is_acknowledged_and_ignored() {
    let world = World::with_packs(0).await;
    let ((), requests) = world.requests_of(told(&world, "customer.created", &json!({ "id": "cus_1" }))).await;
    assert!(requests.is_empty(), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_claws_back_in_part_and_whole_and_never_more_than_was_granted() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    told(&world, "checkout.session.completed", &sale.session()).await;
    told(&world, "charge.refunded", &sale.refund(250)).await;
    assert_eq!(world.available("acme").await, "750");
    // Stripe's figure is cumulative, so a repeated or late event takes nothing more.
    told(&world, "charge.refunded", &sale.refund(250)).await;
    told(&world, "charge.refunded", &sale.refund(100)).await;
    assert_eq!(world.available("acme").await, "750");
    told(&world, "charge.refunded", &sale.refund(1000)).await;
    told(&world, "charge.dispute.created", &sale.dispute("dp_1", 1000, "needs_response")).await;
    assert_eq!(world.available("acme").await, "0");
    assert_eq!(world.reconciled("acme").await, ["top_up", "claw_back", "claw_back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_before_its_payment_ends_in_the_same_balance() {
    let world = World::with_packs(1).await;
    let sale = Sale::open(&world, "order").await;
    told(&world, "charge.refunded", &sale.refund(400)).await;
    assert_eq!(world.available("acme").await, "1000");
    told(&world, "checkout.session.completed", &sale.session()).await;
    assert_eq!(world.available("acme").await, "1600");
    assert_eq!(world.reconciled("acme").await, ["top_up", "top_up", "claw_back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn debits_are_refused_while_a_claw_back_leaves_debt() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    told(&world, "checkout.session.completed", &sale.session()).await;
    assert_eq!(world.take("acme", "spent", "700").await.status, 201);
    told(&world, "charge.refunded", &sale.refund(1000)).await;
    assert_eq!(world.available("acme").await, "-700");
    let refused = world.take("acme", "more", "1").await;
    assert_eq!((refused.status, &refused.body["available"]), (402, &json!("-700")));
    assert_eq!(refused.body["shortfall"], "701");
    world.buy("acme", "pack_1k", "debt").await;
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["prepaid"]), (&json!("300"), &json!("300")));
    assert_eq!(world.take("acme", "more", "1").await.status, 201);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_takes_credits_and_a_won_one_returns_them() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    told(&world, "checkout.session.completed", &sale.session()).await;
    told(&world, "charge.dispute.created", &sale.dispute("dp_0", 1000, "warning_needs_response")).await;
    assert_eq!(world.available("acme").await, "1000");
    let opened_at = Timestamp::now_for_tests();
    let open = async || {
        let dispute = sale.dispute("dp_1", 600, "needs_response");
        assert_eq!(world.tell_at("charge.dispute.created", &dispute, opened_at).await.status, 200);
    };
    open().await;
    assert_eq!(world.available("acme").await, "400");
    told(&world, "charge.dispute.closed", &sale.dispute("dp_1", 600, "won")).await;
    assert_eq!(world.available("acme").await, "1000");
    open().await;
    assert_eq!(world.available("acme").await, "1000", "a redelivered event does not open a closed dispute");
    told(&world, "charge.dispute.closed", &sale.dispute("dp_2", 300, "lost")).await;
    assert_eq!(world.available("acme").await, "700");
    assert_eq!(world.reconciled("acme").await, ["top_up", "claw_back", "claw_back_reversed", "claw_back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_a_refund_closed_is_not_counted() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    told(&world, "checkout.session.completed", &sale.session()).await;
    told(&world, "charge.refunded", &sale.refund(600)).await;
    told(&world, "charge.dispute.closed", &sale.dispute("dp_1", 600, "charge_refunded")).await;
    assert_eq!(world.available("acme").await, "400");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_matches_nothing_is_kept_and_listed() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let mut odd = Vec::new();
    let mut tell = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut session = sale.session();
        session["payment_intent"] = json!(format!("pi_{name}"));
        change(&mut session);
        odd.push((format!("pi_{name}"), session));
    };
    tell("amount", &|session| session["amount_total"] = json!(999));
    tell("currency", &|session| session["currency"] = json!("eur"));
    tell("workspace", &|session| session["metadata"]["workspace_id"] = json!("nobody"));
    tell("unknown", &|session| session["metadata"]["top_up_id"] = json!("top_none"));
    for (_, session) in &odd {
        told(&world, "checkout.session.completed", session).await;
        told(&world, "checkout.session.completed", session).await;
    }
    assert_eq!(world.available("acme").await, "0");
    told(&world, "checkout.session.completed", &sale.session()).await;
    let mut twice = sale.session();
    twice["payment_intent"] = json!("pi_twice");
    told(&world, "checkout.session.completed", &twice).await;
    assert_eq!(world.available("acme").await, "1000");

    let shown = world.get("/v1/unmatched-payments").await;
    let mut shown: Vec<(String, String)> = shown["payments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|payment| {
            assert!(payment["amount"].is_u64() && payment["at"].is_string());
            (
                payment["payment_id"].as_str().unwrap().to_owned(),
                payment["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    shown.sort();
    let expected = [
        ("pi_amount", "amount_mismatch"),
        ("pi_currency", "currency_mismatch"),
        ("pi_twice", "top_up_already_paid"),
        ("pi_unknown", "unknown_top_up"),
        ("pi_workspace", "workspace_mismatch"),
    ];
    assert_eq!(shown, expected.map(|(id, reason)| (id.to_owned(), reason.to_owned())));

    // A refund at Stripe closes an unmatched payment.
    let refund = json!({ "id": "ch_9", "payment_intent": "pi_unknown", "amount": 1000, "amount_refunded": 1000, "currency": "usd" });
    told(&world, "charge.refunded", &refund).await;
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"].as_array().unwrap().len(), 4);
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_a_later_event_matches_is_granted() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let mut odd = sale.intent();
    odd["metadata"] = json!({ "workspace_id": "acme", "top_up_id": "top_none" });
    told(&world, "payment_intent.succeeded", &odd).await;
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"][0]["payment_id"], "pi_order");
    told(&world, "checkout.session.completed", &sale.session()).await;
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
    assert_eq!(world.available("acme").await, "1000");
}

/// Events of other accounts, of the other mode, and of other applications on the account.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_not_ours_are_acknowledged_and_ignored() {
    let world = World::with_packs(0).await;
    let sale = Sale::open(&world, "order").await;
    let mut foreign = sale.intent();
    foreign["metadata"] = json!({ "order": "7" });
    let mut refunded = sale.refund(1000);
    refunded["metadata"] = json!({});
    let envelope =
        |kind: &str, object: &Value| json!({ "id": "evt_1", "type": kind, "data": { "object": object } });
    let mut connected = envelope("payment_intent.succeeded", &sale.intent());
    connected["account"] = json!("acct_1");
    let mut live = envelope("payment_intent.succeeded", &sale.intent());
    live["livemode"] = json!(true);
    let events = [
        connected,
        live,
        envelope("payment_intent.succeeded", &foreign),
        envelope(
            "checkout.session.completed",
            &json!({ "id": "cs_1", "mode": "subscription", "metadata": {} }),
        ),
        envelope("charge.refunded", &refunded),
    ];
    for event in events {
        let body = event.to_string().into_bytes();
        let signature = sign(&body, &Secret::new(WEBHOOK_SECRET), Timestamp::now_for_tests()).unwrap();
        let (answer, requests) = world.requests_of(world.deliver(body, Some(&signature))).await;
        assert_eq!((answer.status, requests.len()), (200, 0), "{event}");
    }
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
    assert_eq!(world.available("acme").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_lists_unmatched_payments() {
    let world = World::with_packs(0).await;
    for (workspace, scope, code) in
        [("acme", "credits:manage", "workspace_forbidden"), ("*", "credits:read", "scope_missing")]
    {
        let token = world.token(workspace, scope).await;
        let request = world.bare(Method::GET, "/v1/unmatched-payments").bearer_auth(token);
        let answer = crate::world::answer(request).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some(code)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_that_is_not_what_its_type_says_is_refused_whole() {
    let world = World::with_packs(0).await;
    let intent = json!({ "id": 7, "metadata": { "workspace_id": "acme" } });
    let answer = world.tell("payment_intent.succeeded", &intent).await;
    assert_eq!(answer.fields(), ["data.object.id", "data.object.currency", "data.object.amount"]);
    let body = b"{\"id\":".to_vec();
    let signature = sign(&body, &Secret::new(WEBHOOK_SECRET), Timestamp::now_for_tests()).unwrap();
    assert_eq!(world.deliver(body, Some(&signature)).await.body["code"], "malformed_json");
}
