//! Top-ups with packs, from the checkout to the credits (M5).

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::world::{World, answer};

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_paid_pack_is_granted_before_the_webhook_answers() {
    let world = World::with_packs(0).await;
    let top_up = world.open_top_up("acme", "pack_5k", "order-1").await;
    assert_eq!(top_up.status, 201);
    assert_eq!((&top_up.body["pack"], &top_up.body["credits"]), (&json!("pack_5k"), &json!("5000")));
    assert_eq!(top_up.body["price"], json!({ "amount": 4500, "currency": "USD" }));
    assert_eq!(world.available("acme").await, "0");
    let paid = world.pay(top_up.body["checkout_id"].as_str().unwrap(), "succeeded").await;
    assert_eq!((&paid["status"], &paid["body"]), (&json!(200), &json!({ "received": true })));
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["prepaid"]), (&json!("5000"), &json!("5000")));
    assert_eq!(balance["grants"], json!([]));
    assert_eq!(world.reconciled("acme").await, ["top_up"]);
    let entry = &world.entries("acme").await[0];
    assert_eq!((&entry["top_up_id"], &entry["pack"]), (&top_up.body["top_up_id"], &json!("pack_5k")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_grants_nothing_and_can_be_retried() {
    let world = World::with_packs(0).await;
    let top_up = world.open_top_up("acme", "pack_1k", "order-1").await.body;
    let checkout = top_up["checkout_id"].as_str().unwrap();
    assert_eq!(world.pay(checkout, "declined").await["status"], 200);
    assert_eq!(world.available("acme").await, "0");
    for _ in 0..3 {
        assert_eq!(world.pay(checkout, "succeeded").await["status"], 200);
    }
    assert_eq!(world.available("acme").await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_by_16_tasks_opens_one_checkout() {
    let world = Arc::new(World::with_packs(0).await);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.open_top_up("acme", "pack_1k", "order-1").await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{answers:?}");
    let other = world.open_top_up("acme", "pack_5k", "order-1").await;
    assert_eq!(other.body["code"], "idempotency_key_reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_pack_and_an_unknown_workspace_are_refused() {
    let world = World::with_packs(0).await;
    let unknown = world.open_top_up("acme", "pack_7", "a").await;
    assert_eq!((unknown.status, &unknown.body["errors"][0]["field"]), (422, &json!("pack")));
    let nowhere = world.open_top_up("nobody", "pack_1k", "a").await;
    assert_eq!((nowhere.status, nowhere.body["code"].as_str()), (404, Some("workspace_not_found")));
    // The refusals wrote nothing: the key is still free.
    assert_eq!(world.open_top_up("acme", "pack_1k", "a").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkout_page_shows_the_pack_and_its_price() {
    let world = World::with_packs(0).await;
    let top_up = world.open_top_up("acme", "pack_1k", "order-1").await.body;
    let url = top_up["checkout_url"].as_str().unwrap();
    let path = url.strip_prefix(&world.stack.url()).unwrap();
    let page = world.bare(Method::GET, path).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("1000 AI credits") && page.contains("$10.00"), "{page}");
    assert_eq!(answer(world.bare(Method::GET, "/_local/checkouts/cs_none")).await.status, 404);
}

/// The settings page prints receipts, with the seller of the operator's settings.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_names_the_seller() {
    let world = World::with_packs(0).await;
    let seller = json!({ "name": "Example Inc.", "tax_id": "DE123456789",
        "address": ["1 Main Street", "10115 Berlin", "Germany"] });
    assert_eq!(world.get("/v1/catalog").await["seller"], seller);
}
