//! Enterprise workspaces: a credit limit, a commitment and invoiced use, in any combination (M8).

use jiff::{SignedDuration, Timestamp};
use model::items::{every_item, of_kind, put_all, text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World, consumer, micros};

impl World {
    pub async fn agree(&self, agreement: &Value) -> Answer {
        self.call(Method::PUT, "/v1/workspaces/acme/agreement", None, Some(agreement)).await
    }

    pub async fn invoices(&self) -> Vec<Value> {
        self.get("/v1/workspaces/acme/invoices").await["invoices"].as_array().unwrap().clone()
    }

    pub async fn use_of(&self, key: &str, operation: &str, credits: &str) -> u16 {
        let body = json!({ "operation": operation, "credits": credits, "consumer": consumer() });
        self.debit("acme", key, &body).await.status
    }

    /// Moves the clock to 30 minutes after the month's end, and returns the month's end.
    pub async fn next_month(&self) -> Timestamp {
        let now = self.advance(0).await;
        let end = credits_core::month::Month::of(now).end();
        self.advance_to(end + SignedDuration::from_mins(30)).await;
        end
    }
}

pub fn invoicing(limit: &str) -> Value {
    json!({ "credit_limit": limit, "commitment": null,
        "invoicing": { "price_per_credit_micros": 10_000, "currency": "USD" } })
}

pub async fn enterprise() -> World {
    let world = World::new().await;
    world.put_on_plan("acme", "enterprise").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_use_of_the_credit_limit_is_invoiced_at_months_end() {
    let world = enterprise().await;
    world.buy("acme", "pack_1k", "pack").await;
    assert_eq!(world.agree(&invoicing("500")).await.status, 201);
    assert_eq!(world.balance("acme").await["spendable"], "1500");
    assert_eq!(world.use_of("a", "text.generate", "900").await, 201);
    assert_eq!(world.use_of("b", "document.generate", "250").await, 201);
    assert_eq!(world.use_of("c", "text.classify", "150.5").await, 201);
    assert_eq!(world.use_of("d", "text.classify", "200").await, 402);
    assert_eq!(world.available("acme").await, "-300.5");
    assert!(world.invoices().await.is_empty());
    world.next_month().await;
    let invoices = world.invoices().await;
    assert_eq!(invoices.len(), 1);
    let lines: Vec<String> = invoices[0]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            format!(
                "{} {} {}",
                line["description"].as_str().unwrap(),
                line["credits"].as_str().unwrap(),
                line["amount"]
            )
        })
        .collect();
    assert_eq!(
        lines,
        ["document.generate 150 150", "text.classify 150.5 151"],
        "the latest use, at one cent a credit"
    );
    assert_eq!(invoices[0]["total"], json!({ "amount": 301, "currency": "USD" }));
    assert_eq!(world.kinds("acme").await.last().unwrap(), "invoiced 300.5");
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["spendable"]), (&json!("0"), &json!("500")));
    assert_eq!(world.events("InvoiceReady").await[0]["total"]["amount"], 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_ended_month_is_invoiced_at_the_price_of_that_month() {
    let world = enterprise().await;
    assert_eq!(world.agree(&invoicing("500")).await.status, 201);
    assert_eq!(world.use_of("a", "text.generate", "200").await, 201);
    let month = credits_core::month::Month::of(world.advance(0).await);
    // No sweep runs between the month's end and the new agreement.
    world.stack.sleep_until(month.end() + SignedDuration::from_mins(3)).unwrap();
    let mut dearer = invoicing("500");
    dearer["invoicing"]["price_per_credit_micros"] = json!(20_000);
    assert_eq!(world.agree(&dearer).await.status, 200);
    let invoices = world.invoices().await;
    assert_eq!((invoices.len(), &invoices[0]["total"]["amount"]), (1, &json!(200)));
    assert_eq!(world.available("acme").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_invoicing_agreed_later_bills_at_the_end_of_the_month() {
    let world = enterprise().await;
    let mut limit = invoicing("500");
    limit["invoicing"] = Value::Null;
    assert_eq!(world.agree(&limit).await.status, 201);
    assert_eq!(world.use_of("early", "text.generate", "200").await, 201);
    for _ in 0..3 {
        world.next_month().await;
    }
    assert_eq!(world.agree(&invoicing("500")).await.status, 200);
    assert_eq!(world.use_of("now", "text.classify", "30").await, 201);
    world.advance(3_600).await;
    assert_eq!((world.invoices().await, world.available("acme").await.as_str()), (vec![], "-230"));
    let month = credits_core::month::Month::of(world.advance(0).await);
    world.next_month().await;
    let invoices = world.invoices().await;
    assert_eq!((invoices.len(), &invoices[0]["month"]), (1, &json!(month.to_string())));
    assert_eq!(
        invoices[0]["lines"],
        json!([{ "description": "Use before this month", "credits": "200", "amount": 200 },
            { "description": "text.classify", "credits": "30", "amount": 30 }])
    );
    assert_eq!(world.available("acme").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_granted_commitment_is_invoiced_in_its_currency() {
    let world = enterprise().await;
    world.next_month().await;
    let dollars = json!({ "credit_limit": "0", "invoicing": null,
        "commitment": { "monthly_credits": "10", "price": { "amount": 500, "currency": "USD" } } });
    world.agree(&dollars).await;
    let mut euros = invoicing("0");
    euros["invoicing"]["currency"] = json!("EUR");
    assert_eq!(world.agree(&euros).await.fields(), ["invoicing.currency"]);
    assert_eq!(world.get("/v1/workspaces/acme/agreement").await, dollars);
    let mut nothing = dollars.clone();
    nothing["commitment"] = Value::Null;
    assert_eq!(world.agree(&nothing).await.status, 200);
    let mut euros_committed = dollars.clone();
    euros_committed["commitment"]["price"]["currency"] = json!("EUR");
    assert_eq!(world.agree(&euros_committed).await.fields(), ["commitment.price.currency"]);
    world.next_month().await;
    assert_eq!(world.agree(&euros).await.status, 200);
    let invoices = world.invoices().await;
    assert_eq!((invoices.len(), &invoices[0]["total"]["currency"]), (1, &json!("USD")));
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_calls_paid_from_holds_are_on_the_invoice() {
    let world = enterprise().await;
    assert_eq!(world.agree(&invoicing("500")).await.status, 201);
    assert_eq!(world.use_of("earlier", "text.generate", "40").await, 201);
    world.next_month().await;
    let hold = world.place("h", "60").await;
    assert_eq!(world.capture(&hold, "c", "25").await.status, 201);
    assert_eq!(world.settle(&hold, "s", &json!({})).await.status, 200);
    assert_eq!(world.use_of("debit", "text.classify", "10").await, 201);
    world.next_month().await;
    let lines = world.invoices().await.remove(0)["lines"].take();
    assert_eq!(
        lines,
        json!([{ "description": "text.classify", "credits": "10", "amount": 10 },
            { "description": "text.generate", "credits": "25", "amount": 25 }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_commitment_is_granted_and_invoiced_each_month() {
    let world = enterprise().await;
    world.next_month().await;
    let agreement = json!({ "credit_limit": "100",
        "commitment": { "monthly_credits": "5000", "price": { "amount": 40_000, "currency": "USD" } },
        "invoicing": { "price_per_credit_micros": 10_000, "currency": "USD" } });
    assert_eq!(world.agree(&agreement).await.body, agreement);
    assert_eq!(world.get("/v1/workspaces/acme/agreement").await, agreement);
    let balance = world.balance("acme").await;
    assert_eq!(
        (&balance["available"], &balance["grants"][0]["kind"]),
        (&json!("5000"), &json!("commitment"))
    );
    assert_eq!(world.agree(&agreement).await.status, 200);
    assert_eq!(world.available("acme").await, "5000", "the same agreement grants nothing");
    world.next_month().await;
    world.use_of("a", "text.generate", "5050").await;
    for _ in 0..2 {
        world.next_month().await;
    }
    let invoices = world.invoices().await;
    let told: Vec<String> = invoices
        .iter()
        .rev()
        .map(|invoice| {
            format!("{} {}", &invoice["number"].as_str().unwrap()[9..], invoice["total"]["amount"])
        })
        .collect();
    assert_eq!(told, ["000001 40000", "000002 40050", "000003 40000"], "numbered without gaps");
    assert_eq!(
        world.kinds("acme").await,
        [
            "grant 5000",
            "expiry -5000",
            "grant 5000",
            "debit -5050",
            "invoiced 50",
            "grant 5000",
            "expiry -5000",
            "grant 5000"
        ]
    );
    let billed = world.entries("acme").await.into_iter().filter(|entry| entry["kind"] == "invoiced");
    let lines: Vec<Value> = invoices
        .iter()
        .flat_map(|invoice| invoice["lines"].as_array().unwrap().clone())
        .filter(|line| line["description"] != "Monthly commitment")
        .map(|line| line["credits"].clone())
        .collect();
    let entries: Vec<Value> = billed.map(|entry| entry["credits"].clone()).collect();
    assert_eq!(micros(lines.iter()), micros(entries.iter()), "the lines sum to the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_the_first_debit_of_a_month_begins_the_commitment() {
    let world = enterprise().await;
    let agreement = json!({ "credit_limit": "0", "invoicing": null,
        "commitment": { "monthly_credits": "10", "price": { "amount": 100, "currency": "EUR" } } });
    world.next_month().await;
    world.agree(&agreement).await;
    let end = credits_core::month::Month::of(world.advance(0).await).end();
    // Half an hour before the month's end, the sweep has granted the next month. No sweep runs in its first seconds.
    world.advance_to(end - SignedDuration::from_mins(30)).await;
    assert_eq!(world.use_of("before", "text.generate", "10").await, 201);
    assert_eq!(world.use_of("short", "text.generate", "1").await, 402);
    world.advance_to(end).await;
    assert_eq!(world.use_of("first", "text.generate", "7").await, 201);
    assert_eq!(world.available("acme").await, "3");
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_agreement_needs_enterprise_and_ends_with_it() {
    let world = World::new().await;
    world.put_on_plan("acme", "pro").await;
    let refused = world.agree(&invoicing("500")).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("agreement_forbidden")));
    assert_eq!(
        world
            .agree(&json!({ "credit_limit": -5, "commitment": { "monthly_credits": "0" },
        "invoicing": { "price_per_credit_micros": 0, "currency": "DOLLAR" }, "discount": 1 }))
            .await
            .fields(),
        [
            "credit_limit",
            "commitment.monthly_credits",
            "commitment.price",
            "invoicing.price_per_credit_micros",
            "invoicing.currency",
            "discount"
        ]
    );
    world.put_on_plan("acme", "enterprise").await;
    world.agree(&invoicing("500")).await;
    world.use_of("a", "text.generate", "100").await;
    world.put_on_plan("acme", "pro").await;
    let balance = world.balance("acme").await;
    assert_eq!((&balance["available"], &balance["spendable"]), (&json!("-100"), &json!("-100")));
    assert_eq!(world.use_of("b", "text.generate", "1").await, 402);
    world.next_month().await;
    assert_eq!(world.invoices().await[0]["total"]["amount"], 100, "the open month is still invoiced");
    world.next_month().await;
    assert_eq!(world.invoices().await.len(), 1);
    assert_eq!(world.available("acme").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_subscription_and_an_agreement_can_be_combined() {
    let world = enterprise().await;
    world.buy("acme", "pack_1k", "pack").await;
    world.agree(&invoicing("50")).await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    assert_eq!(world.balance("acme").await["spendable"], "3050");
    world.use_of("a", "text.generate", "3020").await;
    world.next_month().await;
    assert_eq!(world.invoices().await[0]["total"]["amount"], 20);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_terms_that_exceed_an_invoices_range_are_refused() {
    let price = |limit: &str, micros: u64| {
        json!({ "credit_limit": limit, "commitment": null,
            "invoicing": { "price_per_credit_micros": micros, "currency": "USD" } })
    };
    let refused = ["invoicing.price_per_credit_micros"];
    let (world, dear) = (enterprise().await, 1_000_000_000_000);
    assert_eq!(world.agree(&price("999999999999.999999", dear)).await.fields(), refused);
    assert_eq!(world.agree(&price("10000000.000001", dear)).await.fields(), refused);
    assert_eq!(world.agree(&price("20000000", 10_000)).await.status, 201);
    assert_eq!(world.use_of("a", "text.generate", "20000000").await, 201);
    assert_eq!(world.agree(&price("0", 10_000)).await.status, 200);
    assert_eq!(world.agree(&price("0", dear)).await.fields(), refused, "the debt would be too large");
    world.next_month().await;
    assert_eq!(world.agree(&price("10000000", dear)).await.status, 200);
    assert_eq!(world.agree(&price("10000001", dear)).await.fields(), refused);
    assert_eq!(world.use_of("b", "text.generate", "10000000").await, 201);
    world.next_month().await;
    let totals: Vec<Value> =
        world.invoices().await.iter().map(|invoice| invoice["total"]["amount"].clone()).collect();
    assert_eq!(totals, [json!(1_000_000_000_000_000_u64), json!(20_000_000)]);
    assert_eq!(world.available("acme").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_invoice_waits_until_the_index_shows_the_whole_month() {
    let world = enterprise().await;
    assert_eq!(world.agree(&invoicing("500")).await.status, 201);
    assert_eq!(world.use_of("a", "text.generate", "40").await, 201);
    assert_eq!(world.use_of("b", "text.classify", "10").await, 201);
    // The index lags and does not show the latest call.
    let items = every_item(&world.stack).await;
    let latest = of_kind(&items, "entry#").find(|item| text(item, "pk").ends_with("#b")).unwrap().clone();
    let mut unseen = latest.clone();
    unseen.retain(|name, _| !name.starts_with("index_"));
    put_all(&world.stack, vec![unseen]).await;
    world.next_month().await;
    assert_eq!(world.available("acme").await, "0", "the debt is billed");
    assert!(world.invoices().await.is_empty());
    put_all(&world.stack, vec![latest]).await;
    world.sweep().await;
    assert_eq!(
        world.invoices().await[0]["lines"],
        json!([{ "description": "text.classify", "credits": "10", "amount": 10 },
            { "description": "text.generate", "credits": "40", "amount": 40 }])
    );
}
