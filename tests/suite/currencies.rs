//! Currencies whose unit at Stripe is not the minor unit of ISO 4217, or whose minimum charge is high (M5, M6).

use credits_local::Options;
use credits_runtime::catalogue::DEPLOYED;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

/// Returns the deployed catalogue, with one price for every pack and tier.
fn sold_for(amount: u64, currency: &str) -> Value {
    let mut catalogue: Value = serde_json::from_str(DEPLOYED).unwrap();
    for list in ["packs", "tiers"] {
        for item in catalogue[list].as_array_mut().unwrap() {
            item["price"] = json!({ "amount": amount, "currency": currency });
        }
    }
    catalogue
}

fn selling(catalogue: &Value) -> Options {
    Options { catalogue: Some(catalogue.to_string()), ..Options::default() }
}

/// Reads an object of Stripe's stand-in, such as `checkout/sessions/{id}`.
async fn provided(world: &World, path: &str) -> Value {
    let request = world.bare(Method::GET, &format!("/_local/provider/v1/{path}"));
    request.bearer_auth("sk_local").send().await.unwrap().json().await.unwrap()
}

/// Buys a pack of 1,000 credits and refunds half of it. Compares what Stripe charges with what the receipt shows.
async fn buys_and_is_refunded(currency: &str, amount: u64, charged: u64, shown: &str) {
    let world = World::with(&selling(&sold_for(amount, currency))).await;
    world.put_workspace("acme").await;
    let top_up = world.buy("acme", "pack_1k", "order").await;
    assert_eq!(top_up["price"], json!({ "amount": amount, "currency": currency }));
    let session =
        provided(&world, &format!("checkout/sessions/{}", top_up["checkout_id"].as_str().unwrap())).await;
    assert_eq!(
        (&session["amount_total"], &session["currency"]),
        (&json!(charged), &json!(currency.to_lowercase()))
    );
    assert_eq!(world.subjects().await, [format!("Receipt: 1000 AI credits, {shown}")]);
    let refund = json!({ "id": "ch_1", "payment_intent": top_up["payment_id"], "amount_refunded": charged / 2,
        "currency": currency.to_lowercase() });
    assert_eq!(world.tell("charge.refunded", &refund).await.status, 200);
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "claw_back -500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_ugx_and_isk_are_charged_in_hundredths() {
    buys_and_is_refunded("UGX", 37_000, 3_700_000, "UGX 37000").await;
    buys_and_is_refunded("ISK", 1_000, 100_000, "ISK 1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_mga_is_charged_in_whole_units() {
    buys_and_is_refunded("MGA", 37_000, 370, "MGA 370.00").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_upgrade_below_the_minimum_starts_next_period() {
    let mut catalogue = sold_for(100_000, "HUF");
    catalogue["tiers"][1]["price"]["amount"] = json!(110_000);
    let world = World::with_card_on(&selling(&catalogue)).await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    let charges = provided(&world, "payment_intents").await["data"].as_array().unwrap().len();
    let changed = world.subscribe("acme", "tier_10k").await;
    assert_eq!(
        (changed.status, &changed.body["tier"]),
        (200, &json!("tier_2k")),
        "HUF 100.00 is below the minimum"
    );
    assert_eq!(provided(&world, "payment_intents").await["data"].as_array().unwrap().len(), charges);
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000"]);
}
