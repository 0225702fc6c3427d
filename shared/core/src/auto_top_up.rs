//! Automatic top-up: a pack is bought with the stored card whenever the balance is low, one charge at a time (M5).
//!
//! What triggers it may come late, twice or in a storm. So whoever is triggered looks at what is kept here and at the
//! balance, in that order, and begins a charge only if nothing has changed since: while one is open, none is begun.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::call_top_up::CallNeed;
use crate::claw_back::ClawBackReason;
use crate::credits::{Amount, Credits};
use crate::enrolment::OpenCharge;
use crate::id::Id;
use crate::month::Month;
use crate::purchase::Purchase;

/// After how many declines in a row it switches itself off.
pub const MOST_DECLINES: u64 = 3;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How long after a decline the card is tried again.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// How long a person has to authenticate a charge: as long as a checkout can be paid.
const ACTION_TIMEOUT: SignedDuration = SignedDuration::from_hours(24);

/// The most charges that are begun in an hour.
const MAX_CHARGES_AN_HOUR: usize = 3;

/// The monthly limit of settings that name none.
pub const DEFAULT_MONTHLY_LIMIT: MonthlyLimit = MonthlyLimit::TopUps(10);

/// How much may be bought in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MonthlyLimit {
    /// So many packs.
    TopUps(u64),
    /// So many credits.
    Credits(Amount),
}

/// What a person has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it is switched on.
    pub enabled: bool,
    /// At or below which `available` is low; absent where it never was set.
    pub threshold: Option<Amount>,
    /// What is bought.
    pub pack: Option<Id>,
    /// How much may be bought in a month; no limit in settings from before there was a default.
    pub monthly_limit: Option<MonthlyLimit>,
}

/// What was bought in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bought {
    /// The month.
    pub month: Month,
    /// How many packs.
    pub top_ups: u64,
    /// How many credits.
    pub credits: Credits,
}

/// Settings with what has come of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoTopUp {
    /// What a person has set.
    pub settings: Settings,
    /// How many charges in a row were declined.
    pub declines: u64,
    /// The charge whose outcome has to be known before another is begun.
    pub charge: Option<OpenCharge>,
    /// When a declined card is tried again, or the month's limit ends; or that it is to be looked at, where that is over.
    pub waits_until: Option<Timestamp>,
    /// What was bought in the latest month in which something was.
    pub bought: Option<Bought>,
    /// Whether it has switched itself off.
    pub gave_up: bool,
    /// When the charges of the last hour were begun, as far as they limit the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charged_at: Vec<Timestamp>,
    /// Why it charges nothing until a person switches it on again, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<ClawBackReason>,
    /// What a refused call needs of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<CallNeed>,
    /// Which limit it waits for, if it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<TopUpLimit>,
    /// Whether it has charged without a monthly limit since such settings are no longer made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited_noted: bool,
}

/// A limit of how much is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopUpLimit {
    /// Three charges an hour.
    Hourly,
    /// What a person has set for a month.
    Monthly,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Ask Stripe for the outcome of the open charge.
    Finish(OpenCharge),
    /// Look at the balance: at or below this, buy that pack.
    Look(Amount, Id),
}

impl Settings {
    /// As they are before anybody has set them.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, threshold: None, pack: None, monthly_limit: None }
    }

    /// The threshold, while it is switched on.
    #[must_use]
    pub fn active_threshold(&self) -> Option<Amount> {
        self.threshold.filter(|_| self.enabled)
    }
}

impl AutoTopUp {
    /// Newly set, so that it is looked at: what was bought this month still counts, declines don't. Switched off, its open charge
    /// is not made any more.
    #[must_use]
    pub fn set(settings: Settings, before: Option<&Self>, now: Timestamp) -> Self {
        let waits_until = settings.enabled.then_some(now);
        let charge = before.and_then(|before| before.charge.clone());
        let withdraw =
            |charge: OpenCharge| OpenCharge { withdrawn: charge.withdrawn || !settings.enabled, ..charge };
        Self {
            charge: charge.map(withdraw),
            settings,
            declines: 0,
            waits_until,
            bought: before.and_then(|before| before.bought),
            gave_up: false,
            charged_at: before.map(|before| before.charged_at.clone()).unwrap_or_default(),
            paused: None,
            need: None,
            limited_by: None,
            unlimited_noted: false,
        }
    }

    /// Charges nothing until a person switches it on again. An open charge still ends as it ends.
    #[must_use]
    pub fn paused(&self, reason: ClawBackReason) -> Self {
        if !self.settings.enabled || self.paused == Some(ClawBackReason::Dispute) {
            return self.clone();
        }
        Self { paused: Some(reason), waits_until: None, need: None, limited_by: None, ..self.clone() }
    }

    /// What comes next. A charge that was begun just now is left to whoever has begun it.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Step {
        if let Some(charge) = &self.charge {
            let is_due = charge.next_due() <= now;
            return if is_due { Step::Finish(charge.clone()) } else { Step::Wait };
        }
        let waits = self.paused.is_some() || self.waits_until.is_some_and(|until| now < until);
        match (self.settings.active_threshold(), &self.settings.pack) {
            (Some(threshold), Some(pack)) if !waits => Step::Look(threshold, pack.clone()),
            _ => Step::Wait,
        }
    }

    /// When a sweep has to look at it; `None` where it has not.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match &self.charge {
            Some(charge) => Some(charge.next_due()),
            None => {
                let dates = [self.waits_until, self.need.map(|need| need.since)];
                let due = dates.into_iter().flatten().min();
                due.filter(|_| self.settings.enabled && self.paused.is_none())
            }
        }
    }

    /// Whether the month's limit leaves room for so many packs of so many credits.
    #[must_use]
    pub fn has_room_for(&self, packs: u64, pack: Amount, now: Timestamp) -> bool {
        let Bought { top_ups, credits, .. } = self.bought_in(Month::of(now));
        match self.settings.monthly_limit {
            None => true,
            Some(MonthlyLimit::TopUps(most)) => top_ups.saturating_add(packs) <= most,
            Some(MonthlyLimit::Credits(most)) => {
                let after = (0..packs).try_fold(credits, |sum, _| sum.plus(pack.credits()));
                after.is_ok_and(|sum| sum <= most.credits())
            }
        }
    }

    /// How many more charges may be begun in this hour.
    #[must_use]
    pub fn left_this_hour(&self, now: Timestamp) -> u64 {
        let begun = self.charged_at.iter().filter(|at| now.duration_since(**at) < HOUR).count();
        u64::try_from(MAX_CHARGES_AN_HOUR.saturating_sub(begun)).unwrap_or(0)
    }

    /// Returns until when the charges of the last hour leave no room for another, if they leave none.
    #[must_use]
    pub fn hourly_limit_ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let latest = self.charged_at.len().checked_sub(MAX_CHARGES_AN_HOUR)?;
        let ends_at = self.charged_at.get(latest)?.checked_add(HOUR).ok()?;
        (ends_at > now).then_some(ends_at)
    }

    /// The charges of the last hour are as many as may be: it goes on at `until`.
    #[must_use]
    pub fn waiting_until(&self, until: Timestamp) -> Self {
        let limited_by = Some(TopUpLimit::Hourly);
        Self { waits_until: Some(until), need: None, limited_by, ..self.clone() }
    }

    /// What was bought in a month.
    #[must_use]
    pub fn bought_in(&self, month: Month) -> Bought {
        let nothing = Bought { month, top_ups: 0, credits: Credits::ZERO };
        self.bought.filter(|bought| bought.month == month).unwrap_or(nothing)
    }

    /// A charge is begun.
    #[must_use]
    pub fn charging(&self, purchase: &Purchase) -> Self {
        let begun_at = purchase.begun_at;
        let within_hour = |at: &Timestamp| begun_at.duration_since(*at) < HOUR;
        let charged_at = self.charged_at.iter().copied().filter(within_hour).chain([begun_at]).collect();
        let unlimited_noted = self.unlimited_noted || self.settings.monthly_limit.is_none();
        Self {
            charge: Some(OpenCharge::of(purchase)),
            waits_until: None,
            charged_at,
            need: self.need_after_pack(),
            limited_by: None,
            unlimited_noted,
            ..self.clone()
        }
    }

    /// The open charge is paid and granted.
    #[must_use]
    pub fn paid(&self, purchase: &Purchase) -> Self {
        let before = self.bought_in(Month::of(purchase.begun_at));
        let credits = before.credits.plus(purchase.goods.credits().credits()).unwrap_or(before.credits);
        let bought = Bought { top_ups: before.top_ups.saturating_add(1), credits, ..before };
        Self { charge: None, declines: 0, bought: Some(bought), ..self.clone() }
    }

    /// The open charge was declined; after the last of them it is off.
    #[must_use]
    pub fn declined(&self, now: Timestamp) -> Self {
        let declines = self.declines.saturating_add(1);
        let next = Self { charge: None, declines, need: None, ..self.clone() };
        if declines >= MOST_DECLINES {
            return next.given_up();
        }
        Self { waits_until: now.checked_add(RETRY_AFTER).ok(), ..next }
    }

    /// The open charge is processing, such as a bank debit.
    #[must_use]
    pub fn processing(&self, now: Timestamp) -> Self {
        let charge = self.charge.clone();
        let charge = charge.map(|charge| OpenCharge { processing_since: Some(now), ..charge });
        Self { charge, ..self.clone() }
    }

    /// The open charge needs the customer's authentication: a person was asked to pay for a pack by a checkout, and the
    /// stored method is not tried until that checkout has ended.
    #[must_use]
    pub fn action_required(&self, now: Timestamp) -> Self {
        let next = self.declined(now);
        Self { waits_until: next.waits_until.and(now.checked_add(ACTION_TIMEOUT).ok()), ..next }
    }

    /// It is off: the card doesn't bear it, or what was paid could not be granted.
    #[must_use]
    pub fn given_up(&self) -> Self {
        let settings = Settings { enabled: false, ..self.settings.clone() };
        let limited_by = None;
        Self {
            settings,
            charge: None,
            waits_until: None,
            gave_up: true,
            need: None,
            limited_by,
            ..self.clone()
        }
    }

    /// It is switched off by a person.
    #[must_use]
    pub fn switched_off(&self) -> Self {
        let settings = Settings { enabled: false, ..self.settings.clone() };
        Self { settings, waits_until: None, need: None, limited_by: None, ..self.clone() }
    }

    /// Another payment method is stored: what waited for the old one is looked at by the next sweep.
    #[must_use]
    pub fn with_new_method(&self, now: Timestamp) -> Self {
        let waits_until = if self.settings.enabled { Some(now) } else { self.waits_until };
        Self { waits_until, ..self.clone() }
    }

    /// The month's limit is reached: it goes on with the next.
    #[must_use]
    pub fn limited(&self, now: Timestamp) -> Self {
        let (waits_until, limited_by) = (Some(Month::of(now).end()), Some(TopUpLimit::Monthly));
        Self { waits_until, need: None, limited_by, ..self.clone() }
    }

    /// What is wanted could not be bought, or not all of it: a sweep looks again, or whoever is told before. Where nothing is
    /// left to be spent, nobody is told any more.
    #[must_use]
    pub fn unfinished(&self, now: Timestamp) -> Self {
        Self { waits_until: self.waits_until.or(Some(now)), ..self.clone() }
    }

    /// Nothing is to be bought: it waits for the balance to fall.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self { waits_until: None, need: None, limited_by: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{AutoTopUp, MonthlyLimit, Settings, Step};
    use crate::enrolment::OpenCharge;
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
        AutoTopUp::set(Settings { enabled: true, threshold, pack, monthly_limit }, None, at(0)).at_rest()
    }

    #[test]
    fn while_a_charge_is_open_none_is_begun_and_a_sweep_asks_what_became_of_it() {
        let charging = on(None).charging(&purchase(0));
        assert_eq!(charging.step(at(0)), Step::Wait);
        assert_eq!(charging.step(at(1)), Step::Finish(OpenCharge::of(&purchase(0))));
        let off = AutoTopUp::set(Settings::off(), Some(&charging), at(0));
        let withdrawn = OpenCharge { withdrawn: true, ..OpenCharge::of(&purchase(0)) };
        assert_eq!(off.step(at(1)), Step::Finish(withdrawn.clone()));
        let on_again = AutoTopUp::set(on(None).settings, Some(&off), at(0));
        assert_eq!(on_again.charge, Some(withdrawn), "switched on again, another one is made");
        assert_eq!(charging.next_due(), Some(at(0) + SignedDuration::from_mins(2)));
        let paid = charging.paid(&purchase(0));
        assert!(matches!(paid.step(at(0)), Step::Look(..)) && paid.next_due().is_none());
    }

    #[test]
    fn three_declines_in_a_row_switch_it_off_and_a_payment_in_between_counts_anew() {
        let mut kept = on(None);
        for hours in 0..2 {
            kept = kept.charging(&purchase(hours)).declined(at(hours));
            assert!(kept.settings.enabled && kept.step(at(hours)) == Step::Wait);
            assert_eq!(kept.next_due(), Some(at(hours) + SignedDuration::from_mins(15)));
        }
        kept = kept.charging(&purchase(2)).paid(&purchase(2));
        for hours in 3..6 {
            assert!(kept.settings.enabled);
            kept = kept.charging(&purchase(hours)).declined(at(hours));
        }
        assert!(!kept.settings.enabled && kept.gave_up && kept.next_due().is_none());
        assert_eq!(kept.step(at(100)), Step::Wait);
        assert_eq!(AutoTopUp::set(on(None).settings, Some(&kept), at(0)).declines, 0);
    }

    #[test]
    fn a_monthly_limit_is_of_packs_or_of_credits_and_ends_with_the_month() {
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
            assert!(limited.step(at(3)) == Step::Wait && limited.has_room_for(1, pack, next_month));
            // Setting it anew doesn't make room.
            assert!(!AutoTopUp::set(kept.settings.clone(), Some(&kept), at(3)).has_room_for(1, pack, at(3)));
        }
    }

    #[test]
    fn m05_after_three_charges_in_an_hour_the_next_waits() {
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
    fn m05_a_pause_lasts_until_a_person_switches_it_on_again() {
        use crate::claw_back::ClawBackReason::{Dispute, Refund};
        let paused = on(None).paused(Refund);
        assert_eq!((paused.step(at(1)), paused.next_due()), (Step::Wait, None));
        assert_eq!(paused.paused(Dispute).paused, Some(Dispute));
        assert_eq!(paused.paused(Dispute).paused(Refund).paused, Some(Dispute));
        let again = AutoTopUp::set(on(None).settings, Some(&paused), at(1));
        assert!(matches!(again.step(at(1)), Step::Look(..)));
        assert_eq!(AutoTopUp::set(Settings::off(), None, at(0)).paused(Refund).paused, None);
        let charging = on(None).charging(&purchase(0)).paused(Refund);
        assert!(matches!(charging.step(at(1)), Step::Finish(_)), "an open charge ends as it ends");
    }

    #[test]
    fn what_it_waited_for_is_over_with_the_minute_the_next_charge_or_the_next_look() {
        let waiting = on(None).charging(&purchase(0)).declined(at(0));
        let until = waiting.waits_until.unwrap();
        assert!(matches!(waiting.step(until), Step::Look(..)));
        assert_eq!(waiting.charging(&purchase(1)).waits_until, None);
        assert_eq!(waiting.at_rest(), AutoTopUp { waits_until: None, ..waiting.clone() });
    }

    #[test]
    fn what_is_newly_set_or_unfinished_is_looked_at_by_the_next_sweep_and_by_whoever_is_told_before() {
        let declined = on(None).charging(&purchase(0)).declined(at(0));
        let set = AutoTopUp::set(on(None).settings, Some(&declined), at(1));
        for kept in [set, on(None).unfinished(at(1))] {
            assert_eq!(kept.next_due(), Some(at(1)));
            assert!(matches!(kept.step(at(1)), Step::Look(..)));
        }
        let unfinished = on(None).unfinished(at(1));
        assert_eq!(unfinished.unfinished(at(2)), unfinished, "what is due already keeps its date");
        assert_eq!(AutoTopUp::set(Settings::off(), None, at(1)).next_due(), None);
    }

    #[test]
    fn who_has_given_up_waits_for_nothing_and_has_no_open_charge() {
        let charging = AutoTopUp { waits_until: Some(at(1)), ..on(None).charging(&purchase(0)) };
        let given_up = charging.given_up();
        assert_eq!((&given_up.charge, given_up.waits_until), (&None, None));
        assert!(given_up.gave_up && !given_up.settings.enabled);
    }
}
