//! Automatic top-up: buys a pack with the stored payment method when the balance is low, one charge at a time (M5).
//!
//! Triggers may arrive late, twice or in bursts. So each trigger reads this state and then the balance, in that order.
//! It begins a charge only if the state has not changed since. While a charge is open, no other is begun.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::claw_back::ClawBackReason;
use crate::credits::{Amount, Credits};
use crate::id::Id;
use crate::month::Month;
use crate::open_charge::OpenCharge;
use crate::purchase::Purchase;

/// The number of declines in a row after which automatic top-up switches itself off.
pub const MAX_DECLINES: u64 = 3;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How long after a decline the payment method is charged again.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// How long a person has to authenticate a charge: as long as a checkout can be paid.
const ACTION_TIMEOUT: SignedDuration = SignedDuration::from_hours(24);

/// Counts the charges begun within the last 60 minutes.
const MAX_CHARGES_AN_HOUR: usize = 3;

/// The monthly limit of new settings that don't state one.
pub const DEFAULT_MONTHLY_LIMIT: MonthlyLimit = MonthlyLimit::TopUps(10);

/// The limit of what automatic top-up may buy in a calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MonthlyLimit {
    /// A number of packs.
    TopUps(u64),
    Credits(Amount),
}

/// The settings of automatic top-up, as a person has chosen them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoTopUpSettings {
    pub enabled: bool,
    /// A pack is bought at or below this available balance. `None` if it was never set.
    pub threshold: Option<Amount>,
    /// The pack to buy.
    pub pack: Option<Id>,
    /// `None` is no limit, which only settings from before the default can have.
    pub monthly_limit: Option<MonthlyLimit>,
}

/// What automatic top-up bought in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthlyTopUps {
    pub month: Month,
    /// The number of packs.
    pub top_ups: u64,
    pub credits: Credits,
}

/// Packs that are still to be bought for a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallNeed {
    /// The available credits that let the call pass. Nothing more is bought once the balance has them.
    pub available: Credits,
    /// The maximum number of packs that are still bought.
    pub packs: u64,
    /// When the call was refused.
    pub since: Timestamp,
}

/// The settings of automatic top-up with its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoTopUp {
    pub settings: AutoTopUpSettings,
    /// The number of declined charges in a row.
    pub declines: u64,
    /// The open charge. Its outcome must be known before another is begun.
    pub charge: Option<OpenCharge>,
    /// No charge is begun before this: a declined method is retried then, or a limit ends. A time in the past asks the
    /// sweep to check the balance.
    pub waits_until: Option<Timestamp>,
    /// The purchases of the latest month that had any.
    pub bought: Option<MonthlyTopUps>,
    /// Whether automatic top-up has switched itself off.
    pub gave_up: bool,
    /// When the latest charges were begun, back to an hour before the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charged_at: Vec<Timestamp>,
    /// Why automatic top-up is paused: it charges nothing until a person switches it on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<ClawBackReason>,
    /// The packs still to be bought for a refused call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<CallNeed>,
    /// The limit that ends at `waits_until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<TopUpLimit>,
    /// Whether it has charged without a monthly limit. Only settings of an older version have none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited_noted: bool,
}

/// A limit on purchases by automatic top-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopUpLimit {
    /// Three charges within an hour.
    Hourly,
    /// The limit that the settings state for a month.
    Monthly,
}

/// The next step of automatic top-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopUpStep {
    /// Nothing is due.
    Wait,
    /// Ask Stripe for the outcome of the open charge.
    Finish(OpenCharge),
    /// Read the balance. Buy this pack if the balance is at or below this threshold, or a refused call needs it.
    Look(Amount, Id),
}

impl AutoTopUpSettings {
    /// Returns the settings of a workspace that never changed them.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, threshold: None, pack: None, monthly_limit: None }
    }

    /// Returns the threshold if automatic top-up is switched on.
    #[must_use]
    pub fn active_threshold(&self) -> Option<Amount> {
        self.threshold.filter(|_| self.enabled)
    }
}

impl AutoTopUp {
    /// Returns the state after a person changed the settings.
    ///
    /// The purchases of the month still count, declines don't. If automatic top-up is switched on, the next sweep
    /// checks the balance. If it is switched off, the open charge is marked as withdrawn and is not made any more.
    #[must_use]
    pub fn set(settings: AutoTopUpSettings, before: Option<&Self>, now: Timestamp) -> Self {
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

    /// Pauses automatic top-up: it charges nothing until a person switches it on again. An open charge is still
    /// settled.
    #[must_use]
    pub fn paused(&self, reason: ClawBackReason) -> Self {
        if !self.settings.enabled || self.paused == Some(ClawBackReason::Dispute) {
            return self.clone();
        }
        Self { paused: Some(reason), waits_until: None, need: None, limited_by: None, ..self.clone() }
    }

    /// Returns the next step. A charge that was begun less than two minutes ago is left to the caller that began it.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> TopUpStep {
        if let Some(charge) = &self.charge {
            let is_due = charge.next_due() <= now;
            return if is_due { TopUpStep::Finish(charge.clone()) } else { TopUpStep::Wait };
        }
        let waits = self.paused.is_some() || self.waits_until.is_some_and(|until| now < until);
        match (self.settings.active_threshold(), &self.settings.pack) {
            (Some(threshold), Some(pack)) if !waits => TopUpStep::Look(threshold, pack.clone()),
            _ => TopUpStep::Wait,
        }
    }

    /// Returns when the sweep has to take the next step; `None` if nothing will be due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if let Some(charge) = &self.charge {
            return Some(charge.next_due());
        }
        let due = [self.waits_until, self.need.map(|need| need.since)].into_iter().flatten().min();
        due.filter(|_| self.settings.enabled && self.paused.is_none())
    }

    /// Returns whether the monthly limit leaves room for a number of packs, each of `pack` credits.
    #[must_use]
    pub fn has_room_for(&self, packs: u64, pack: Amount, now: Timestamp) -> bool {
        let MonthlyTopUps { top_ups, credits, .. } = self.bought_in(Month::of(now));
        match self.settings.monthly_limit {
            None => true,
            Some(MonthlyLimit::TopUps(most)) => top_ups.saturating_add(packs) <= most,
            Some(MonthlyLimit::Credits(most)) => {
                let after = (0..packs).try_fold(credits, |sum, _| sum.plus(pack.credits()));
                after.is_ok_and(|sum| sum <= most.credits())
            }
        }
    }

    /// Returns how many more charges the hourly limit allows now.
    #[must_use]
    pub fn left_this_hour(&self, now: Timestamp) -> u64 {
        let begun = self.charged_at.iter().filter(|at| now.duration_since(**at) < HOUR).count();
        u64::try_from(MAX_CHARGES_AN_HOUR.saturating_sub(begun)).unwrap_or(0)
    }

    /// Returns when the hourly limit allows the next charge; `None` if it allows one now.
    #[must_use]
    pub fn hourly_limit_ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let latest = self.charged_at.len().checked_sub(MAX_CHARGES_AN_HOUR)?;
        let ends_at = self.charged_at.get(latest)?.checked_add(HOUR).ok()?;
        (ends_at > now).then_some(ends_at)
    }

    /// Returns the state after the hourly limit was reached. Purchases continue at `until`.
    #[must_use]
    pub fn waiting_until(&self, until: Timestamp) -> Self {
        let limited_by = Some(TopUpLimit::Hourly);
        Self { waits_until: Some(until), need: None, limited_by, ..self.clone() }
    }

    /// Returns what was bought in a month.
    #[must_use]
    pub fn bought_in(&self, month: Month) -> MonthlyTopUps {
        let nothing = MonthlyTopUps { month, top_ups: 0, credits: Credits::ZERO };
        self.bought.filter(|bought| bought.month == month).unwrap_or(nothing)
    }

    /// Returns the state with a charge begun for a purchase.
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

    /// Returns the state after the open charge was paid and its credits were granted.
    #[must_use]
    pub fn paid(&self, purchase: &Purchase) -> Self {
        let before = self.bought_in(Month::of(purchase.begun_at));
        let credits = before.credits.plus(purchase.goods.credits().credits()).unwrap_or(before.credits);
        let bought = MonthlyTopUps { top_ups: before.top_ups.saturating_add(1), credits, ..before };
        Self { charge: None, declines: 0, bought: Some(bought), ..self.clone() }
    }

    /// Returns the state after the open charge was declined. The third decline in a row switches automatic top-up off.
    #[must_use]
    pub fn declined(&self, now: Timestamp) -> Self {
        let declines = self.declines.saturating_add(1);
        let next = Self { charge: None, declines, need: None, ..self.clone() };
        if declines >= MAX_DECLINES {
            return next.given_up();
        }
        Self { waits_until: now.checked_add(RETRY_AFTER).ok(), ..next }
    }

    /// Returns the state after Stripe reported the open charge as processing, such as a bank debit.
    #[must_use]
    pub fn processing(&self, now: Timestamp) -> Self {
        let charge = self.charge.clone();
        let charge = charge.map(|charge| OpenCharge { processing_since: Some(now), ..charge });
        Self { charge, ..self.clone() }
    }

    /// Returns the state after the open charge needed the customer's authentication, which counts as a decline.
    ///
    /// A person is asked to pay for a pack by a checkout. The stored method is not charged until that checkout has
    /// ended.
    #[must_use]
    pub fn action_required(&self, now: Timestamp) -> Self {
        let next = self.declined(now);
        Self { waits_until: next.waits_until.and(now.checked_add(ACTION_TIMEOUT).ok()), ..next }
    }

    /// Switches automatic top-up off because charges keep failing, the pack is no longer sold, or a paid pack could not
    /// be granted.
    #[must_use]
    pub fn given_up(&self) -> Self {
        let settings = AutoTopUpSettings { enabled: false, ..self.settings.clone() };
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

    /// Switches automatic top-up off for a person. An open charge stays open.
    #[must_use]
    pub fn switched_off(&self) -> Self {
        let settings = AutoTopUpSettings { enabled: false, ..self.settings.clone() };
        Self { settings, waits_until: None, need: None, limited_by: None, ..self.clone() }
    }

    /// Returns the state after another payment method was stored. The next sweep checks the balance instead of waiting.
    #[must_use]
    pub fn with_new_method(&self, now: Timestamp) -> Self {
        let waits_until = if self.settings.enabled { Some(now) } else { self.waits_until };
        Self { waits_until, ..self.clone() }
    }

    /// Returns the state after the monthly limit was reached. Purchases continue with the next month.
    #[must_use]
    pub fn limited(&self, now: Timestamp) -> Self {
        let (waits_until, limited_by) = (Some(Month::of(now).end()), Some(TopUpLimit::Monthly));
        Self { waits_until, need: None, limited_by, ..self.clone() }
    }

    /// Returns the state after a wanted purchase could not be made, or not in full. The next sweep or an earlier
    /// trigger retries it.
    ///
    /// The sweep is needed because a workspace without credits makes no more debits that could trigger the purchase.
    #[must_use]
    pub fn unfinished(&self, now: Timestamp) -> Self {
        Self { waits_until: self.waits_until.or(Some(now)), ..self.clone() }
    }

    /// Returns the state in which nothing is to be bought until the balance falls.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self { waits_until: None, need: None, limited_by: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
