//! Charges of stored cards, with failures between Stripe and the functions (M6).

use std::sync::Arc;

use credits_billing::Billing;
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase, StoredMethod};
use credits_payments::provider::{Provider, ReturnUrls};
use credits_payments::signature::Secret;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::subscribing::time;
use crate::table::{Table, TableFault, failed};
use crate::world::World;

/// Builds the billing of the renewal function, on a table whose faults and clocks the test controls.
pub fn billing(world: &World, table: &Table) -> Billing {
    let provider = Provider::new(&format!("{}/_local/provider", world.stack.url())).unwrap();
    let catalogue = Arc::new(credits_runtime::catalogue::deployed().unwrap());
    let urls = ReturnUrls::to("https://hub.test/settings");
    Billing::new(table.store.clone(), provider, Secret::new("sk_local"), catalogue, urls)
}

pub fn soon() -> Instant {
    Instant::now() + std::time::Duration::from_mins(5)
}

/// Subscribes `acme`, and returns a table whose clocks are 30 minutes before the renewal, and the renewal's instant.
pub async fn subscribed() -> (World, Table, Timestamp) {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    let table = Table::of(&world);
    table.at(&(renews_at - SignedDuration::from_mins(30)).to_string());
    (world, table, renews_at)
}

/// Returns the charges that Stripe has made for period 2: its renewal, and upgrades of it.
pub async fn renewals(world: &World) -> Vec<Value> {
    let renewal = |charge: &Value| charge["metadata"]["purchase_id"].as_str().unwrap().contains("-2-");
    world.charges().await.into_iter().filter(renewal).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_crash_between_charge_and_grant_is_healed_with_one_charge_and_one_grant() {
    let (world, table, renews_at) = subscribed().await;
    // The purchase is stored and the card is charged. Every write after that fails.
    let mut faults = vec![TableFault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(100));
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
async fn m06_a_renewal_with_a_lost_answer_charges_and_grants_once() {
    for lost_at in 0..4 {
        let (world, table, renews_at) = subscribed().await;
        let mut faults: Vec<TableFault> = (0..lost_at).map(|_| TableFault::Pass).collect();
        faults.push(TableFault::AnswerLost);
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

/// Seed 1692 of the simulation: Stripe has forgotten the key, and by its clock the charge is older than the purchase.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_charge_that_a_fast_clock_began_is_found_a_day_later_and_not_made_again() {
    let (world, table, renews_at) = subscribed().await;
    let begun_at = table.store.now();
    world.stack.sleep_until(begun_at - SignedDuration::from_mins(10)).unwrap();
    let mut faults = vec![TableFault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(100));
    table.suffers(faults);
    let swept = billing(&world, &table).sweep(soon()).await.unwrap();
    assert_eq!((swept.done, swept.left), (0, 1));
    let charges = renewals(&world).await;
    let made_at = Timestamp::from_second(charges[0]["created"].as_i64().unwrap()).unwrap();
    assert!(begun_at.duration_since(made_at) > SignedDuration::from_mins(9), "the function's clock is fast");
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
    let mut faults = vec![TableFault::Pass];
    faults.extend(std::iter::repeat_with(|| failed(500, "InternalServerError")).take(100));
    table.suffers(faults);
    billing(&world, &table).sweep(soon()).await.unwrap();
    // The next period is paid, so the upgrade is for all of that period.
    let up = world.subscribe("acme", "tier_10k").await;
    assert_eq!((up.status, &up.body["next_tier"]), (200, &json!("tier_10k")), "{}", up.body);
    assert_eq!(renewals(&world).await.len(), 2, "the renewal and the upgrade of its period");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_upgrading_a_period_paid_ahead_starts_with_that_period() {
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
    assert_eq!(world.available("acme").await, before, "the running period gets no more credits");
    world.advance_to(renews_at).await;
    assert_eq!(world.balance("acme").await["subscription"]["allocation"], "10000");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunding_a_renewal_takes_back_its_credits() {
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
    assert_eq!(unmatched["payments"], json!([]), "Stripe's events of our charges are matched");
}

/// Returns a checkout session as Stripe shows it, but completed and paid.
async fn paid_session(world: &World, checkout_id: &str) -> Value {
    let path = format!("/_local/provider/v1/checkout/sessions/{checkout_id}");
    let shown = world.bare(Method::GET, &path).bearer_auth("sk_local").send().await.unwrap();
    let mut session: Value = shown.json().await.unwrap();
    session["status"] = json!("complete");
    session["payment_status"] = json!("paid");
    session["payment_intent"] = json!(format!("pi_{checkout_id}"));
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_checkout_is_expired_and_stays_unmatched_if_paid() {
    let world = World::new().await;
    world.put_on_plan("acme", "team").await;
    let pending = world.subscribe("acme", "tier_2k").await.body;
    let checkout = pending["checkout_id"].as_str().unwrap();
    world.buy("acme", "pack_1k", "pack").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.body["status"], "active");
    let mut paid = paid_session(&world, checkout).await;
    let refused = world.pay(checkout, "succeeded").await;
    assert!(refused["received"].is_null(), "the checkout is expired at Stripe: {refused}");
    // The payment came before the expiry, and its event arrives now.
    paid["customer"] = json!("cus_fast");
    let now = world.advance(0).await;
    assert_eq!(world.tell_at("checkout.session.completed", &paid, now).await.status, 200);
    let unmatched = world.get("/v1/unmatched-payments").await;
    assert_eq!(unmatched["payments"][0]["reason"], "subscription_moved_on");
    assert_eq!(world.available("acme").await, "11000");
    assert_eq!(world.subscribed("acme").await["tier"], "tier_10k");
    // After the subscription has ended, neither a refund nor a redelivery of the payment starts one.
    world.subscription(Method::DELETE, "acme", None).await;
    let now = world.advance(40 * 86_400).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    let payment = unmatched["payments"][0]["payment_id"].clone();
    let refund =
        json!({ "id": "ch_1", "payment_intent": payment, "amount_refunded": 1600, "currency": "usd" });
    assert_eq!(world.tell_at("charge.refunded", &refund, now).await.status, 200);
    assert_eq!(world.tell_at("checkout.session.completed", &paid, now).await.status, 200);
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.available("acme").await, "1000");
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pending_subscription_stays_cancelled_if_paid() {
    let world = World::new().await;
    world.put_on_plan("acme", "team").await;
    let pending = world.subscribe("acme", "tier_2k").await.body;
    let mut session = paid_session(&world, pending["checkout_id"].as_str().unwrap()).await;
    session["payment_status"] = json!("unpaid");
    let now = world.advance(0).await;
    world.tell_at("checkout.session.completed", &session, now).await;
    let processing = world.subscribed("acme").await;
    assert_eq!(
        (&processing["pending_payment"], &processing["payment_action"], processing.get("checkout_id")),
        (&json!("processing"), &Value::Null, None),
        "the bank debit is processing, and no second checkout is offered"
    );
    assert_eq!(world.subscribe("acme", "tier_2k").await.body["pending_payment"], "processing");
    let now = world.advance(3 * 86_400).await;
    assert_eq!(world.subscribed("acme").await["pending_payment"], "processing", "three days later");
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!(cancelled.body["status"], "cancelled");
    session["payment_status"] = json!("paid");
    world.tell_at("checkout.session.async_payment_succeeded", &session, now).await;
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404);
    let unmatched = world.get("/v1/unmatched-payments").await;
    assert_eq!(unmatched["payments"][0]["reason"], "purchase_withdrawn");
    assert_eq!(world.available("acme").await, "0");
}

/// Three PUTs at once right after a cancelled subscription has ended, and then three upgrades at once.
#[tokio::test(flavor = "multi_thread")]
async fn m06_concurrent_changes_charge_once() {
    let world = Arc::new(World::with_card().await);
    let started = world.subscribe("acme", "tier_2k").await.body;
    world.subscription(Method::DELETE, "acme", None).await;
    world.stack.sleep_until(time(&started["renews_at"]) + SignedDuration::from_secs(2)).unwrap();
    let put = |tier: &'static str| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.subscribe("acme", tier).await.status })
    };
    for answer in [put("tier_2k"), put("tier_2k"), put("tier_2k")] {
        assert!(answer.await.unwrap() < 300);
    }
    let charged = |charges: Vec<Value>| charges.iter().filter(|charge| charge["amount"] == 1600).count();
    assert_eq!(charged(world.charges().await), 2, "the first subscription and the second");
    for answer in [put("tier_10k"), put("tier_10k"), put("tier_10k")] {
        assert!(answer.await.unwrap() < 300);
    }
    let upgrades = world.charges().await.len() - 2;
    assert_eq!(upgrades, 1);
    assert_eq!(world.kinds("acme").await.iter().filter(|kind| kind.starts_with("allocation")).count(), 3);
    assert_eq!(world.get("/v1/unmatched-payments").await["payments"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_renewal_that_needs_the_customer_asks_by_mail_and_is_not_tried() {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.card_is("acme", "authentication_required").await;
    world.advance_to(renews_at).await;
    let due = world.subscribed("acme").await;
    assert_eq!(due["status"], "past_due");
    let checkout = due["payment_action"]["checkout_id"].as_str().unwrap().to_owned();
    let tried = world.charges().await.len();
    let again = world.subscribe("acme", "tier_2k").await;
    assert_eq!((again.status, &again.body["payment_action"]["checkout_id"]), (200, &json!(checkout)));
    world.advance(2 * 86_400).await;
    assert_eq!(world.charges().await.len(), tried, "the stored method is not tried");
    let mails = world.mails().await;
    let asks = mails.iter().filter(|mail| mail["subject"].as_str().unwrap().contains("confirm a payment"));
    assert!(asks.count() >= 1);
    assert!(mails.iter().all(|mail| !mail["subject"].as_str().unwrap().contains("declined")));
    let now = world.subscribed("acme").await;
    let checkout = now["payment_action"]["checkout_id"].as_str().unwrap();
    assert_eq!(world.pay(checkout, "succeeded").await["status"], 200);
    let paid = world.subscribed("acme").await;
    assert_eq!(
        (&paid["status"], &paid["period"], &paid["payment_action"]),
        (&json!("active"), &json!(2), &Value::Null)
    );
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_upgrade_that_needs_the_customer_answers_with_a_checkout() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.card_is("acme", "authentication_required").await;
    let up = world.subscribe("acme", "tier_10k").await;
    assert_eq!((up.status, &up.body["tier"]), (200, &json!("tier_2k")), "{}", up.body);
    let checkout = up.body["payment_action"]["checkout_id"].as_str().unwrap();
    world.pay(checkout, "succeeded").await;
    let upgraded = world.subscribed("acme").await;
    assert_eq!((&upgraded["tier"], &upgraded["payment_action"]), (&json!("tier_10k"), &Value::Null));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_cancelling_in_the_last_hour_refunds_what_was_taken_ahead() {
    let (world, table, renews_at) = subscribed().await;
    let automatic = json!({ "enabled": true, "threshold": "1", "pack": "pack_1k" });
    let settings = "/v1/workspaces/acme/auto-top-up";
    assert_eq!(world.call(Method::PUT, settings, None, Some(&automatic)).await.status, 201);
    world.stack.sleep_until(table.store.now()).unwrap();
    billing(&world, &table).sweep(soon()).await.unwrap();
    let before = world.available("acme").await;
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!(
        (&cancelled.body["period"], &cancelled.body["cancel_at_period_end"], &cancelled.body["refunded"]),
        (&json!(1), &json!(true), &json!({ "amount": 1600, "currency": "USD" })),
        "{}",
        cancelled.body
    );
    assert_eq!(world.available("acme").await, before);
    let payment = renewals(&world).await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/_local/provider/v1/refunds?payment_intent={payment}");
    let refunds = world.bare(Method::GET, &path).bearer_auth("sk_local").send().await.unwrap();
    let refunds: Value = refunds.json().await.unwrap();
    assert_eq!(refunds["data"][0]["amount"], 1600, "{refunds}");
    world.advance_to(renews_at).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000", "expiry -2000"]);
    // The refund takes no credits, so it pauses nothing and sends no mail about them.
    assert_eq!(world.get(settings).await["status"], "on");
    assert!(world.events("CreditsClawedBack").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_downgrade_in_the_last_hour_replaces_the_paid_period() {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_10k").await.body["renews_at"]);
    let table = Table::of(&world);
    let ahead = renews_at - SignedDuration::from_mins(30);
    table.at(&ahead.to_string());
    world.stack.sleep_until(ahead).unwrap();
    billing(&world, &table).sweep(soon()).await.unwrap();
    let down = world.subscribe("acme", "tier_2k").await;
    assert_eq!((&down.body["tier"], &down.body["next_tier"]), (&json!("tier_10k"), &json!("tier_2k")));
    assert!(down.body["refunded"]["amount"].as_u64() > down.body["charged"]["amount"].as_u64());
    world.advance_to(renews_at).await;
    let renewed = world.subscribed("acme").await;
    assert_eq!((&renewed["tier"], &renewed["period"]), (&json!("tier_2k"), &json!(2)));
    assert_eq!(world.available("acme").await, "3000");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_subscribing_to_the_current_tier_keeps_its_terms() {
    let world = World::with_card().await;
    let started = world.subscribe("acme", "tier_2k").await.body;
    world.subscription(Method::DELETE, "acme", None).await;
    let order = json!({ "tier": "tier_2k", "expected_due_now": { "amount": 0, "currency": "USD" } });
    let kept = world.subscription(Method::PUT, "acme", Some(order)).await;
    assert_eq!((kept.status, &kept.body["cancel_at_period_end"]), (200, &json!(false)));
    assert_eq!(kept.body["next_charge"]["amount"], started["price"]["amount"]);
    assert_eq!(world.charges().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_charge_beyond_stripes_first_page_is_found() {
    let world = World::with_card().await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    let charged = world.charges().await.pop().unwrap();
    let text = |member: &str| charged[member].as_str().unwrap().to_owned();
    let method = StoredMethod { customer: text("customer"), payment_method: text("payment_method") };
    let key = Secret::new("sk_local");
    let purchase = |name: &str| Purchase {
        purchase_id: name.parse().unwrap(),
        workspace_id: "acme".parse().unwrap(),
        goods: Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() },
        price: Price { amount_minor: 900, currency: "USD".parse().unwrap() },
        begun_at: world.stack.now(),
    };
    let provider = Provider::new(&format!("{}/_local/provider", world.stack.url())).unwrap();
    let first = purchase("top_first");
    let made = provider.charge(&key, &first, "top_first", &method).await.unwrap();
    for number in 0..100 {
        let name = format!("top_{number}");
        provider.charge(&key, &purchase(&name), &name, &method).await.unwrap();
    }
    let found = provider.find_charge(&key, &first, &method, first.begun_at).await.unwrap();
    assert_eq!(found, Some(made));
    let never = provider.find_charge(&key, &purchase("top_never"), &method, first.begun_at).await.unwrap();
    assert_eq!(never, None);
}
