//! Alerts: when a balance is low (M15), when a workspace is out of credits (M10), and how often mails tell of failed runs
//! (M12).
//!
//! ```text
//! owned     = available + held
//! low       ⇔ owned ≤ threshold
//! spent     ⇔ owned + credit_limit ≤ 0
//! noted     ⇔ since the last addition a call was refused while spendable < 1 % of max(addition, credit_limit)
//! a write tells "low"       ⇔ low after it, and not before it
//! a write tells "exhausted" ⇔ (spent or noted) after it, and neither before it
//! ```
//!
//! Placing, extending and releasing a hold leave `owned` as it is. Only an addition and the invoice of a debt raise it,
//! which the conservation test checks. So an alert is armed by the addition that takes `owned` above its threshold, one
//! write crosses it until the next addition, and no state is needed: a redelivered record of that write repeats the
//! same event. Whatever may raise `owned` otherwise has to arm the alert at 110 % of its threshold, and not before.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::balance::Balance;
use crate::credits::{Amount, Credits, OutOfRange};

/// The low-balance alert of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowBalance {
    /// Whether it is switched on.
    pub enabled: bool,
    /// At or below which the balance is low; absent where it never was set.
    pub threshold: Option<Amount>,
    /// The addresses that get the mail.
    pub recipients: Vec<String>,
}

impl LowBalance {
    /// Returns the alert of a workspace that never set it.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, threshold: None, recipients: Vec::new() }
    }

    /// Returns the threshold, while the alert is switched on.
    #[must_use]
    pub fn active_threshold(&self) -> Option<Amount> {
        self.threshold.filter(|_| self.enabled)
    }
}

/// What one write of a balance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossing {
    /// The balance has become low; its threshold.
    pub low: Option<Amount>,
    /// The workspace has run out of credits.
    pub exhausted: bool,
}

/// A refusal that leaves a workspace out of credits, and the condition under which it is noted in the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhaustion {
    /// `spendable` is below this.
    pub below: Credits,
    /// No credits were added since the refusal.
    pub added: Option<Amount>,
}

impl Crossing {
    /// Compares a balance before and after a write.
    pub fn of(before: &Balance, after: &Balance) -> Result<Self, OutOfRange> {
        // A new workspace has nothing yet, so its alert has nothing to warn of.
        let is_new = after.added.is_none() && after.owned()?.is_zero();
        let became_low = after.is_low()? && !before.is_low()? && !is_new;
        Ok(Self {
            low: after.low_at.filter(|_| became_low),
            exhausted: after.has_run_out()? && !before.has_run_out()?,
        })
    }
}

impl Balance {
    /// Returns whether the alert's threshold is reached.
    pub fn is_low(&self) -> Result<bool, OutOfRange> {
        let owned = self.owned()?;
        Ok(self.low_at.is_some_and(|low_at| owned <= low_at.credits()))
    }

    /// Returns whether the workspace is out of credits: all are spent, or calls are refused for what is left.
    pub fn is_exhausted(&self) -> Result<bool, OutOfRange> {
        Ok(self.is_spent()? || (self.exhaustion_noted && self.spendable < self.next_to_nothing()?))
    }

    /// Returns what a refusal by this balance has to note, if it is the first that leaves the workspace out of credits
    /// since credits were added.
    pub fn exhaustion(&self) -> Result<Option<Exhaustion>, OutOfRange> {
        let below = self.next_to_nothing()?;
        let exhausts = self.spendable < below && !self.has_run_out()?;
        Ok(exhausts.then_some(Exhaustion { below, added: self.added }))
    }

    /// Whether the workspace has run out of credits since they were added last. Open holds that end later may release
    /// some.
    fn has_run_out(&self) -> Result<bool, OutOfRange> {
        Ok(self.exhaustion_noted || self.is_spent()?)
    }

    /// Whether neither credits nor a credit limit are left, with all that open holds keep.
    fn is_spent(&self) -> Result<bool, OutOfRange> {
        Ok(self.owned()?.plus(self.credit_limit)? <= Credits::ZERO)
    }

    /// 1 % of what was added last, or of the credit limit if that is more.
    fn next_to_nothing(&self) -> Result<Credits, OutOfRange> {
        let added = self.added.map_or(Credits::ZERO, Amount::credits);
        added.max(self.credit_limit).share(1, 100)
    }
}

/// Returns the shortest time between two mails about failed runs of one workspace, by how long they have been sent
/// without an addition of credits: an hour on the first day, a day in the first week, then a week.
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

    use super::{Crossing, Exhaustion, LowBalance, failure_mail_interval};
    use crate::balance::Balance;
    use crate::credits::Credits;
    use crate::posting::Posting;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    /// A balance after an addition of 1,000 credits of which so many are available, with an alert at 100.
    fn with(available: &str) -> Balance {
        Balance {
            spendable: credits(available),
            prepaid: credits(available),
            low_at: "100".parse().ok(),
            added: "1000".parse().ok(),
            ..Balance::default()
        }
    }

    /// The same, of which so many are held.
    fn holding(available: &str, held: &str) -> Balance {
        let balance = with(available);
        Balance { prepaid: balance.prepaid.plus(credits(held)).unwrap(), held: credits(held), ..balance }
    }

    fn crossing(before: &Balance, after: &Balance) -> (bool, bool) {
        let Crossing { low, exhausted } = Crossing::of(before, after).unwrap();
        (low.is_some(), exhausted)
    }

    #[test]
    fn m15_a_threshold_counts_while_the_alert_is_switched_on() {
        let on = LowBalance { enabled: true, threshold: "100".parse().ok(), ..LowBalance::off() };
        assert_eq!(on.active_threshold(), "100".parse().ok());
        assert_eq!(LowBalance { enabled: false, ..on }.active_threshold(), None);
    }

    #[test]
    fn m15_low_is_what_is_owned_at_the_threshold_and_below() {
        for (balance, is_low) in [
            (with("100.000001"), false),
            (with("100"), true),
            (with("-20"), true),
            (holding("0", "100.000001"), false),
            (holding("40", "60"), true),
            (Balance { low_at: None, ..with("1") }, false),
            (Balance { spendable: credits("150"), credit_limit: credits("50"), ..with("100") }, true),
        ] {
            assert_eq!(balance.is_low(), Ok(is_low), "{balance:?}");
        }
    }

    #[test]
    fn m15_a_hold_never_crosses_and_what_it_spends_does() {
        let hold = |before: &str, available, held| crossing(&with(before), &holding(available, held));
        assert_eq!(hold("150", "90", "60"), (false, false));
        assert_eq!(hold("150", "0", "150"), (false, false));
        assert_eq!(crossing(&holding("90", "60"), &with("150")), (false, false));
        assert_eq!(crossing(&holding("90", "60"), &with("100")), (true, false));
        assert_eq!(crossing(&holding("0", "150"), &with("0")), (true, true));
    }

    #[test]
    fn m15_a_write_below_the_threshold_tells_nothing_again() {
        assert_eq!(crossing(&with("100"), &with("90")), (false, false));
        assert_eq!(crossing(&with("90"), &with("95")), (false, false));
        assert_eq!(crossing(&with("105"), &with("95")), (true, false));
    }

    #[test]
    fn m15_an_alert_that_is_set_tells_what_is_low_except_in_a_new_workspace() {
        let set = |after: &Balance| crossing(&Balance { low_at: None, ..after.clone() }, after);
        assert_eq!(set(&with("90")), (true, false));
        assert_eq!(set(&with("0")), (true, false));
        assert_eq!(set(&Balance { added: None, ..with("0") }), (false, false));
        assert_eq!(set(&Balance { added: None, ..with("90") }), (true, false), "additions were not recorded");
    }

    #[test]
    fn m10_a_workspace_is_spent_when_neither_credits_nor_its_limit_nor_holds_are_left() {
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
    fn m10_the_first_refusal_below_a_hundredth_of_the_addition_exhausts() {
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
        assert_eq!(limited("49").exhaustion(), Ok(Some(of_limit)), "the limit is the larger");
    }

    #[test]
    fn m10_exhaustion_is_told_once_until_credits_are_added() {
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
    fn m10_what_a_hold_releases_can_be_spent_and_is_told_no_second_time() {
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
