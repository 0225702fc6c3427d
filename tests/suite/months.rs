//! Fourteen months of one subscription, day by day (M6, M14, M16).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::Value;

use crate::world::World;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const DECLINED: &str = "The payment for your AI credits was declined";

/// Returns noon of the next 31st.
fn next_31st(now: Timestamp) -> Timestamp {
    let mut day = now.to_zoned(TimeZone::UTC).date().tomorrow().unwrap();
    while day.day() != 31 {
        day = day.tomorrow().unwrap();
    }
    noon(day)
}

fn noon(day: Date) -> Timestamp {
    day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()
}

/// Returns noon of the day on which a period begins: the 31st, or the month's last day. `core` computes it differently.
fn start_of(first: Timestamp, period: i32) -> Timestamp {
    let month = first.to_zoned(TimeZone::UTC).date().first_of_month() + Span::new().months(period - 1);
    noon(month.last_of_month().with().day(month.days_in_month().min(31)).build().unwrap())
}

/// The number of ledger entries and of mails that were read on earlier days.
struct Diary {
    entries: usize,
    mails: usize,
}

impl Diary {
    /// Returns the new ledger entries except debits, and the subjects of the new mails.
    async fn day(&mut self, world: &World) -> Vec<String> {
        let (entries, mails) = (world.entries("acme").await, world.mails().await);
        let mut brought: Vec<String> = entries
            .iter()
            .rev()
            .skip(self.entries)
            .filter(|entry| entry["kind"] != "debit")
            .map(|entry| format!("{} {}", text(&entry["kind"]), text(&entry["credits"])))
            .collect();
        brought.extend(mails.iter().skip(self.mails).map(|mail| text(&mail["subject"])));
        (self.entries, self.mails) = (entries.len(), mails.len());
        brought
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Returns the expected entries and mails of each day that has any. A decline in period 5 recovers on its day 3, and
/// one in period 9 cancels the subscription. The test spends ten credits a day after it has read the day.
fn expected(first: Timestamp) -> Vec<(i64, Vec<String>)> {
    let day = |at: Timestamp| (at.duration_since(first).as_secs() + 43_200) / 86_400;
    let receipt = "Receipt: 2000 AI credits a month, USD 16.00".to_owned();
    let (granted, declined) = ("allocation 2000".to_owned(), DECLINED.to_owned());
    let mut days = vec![(0, vec![granted.clone(), receipt.clone()])];
    let mut began = 0;
    for period in 2..=9 {
        let today = day(start_of(first, period));
        let expiry = format!("expiry -{}", 2000 - 10 * (today - began));
        began = today;
        match period {
            5 => {
                days.push((today, vec![expiry, declined.clone()]));
                days.push((today + 1, vec![declined.clone()]));
                days.push((today + 3, vec![granted.clone(), receipt.clone()]));
                began = today + 3;
            }
            9 => {
                days.push((today, vec![expiry, declined.clone()]));
                days.push((today + 1, vec![declined.clone()]));
                days.push((today + 3, vec![declined.clone()]));
                days.push((today + 5, vec!["Your AI credits subscription has ended".to_owned()]));
            }
            _ => days.push((today, vec![expiry, granted.clone(), receipt.clone()])),
        }
    }
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_fourteen_months_of_a_subscription_billed_on_the_31st() {
    let world = World::with_card().await;
    let first = next_31st(world.advance(0).await);
    world.advance_to(first).await;
    let mut diary = Diary { entries: 1, mails: 0 };
    diary.day(&world).await;
    assert_eq!(world.subscribe("acme", "tier_2k").await.status, 201);
    let mut brought = Vec::new();
    let (fifth, ninth) = (start_of(first, 5), start_of(first, 9));
    let mut debits = 0;
    for day in 0.. {
        let at = first + DAY * day;
        if at > start_of(first, 15) {
            break;
        }
        world.advance_to(at + SignedDuration::from_mins(30)).await;
        let today = diary.day(&world).await;
        if !today.is_empty() {
            brought.push((i64::from(day), today));
        }
        // The card is declined from the day before the charge until two days after it, or for good.
        for (due, until) in [(fifth, Some(fifth + DAY * 2)), (ninth, None)] {
            if at == due - DAY {
                world.card_is("acme", "declined").await;
            }
            if Some(at) == until {
                world.card_is("acme", "succeeded").await;
            }
        }
        let status = world.subscribed("acme").await["status"].clone();
        let past_due = |due: Timestamp, days: i32| (due..due + DAY * days).contains(&at);
        let wanted = if past_due(fifth, 3) || past_due(ninth, 5) { "past_due" } else { "active" };
        assert_eq!(status, if at >= ninth + DAY * 5 { "cancelled" } else { wanted }, "on day {day}");
        if status != "cancelled" {
            debits += 1;
            assert_eq!(world.take("acme", &format!("day-{day}"), "10").await.status, 201, "on day {day}");
        }
        if day % 10 == 0 {
            world.reconciled("acme").await;
        }
    }
    assert_eq!(brought, expected(first));
    // The credits of the periods are spent or expired. The pack of 1,000 paid for the 3 and 5 days past due.
    assert_eq!(world.available("acme").await, "920");
    let consumed: Vec<Value> = world
        .entries("acme")
        .await
        .into_iter()
        .filter(|entry| entry["kind"] == "debit")
        .map(|entry| entry["credits"].clone())
        .collect();
    assert_eq!(crate::world::micros(consumed.iter()), -10_000_000 * debits);
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_period_begins_on_time_without_a_sweep() {
    let world = World::with_card().await;
    let renews_at = crate::subscribing::time(&world.subscribe("acme", "tier_2k").await.body["renews_at"]);
    world.advance_to(renews_at - SignedDuration::from_mins(30)).await;
    let subscribed = world.subscribed("acme").await;
    assert_eq!(
        (&subscribed["period"], &subscribed["renews_at"]),
        (&serde_json::json!(1), &serde_json::json!(renews_at))
    );
    assert_eq!(world.available("acme").await, "3000", "paid ahead, but not granted yet");
    assert_eq!(world.take("acme", "before", "3000").await.status, 201);
    assert_eq!(world.take("acme", "short", "1").await.status, 402);
    world.advance_to(renews_at).await;
    // No sweep has run since the period's first second: the debit itself begins the period.
    assert_eq!(world.take("acme", "first", "1").await.status, 201);
    assert_eq!(world.available("acme").await, "1999");
    assert_eq!(world.subscribed("acme").await["period"], 2);
    world.reconciled("acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_months_without_a_sweep_are_skipped_and_not_charged() {
    let world = World::with_card().await;
    let first = world.subscribe("acme", "tier_2k").await.body;
    let start = crate::subscribing::time(&first["current_period_start"]);
    // The clock jumps without a sweep in between, as after an outage.
    world.stack.sleep_until(start + DAY * 130).unwrap();
    world.advance(1_200).await;
    let subscribed = world.subscribed("acme").await;
    assert_eq!(
        (&subscribed["status"], &subscribed["period"]),
        (&serde_json::json!("active"), &serde_json::json!(5))
    );
    assert_eq!(subscribed["skipped_periods"], 3);
    let renewed = world.events("SubscriptionRenewed").await;
    assert_eq!((renewed.len(), &renewed[1]["skipped_periods"]), (2, &serde_json::json!(3)));
    assert_eq!(
        world.kinds("acme").await,
        ["top_up 1000", "allocation 2000", "expiry -2000", "allocation 2000"]
    );
}
