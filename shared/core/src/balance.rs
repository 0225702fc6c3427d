//! The balance item: one workspace's credits as the counters that a conditional write can move.
//!
//! Counters and not a computed split, so that a debit needs no read. An *epoch* is the time between two closes.
//! `spendable = Σ grants + prepaid + credit_limit − used − held − Σ (closed.held − closed.dead)`, always.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::change::QueuedChange;
use crate::close::CloseError;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, NextGrant};
use crate::month::Month;
use crate::waterfall::Waterfall;

/// `expires_next` while changes wait: no debit is before it.
pub const FENCE: Timestamp = Timestamp::UNIX_EPOCH;

/// `expires_next` where nothing expires: the last second of the year 9998.
pub const NEVER: Timestamp = Timestamp::constant(253_370_764_799, 0);

/// How often a balance closes between two reads at most, before it is taken for broken.
const MOST_CLOSES: usize = 1_000;

/// Credits in open holds that were placed in an earlier epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedHolds {
    /// All that these holds keep.
    pub held: Credits,
    /// What of it stood on credits that have expired since.
    pub dead: Credits,
}

/// A workspace's balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What a debit may take now, the credit limit included.
    pub spendable: Credits,
    /// Taken by debits since the epoch began.
    pub used: Credits,
    /// The expiring grants as they stood when the epoch began, earliest expiry first.
    pub grants: Vec<ExpiringGrant>,
    /// All that never expires; below zero it is debt.
    pub prepaid: Credits,
    /// How far below zero an Enterprise workspace may spend.
    pub credit_limit: Credits,
    /// The earliest instant at which something changes by itself (an expiry, the start of what was paid ahead, the
    /// end of a billed month), [`NEVER`], or the [`FENCE`].
    pub expires_next: Timestamp,
    /// Grants that were paid ahead, earliest start first.
    pub next: Vec<NextGrant>,
    /// When debt is billed next, where usage is invoiced (M8).
    pub invoices_at: Option<Timestamp>,
    /// At or below which [`Balance::owned`] is low, where an alert is switched on (M15).
    pub low_at: Option<Amount>,
    /// At or below which a pack is bought by itself, where that is switched on.
    pub top_up_at: Option<Amount>,
    /// The credits that were added last (top-up, grant, allocation, reversal), where any were since this is recorded.
    pub added: Option<Amount>,
    /// Whether a refusal has left the workspace out of credits since credits were last added.
    pub exhaustion_noted: bool,
    /// What waits for the next close.
    pub changes: Vec<QueuedChange>,
    /// Credits in open holds of this epoch.
    pub held: Credits,
    /// Credits in open holds of earlier epochs.
    pub closed: BTreeMap<u64, ClosedHolds>,
    /// Consumption by month.
    pub consumed: BTreeMap<Month, Credits>,
    /// How many closes there were.
    pub epoch: u64,
    /// One up at every write.
    pub version: u64,
    /// The ledger entry of the last write, by its key, so that the stream can be put in order and priced: `key#K`, or
    /// `sys#K` for a key of ours.
    pub last: String,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            spendable: Credits::ZERO,
            used: Credits::ZERO,
            grants: Vec::new(),
            prepaid: Credits::ZERO,
            credit_limit: Credits::ZERO,
            expires_next: NEVER,
            next: Vec::new(),
            invoices_at: None,
            low_at: None,
            top_up_at: None,
            added: None,
            exhaustion_noted: false,
            changes: Vec::new(),
            held: Credits::ZERO,
            closed: BTreeMap::new(),
            consumed: BTreeMap::new(),
            epoch: 0,
            version: 0,
            last: String::new(),
        }
    }
}

impl Balance {
    /// Whether a close has to come before the next debit.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.expires_next <= now
    }

    /// What the customer owns and may spend; without the credit limit (API.md, Balance).
    pub fn available(&self) -> Result<Credits, OutOfRange> {
        self.spendable.minus(self.credit_limit)
    }

    /// Returns what the customer owns: `available` and all that open holds keep. A hold moves credits within it.
    pub fn owned(&self) -> Result<Credits, OutOfRange> {
        self.available()?.plus(self.all_held()?)
    }

    /// Whether a pack is to be bought, as far as the balance can tell.
    pub fn wants_top_up(&self) -> Result<bool, OutOfRange> {
        let available = self.available()?;
        Ok(self.top_up_at.is_some_and(|top_up_at| available <= top_up_at.credits()))
    }

    /// What is left of each grant.
    pub fn waterfall(&self) -> Result<Waterfall, OutOfRange> {
        Waterfall::run_down(&self.grants, self.prepaid, self.used)
    }

    /// All that open holds keep.
    pub fn all_held(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.closed.values().map(|closed| closed.held))?.plus(self.held)
    }

    /// Whether any hold is open.
    #[must_use]
    pub fn has_holds(&self) -> bool {
        !self.held.is_zero() || self.closed.values().any(|closed| !closed.held.is_zero())
    }

    /// What open holds of earlier epochs keep of credits that have not expired.
    pub fn live_in_closed(&self) -> Result<Credits, OutOfRange> {
        self.closed.values().try_fold(Credits::ZERO, |sum, closed| sum.plus(closed.held.minus(closed.dead)?))
    }

    /// Consumption of a month.
    #[must_use]
    pub fn consumed_in(&self, month: Month) -> Credits {
        self.consumed.get(&month).copied().unwrap_or_default()
    }

    /// The month in which the write that made this balance consumed something, and how much.
    #[must_use]
    pub fn consumed_since(&self, before: &Self) -> Option<(Month, Credits)> {
        self.consumed.iter().find_map(|(month, now)| {
            let grown = now.minus(before.consumed_in(*month)).ok()?;
            (grown > Credits::ZERO).then_some((*month, grown))
        })
    }

    /// The balance as if all that is due by `now` were closed, which is how a read shows it.
    pub fn as_of(&self, now: Timestamp) -> Result<Self, CloseError> {
        let mut balance = self.clone();
        for _ in 0..MOST_CLOSES {
            if !balance.is_due(now) {
                return Ok(balance);
            }
            balance = balance.close(now)?.next;
        }
        Err(CloseError::Endless)
    }

    /// Whether the counters agree with each other.
    pub fn is_consistent(&self) -> Result<bool, OutOfRange> {
        let owned = Credits::sum(self.grants.iter().map(|grant| grant.amount))?.plus(self.prepaid)?;
        let taken = self.used.plus(self.held)?.plus(self.live_in_closed()?)?;
        Ok(self.spendable == owned.plus(self.credit_limit)?.minus(taken)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Balance;
    use crate::credits::Credits;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    /// A balance whose customer has so many credits, beside a limit that is not his.
    fn with(available: &str) -> Balance {
        let spendable = credits(available).plus(credits("50")).unwrap();
        let (threshold, prepaid) = ("100".parse().ok(), credits(available));
        let credit_limit = credits("50");
        Balance { spendable, prepaid, credit_limit, top_up_at: threshold, ..Balance::default() }
    }

    #[test]
    fn m05_a_pack_is_wanted_at_the_threshold_and_below_whatever_the_credit_limit() {
        for (available, is_wanted) in [("100.000001", false), ("100", true), ("99", true), ("-20", true)] {
            let balance = with(available);
            assert_eq!(balance.wants_top_up(), Ok(is_wanted), "{available}");
            assert_eq!(Balance { top_up_at: None, ..balance }.wants_top_up(), Ok(false));
        }
    }

    #[test]
    fn what_a_write_consumed_is_what_a_month_has_grown_by() {
        let (october, november) = ("2026-10".parse().unwrap(), "2026-11".parse().unwrap());
        let consumed = |months: &[_]| Balance { consumed: months.iter().copied().collect(), ..with("100") };
        let before = consumed(&[(october, credits("7")), (november, credits("2"))]);
        let after = consumed(&[(october, credits("7")), (november, credits("5"))]);
        assert_eq!(after.consumed_since(&before), Some((november, credits("3"))));
        assert_eq!(after.consumed_since(&after), None);
        assert_eq!(before.consumed_since(&after), None);
        assert_eq!(after.consumed_since(&with("100")), Some((october, credits("7"))));
    }

    #[test]
    fn counters_that_do_not_agree_are_told() {
        let balance = with("100");
        assert_eq!(balance.is_consistent(), Ok(true));
        for counters in [
            Balance { spendable: credits("149"), ..balance.clone() },
            Balance { used: credits("1"), ..balance.clone() },
            Balance { held: credits("1"), ..balance.clone() },
        ] {
            assert_eq!(counters.is_consistent(), Ok(false));
        }
    }
}
