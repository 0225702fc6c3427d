//! Alerts: a low balance (M15), a workspace out of credits (M10), and the frequency of mails about failed runs (M12).
//!
//! ```text
//! owned     = available + held
//! low(t)    ⇔ owned ≤ t, for each threshold t
//! t         = an amount, or ⌊percent × monthly credits ÷ 100⌋ to a millionth of a credit
//! spent     ⇔ owned + credit_limit ≤ 0
//! noted     ⇔ since the last addition a call was refused while spendable < 1 % of max(addition, credit_limit)
//! a write raises "low" at t  ⇔ low(t) after it and not before it; if t is new, low at no threshold before it
//! a write raises "exhausted" ⇔ (spent or noted) after it, and neither before it
//! ```
//!
//! Placing, extending and releasing a hold leave `owned` unchanged. Only an addition and the invoice of a debt raise
//! it, which the conservation test checks. So the alert needs no state of its own:
//!
//! - The addition that raises `owned` above a threshold arms its alert.
//! - Until the next addition, exactly one write crosses each threshold.
//! - If one write crosses several, each has an event. Only the smallest is mailed.
//! - A redelivered stream record of that write repeats the same event.
//!
//! If another kind of write is ever allowed to raise `owned`, it must arm the alert at 110 % of the threshold, not
//! earlier.

use std::cmp::Reverse;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::balance::Balance;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::expiry::ExpirySettings;

/// The maximum number of thresholds of an alert.
pub const MAX_THRESHOLDS: usize = 5;

/// A workspace's alert settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertSettings {
    pub low_balance: LowBalance,
    pub expiry: ExpirySettings,
}

/// The settings of a workspace's low-balance alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowBalance {
    pub enabled: bool,
    /// The balance is low at or below this amount. `None` if it was never set, or if only `thresholds` were.
    pub threshold: Option<Amount>,
    /// Further thresholds, each of which raises the alert by itself.
    #[serde(default)]
    pub thresholds: Vec<LowThreshold>,
    /// The mail addresses.
    pub recipients: Vec<String>,
}

/// A threshold of the low-balance alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowThreshold {
    Credits(Amount),
    /// A share of the subscription's monthly credits, 1 to 100. Without a subscription it raises no alert.
    PercentOfAllocation(u8),
}

/// The thresholds at which a balance raises its alert, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertThresholds(Vec<Amount>);

impl AlertThresholds {
    /// Returns the largest threshold; `None` if the alert is off.
    #[must_use]
    pub fn largest(&self) -> Option<Amount> {
        self.0.first().copied()
    }

    /// Returns all thresholds, the largest first.
    pub fn iter(&self) -> impl Iterator<Item = Amount> {
        self.0.iter().copied()
    }
}

impl FromIterator<Amount> for AlertThresholds {
    fn from_iter<I: IntoIterator<Item = Amount>>(amounts: I) -> Self {
        let mut amounts: Vec<Amount> = amounts.into_iter().collect();
        amounts.sort_unstable_by_key(|amount| Reverse(amount.credits()));
        amounts.dedup();
        Self(amounts)
    }
}

impl AlertSettings {
    /// Returns the settings of a workspace that never changed them.
    #[must_use]
    pub fn off() -> Self {
        Self { low_balance: LowBalance::off(), expiry: ExpirySettings::off() }
    }
}

impl LowBalance {
    /// Returns the settings of a workspace that never changed them.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, threshold: None, thresholds: Vec::new(), recipients: Vec::new() }
    }

    /// Returns the thresholds in credits, none if the alert is switched off. `allocation` are the subscription's monthly
    /// credits.
    pub fn active_thresholds(&self, allocation: Option<Amount>) -> Result<AlertThresholds, OutOfRange> {
        if !self.enabled {
            return Ok(AlertThresholds::default());
        }
        let further = self.thresholds.iter().map(|threshold| threshold.amount(allocation));
        std::iter::once(Ok(self.threshold)).chain(further).filter_map(Result::transpose).collect()
    }

    /// Returns whether a threshold depends on the subscription's monthly credits.
    #[must_use]
    pub fn follows_allocation(&self) -> bool {
        self.enabled && self.thresholds.iter().any(|it| matches!(it, LowThreshold::PercentOfAllocation(_)))
    }
}

impl LowThreshold {
    fn amount(self, allocation: Option<Amount>) -> Result<Option<Amount>, OutOfRange> {
        match (self, allocation) {
            (Self::Credits(amount), _) => Ok(Some(amount)),
            (Self::PercentOfAllocation(_), None) => Ok(None),
            (Self::PercentOfAllocation(percent), Some(allocation)) => {
                Ok(Amount::new(allocation.credits().share(percent.into(), 100)?).ok())
            }
        }
    }
}

/// The alerts that one write of a balance raises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crossing {
    /// The thresholds at which the balance has become low, the largest first.
    pub low: Vec<Amount>,
    /// Whether the workspace has run out of credits.
    pub exhausted: bool,
}

/// A refusal that leaves a workspace out of credits. The debit function notes it in the balance if both conditions
/// still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhaustion {
    /// `spendable` is still below this.
    pub below: Credits,
    /// The latest addition is still this one: no credits were added since the refusal.
    pub added: Option<Amount>,
}

impl Crossing {
    /// Compares a balance before and after a write.
    pub fn of(before: &Balance, after: &Balance) -> Result<Self, OutOfRange> {
        // A new workspace has not received credits yet, so the alert has nothing to warn about.
        let is_new = after.added.is_none() && after.owned()?.is_zero();
        let (low_before, low_after) = (before.low_thresholds()?, after.low_thresholds()?);
        // Settings that change the thresholds of a balance that is low already raise nothing.
        let was_set = |low: &Amount| before.low_at.iter().any(|low_at| low_at == *low);
        let crossed = |low: &Amount| !low_before.contains(low) && (was_set(low) || low_before.is_empty());
        Ok(Self {
            low: low_after.into_iter().filter(|low| !is_new && crossed(low)).collect(),
            exhausted: after.has_run_out()? && !before.has_run_out()?,
        })
    }
}

impl Balance {
    /// Returns the alert's thresholds at or above `owned`. There are none while lanes are open, because their reserve exceeds
    /// each threshold ([`crate::lane`]).
    pub fn low_thresholds(&self) -> Result<Vec<Amount>, OutOfRange> {
        let owned = self.owned()?;
        let low = self.low_at.iter().filter(|low_at| self.lanes.is_none() && owned <= low_at.credits());
        Ok(low.collect())
    }

    /// Returns whether the workspace is out of credits: all are spent, or a refusal is noted and `spendable` is still
    /// below 1 % of the latest addition.
    pub fn is_exhausted(&self) -> Result<bool, OutOfRange> {
        Ok(self.is_spent()? || (self.exhaustion_noted && self.spendable < self.next_to_nothing()?))
    }

    /// Returns what a refusal by this balance has to note. Only the first refusal since the latest addition that leaves
    /// the workspace out of credits is noted.
    pub fn exhaustion(&self) -> Result<Option<Exhaustion>, OutOfRange> {
        let below = self.next_to_nothing()?;
        let exhausts = self.lanes.is_none() && self.spendable < below && !self.has_run_out()?;
        Ok(exhausts.then_some(Exhaustion { below, added: self.added }))
    }

    /// Returns whether the workspace has run out of credits since the latest addition. Open holds may still release
    /// some.
    fn has_run_out(&self) -> Result<bool, OutOfRange> {
        Ok(self.exhaustion_noted || self.is_spent()?)
    }

    /// Returns whether no credits and no credit limit are left, counting the credits in open holds.
    fn is_spent(&self) -> Result<bool, OutOfRange> {
        Ok(self.lanes.is_none() && self.owned()?.plus(self.credit_limit)? <= Credits::ZERO)
    }

    /// Returns 1 % of the latest addition, or of the credit limit if that is larger.
    pub(crate) fn next_to_nothing(&self) -> Result<Credits, OutOfRange> {
        let added = self.added.map_or(Credits::ZERO, Amount::credits);
        added.max(self.credit_limit).share(1, 100)
    }
}

/// Returns the shortest time between two mails about failed runs of one workspace: an hour on the first day, a day in
/// the first week, then a week.
///
/// `sent_for` is how long such mails have been sent without an addition of credits.
#[must_use]
pub fn failure_mail_interval(sent_for: SignedDuration) -> SignedDuration {
    if sent_for < DAY {
        SignedDuration::from_hours(1)
    } else if sent_for < WEEK {
        DAY
    } else {
        WEEK
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The longest time between two mails about failed runs.
pub const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{AlertThresholds, Crossing, Exhaustion, LowBalance, LowThreshold, failure_mail_interval};
    use crate::balance::Balance;
    use crate::credits::Credits;
    use crate::posting::Posting;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    /// Returns a balance with `available` credits left of an addition of 1,000, and an alert at 100.
    fn with(available: &str) -> Balance {
        Balance {
            spendable: credits(available),
            prepaid: credits(available),
            low_at: "100".parse().into_iter().collect(),
            added: "1000".parse().ok(),
            ..Balance::default()
        }
    }

    /// Returns the balance of `with`, plus `held` credits in open holds.
    fn holding(available: &str, held: &str) -> Balance {
        let balance = with(available);
        Balance { prepaid: balance.prepaid.plus(credits(held)).unwrap(), held: credits(held), ..balance }
    }

    fn crossing(before: &Balance, after: &Balance) -> (bool, bool) {
        let Crossing { low, exhausted } = Crossing::of(before, after).unwrap();
        (!low.is_empty(), exhausted)
    }

    #[test]
    fn m15_threshold_counts_only_while_the_alert_is_on() {
        let on = LowBalance { enabled: true, threshold: "100".parse().ok(), ..LowBalance::off() };
        assert_eq!(on.active_thresholds(None), Ok("100".parse().into_iter().collect()));
        assert_eq!(
            LowBalance { enabled: false, ..on }.active_thresholds(None),
            Ok(AlertThresholds::default())
        );
    }

    #[test]
    fn m15_percentages_follow_the_monthly_credits() {
        let thresholds = [
            LowThreshold::Credits("50".parse().unwrap()),
            LowThreshold::PercentOfAllocation(10),
            LowThreshold::PercentOfAllocation(20),
            LowThreshold::PercentOfAllocation(100),
        ];
        let alert = LowBalance { enabled: true, thresholds: thresholds.to_vec(), ..LowBalance::off() };
        assert!(alert.follows_allocation());
        assert!(!LowBalance { enabled: false, ..alert.clone() }.follows_allocation());
        for (monthly_credits, resolved) in [
            (None, vec!["50"]),
            (Some("1000"), vec!["1000", "200", "100", "50"]),
            (Some("500"), vec!["500", "100", "50"]),
            (Some("0.000019"), vec!["50", "0.000019", "0.000003", "0.000001"]),
            (Some("0.000005"), vec!["50", "0.000005", "0.000001"]),
        ] {
            let monthly_credits = monthly_credits.map(|credits| credits.parse().unwrap());
            let resolved: AlertThresholds = resolved.iter().map(|amount| amount.parse().unwrap()).collect();
            assert_eq!(alert.active_thresholds(monthly_credits), Ok(resolved), "{monthly_credits:?}");
        }
    }

    #[test]
    fn m15_settings_of_older_versions_are_read() {
        let old = r#"{ "enabled": true, "threshold": "100", "recipients": ["ops@acme.example"] }"#;
        let read: LowBalance = serde_json::from_str(old).unwrap();
        assert_eq!((read.threshold, read.thresholds.len()), ("100".parse().ok(), 0));
    }

    #[test]
    fn m15_balance_is_low_at_and_below_the_threshold() {
        for (balance, is_low) in [
            (with("100.000001"), false),
            (with("100"), true),
            (with("-20"), true),
            (holding("0", "100.000001"), false),
            (holding("40", "60"), true),
            (Balance { low_at: AlertThresholds::default(), ..with("1") }, false),
            (Balance { spendable: credits("150"), credit_limit: credits("50"), ..with("100") }, true),
        ] {
            assert_eq!(balance.low_thresholds().map(|low| !low.is_empty()), Ok(is_low), "{balance:?}");
        }
    }

    #[test]
    fn m15_capture_crosses_the_threshold_but_a_hold_does_not() {
        let hold = |before: &str, available, held| crossing(&with(before), &holding(available, held));
        assert_eq!(hold("150", "90", "60"), (false, false));
        assert_eq!(hold("150", "0", "150"), (false, false));
        assert_eq!(crossing(&holding("90", "60"), &with("150")), (false, false));
        assert_eq!(crossing(&holding("90", "60"), &with("100")), (true, false));
        assert_eq!(crossing(&holding("0", "150"), &with("0")), (true, true));
    }

    #[test]
    fn m15_write_below_the_threshold_raises_no_second_alert() {
        assert_eq!(crossing(&with("100"), &with("90")), (false, false));
        assert_eq!(crossing(&with("90"), &with("95")), (false, false));
        assert_eq!(crossing(&with("105"), &with("95")), (true, false));
    }

    #[test]
    fn m15_each_threshold_is_crossed_once() {
        let alerted = |available: &str| Balance {
            low_at: ["50", "200", "100"].iter().map(|amount| amount.parse().unwrap()).collect(),
            ..with(available)
        };
        for (before, after, crossed) in [
            ("201", "200.000001", vec![]),
            ("201", "200", vec!["200"]),
            ("200", "100.000001", vec![]),
            ("200", "100", vec!["100"]),
            ("1000", "50", vec!["200", "100", "50"]),
            ("150", "0", vec!["100", "50"]),
            ("50", "0", vec![]),
        ] {
            let low = Crossing::of(&alerted(before), &alerted(after)).unwrap().low;
            let crossed: Vec<_> = crossed.iter().map(|amount| amount.parse().unwrap()).collect();
            assert_eq!(low, crossed, "{before} to {after}");
        }
    }

    #[test]
    fn m15_new_thresholds_raise_nothing_in_a_balance_that_is_low() {
        let at = |thresholds: &[&str]| Balance {
            low_at: thresholds.iter().map(|amount| amount.parse().unwrap()).collect(),
            ..with("60")
        };
        for (before, after, crossed) in [
            (vec!["100"], vec!["80"], 0),
            (vec!["100"], vec!["100", "80"], 0),
            (vec!["50"], vec!["100", "50"], 1),
            (vec![], vec!["100", "80"], 2),
        ] {
            let low = Crossing::of(&at(&before), &at(&after)).unwrap().low;
            assert_eq!(low.len(), crossed, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn m15_new_alert_is_raised_if_low_except_in_a_new_workspace() {
        let set = |after: &Balance| {
            crossing(&Balance { low_at: AlertThresholds::default(), ..after.clone() }, after)
        };
        assert_eq!(set(&with("90")), (true, false));
        assert_eq!(set(&with("0")), (true, false));
        assert_eq!(set(&Balance { added: None, ..with("0") }), (false, false));
        assert_eq!(set(&Balance { added: None, ..with("90") }), (true, false), "addition was not recorded");
    }

    #[test]
    fn m10_workspace_is_exhausted_without_credits_limit_or_holds() {
        let limited = |available: &str, limit: &str| {
            let spendable = credits(available).plus(credits(limit)).unwrap();
            Balance { spendable, credit_limit: credits(limit), ..with(available) }
        };
        for (balance, is_exhausted) in [
            (with("0.000001"), false),
            (with("0"), true),
            (with("-5"), true),
            (holding("0", "1"), false),
            (holding("-1", "1"), true),
            (limited("-49", "50"), false),
            (limited("-50", "50"), true),
        ] {
            assert_eq!(balance.is_exhausted(), Ok(is_exhausted), "{balance:?}");
        }
    }

    #[test]
    fn m10_first_refusal_below_one_percent_of_addition_exhausts() {
        let noted = Exhaustion { below: credits("10"), added: "1000".parse().ok() };
        for (balance, found) in [
            (with("10"), None),
            (with("9.999999"), Some(noted)),
            (holding("0", "1000"), Some(noted)),
            (with("0"), None),
            (Balance { exhaustion_noted: true, ..with("5") }, None),
            (Balance { added: None, ..with("0.05") }, None),
        ] {
            assert_eq!(balance.exhaustion(), Ok(found), "{balance:?}");
        }
        let limited =
            |spendable| Balance { spendable: credits(spendable), credit_limit: credits("5000"), ..with("0") };
        assert_eq!(limited("50").exhaustion(), Ok(None));
        let of_limit = Exhaustion { below: credits("50"), ..noted };
        assert_eq!(limited("49").exhaustion(), Ok(Some(of_limit)), "1 % of the limit is larger");
    }

    #[test]
    fn m10_exhaustion_is_raised_once_until_credits_are_added() {
        let noted = Balance { exhaustion_noted: true, ..with("5") };
        assert_eq!(crossing(&with("5"), &noted), (false, true));
        assert_eq!(crossing(&noted, &Balance { exhaustion_noted: true, ..with("0") }), (false, false));
        let spent = Balance { exhaustion_noted: true, ..with("0") };
        let added =
            Posting::top_up("1000".parse().unwrap(), Timestamp::UNIX_EPOCH).apply(&spent, "").unwrap();
        assert_eq!((added.is_exhausted(), crossing(&spent, &added)), (Ok(false), (false, false)));
        assert_eq!(crossing(&added, &with("0")), (true, true));
    }

    #[test]
    fn m10_spending_released_credits_raises_no_second_alert() {
        let noted = Balance { exhaustion_noted: true, ..holding("0", "100") };
        let released = Balance { exhaustion_noted: true, ..with("98") };
        assert_eq!((noted.is_exhausted(), released.is_exhausted()), (Ok(true), Ok(false)));
        let spent = Balance { exhaustion_noted: true, ..with("2") };
        assert_eq!((spent.is_exhausted(), crossing(&released, &spent)), (Ok(true), (false, false)));
        assert_eq!(spent.exhaustion(), Ok(None));
    }

    #[test]
    fn m10_a_higher_credit_limit_ends_an_exhaustion() {
        let noted = Balance { exhaustion_noted: true, ..with("5") };
        let raised = Posting::limit(Credits::ZERO, credits("50")).unwrap().apply(&noted, "").unwrap();
        assert!(!raised.exhaustion_noted);
    }

    #[test]
    fn m12_mails_about_failed_runs_become_rarer() {
        for (hours, interval) in [(0, 1), (23, 1), (24, 24), (167, 24), (168, 168), (1_000, 168)] {
            let sent_for = SignedDuration::from_hours(hours);
            assert_eq!(failure_mail_interval(sent_for), SignedDuration::from_hours(interval), "{hours}");
        }
    }
}
