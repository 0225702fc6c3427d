use jiff::{SignedDuration, Timestamp};

use super::{AutoTopUp, AutoTopUpSettings, MonthlyLimit, TopUpStep};
use crate::open_charge::OpenCharge;
use crate::price::{Currency, Price};
use crate::purchase::{Goods, Purchase};

fn at(hours: i64) -> Timestamp {
    "2026-11-23T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn purchase(hours: i64) -> Purchase {
    Purchase {
        purchase_id: format!("top_{hours}").parse().unwrap(),
        workspace_id: "acme".parse().unwrap(),
        goods: Goods::Pack { pack: "pack".parse().unwrap(), credits: "1000".parse().unwrap() },
        price: Price { amount_minor: 900, currency: "USD".parse::<Currency>().unwrap() },
        begun_at: at(hours),
    }
}

fn on(monthly_limit: Option<MonthlyLimit>) -> AutoTopUp {
    let (threshold, pack) = ("100".parse().ok(), "pack".parse().ok());
    AutoTopUp::set(AutoTopUpSettings { enabled: true, threshold, pack, monthly_limit }, None, at(0)).at_rest()
}

#[test]
fn open_charge_blocks_another_until_the_sweep_settles_it() {
    let charging = on(None).charging(&purchase(0));
    assert_eq!(charging.step(at(0)), TopUpStep::Wait);
    assert_eq!(charging.step(at(1)), TopUpStep::Finish(OpenCharge::of(&purchase(0))));
    let off = AutoTopUp::set(AutoTopUpSettings::off(), Some(&charging), at(0));
    let withdrawn = OpenCharge { withdrawn: true, ..OpenCharge::of(&purchase(0)) };
    assert_eq!(off.step(at(1)), TopUpStep::Finish(withdrawn.clone()));
    let on_again = AutoTopUp::set(on(None).settings, Some(&off), at(0));
    assert_eq!(on_again.charge, Some(withdrawn), "switching on again does not restore the charge");
    assert_eq!(charging.next_due(), Some(at(0) + SignedDuration::from_mins(2)));
    let paid = charging.paid(&purchase(0));
    assert!(matches!(paid.step(at(0)), TopUpStep::Look(..)) && paid.next_due().is_none());
}

#[test]
fn three_declines_switch_it_off_and_a_payment_resets_them() {
    let mut kept = on(None);
    for hours in 0..2 {
        kept = kept.charging(&purchase(hours)).declined(at(hours));
        assert!(kept.settings.enabled && kept.step(at(hours)) == TopUpStep::Wait);
        assert_eq!(kept.next_due(), Some(at(hours) + SignedDuration::from_mins(15)));
    }
    kept = kept.charging(&purchase(2)).paid(&purchase(2));
    for hours in 3..6 {
        assert!(kept.settings.enabled);
        kept = kept.charging(&purchase(hours)).declined(at(hours));
    }
    assert!(!kept.settings.enabled && kept.gave_up && kept.next_due().is_none());
    assert_eq!(kept.step(at(100)), TopUpStep::Wait);
    assert_eq!(AutoTopUp::set(on(None).settings, Some(&kept), at(0)).declines, 0);
}

#[test]
fn monthly_limit_in_packs_or_credits_ends_with_the_month() {
    let pack = "1000".parse().unwrap();
    for limit in [MonthlyLimit::TopUps(2), MonthlyLimit::Credits("2999".parse().unwrap())] {
        let mut kept = on(Some(limit));
        for hours in 0..2 {
            assert!(kept.has_room_for(1, pack, at(hours)));
            kept = kept.charging(&purchase(hours)).paid(&purchase(hours));
        }
        assert!(!kept.has_room_for(1, pack, at(2)));
        let limited = kept.limited(at(2));
        let next_month = limited.next_due().unwrap();
        assert_eq!(next_month, "2026-12-01T00:00:00Z".parse().unwrap());
        assert!(limited.step(at(3)) == TopUpStep::Wait && limited.has_room_for(1, pack, next_month));
        // Changing the settings doesn't reset what was bought.
        assert!(!AutoTopUp::set(kept.settings.clone(), Some(&kept), at(3)).has_room_for(1, pack, at(3)));
    }
}

#[test]
fn m05_fourth_charge_within_an_hour_waits() {
    let mut kept = on(None);
    for minute in [0, 20, 40] {
        assert_eq!(kept.hourly_limit_ends_at(at(0)), None);
        let begun_at = at(0) + SignedDuration::from_mins(minute);
        let purchase = Purchase { begun_at, ..purchase(0) };
        kept = kept.charging(&purchase).paid(&purchase);
    }
    let full = at(0) + SignedDuration::from_mins(50);
    assert_eq!(kept.hourly_limit_ends_at(full), Some(at(1)));
    assert_eq!(kept.waiting_until(at(1)).next_due(), Some(at(1)));
    assert_eq!(kept.hourly_limit_ends_at(at(1)), None);
    let later = Purchase { begun_at: at(1), ..purchase(1) };
    assert_eq!(
        kept.charging(&later).hourly_limit_ends_at(at(1)),
        Some(at(0) + SignedDuration::from_mins(80))
    );
}

#[test]
fn m05_pause_lasts_until_a_person_switches_it_on_again() {
    use crate::claw_back::ClawBackReason::{Dispute, Refund};
    let paused = on(None).paused(Refund);
    assert_eq!((paused.step(at(1)), paused.next_due()), (TopUpStep::Wait, None));
    assert_eq!(paused.paused(Dispute).paused, Some(Dispute));
    assert_eq!(paused.paused(Dispute).paused(Refund).paused, Some(Dispute));
    let again = AutoTopUp::set(on(None).settings, Some(&paused), at(1));
    assert!(matches!(again.step(at(1)), TopUpStep::Look(..)));
    assert_eq!(AutoTopUp::set(AutoTopUpSettings::off(), None, at(0)).paused(Refund).paused, None);
    let charging = on(None).charging(&purchase(0)).paused(Refund);
    assert!(matches!(charging.step(at(1)), TopUpStep::Finish(_)), "an open charge is still settled");
}

#[test]
fn wait_ends_with_its_time_the_next_charge_or_at_rest() {
    let waiting = on(None).charging(&purchase(0)).declined(at(0));
    let until = waiting.waits_until.unwrap();
    assert!(matches!(waiting.step(until), TopUpStep::Look(..)));
    assert_eq!(waiting.charging(&purchase(1)).waits_until, None);
    assert_eq!(waiting.at_rest(), AutoTopUp { waits_until: None, ..waiting.clone() });
}

#[test]
fn new_settings_and_unfinished_purchases_are_due_at_once() {
    let declined = on(None).charging(&purchase(0)).declined(at(0));
    let set = AutoTopUp::set(on(None).settings, Some(&declined), at(1));
    for kept in [set, on(None).unfinished(at(1))] {
        assert_eq!(kept.next_due(), Some(at(1)));
        assert!(matches!(kept.step(at(1)), TopUpStep::Look(..)));
    }
    let unfinished = on(None).unfinished(at(1));
    assert_eq!(unfinished.unfinished(at(2)), unfinished, "an earlier due date is kept");
    assert_eq!(AutoTopUp::set(AutoTopUpSettings::off(), None, at(1)).next_due(), None);
}

#[test]
fn giving_up_clears_the_wait_and_the_open_charge() {
    let charging = AutoTopUp { waits_until: Some(at(1)), ..on(None).charging(&purchase(0)) };
    let given_up = charging.given_up();
    assert_eq!((&given_up.charge, given_up.waits_until), (&None, None));
    assert!(given_up.gave_up && !given_up.settings.enabled);
}

#[test]
fn charge_ends_a_limit_and_notes_that_none_is_set() {
    let limited = on(Some(MonthlyLimit::TopUps(5))).waiting_until(at(1));
    assert!(limited.limited_by.is_some());
    let charging = limited.charging(&purchase(1));
    assert_eq!((charging.limited_by, charging.unlimited_noted), (None, false));
    let noted = AutoTopUp { unlimited_noted: true, ..limited };
    assert!(noted.charging(&purchase(1)).unlimited_noted, "a note stays");
    assert!(on(None).charging(&purchase(1)).unlimited_noted, "settings without a limit are noted");
}

#[test]
fn charge_of_an_hour_ago_no_longer_counts() {
    let first = on(None).charging(&purchase(0)).paid(&purchase(0));
    assert_eq!(first.charging(&purchase(1)).charged_at, [at(1)]);
    let sooner = Purchase { begun_at: at(1) - SignedDuration::from_millis(1), ..purchase(1) };
    assert_eq!(first.charging(&sooner).charged_at.len(), 2);
}
