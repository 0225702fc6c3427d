//! Tests of a subscription's periods: when each begins, what is charged, and the effect of declines, upgrades and
//! outages.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
use credits_core::subscription::{PlanRule, Status, Subscription, Terms};
use credits_core::subscription_account::{
    NotAwaited, OpenCharge, PaidPeriod, Payer, RenewalStep, SubscriptionAccount,
};
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

fn grant_id() -> Id {
    "gr_1".parse().unwrap()
}

/// Begins a charge for the purchase, and pays it.
fn charged(
    account: &SubscriptionAccount,
    purchase: &Purchase,
    now: Timestamp,
) -> Result<(SubscriptionAccount, PaidPeriod), NotAwaited> {
    let charging = account.charging(purchase).unwrap();
    charging.paid(purchase, Payer { payment_id: "pi_1", grant_id: &grant_id() }, now)
}

/// Pays a purchase for which no charge was begun.
fn paid_unasked(
    account: &SubscriptionAccount,
    purchase: &Purchase,
    now: Timestamp,
) -> Result<(), NotAwaited> {
    account.paid(purchase, Payer { payment_id: "pi_1", grant_id: &grant_id() }, now).map(drop)
}

fn subscribed(now: &str) -> SubscriptionAccount {
    let buy = purchase(first(&terms("tier_2k", "2000", 1600)), at(now));
    charged(&SubscriptionAccount::default(), &buy, at(now)).unwrap().0
}

fn subscription(account: &SubscriptionAccount) -> &Subscription {
    account.subscription.as_ref().unwrap()
}

#[test]
fn m06_billing_day_31_is_the_last_day_of_shorter_months() {
    let account = subscribed("2027-01-31T10:00:00.250Z");
    let starts: Vec<String> =
        (1..=5).map(|period| subscription(&account).start_of(period).to_string()).collect();
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
fn m06_renewal_is_charged_an_hour_ahead_and_begins_on_time() {
    let account = subscribed("2027-01-31T10:00:00Z");
    assert_eq!(account.step(at("2027-02-28T08:59:59Z"), PlanRule::AllowsSubscriptions), RenewalStep::Wait);
    let ahead = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(ahead, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let (renewed, paid) = charged(&account, &purchase(goods.clone(), ahead), ahead).unwrap();
    assert_eq!((paid.period, paid.starts_at), (2, at("2027-02-28T10:00:00Z")));
    assert_eq!(subscription(&renewed).current(ahead).0, 1, "the first period continues");
    assert_eq!(renewed.step(ahead, PlanRule::AllowsSubscriptions), RenewalStep::Wait);
    let again = purchase(goods, ahead);
    assert_eq!(paid_unasked(&renewed, &again, ahead), Err(NotAwaited::MovedOn), "a period is granted once");
    assert!(charged(&renewed, &again, ahead).is_err());
    let begun = at("2027-02-28T10:00:00Z");
    assert_eq!(renewed.step(begun, PlanRule::AllowsSubscriptions), RenewalStep::Begin);
    let renewed = renewed.stepped(&RenewalStep::Begin);
    assert_eq!(renewed.next_due(), Some(at("2027-03-31T09:00:00Z")));
}

#[test]
fn m06_only_the_current_period_is_charged_after_an_outage() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let late = at("2027-06-15T00:00:00Z");
    let RenewalStep::Charge(goods) = account.step(late, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    assert!(matches!(goods, Goods::Period { period: 5, .. }));
    let (renewed, paid) = charged(&account, &purchase(goods, late), late).unwrap();
    assert_eq!((subscription(&renewed).skipped, paid.expires_at), (3, at("2027-06-30T10:00:00Z")));
}

#[test]
fn m06_declined_charge_is_retried_after_1_3_and_5_days() {
    let mut account = subscribed("2027-01-31T10:00:00Z");
    let first = at("2027-02-28T09:00:00Z");
    for (days, next) in [(0, 1), (1, 3), (3, 5)] {
        let now = first + DAY * days;
        let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
            panic!("day {days}")
        };
        account = account.declined(&purchase(goods, now), now);
        assert_eq!(subscription(&account).status, Status::PastDue);
        assert_eq!(account.next_due(), Some(first + DAY * next));
    }
    let now = first + DAY * 5;
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("day 5")
    };
    account = account.declined(&purchase(goods, now), now);
    assert_eq!((subscription(&account).status, account.next_due()), (Status::Cancelled, None));
    let declines = subscription(&account).declines.map(|declines| (declines.count, declines.first_at));
    assert_eq!(declines, Some((4, first)), "the declines that ended it are kept");
}

#[test]
fn m06_recovered_subscription_keeps_its_billing_day() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let first = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(first, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let declined = account.declined(&purchase(goods.clone(), first), first);
    let (recovered, paid) = charged(&declined, &purchase(goods, first), first + DAY * 3).unwrap();
    assert_eq!((paid.period, paid.expires_at), (2, at("2027-03-31T10:00:00Z")));
    assert!(subscription(&recovered).before.is_none() && subscription(&recovered).declines.is_none());
}

#[test]
fn m06_upgrade_is_prorated_by_the_time_left() {
    let account = subscribed("2027-04-01T00:00:00Z");
    let half = at("2027-04-16T00:00:00Z");
    let up = terms("tier_10k", "10000", 7000);
    let upgrade = subscription(&account).upgrade(&up, half).unwrap().unwrap();
    assert_eq!((upgrade.amount_minor, upgrade.credits.to_string()), (2700, "4000".into()));
    let last_minute = at("2027-04-30T23:59:00Z");
    assert_eq!(subscription(&account).upgrade(&up, last_minute), Ok(None), "the minimum is 50 cents");
}

/// Returns the price of a prorated upgrade from `low` to `high` for half a period, in minor units.
fn half_an_upgrade(currency: &str, low: u64, high: u64) -> Option<u64> {
    let priced = |tier: &str, credits: &str, amount_minor| Terms {
        price: Price { amount_minor, currency: currency.parse().unwrap() },
        ..terms(tier, credits, 0)
    };
    let now = at("2027-04-01T00:00:00Z");
    let buy = purchase(first(&priced("low", "2000", low)), now);
    let account = charged(&SubscriptionAccount::default(), &buy, now).unwrap().0;
    let half = at("2027-04-16T00:00:00Z");
    let upgrade = subscription(&account).upgrade(&priced("high", "10000", high), half).unwrap();
    upgrade.map(|upgrade| {
        assert_eq!(upgrade.credits.to_string(), "4000", "credits are prorated by time");
        upgrade.amount_minor
    })
}

#[test]
fn m06_proration_is_rounded_down_to_what_stripe_charges() {
    assert_eq!(half_an_upgrade("KWD", 1_000, 4_250), Some(1_620), "1.625 dinars");
    assert_eq!(half_an_upgrade("MGA", 100_000, 175_100), Some(37_500), "375.50 ariary");
    assert_eq!(half_an_upgrade("UGX", 10_000, 84_001), Some(37_000), "37,000.5 shillings");
    assert_eq!(half_an_upgrade("HUF", 100_000, 135_000), Some(17_500), "the minimum charge");
}

#[test]
fn m06_proration_below_the_minimum_waits_for_the_next_period() {
    assert_eq!(half_an_upgrade("HUF", 100_000, 134_998), None, "174.99 forints");
    assert_eq!(half_an_upgrade("CZK", 10_000, 12_998), None, "14.99 korunas");
    assert_eq!(half_an_upgrade("MGA", 100_000, 100_199), None, "less than one ariary");
    assert_eq!(half_an_upgrade("USD", 1_000, 1_098), None, "49 cents");
}

#[test]
fn m07_plan_without_subscriptions_ends_it_with_its_period() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let ahead = at("2027-02-28T09:30:00Z");
    assert_eq!(account.step(ahead, PlanRule::EndsSubscriptions), RenewalStep::EndWithPeriod);
    let ending = account.stepped(&RenewalStep::EndWithPeriod);
    assert_eq!(ending.step(ahead, PlanRule::AllowsSubscriptions), RenewalStep::Wait);
    let end = at("2027-02-28T10:00:00Z");
    assert_eq!(ending.step(end, PlanRule::EndsSubscriptions), RenewalStep::End);
    assert_eq!(subscription(&ending.stepped(&RenewalStep::End)).status, Status::Cancelled);
}

/// Cancelling a subscription whose period is not paid ends it at once.
#[test]
fn m06_cancelling_ends_a_paid_period_at_its_end() {
    let account = subscribed("2027-01-31T10:00:00Z");
    assert!(subscription(&account.cancelled()).cancel_at_period_end);
    let now = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let declined = account.declined(&purchase(goods, now), now);
    assert_eq!(subscription(&declined.cancelled()).status, Status::Cancelled);
}

#[test]
fn m06_open_charge_is_finished_first_and_alone() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let now = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let buy = purchase(goods, now);
    let charging = account.charging(&buy).unwrap();
    assert_eq!(charging.subscription, account.subscription);
    assert_eq!(
        charging.step(now, PlanRule::AllowsSubscriptions),
        RenewalStep::Wait,
        "the caller still waits for Stripe's response"
    );
    let unanswered = now + SignedDuration::from_mins(2);
    assert_eq!(charging.next_due(), Some(unanswered));
    assert_eq!(
        charging.step(unanswered, PlanRule::AllowsSubscriptions),
        RenewalStep::Finish(OpenCharge::of(&buy))
    );
    assert_eq!(charging.unsettled_charge(), charging.charge.as_ref());
    assert!(charging.is_being_paid() && !account.is_being_paid());
    assert_eq!(
        charging.processing(&buy.purchase_id, now).unsettled_charge(),
        None,
        "a bank debit takes days"
    );
    assert_eq!(charging.declined(&buy, now).charge, None);
    let withdrawn = charging.cancelled().declined(&buy, now);
    assert_eq!(withdrawn, charging.cancelled().without(&buy.purchase_id), "its decline is ignored");
    let other = Purchase { purchase_id: "p2".parse().unwrap(), ..buy.clone() };
    assert_eq!(charging.charging(&other), None, "an open charge is not replaced");
    assert_eq!(charging.declined(&other, now).charge, charging.charge);
    assert_eq!(paid_unasked(&charging, &other, now), Err(NotAwaited::MovedOn));
}

#[test]
fn m06_a_processing_charge_is_asked_about_hourly() {
    let now = at("2027-01-31T10:00:00Z");
    let buy = purchase(first(&terms("tier_2k", "2000", 1600)), now);
    let charging = SubscriptionAccount::default().charging(&buy).unwrap().processing(&buy.purchase_id, now);
    assert_eq!(charging.next_due(), Some(now + SignedDuration::from_hours(1)));
}

#[test]
fn m06_cancelled_checkout_stays_cancelled() {
    let now = at("2027-01-31T10:00:00Z");
    let two = terms("tier_2k", "2000", 1600);
    let buy = purchase(first(&two), now);
    let waiting = SubscriptionAccount::default().awaiting_first(&buy.purchase_id, &two);
    let grant_id = grant_id();
    let payer = Payer { payment_id: "pi_1", grant_id: &grant_id };
    let (started, _) = waiting.paid(&buy, payer, now).unwrap();
    assert!(started.running().is_some() && started.pending.is_none());
    assert_eq!(paid_unasked(&waiting.cancelled(), &buy, now), Err(NotAwaited::Withdrawn));
    let replaced = waiting.awaiting_first(&"p2".parse().unwrap(), &two);
    assert_eq!(paid_unasked(&replaced, &buy, now), Err(NotAwaited::Withdrawn));
    assert_eq!(paid_unasked(&started, &buy, now), Err(NotAwaited::MovedOn));
}

#[test]
fn m06_charge_open_at_the_cancellation_buys_nothing() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let now = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let buy = purchase(goods, now);
    let cancelled = account.charging(&buy).unwrap().cancelled();
    assert!(cancelled.charge.is_some(), "its outcome is still needed");
    assert_eq!(paid_unasked(&cancelled, &buy, now), Err(NotAwaited::Withdrawn));
}

#[test]
fn m06_period_paid_ahead_can_be_withdrawn_until_it_begins() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let ahead_at = at("2027-02-28T09:30:00Z");
    let RenewalStep::Charge(goods) = account.step(ahead_at, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let (ahead, _) = charged(&account, &purchase(goods, ahead_at), ahead_at).unwrap();
    let (back, payments) = ahead.without_paid_ahead(ahead_at).unwrap();
    let ids: Vec<&str> = payments.iter().map(|paid| paid.payment_id.as_str()).collect();
    assert_eq!(ids, ["pi_1"]);
    let before = subscription(&account);
    let kept = Subscription { then: None, ..subscription(&back).clone() };
    assert_eq!(&kept, before);
    assert_eq!(ahead.without_paid_ahead(at("2027-02-28T10:00:00Z")), None, "it has begun");
    assert_eq!(account.without_paid_ahead(ahead_at), None);
}

#[test]
fn m06_renewal_that_needs_a_person_is_not_charged() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let now = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let charged_for = purchase(goods.clone(), now);
    let asked = Purchase { purchase_id: "p2".parse().unwrap(), ..charged_for.clone() };
    let waiting = account.charging(&charged_for).unwrap().declined(&charged_for, now).awaiting_person(&asked);
    let next = now + DAY;
    assert_eq!(waiting.next_due(), Some(next));
    assert!(matches!(waiting.step(next, PlanRule::AllowsSubscriptions), RenewalStep::Remind(_)));
    let grant_id = grant_id();
    let payer = Payer { payment_id: "pi_1", grant_id: &grant_id };
    let (paid, period) = waiting.paid(&asked, payer, next).unwrap();
    assert_eq!((subscription(&paid).status, period.period, paid.action), (Status::Active, 2, None));
    let again = waiting.with_new_method(now);
    assert!(
        matches!(again.step(now, PlanRule::AllowsSubscriptions), RenewalStep::Charge(_)),
        "another payment method is stored"
    );
}

#[test]
fn m06_renewal_applies_the_chosen_terms_and_clears_declines() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let small = terms("tier_1k", "1000", 900);
    let chosen = account.with(Subscription { then: Some(small.clone()), ..subscription(&account).clone() });
    let due = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = chosen.step(due, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let declined = chosen.declined(&purchase(goods.clone(), due), due);
    let start = at("2027-02-28T10:00:00Z");
    let (ahead, paid) =
        charged(&declined, &purchase(goods.clone(), due), start - SignedDuration::from_secs(1)).unwrap();
    assert_eq!(
        subscription(&ahead).before.as_ref(),
        Some(&terms("tier_2k", "2000", 1600)),
        "the terms before stay until the period begins"
    );
    assert_eq!(paid.tier, small.tier);
    let (renewed, _) = charged(&declined, &purchase(goods, due), start).unwrap();
    let renewed = subscription(&renewed);
    assert_eq!((&renewed.terms, &renewed.before, &renewed.then), (&small, &None, &None));
    assert_eq!((renewed.status, &renewed.declines), (Status::Active, &None));
}

#[test]
fn m06_upgrade_is_valid_only_for_its_running_period() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let old = Subscription {
        then: Some(terms("tier_1k", "1000", 900)),
        cancel_at_period_end: true,
        ..subscription(&account).clone()
    };
    let account = account.with(old.clone());
    let up = terms("tier_10k", "10000", 7000);
    let upgrade = |subscription_id: &str, period| Goods::Upgrade {
        subscription_id: subscription_id.parse().unwrap(),
        period,
        terms: up.clone(),
        credits: "4000".parse().unwrap(),
    };
    let end = old.end_of(1);
    let last = end - SignedDuration::from_secs(1);
    let paid = |goods, now| charged(&account, &purchase(goods, now), now);
    assert!(paid(upgrade("sub_2", 1), last).is_err(), "the upgrade is for another subscription");
    assert!(paid(upgrade("sub_1", 2), last).is_err(), "the upgrade is for another period");
    assert!(paid(upgrade("sub_1", 1), end).is_err(), "the period has ended");
    let over = account.stepped(&RenewalStep::End);
    assert!(charged(&over, &purchase(upgrade("sub_1", 1), last), last).is_err(), "no subscription runs");
    let (upgraded, period) = paid(upgrade("sub_1", 1), last).unwrap();
    let expected = Subscription { terms: up, then: None, cancel_at_period_end: false, upgrades: 1, ..old };
    assert_eq!(subscription(&upgraded), &expected);
    assert_eq!((period.starts_at, period.expires_at), (last, end));
}

/// An upgrade must have the same currency, too.
#[test]
fn m06_upgrade_grants_more_and_costs_no_less() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let is_upgrade = |to: &Terms| subscription(&account).is_upgrade(to);
    assert!(is_upgrade(&terms("more", "2000.000001", 1600)) && is_upgrade(&terms("more", "3000", 1601)));
    assert!(!is_upgrade(&terms("same", "2000", 1700)), "it grants no more");
    assert!(!is_upgrade(&terms("cheaper", "3000", 1599)), "it costs less");
    assert!(!is_upgrade(&terms("less", "1000", 900)));
    let euros = Price { amount_minor: 7000, currency: "EUR".parse().unwrap() };
    assert!(!is_upgrade(&Terms { price: euros, ..terms("other", "3000", 7000) }));
}

#[test]
fn m06_previous_period_holds_until_the_next_one_begins() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let before = terms("tier_1k", "1000", 900);
    let ahead = Subscription { period: 2, before: Some(before.clone()), ..subscription(&account).clone() };
    let start = at("2027-02-28T10:00:00Z");
    assert_eq!(ahead.current(start - SignedDuration::from_millis(1)), (1, &before));
    assert_eq!(ahead.current(start), (2, &ahead.terms));
    assert_eq!(ahead.period_at(at("2027-03-31T10:00:00Z")), 3);
}

#[test]
fn m06_ended_subscription_is_not_running_and_has_no_changes() {
    let account = subscribed("2027-01-31T10:00:00Z");
    let now = at("2027-02-28T09:00:00Z");
    let RenewalStep::Charge(goods) = account.step(now, PlanRule::AllowsSubscriptions) else {
        panic!("it is due")
    };
    let declined = account.declined(&purchase(goods, now), now);
    let other = terms("tier_1k", "1000", 900);
    let waiting =
        Subscription { then: Some(other.clone()), before: Some(other), ..subscription(&declined).clone() };
    assert!(waiting.is_running());
    let ended = account.with(waiting).stepped(&RenewalStep::End);
    let ended = subscription(&ended);
    assert!(!ended.is_running());
    assert_eq!((&ended.then, &ended.before, &ended.declines), (&None, &None, &None));
}
