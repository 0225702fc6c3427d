//! Commitments that start, end or change within a month or in its last hour (M8).

use credits_core::agreement::Agreement;
use credits_core::credits::Credits;
use credits_core::month::Month;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::enterprise::{enterprise, invoicing};
use crate::table::{Table, TableFault};
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

/// An enterprise workspace in a month, from the month's first minutes.
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

    /// Moves the clock to twenty minutes before the month's end. The sweep has granted the next month by then.
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

    /// Returns the commitment's credits for `days` of the month, in millionths, rounded up.
    fn micros(&self, days: u64) -> i128 {
        (CREDITS * 1_000_000 * days).div_ceil(self.month.days()).into()
    }

    /// Returns the commitment's price for `days` of the month, in cents, rounded half up.
    fn price(&self, days: u64) -> u64 {
        (2 * PRICE * days + self.month.days()) / (2 * self.month.days())
    }

    /// Returns the invoice line for the days `first` to `last` of the month.
    fn line(&self, (first, last): (u64, u64), micros: i128, amount: u64) -> Value {
        let credits = Credits::from_micros(micros).unwrap();
        let description = format!("Monthly commitment, days {first} to {last} of {}", self.month.days());
        json!({ "description": description, "credits": credits, "amount": amount })
    }

    /// Reads the month and the lines of each invoice, oldest first.
    async fn invoiced(&self) -> Vec<(String, Value)> {
        let of = |invoice: &Value| (invoice["month"].as_str().unwrap().to_owned(), invoice["lines"].clone());
        self.world.invoices().await.iter().rev().map(of).collect()
    }

    /// Returns the month and the lines of an invoice for the commitment's whole month.
    fn whole(&self) -> (String, Value) {
        let line =
            json!({ "description": "Monthly commitment", "credits": CREDITS.to_string(), "amount": PRICE });
        (self.month.to_string(), json!([line]))
    }

    /// Moves the clock two months on, checks that the ledger sums to the balance, and returns the ledger's kinds.
    async fn afterwards(&self) -> Vec<String> {
        self.world.next_month().await;
        self.world.next_month().await;
        self.world.kinds("acme").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_commitment_within_a_month_is_prorated() {
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
async fn m08_use_beyond_the_days_of_a_commitment_is_invoiced() {
    let played = Played::begin().await;
    played.agree(&committed(CREDITS, PRICE)).await;
    assert_eq!(played.world.use_of("most", "text.generate", "2500").await, 201);
    played.on_day(2).await;
    played.agree(&nothing()).await;
    assert_eq!(played.available().await, 0, "the rest is taken back, and no debt arises");
    played.afterwards().await;
    let lines = json!([played.line((1, 2), 2_500_000_000, 5_000)]);
    assert_eq!(played.invoiced().await, [(played.month.to_string(), lines)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_commitment_ended_in_the_last_hour_has_no_next_month() {
    for leaves in [false, true] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        if leaves {
            played.world.put_on_plan("acme", "pro").await;
        } else {
            played.agree(&nothing()).await;
        }
        assert_eq!(played.available().await, played.micros(played.month.days()), "the ending month is whole");
        let kinds = played.afterwards().await;
        assert_eq!(kinds, ["grant 3000", "expiry -3000"], "leaves: {leaves}");
        assert_eq!(played.invoiced().await, [played.whole()], "leaves: {leaves}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_new_terms_in_the_last_hour_apply_to_the_next_month() {
    for (credits, price) in [(5_000, PRICE), (CREDITS, 9_000)] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        played.agree(&committed(credits, price)).await;
        // The same terms again change nothing.
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
async fn m08_leaving_and_rejoining_enterprise_counts_no_day_twice() {
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
    // The same in the last hour: the next month is withdrawn and granted again.
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
async fn m08_an_end_after_midnight_keeps_one_day_of_the_new_month() {
    let played = Played::begin().await;
    played.agree(&committed(CREDITS, PRICE)).await;
    played.in_the_last_hour().await;
    // The month is over, but no sweep and no other call has closed it before the change.
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
async fn m08_leaving_after_the_months_end_invoices_the_old_terms() {
    let played = Played::begin().await;
    played.agree(&invoicing("500")).await;
    assert_eq!(played.world.use_of("used", "text.generate", "120").await, 201);
    played.world.stack.sleep_until(played.month.end() + SignedDuration::from_secs(2)).unwrap();
    played.world.put_on_plan("acme", "pro").await;
    let invoices = played.invoiced().await;
    let line = json!({ "description": "text.generate", "credits": "120", "amount": 120 });
    assert_eq!(invoices, [(played.month.to_string(), json!([line]))]);
}

/// The function crashes after it has stored the change, before its consequences. The sweep runs before or after the
/// month's end.
#[tokio::test(flavor = "multi_thread")]
async fn m08_the_sweep_finishes_an_interrupted_end() {
    for begun in [false, true] {
        let played = Played::begin().await;
        played.agree(&committed(CREDITS, PRICE)).await;
        played.in_the_last_hour().await;
        let table = Table::of(&played.world);
        table.at(&played.world.advance(0).await.to_string());
        table.suffers(
            std::iter::once(TableFault::Pass).chain(std::iter::repeat_n(TableFault::RequestLost, 100)),
        );
        let ended = table.store.agreements().set(&"acme".parse().unwrap(), &Agreement::none()).await;
        assert!(ended.is_err() && table.transactions() > 1, "only the change is written");
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
