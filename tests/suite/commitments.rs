//! Commitments that start, end or change within a month, and in its last hour (M8).

use credits_core::agreement::Agreement;
use credits_core::credits::Credits;
use credits_core::month::Month;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::enterprise::{enterprise, invoicing};
use crate::table::{Fault, Table};
use crate::world::{World, micros};

const CREDITS: u64 = 3_000;
const PRICE: u64 = 6_000;

fn committed(credits: u64, price: u64) -> Value {
    json!({ "credit_limit": "0", "invoicing": null, "commitment":
        { "monthly_credits": credits.to_string(), "price": { "amount": price, "currency": "USD" } } })
}

fn nothing() -> Value {
    json!({ "credit_limit": "0", "invoicing": null, "commitment": null })
}

/// A month in which a test plays, from its first minutes.
struct Played {
    world: World,
    month: Month,
}

impl Played {
    async fn begin() -> Self {
        let world = enterprise().await;
        let month = Month::of(world.next_month().await);
        Self { world, month }
    }

    /// Moves the clock to noon of a day of the month.
    async fn on_day(&self, day: i64) {
        self.world.advance_to(self.month.start() + SignedDuration::from_hours(24 * day - 12)).await;
    }

    /// Moves the clock to twenty minutes before the month's end, when the next month is granted already.
    async fn in_the_last_hour(&self) {
        self.world.advance_to(self.month.end() - SignedDuration::from_mins(20)).await;
    }

    async fn agree(&self, agreement: &Value) {
        let answer = self.world.agree(agreement).await;
        assert!(answer.status < 300, "{}", answer.body);
        assert_eq!(answer.body, *agreement);
    }

    async fn available(&self) -> i128 {
        micros([&json!(self.world.available("acme").await)])
    }

    /// The month's credits for so many of its days, in millionths, rounded up.
    fn micros(&self, days: u64) -> i128 {
        (CREDITS * 1_000_000 * days).div_ceil(self.month.days()).into()
    }

    /// The month's price for so many of its days, rounded half up.
    fn price(&self, days: u64) -> u64 {
        (2 * PRICE * days + self.month.days()) / (2 * self.month.days())
    }

    /// A line of an invoice for some days of the month.
    fn line(&self, (first, last): (u64, u64), micros: i128, amount: u64) -> Value {
        let credits = Credits::from_micros(micros).unwrap();
        let description = format!("Monthly commitment, days {first} to {last} of {}", self.month.days());
        json!({ "description": description, "credits": credits, "amount": amount })
    }

    /// The lines of each invoice, oldest first, by month.
    async fn invoiced(&self) -> Vec<(String, Value)> {
        let of = |invoice: &Value| (invoice["month"].as_str().unwrap().to_owned(), invoice["lines"].clone());
        self.world.invoices().await.iter().rev().map(of).collect()
    }

    /// What a whole month of the commitment is on an invoice.
    fn whole(&self) -> (String, Value) {
        let line =
            json!({ "description": "Monthly commitment", "credits": CREDITS.to_string(), "amount": PRICE });
        (self.month.to_string(), json!([line]))
    }

    /// Lets the next month pass, and checks that the ledger sums to the balance.
    async fn afterwards(&self) -> Vec<String> {
        self.world.next_month().await;
        self.world.next_month().await;
        self.world.kinds("acme").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_commitment_that_starts_and_ends_within_a_month_is_in_proportion() {
    let played = Played::begin().await;
    played.on_day(16).await;
    played.agree(&committed(CREDITS, PRICE)).await;
    assert_eq!(played.available().await, played.micros(played.month.days() - 15));
    played.on_day(20).await;
    assert_eq!(played.world.use_of("some", "text.generate", "100").await, 201);
    played.agree(&nothing()).await;
    assert_eq!(played.available().await, played.micros(5) - 100_000_000);
    let kinds = played.afterwards().await;
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["grant", "debit", "void", "expiry"]);
    let lines = json!([played.line((16, 20), played.micros(5), played.price(5))]);
    assert_eq!(played.invoiced().await, [(played.month.to_string(), lines)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_what_was_used_beyond_the_days_of_a_commitment_is_invoiced() {
    let played = Played::begin().await;
    played.agree(&committed(CREDITS, PRICE)).await;
    assert_eq!(played.world.use_of("most", "text.generate", "2500").await, 201);
    played.on_day(2).await;
    played.agree(&nothing()).await;
    assert_eq!(played.available().await, 0, "what is left is taken back, and nothing becomes debt");
    played.afterwards().await;
    let lines = json!([played.line((1, 2), 2_500_000_000, 5_000)]);
    assert_eq!(played.invoiced().await, [(played.month.to_string(), lines)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_commitment_that_ends_in_the_last_hour_has_no_next_month() {
    for leaves in [false, true] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        if leaves {
            played.world.put_on_plan("acme", "pro").await;
        } else {
            played.agree(&nothing()).await;
        }
        assert_eq!(played.available().await, played.micros(played.month.days()), "the month itself is whole");
        let kinds = played.afterwards().await;
        assert_eq!(kinds, ["grant 3000", "expiry -3000"], "left: {leaves}");
        assert_eq!(played.invoiced().await, [played.whole()], "left: {leaves}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_new_terms_in_the_last_hour_are_those_of_the_next_month() {
    for (credits, price) in [(5_000, PRICE), (CREDITS, 9_000)] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        played.agree(&committed(credits, price)).await;
        // And again the same, which changes nothing.
        played.agree(&committed(credits, price)).await;
        assert_eq!(played.available().await, played.micros(played.month.days()));
        played.world.next_month().await;
        assert_eq!(played.world.available("acme").await, credits.to_string());
        played.world.next_month().await;
        let next = Month::of(played.month.end()).to_string();
        let line =
            json!({ "description": "Monthly commitment", "credits": credits.to_string(), "amount": price });
        assert_eq!(played.invoiced().await, [played.whole(), (next, json!([line]))]);
        played.world.reconciled("acme").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_enterprise_left_and_joined_again_counts_no_day_twice() {
    let played = Played::begin().await;
    let whole = played.month.days();
    played.agree(&committed(CREDITS, PRICE)).await;
    played.on_day(10).await;
    played.world.put_on_plan("acme", "pro").await;
    assert_eq!(played.available().await, played.micros(10));
    played.world.put_on_plan("acme", "enterprise").await;
    assert_eq!(played.world.get("/v1/workspaces/acme/agreement").await, nothing());
    played.agree(&committed(CREDITS, PRICE)).await;
    assert_eq!(played.available().await, played.micros(10) + played.micros(whole - 10));
    // In the last hour, once more: the next month is withdrawn and granted again.
    played.in_the_last_hour().await;
    played.world.put_on_plan("acme", "pro").await;
    played.world.put_on_plan("acme", "enterprise").await;
    played.agree(&committed(CREDITS, PRICE)).await;
    played.world.next_month().await;
    assert_eq!(played.available().await, i128::from(CREDITS) * 1_000_000);
    let lines = json!([
        played.line((1, 10), played.micros(10), played.price(10)),
        played.line((11, whole), played.micros(whole - 10), played.price(whole - 10)),
    ]);
    assert_eq!(played.invoiced().await, [(played.month.to_string(), lines)]);
    played.world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_an_end_before_the_close_of_the_last_month_is_of_the_new_month() {
    let played = Played::begin().await;
    played.agree(&committed(CREDITS, PRICE)).await;
    played.in_the_last_hour().await;
    // No sweep and no other caller comes before the change does.
    played.world.stack.sleep_until(played.month.end() + SignedDuration::from_secs(2)).unwrap();
    played.agree(&nothing()).await;
    let next = Played { month: Month::of(played.month.end()), ..played };
    assert_eq!(next.available().await, next.micros(1), "one day of the new month");
    next.world.next_month().await;
    let last = Played { month: next.month.last(), world: next.world };
    let (month, whole) = last.whole();
    let next = Played { month: Month::of(last.month.end()), world: last.world };
    let lines = json!([next.line((1, 1), next.micros(1), next.price(1))]);
    assert_eq!(next.invoiced().await, [(month, whole), (next.month.to_string(), lines)]);
    next.world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_the_open_month_is_invoiced_as_it_was_agreed_by_a_workspace_that_leaves_late() {
    let played = Played::begin().await;
    played.agree(&invoicing("500")).await;
    assert_eq!(played.world.use_of("used", "text.generate", "120").await, 201);
    played.world.stack.sleep_until(played.month.end() + SignedDuration::from_secs(2)).unwrap();
    played.world.put_on_plan("acme", "pro").await;
    let invoices = played.invoiced().await;
    let line = json!({ "description": "text.generate", "credits": "120", "amount": 120 });
    assert_eq!(invoices, [(played.month.to_string(), json!([line]))]);
}

/// The function dies after the change and before what follows from it; the sweep comes before the month's end, or after it.
#[tokio::test(flavor = "multi_thread")]
async fn m08_an_end_that_a_kill_interrupts_is_carried_out_by_the_sweep() {
    for begun in [false, true] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        let table = Table::of(&played.world);
        table.at(&played.world.advance(0).await.to_string());
        table.suffers(std::iter::once(Fault::Pass).chain(std::iter::repeat_n(Fault::RequestLost, 40)));
        let ended = table.store.set_agreement(&"acme".parse().unwrap(), &Agreement::none()).await;
        assert!(ended.is_err() && table.transactions() > 1, "the change alone is written");
        assert_eq!(played.world.get("/v1/workspaces/acme/agreement").await, nothing());
        if begun {
            played.world.stack.sleep_until(played.month.end() + SignedDuration::from_secs(2)).unwrap();
            assert_eq!(played.available().await, i128::from(CREDITS) * 1_000_000, "the next month has begun");
            played.world.sweep().await;
            assert_eq!(played.available().await, 0);
        }
        played.afterwards().await;
        assert_eq!(played.invoiced().await, [played.whole()], "begun: {begun}");
    }
}
