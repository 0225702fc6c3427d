//! Charges of stored cards, where something goes wrong between the provider and us (M6).

use std::sync::Arc;

use credits_billing::Billing;
use credits_payments::provider::{Provider, ReturnUrls};
use credits_payments::signature::Secret;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::subscribing::time;
use crate::table::{Fault, Table, failed};
use crate::world::World;

/// What the renewal function does, on a table whose wire and clock the test commands.
fn billing(world: &World, table: &Table) -> Billing {
    let provider = Provider::new(&format!("{}/_local/provider", world.stack.url())).unwrap();
    let catalogue = Arc::new(credits_runtime::catalogue::deployed().unwrap());
    let urls = ReturnUrls::to("https://hub.test/settings");
    Billing::new(table.store.clone(), provider, Secret::new("sk_local"), catalogue, urls)
}

fn soon() -> Instant {
    Instant::now() + std::time::Duration::from_mins(5)
}

async fn subscribed() -> (World, Table, Timestamp) {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    let table = Table::of(&world);
    table.at(&(renews_at - SignedDuration::from_mins(30)).to_string());
    (world, table, renews_at)
}

/// The charges of renewals that the provider has made.
async fn renewals(world: &World) -> Vec<Value> {
    let renewal = |charge: &Value| charge["metadata"]["purchase_id"].as_str().unwrap().contains("-2-");
    world.charges().await.into_iter().filter(renewal).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_crash_between_charge_and_grant_is_healed_with_one_charge_and_one_grant() {
    let (world, table, renews_at) = subscribed().await;
    // The purchase is kept, the card is charged, and then nothing more gets through.
    let mut faults = vec![Fault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(30));
    table.suffers(faults);
    let swept = billing(&world, &table).sweep(soon()).await.unwrap();
    assert_eq!((swept.done, swept.left), (0, 1));
    assert_eq!(renewals(&world).await.len(), 1);
    table.suffers([]);
    table.pass(SignedDuration::from_mins(5));
    billing(&world, &table).sweep(soon()).await.unwrap();
    billing(&world, &table).sweep(soon()).await.unwrap();
    assert_eq!(renewals(&world).await.len(), 1);
    world.advance_to(renews_at).await;
    let kinds = world.kinds("acme").await;
    assert_eq!(kinds, ["top_up 1000", "allocation 2000", "expiry -2000", "allocation 2000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_lost_answer_at_any_write_of_a_renewal_makes_one_charge_and_one_grant() {
    for lost_at in 0..4 {
        let (world, table, renews_at) = subscribed().await;
        let mut faults: Vec<Fault> = (0..lost_at).map(|_| Fault::Pass).collect();
        faults.push(Fault::AnswerLost);
        table.suffers(faults);
        for _ in 0..3 {
            billing(&world, &table).sweep(soon()).await.unwrap();
            table.pass(SignedDuration::from_mins(3));
        }
        assert_eq!(renewals(&world).await.len(), 1, "lost at {lost_at}");
        world.advance_to(renews_at).await;
        assert_eq!(world.kinds("acme").await.last().unwrap(), "allocation 2000", "lost at {lost_at}");
        assert_eq!(world.kinds("acme").await.len(), 4, "lost at {lost_at}");
    }
}

/// The simulation's seed 1692: the provider has forgotten the key, and lists the charge from before it was begun.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_charge_that_a_fast_clock_began_is_found_a_day_later_and_not_made_again() {
    let (world, table, renews_at) = subscribed().await;
    let begun_at = table.store.now();
    world.stack.sleep_until(begun_at - SignedDuration::from_mins(10)).unwrap();
    let mut faults = vec![Fault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(30));
    table.suffers(faults);
    let swept = billing(&world, &table).sweep(soon()).await.unwrap();
    assert_eq!((swept.done, swept.left), (0, 1));
    let charges = renewals(&world).await;
    let made_at = Timestamp::from_second(charges[0]["created"].as_i64().unwrap()).unwrap();
    assert!(begun_at.duration_since(made_at) > SignedDuration::from_mins(9), "the clock was fast");
    table.suffers([]);
    let a_day_later = begun_at + SignedDuration::from_hours(25);
    world.stack.sleep_until(a_day_later).unwrap();
    table.at(&a_day_later.to_string());
    let swept = billing(&world, &table).sweep(soon()).await.unwrap();
    assert_eq!((swept.done, swept.left), (1, 0));
    assert_eq!(renewals(&world).await, charges, "the same charge, once");
    assert!(renews_at < a_day_later);
    assert_eq!(world.kinds("acme").await.last().unwrap(), "allocation 2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_open_charge_is_settled_before_the_tier_is_changed() {
    let (world, table, _) = subscribed().await;
    world.stack.sleep_until(table.store.now()).unwrap();
    let mut faults = vec![Fault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(30));
    table.suffers(faults);
    billing(&world, &table).sweep(soon()).await.unwrap();
    // The charge of the next period is paid; the upgrade is for all that is paid.
    let up = world.subscribe("acme", "tier_10k").await;
    assert_eq!((up.status, &up.body["next_tier"]), (200, &json!("tier_10k")), "{}", up.body);
    assert_eq!(renewals(&world).await.len(), 2, "the renewal and the upgrade of its period");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_upgrade_of_a_period_that_is_paid_ahead_is_for_all_of_it_and_begins_with_it() {
    let (world, table, renews_at) = subscribed().await;
    world.stack.sleep_until(table.store.now()).unwrap();
    billing(&world, &table).sweep(soon()).await.unwrap();
    let before = world.available("acme").await;
    let up = world.subscribe("acme", "tier_10k").await;
    assert_eq!((up.status, &up.body["tier"], &up.body["period"]), (200, &json!("tier_2k"), &json!(1)));
    let catalogue = world.get("/v1/catalog").await;
    let tiers = catalogue["tiers"].as_array().unwrap();
    let price = |name: &str| {
        tiers.iter().find(|tier| tier["tier"] == name).unwrap()["price"]["amount"].as_u64().unwrap()
    };
    let amounts: Vec<_> =
        renewals(&world).await.iter().filter_map(|charge| charge["amount"].as_u64()).collect();
    assert_eq!(amounts, [price("tier_2k"), price("tier_10k") - price("tier_2k")]);
    assert_eq!(world.available("acme").await, before, "the period that runs has no more by it");
    world.advance_to(renews_at).await;
    assert_eq!(world.balance("acme").await["subscription"]["allocation"], "10000");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refunded_renewal_takes_its_credits_back() {
    let (world, table, renews_at) = subscribed().await;
    billing(&world, &table).sweep(soon()).await.unwrap();
    world.advance_to(renews_at).await;
    world.drain().await;
    assert_eq!(world.available("acme").await, "3000");
    let charge = &renewals(&world).await[0];
    let refund = json!({ "id": "ch_1", "payment_intent": charge["id"], "amount_refunded": charge["amount"], "currency": "usd" });
    let now = world.advance(0).await;
    assert_eq!(world.tell_at("charge.refunded", &refund, now).await.status, 200);
    assert_eq!(world.kinds("acme").await.last().unwrap(), "claw_back -2000");
    assert_eq!(world.available("acme").await, "1000");
    let unmatched = world.get("/v1/unmatched-payments").await;
    assert_eq!(unmatched["payments"], json!([]), "the provider's own events of our charges fit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_is_paid_after_another_subscription_began_waits_for_an_operator() {
    let world = World::new().await;
    world.put_on_plan("acme", "team").await;
    let pending = world.subscribe("acme", "tier_2k").await.body;
    world.buy("acme", "pack_1k", "pack").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.body["status"], "active");
    world.pay(pending["checkout_id"].as_str().unwrap(), "succeeded").await;
    let unmatched = world.get("/v1/unmatched-payments").await;
    assert_eq!(unmatched["payments"][0]["reason"], "subscription_moved_on");
    assert_eq!(world.available("acme").await, "11000");
    let running = world.subscribed("acme").await;
    assert_eq!(running["tier"], "tier_10k");
    // Once nothing runs any more, its refund starts nothing, and neither does the payment when it is told again.
    world.subscription(Method::DELETE, "acme", None).await;
    let now = world.advance(40 * 86_400).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    let payment = unmatched["payments"][0]["payment_id"].clone();
    let refund =
        json!({ "id": "ch_1", "payment_intent": payment, "amount_refunded": 1600, "currency": "usd" });
    assert_eq!(world.tell_at("charge.refunded", &refund, now).await.status, 200);
    world.pay(pending["checkout_id"].as_str().unwrap(), "succeeded").await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
}
