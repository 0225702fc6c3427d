//! A subscription's months: when each begins, what is charged, and what a decline, an upgrade or an outage comes to.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test may calculate and unwrap; what it tests may not"
)]

use credits_core::enrolment::{Enrolment, Step};
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
use credits_core::subscription::{Status, Subscription, Terms};
use jiff::{SignedDuration, Timestamp};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn terms(tier: &str, credits: &str, minor: u64) -> Terms {
    let price = Price { amount_minor: minor, currency: "USD".parse().unwrap() };
    Terms { tier: tier.parse().unwrap(), monthly_credits: credits.parse().unwrap(), price }
}

fn purchase(goods: Goods, now: Timestamp) -> Purchase {
    let price = Price { amount_minor: 1600, currency: "USD".parse().unwrap() };
    let (purchase_id, workspace_id) = ("p1".parse().unwrap(), "acme".parse().unwrap());
    Purchase { purchase_id, workspace_id, goods, price, begun_at: now }
}

fn first(terms: &Terms) -> Goods {
    Goods::Period { subscription_id: "sub_1".parse().unwrap(), period: 1, terms: terms.clone() }
}

fn subscribed(now: &str) -> Enrolment {
    let buy = purchase(first(&terms("tier_2k", "2000", 1600)), at(now));
    Enrolment::default().paid(&buy, at(now)).unwrap().0
}

fn subscription(enrolment: &Enrolment) -> &Subscription {
    enrolment.subscription.as_ref().unwrap()
}

#[test]
fn m06_billing_day_31_is_the_last_day_of_a_shorter_month_and_31_again() {
    let enrolment = subscribed("2027-01-31T10:00:00.250Z");
    let starts: Vec<String> =
        (1..=5).map(|period| subscription(&enrolment).start_of(period).to_string()).collect();
    assert_eq!(
        starts,
        [
            "2027-01-31T10:00:00Z",
            "2027-02-28T10:00:00Z",
            "2027-03-31T10:00:00Z",
            "2027-04-30T10:00:00Z",
            "2027-05-31T10:00:00Z"
        ]
    );
}

#[test]
fn m06_a_renewal_is_charged_up_to_an_hour_ahead_and_begins_on_its_second() {
    let enrolment = subscribed("2027-01-31T10:00:00Z");
    assert_eq!(enrolment.step(at("2027-02-28T08:59:59Z"), true), Step::Wait);
    let ahead = at("2027-02-28T09:00:00Z");
    let Step::Charge(goods) = enrolment.step(ahead, true) else { panic!("it is due") };
    let (renewed, paid) = enrolment.paid(&purchase(goods.clone(), ahead), ahead).unwrap();
    assert_eq!((paid.period, paid.starts_at), (2, at("2027-02-28T10:00:00Z")));
    assert_eq!(subscription(&renewed).current(ahead).0, 1, "the first period runs on");
    assert_eq!(renewed.step(ahead, true), Step::Wait);
    assert!(renewed.paid(&purchase(goods, ahead), ahead).is_err(), "a period is granted once");
    let begun = at("2027-02-28T10:00:00Z");
    assert_eq!(renewed.step(begun, true), Step::Begin);
    let renewed = renewed.stepped(&Step::Begin);
    assert_eq!(renewed.next_due(), Some(at("2027-03-31T09:00:00Z")));
}

#[test]
fn m06_after_a_long_outage_only_the_month_that_runs_is_charged() {
    let enrolment = subscribed("2027-01-31T10:00:00Z");
    let late = at("2027-06-15T00:00:00Z");
    let Step::Charge(goods) = enrolment.step(late, true) else { panic!("it is due") };
    assert!(matches!(goods, Goods::Period { period: 5, .. }));
    let (renewed, paid) = enrolment.paid(&purchase(goods, late), late).unwrap();
    assert_eq!((subscription(&renewed).skipped, paid.expires_at), (3, at("2027-06-30T10:00:00Z")));
}

#[test]
fn m06_a_declined_charge_is_tried_after_1_3_and_5_days_and_then_given_up() {
    let mut enrolment = subscribed("2027-01-31T10:00:00Z");
    let first = at("2027-02-28T09:00:00Z");
    for (days, next) in [(0, 1), (1, 3), (3, 5)] {
        let now = first + DAY * days;
        let Step::Charge(goods) = enrolment.step(now, true) else { panic!("day {days}") };
        enrolment = enrolment.declined(&purchase(goods, now), now);
        assert_eq!(subscription(&enrolment).status, Status::PastDue);
        assert_eq!(enrolment.next_due(), Some(first + DAY * next));
    }
    let now = first + DAY * 5;
    let Step::Charge(goods) = enrolment.step(now, true) else { panic!("day 5") };
    enrolment = enrolment.declined(&purchase(goods, now), now);
    assert_eq!((subscription(&enrolment).status, enrolment.next_due()), (Status::Cancelled, None));
}

#[test]
fn m06_a_recovered_subscription_keeps_its_billing_day() {
    let enrolment = subscribed("2027-01-31T10:00:00Z");
    let first = at("2027-02-28T09:00:00Z");
    let Step::Charge(goods) = enrolment.step(first, true) else { panic!("it is due") };
    let declined = enrolment.declined(&purchase(goods.clone(), first), first);
    let (recovered, paid) = declined.paid(&purchase(goods, first), first + DAY * 3).unwrap();
    assert_eq!((paid.period, paid.expires_at), (2, at("2027-03-31T10:00:00Z")));
    assert!(subscription(&recovered).before.is_none() && subscription(&recovered).declines.is_none());
}

#[test]
fn m06_an_upgrade_costs_and_grants_in_proportion_to_the_time_left() {
    let enrolment = subscribed("2027-04-01T00:00:00Z");
    let half = at("2027-04-16T00:00:00Z");
    let up = terms("tier_10k", "10000", 7000);
    let upgrade = subscription(&enrolment).upgrade(&up, half).unwrap().unwrap();
    assert_eq!((upgrade.amount_minor, upgrade.credits.to_string()), (2700, "4000".into()));
    let last_minute = at("2027-04-30T23:59:00Z");
    assert_eq!(subscription(&enrolment).upgrade(&up, last_minute), Ok(None), "50 is charged at least");
}

#[test]
fn m07_on_a_plan_without_subscriptions_it_ends_with_its_period() {
    let enrolment = subscribed("2027-01-31T10:00:00Z");
    let ahead = at("2027-02-28T09:30:00Z");
    assert_eq!(enrolment.step(ahead, false), Step::EndWithPeriod);
    let ending = enrolment.stepped(&Step::EndWithPeriod);
    assert_eq!(ending.step(ahead, true), Step::Wait);
    let end = at("2027-02-28T10:00:00Z");
    assert_eq!(ending.step(end, false), Step::End);
    assert_eq!(subscription(&ending.stepped(&Step::End)).status, Status::Cancelled);
}

#[test]
fn m06_cancelling_ends_what_is_paid_at_its_end_and_what_is_not_at_once() {
    let enrolment = subscribed("2027-01-31T10:00:00Z");
    assert!(subscription(&enrolment.cancelled()).cancel_at_period_end);
    let now = at("2027-02-28T09:00:00Z");
    let Step::Charge(goods) = enrolment.step(now, true) else { panic!("it is due") };
    let declined = enrolment.declined(&purchase(goods, now), now);
    assert_eq!(subscription(&declined.cancelled()).status, Status::Cancelled);
}
