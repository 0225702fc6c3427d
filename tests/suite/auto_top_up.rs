//! Automatic top-up: it buys packs while the balance is low, one charge at a time, and pauses after declines (M5).

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use model::items::{every_item, of_kind, put_all};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

fn settings(threshold: &str, monthly_limit: &Value) -> Value {
    json!({ "enabled": true, "threshold": threshold, "pack": "pack_1k", "monthly_limit": monthly_limit })
}

impl World {
    async fn set_auto_top_up(&self, body: &Value) -> Answer {
        self.call(Method::PUT, "/v1/workspaces/acme/auto-top-up", None, Some(body)).await
    }

    /// Removes the monthly limit from the stored settings, as an older version stored them.
    pub async fn forget_monthly_limit(&self) {
        let items = every_item(&self.stack).await;
        let mut item = of_kind(&items, "auto_top_up#acme").next().unwrap().clone();
        let AttributeValue::M(stored) = item.get_mut("auto_top_up").unwrap() else { panic!("a map") };
        let AttributeValue::M(settings) = stored.get_mut("settings").unwrap() else { panic!("a map") };
        settings.insert("monthly_limit".into(), AttributeValue::Null(true));
        put_all(&self.stack, vec![item]).await;
    }

    async fn auto_top_up(&self) -> Value {
        self.get("/v1/workspaces/acme/auto-top-up").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_1000_concurrent_debits_start_one_automatic_top_up() {
    let world = Arc::new(World::with_packs(1).await);
    let set = world.set_auto_top_up(&settings("500", &json!(10))).await;
    assert_eq!((set.status, &set.body["card_stored"], &set.body["declines"]), (201, &json!(true), &json!(0)));
    let mut running = tokio::task::JoinSet::new();
    for worker in 0..25 {
        let world = Arc::clone(&world);
        running.spawn(async move {
            for number in 0..40 {
                let key = format!("{worker}-{number}");
                while world.take("acme", &key, "0.6").await.status == 503 {}
                if number % 8 == 0 {
                    // Several events at once start several renewal functions.
                    let wanted =
                        json!({ "detail-type": "TopUpWanted", "detail": { "workspace_id": "acme" } });
                    world.stack.fire("renewal", wanted).await.unwrap();
                }
            }
        });
    }
    running.join_all().await;
    world.drain().await;
    assert_eq!(world.charges().await.len(), 1);
    assert_eq!(world.available("acme").await, "1400");
    let bought = json!({ "month": world.stack.now().to_string()[..7], "top_ups": 1, "credits": "1000" });
    assert_eq!(world.auto_top_up().await["bought_this_month"], bought);
    let kinds = world.reconciled("acme").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "top_up").count(), 2);
    let receipts = world.mails().await;
    assert_eq!(
        receipts.iter().filter(|mail| mail["subject"].as_str().unwrap().contains("Receipt")).count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn enabling_below_the_threshold_buys_until_the_balance_is_above() {
    let world = World::with_packs(1).await;
    assert_eq!(world.take("acme", "k", "990").await.status, 201);
    world.drain().await;
    assert!(world.charges().await.is_empty());
    world.set_auto_top_up(&settings("50", &Value::Null)).await;
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "1010"));
    assert_eq!(world.take("acme", "more", "1000").await.status, 201);
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (2, "1010"));
    assert_eq!(world.auto_top_up().await["monthly_limit"], 10, "the default limit");
    let off = world.set_auto_top_up(&json!({ "enabled": false })).await;
    assert_eq!((off.status, &off.body["threshold"]), (200, &Value::Null));
    assert_eq!((&off.body["status"], &off.body["paused_reason"]), (&json!("off"), &Value::Null));
    assert_eq!(world.take("acme", "last", "1000").await.status, 201);
    world.drain().await;
    assert_eq!(world.charges().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_declines_in_a_row_pause_automatic_top_up_with_a_mail() {
    let world = World::with_packs(1).await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.card_is("acme", "declined").await;
    assert_eq!(world.take("acme", "k", "600").await.status, 201);
    world.drain().await;
    assert_eq!((world.charges().await.len(), &world.auto_top_up().await["declines"]), (1, &json!(1)));
    // Further debits start no charge on a card that was just declined.
    assert_eq!(world.take("acme", "l", "10").await.status, 201);
    world.drain().await;
    assert_eq!(world.charges().await.len(), 1);
    world.advance(3 * 3_600 + 1_800).await;
    assert_eq!(world.charges().await.len(), 3);
    let kept = world.auto_top_up().await;
    assert_eq!(
        (&kept["enabled"], &kept["threshold"], &kept["declines"]),
        (&json!(false), &json!("500"), &json!(3))
    );
    assert_eq!((&kept["status"], &kept["paused_reason"]), (&json!("paused"), &json!("declined")));
    let told = |mail: &Value| mail["subject"].as_str().unwrap().contains("Automatic top-up");
    assert_eq!(world.mails().await.iter().filter(|mail| told(mail)).count(), 1);
    world.card_is("acme", "succeeded").await;
    world.advance(86_400).await;
    assert_eq!(world.charges().await.len(), 3, "it stays paused");
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.drain().await;
    assert_eq!(world.available("acme").await, "1390");
    assert_eq!(world.auto_top_up().await["declines"], 0);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monthly_limit_stops_top_ups_until_the_next_month() {
    for limit in [json!(2), json!("2500")] {
        let world = World::with_packs(1).await;
        world.set_auto_top_up(&settings("900", &limit)).await;
        for number in 0..6 {
            world.take("acme", &format!("k{number}"), "600").await;
            world.drain().await;
        }
        assert_eq!(world.charges().await.len(), 2, "{limit}");
        assert_eq!(world.available("acme").await, "0");
        let now = world.stack.now().to_zoned(jiff::tz::TimeZone::UTC);
        let next_month =
            now.date().last_of_month().tomorrow().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        world.advance_to(next_month.timestamp() + SignedDuration::from_mins(20)).await;
        assert_eq!(world.charges().await.len(), 3, "{limit}");
        assert_eq!(world.available("acme").await, "1000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_next_debit_starts_the_top_up() {
    let world = World::with_packs(1).await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    assert_eq!(world.take("acme", "k", "600").await.status, 201);
    world.drain().await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": false }))).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (0, "400"));
    assert_eq!(world.take("acme", "l", "10").await.status, 201);
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "1390"));
    world.reconciled("acme").await;
}

/// Seconds after which the next sweep has run.
const A_SWEEP: i64 = 16 * 60;

/// With no credits left, no debit changes the balance, so no write starts the top-up. It resumes after an outage, after
/// a repaired card and after a higher limit.
#[tokio::test(flavor = "multi_thread")]
async fn automatic_top_up_resumes_without_further_debits() {
    // Stripe is down when the last credits are spent.
    let world = World::with_packs(1).await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": true }))).await;
    assert_eq!(world.take("acme", "all", "1000").await.status, 201);
    world.drain().await;
    world.local(Method::POST, "/_local/provider/outage", Some(&json!({ "down": false }))).await;
    world.advance(A_SWEEP).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "1000"));

    // A card is declined and then repaired, and the same settings are set again.
    world.card_is("acme", "declined").await;
    assert_eq!(world.take("acme", "again", "1000").await.status, 201);
    world.drain().await;
    world.card_is("acme", "succeeded").await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (3, "1000"));

    // The monthly limit is reached and then raised.
    world.set_auto_top_up(&settings("500", &json!(2))).await;
    assert_eq!(world.take("acme", "more", "1000").await.status, 201);
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (3, "0"));
    world.set_auto_top_up(&settings("500", &json!(3))).await;
    world.drain().await;
    assert_eq!(world.charges().await.len(), 3, "three charges in an hour, one of them declined");
    world.advance(3_600 + A_SWEEP).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (4, "1000"));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_card_below_the_threshold_starts_a_top_up() {
    let world = World::new().await;
    world.put_workspace("acme").await;
    let mut high = settings("4000", &Value::Null);
    high["pack"] = json!("pack_5k");
    world.set_auto_top_up(&high).await;
    world.drain().await;
    assert!(world.charges().await.is_empty(), "no card is stored");
    world.buy("acme", "pack_1k", "pack").await;
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "6000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_debt_is_topped_up_by_three_packs_an_hour() {
    let world = World::with_packs(1).await;
    world.put_on_plan("acme", "enterprise").await;
    let limit = json!({ "credit_limit": "20000", "commitment": null, "invoicing": null });
    world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&limit)).await;
    assert_eq!(world.take("acme", "all", "11000").await.status, 201);
    let none = json!({ "credit_limit": "0", "commitment": null, "invoicing": null });
    world.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(&none)).await;
    world.set_auto_top_up(&settings("500", &json!(20))).await;
    world.drain().await;
    world.advance(A_SWEEP).await;
    assert_eq!(world.charges().await.len(), 3);
    world.advance(4 * 3_600).await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (11, "1000"));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_left_open_by_a_crash_is_not_made_twice() {
    let world = World::with_packs(1).await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.drain().await;
    let left_open = every_item(&world.stack).await;
    assert_eq!(world.take("acme", "k", "600").await.status, 201);
    world.drain().await;
    assert_eq!(world.charges().await.len(), 1);
    // The function that began the charge crashed before it stored the outcome.
    let made: Value = world.charges().await[0]["metadata"]["purchase_id"].clone();
    let mut item = of_kind(&left_open, "auto_top_up").next().unwrap().clone();
    let kept = item.get_mut("auto_top_up").unwrap();
    let AttributeValue::M(kept) = kept else { panic!("{kept:?}") };
    let charge =
        [("purchase_id", made.as_str().unwrap().to_owned()), ("begun_at", world.stack.now().to_string())];
    let charge = charge.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
    kept.insert("charge".into(), AttributeValue::M(charge.into()));
    put_all(&world.stack, vec![item]).await;
    assert_eq!(world.take("acme", "l", "1000").await.status, 201);
    let wanted = json!({ "detail-type": "TopUpWanted", "detail": { "workspace_id": "acme" } });
    world.stack.fire("renewal", wanted.clone()).await.unwrap();
    assert_eq!(world.charges().await.len(), 1, "an open charge prevents another one");
    world.stack.sleep_until(world.stack.now() + SignedDuration::from_mins(3)).unwrap();
    world.stack.fire("renewal", wanted).await.unwrap();
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (2, "1400"));
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_charge_that_was_not_made_is_not_made_once_switched_off() {
    let world = World::with_packs(1).await;
    let failure = json!({ "path": "payment_intents", "status": 500, "count": 1 });
    world.local(Method::POST, "/_local/provider/failures", Some(&failure)).await;
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    assert_eq!(world.take("acme", "k", "600").await.status, 201);
    world.drain().await;
    assert_eq!(world.set_auto_top_up(&json!({ "enabled": false })).await.status, 200);
    world.advance(3_600).await;
    assert!(world.charges().await.is_empty());
    world.set_auto_top_up(&settings("500", &Value::Null)).await;
    world.drain().await;
    assert_eq!((world.charges().await.len(), world.available("acme").await.as_str()), (1, "1400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_card_means_no_top_up_and_invalid_settings_are_refused() {
    let world = World::new().await;
    assert_eq!(world.set_auto_top_up(&settings("5", &json!(1))).await.body["code"], "workspace_not_found");
    world.put_workspace("acme").await;
    let none = world.auto_top_up().await;
    assert_eq!(
        (&none["enabled"], &none["card_stored"], &none["pack"]),
        (&json!(false), &json!(false), &Value::Null)
    );
    let set = world.set_auto_top_up(&settings("999.999999", &json!(1_000))).await;
    assert_eq!((set.status, &set.body["card_stored"]), (201, &json!(false)));
    world.drain().await;
    assert!(world.charges().await.is_empty());
    for (body, fields) in [
        (json!({}), vec!["enabled", "threshold", "pack"]),
        (json!({ "enabled": true }), vec!["threshold", "pack"]),
        (settings("1000", &json!(1)), vec!["threshold"]),
        (settings("-1", &json!(0)), vec!["threshold", "monthly_limit"]),
        (settings("1", &json!(1.5)), vec!["monthly_limit"]),
        (settings("1", &json!("999")), vec!["monthly_limit"]),
        (json!({ "enabled": true, "threshold": "1", "pack": "none", "x": 1 }), vec!["pack", "x"]),
    ] {
        assert_eq!(world.set_auto_top_up(&body).await.fields(), fields, "{body}");
    }
    assert_eq!(world.auto_top_up().await["threshold"], "999.999999");
}
