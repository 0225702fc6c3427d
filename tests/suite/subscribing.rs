//! Subscribing, changing the tier and cancelling (M6, M7), through the calls of the settings page.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

impl World {
    pub async fn put_on_plan(&self, workspace: &str, plan: &str) {
        let body = json!({ "name": "Acme", "plan": plan, "billing_email": "billing@acme.example" });
        let put = self.call(Method::PUT, &format!("/v1/workspaces/{workspace}"), None, Some(&body)).await;
        assert!(put.status < 300, "{}", put.body);
    }

    /// Starts a stack in which `acme` is on the team plan and has a stored card, with which it bought a pack of 1,000.
    pub async fn with_card() -> Self {
        Self::with_card_on(&credits_local::Options::default()).await
    }

    /// Does what [`Self::with_card`] does, on a stack with options.
    pub async fn with_card_on(options: &credits_local::Options) -> Self {
        let world = Self::with(options).await;
        world.put_on_plan("acme", "team").await;
        world.buy("acme", "pack_1k", "pack").await;
        world
    }

    pub async fn subscription(&self, method: Method, workspace: &str, body: Option<Value>) -> Answer {
        self.call(method, &format!("/v1/workspaces/{workspace}/subscription"), None, body.as_ref()).await
    }

    pub async fn subscribe(&self, workspace: &str, tier: &str) -> Answer {
        self.subscription(Method::PUT, workspace, Some(json!({ "tier": tier }))).await
    }

    pub async fn subscribed(&self, workspace: &str) -> Value {
        let answer = self.subscription(Method::GET, workspace, None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    pub async fn card_is(&self, workspace: &str, outcome: &str) {
        let body = json!({ "workspace": workspace, "outcome": outcome });
        self.local(Method::POST, "/_local/payments", Some(&body)).await;
    }

    pub async fn advance(&self, seconds: i64) -> Timestamp {
        let body = json!({ "advance_seconds": seconds });
        let answer = self.local(Method::POST, "/_local/clock", Some(&body)).await;
        answer["now"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
    }

    /// Moves the clock to the second after an instant. Never moves it back.
    pub async fn advance_to(&self, instant: Timestamp) {
        let now = self.advance(0).await;
        self.advance((instant.duration_since(now).as_secs() + 1).max(0)).await;
    }

    /// Checks that the ledger sums to the balance, and returns the kind and the credits of each entry, oldest first.
    pub async fn kinds(&self, workspace: &str) -> Vec<String> {
        self.reconciled(workspace).await;
        let line = |entry: &Value| {
            format!("{} {}", entry["kind"].as_str().unwrap(), entry["credits"].as_str().unwrap())
        };
        self.entries(workspace).await.iter().rev().map(line).collect()
    }
}

pub fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("expected a time, not {value}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_subscribing_charges_the_stored_card_and_grants_at_once() {
    let world = World::with_card().await;
    let answer = world.subscribe("acme", "tier_2k").await;
    assert_eq!((answer.status, answer.body["status"].as_str()), (201, Some("active")), "{}", answer.body);
    assert_eq!((&answer.body["tier"], &answer.body["monthly_credits"]), (&json!("tier_2k"), &json!("2000")));
    assert_eq!((&answer.body["period"], &answer.body["cancel_at_period_end"]), (&json!(1), &json!(false)));
    let balance = world.balance("acme").await;
    assert_eq!(balance["available"], "3000");
    assert_eq!(balance["subscription"]["remaining"], "2000");
    assert_eq!(balance["subscription"]["renews_at"], answer.body["renews_at"]);
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000"]);
    let again = world.subscribe("acme", "tier_2k").await;
    let mut same = answer.body.clone();
    assert_eq!(same["charged"], json!({ "amount": 1600, "currency": "USD" }));
    same["charged"] = Value::Null;
    assert_eq!((again.status, again.body), (200, same), "the same order changes nothing");
    assert_eq!(world.available("acme").await, "3000");
    world.local(Method::POST, "/_local/drain", None).await;
    assert_eq!(
        world.kinds("acme").await.len(),
        2,
        "Stripe's event for the same charge grants no further credits"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_without_a_card_a_paid_checkout_starts_the_subscription() {
    let world = World::new().await;
    world.put_on_plan("acme", "starter").await;
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404);
    let pending = world.subscribe("acme", "tier_2k").await;
    assert_eq!((pending.status, pending.body["status"].as_str()), (201, Some("pending")), "{}", pending.body);
    let checkout = pending.body["checkout_id"].as_str().unwrap();
    assert!(pending.body["checkout_url"].as_str().unwrap().ends_with(checkout));
    let again = world.subscribe("acme", "tier_2k").await;
    assert_eq!((again.status, &again.body["checkout_id"]), (200, &pending.body["checkout_id"]));
    assert_eq!(world.subscribed("acme").await["checkout_id"], pending.body["checkout_id"]);
    assert_eq!(world.available("acme").await, "0");
    world.pay(checkout, "declined").await;
    assert_eq!(world.subscribed("acme").await["status"], "pending");
    world.pay(checkout, "succeeded").await;
    let subscribed = world.subscribed("acme").await;
    assert_eq!((&subscribed["status"], &subscribed["period"]), (&json!("active"), &json!(1)));
    assert_eq!(world.kinds("acme").await, ["allocation 2000"]);
    world.pay(checkout, "succeeded").await;
    assert_eq!(world.available("acme").await, "2000", "paid twice, granted once");
    // The checkout has stored the card, which pays the next month.
    world.advance_to(time(&subscribed["renews_at"])).await;
    assert_eq!(world.kinds("acme").await, ["allocation 2000", "expiry -2000", "allocation 2000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_checkout_is_closed_after_its_day() {
    let world = World::new().await;
    world.put_on_plan("acme", "starter").await;
    world.subscribe("acme", "tier_2k").await;
    world.advance(2 * 86_400).await;
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404);
    let pending = world.subscribe("acme", "tier_2k").await;
    assert_eq!(pending.status, 201);
    assert_eq!(world.subscription(Method::DELETE, "acme", None).await.body["status"], "cancelled");
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_subscribing_with_a_declined_card_changes_nothing() {
    let world = World::with_card().await;
    world.card_is("acme", "declined").await;
    let refused = world.subscribe("acme", "tier_2k").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (402, Some("payment_declined")));
    assert_eq!(world.subscription(Method::GET, "acme", None).await.status, 404);
    assert_eq!(world.kinds("acme").await, ["top_up 1000"]);
    world.card_is("acme", "succeeded").await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    assert_eq!(world.available("acme").await, "3000");
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_free_plan_cannot_subscribe() {
    let world = World::with_packs(1).await;
    let refused = world.subscribe("acme", "tier_2k").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("plan_forbids_subscription")));
    assert_eq!(world.subscribe("acme", "tier_9k").await.fields(), ["tier"]);
    for plan in ["starter", "team", "pro", "enterprise"] {
        world.put_on_plan("acme", plan).await;
        assert!(world.subscribe("acme", "tier_2k").await.status < 300, "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_moving_to_free_ends_the_subscription_at_its_periods_end() {
    let world = World::with_card().await;
    let renews_at = time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.put_on_plan("acme", "free").await;
    let subscribed = world.subscribed("acme").await;
    assert_eq!(
        (&subscribed["status"], &subscribed["cancel_at_period_end"]),
        (&json!("active"), &json!(true))
    );
    world.advance_to(renews_at + jiff::SignedDuration::from_hours(1)).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000", "expiry -2000"]);
    assert_eq!(world.balance("acme").await["subscription"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_upgrade_starts_at_once_and_a_downgrade_next_period() {
    let world = World::with_card().await;
    let started = world.subscribe("acme", "tier_2k").await.body;
    let (start, end) = (time(&started["current_period_start"]), time(&started["renews_at"]));
    let half = end.duration_since(start).as_secs() / 2;
    world.advance(half).await;
    let up = world.subscribe("acme", "tier_10k").await;
    assert_eq!((up.status, up.body["tier"].as_str()), (200, Some("tier_10k")), "{}", up.body);
    assert_eq!(up.body["renews_at"], started["renews_at"], "the billing date is the same");
    let balance = world.balance("acme").await;
    let granted =
        |balance: &Value| balance["subscription"]["allocation"].as_str().unwrap().parse::<f64>().unwrap();
    assert!((granted(&balance) - 6000.0).abs() < 5.0, "2,000 and half of 8,000: {balance}");
    let down = world.subscribe("acme", "tier_2k").await;
    assert_eq!((down.status, down.body["tier"].as_str()), (200, Some("tier_10k")));
    assert_eq!(down.body["next_tier"], "tier_2k");
    world.advance_to(end).await;
    let renewed = world.subscribed("acme").await;
    assert_eq!((&renewed["tier"], &renewed["period"]), (&json!("tier_2k"), &json!(2)));
    assert_eq!(
        world.balance("acme").await["available"],
        "3000",
        "the old allocation has expired, and the pack stays"
    );
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_upgrade_with_a_declined_card_keeps_the_tier() {
    let world = World::with_card().await;
    world.subscribe("acme", "tier_2k").await;
    world.card_is("acme", "declined").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.body["code"], "payment_declined");
    assert_eq!(world.subscribed("acme").await["tier"], "tier_2k");
    world.card_is("acme", "succeeded").await;
    assert_eq!(world.subscribe("acme", "tier_10k").await.body["tier"], "tier_10k");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_cancelling_ends_with_the_period_and_can_be_undone() {
    let world = World::with_card().await;
    assert_eq!(world.subscription(Method::DELETE, "acme", None).await.status, 404);
    let started = world.subscribe("acme", "tier_2k").await.body;
    let cancelled = world.subscription(Method::DELETE, "acme", None).await;
    assert_eq!((cancelled.status, &cancelled.body["cancel_at_period_end"]), (200, &json!(true)));
    assert_eq!(world.subscribe("acme", "tier_2k").await.body["cancel_at_period_end"], json!(false));
    world.subscription(Method::DELETE, "acme", None).await;
    world.advance_to(time(&started["renews_at"]) + jiff::SignedDuration::from_hours(1)).await;
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.kinds("acme").await, ["top_up 1000", "allocation 2000", "expiry -2000"]);
    let again = world.subscribe("acme", "tier_10k").await;
    assert_eq!((again.status, &again.body["period"]), (201, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_cancelled_subscription_ends_without_a_sweep() {
    let world = World::with_card().await;
    let started = world.subscribe("acme", "tier_2k").await.body;
    world.subscription(Method::DELETE, "acme", None).await;
    world.stack.sleep_until(time(&started["renews_at"]) + jiff::SignedDuration::from_mins(1)).unwrap();
    assert_eq!(world.subscribed("acme").await["status"], "cancelled");
    assert_eq!(world.balance("acme").await["subscription"], Value::Null);
    world.card_is("acme", "declined").await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.body["code"], "payment_declined");
    world.card_is("acme", "succeeded").await;
    let again = world.subscribe("acme", "tier_2k").await;
    assert_eq!(
        (again.status, &again.body["period"], &again.body["status"]),
        (201, &json!(1), &json!("active"))
    );
    assert_eq!(world.available("acme").await, "3000");
    world.reconciled("acme").await;
}
