//! The balance item: one workspace's credits, as counters that a conditional write can change.
//!
//! The item holds counters, not the split by grant, so that a debit needs no read. An *epoch* is the time between two
//! closes. At any time:
//!
//! ```text
//! spendable = Σ grants + prepaid + credit_limit − used − held − Σ (earlier.held − earlier.dead) − allotted − reserve
//! ```
//!
//! `allotted` and `reserve` are zero unless the workspace is so busy that lanes are open ([`crate::lane`]).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::alert::AlertThresholds;
use crate::change::QueuedChange;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, NextGrant};
use crate::lane::OpenLanes;
use crate::month::Month;
use crate::posting::Thresholds;
use crate::waterfall::Waterfall;

/// The value of `expires_next` while changes are queued. It is in the past, so no debit passes before a close.
pub const FENCE: Timestamp = Timestamp::UNIX_EPOCH;

/// The value of `expires_next` if nothing will be due: the last second of the year 9998.
pub const NEVER: Timestamp = Timestamp::constant(253_370_764_799, 0);

/// Credits in open holds that were placed in an earlier epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedHolds {
    /// The credits in these holds.
    pub held: Credits,
    /// The part of `held` whose credits have expired since.
    pub dead: Credits,
}

/// A workspace's balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What a debit may take now, including the credit limit.
    pub spendable: Credits,
    /// Credits taken by debits since the epoch began.
    pub used: Credits,
    /// The expiring grants as they stood when the epoch began, earliest expiry first.
    pub grants: Vec<ExpiringGrant>,
    /// Credits that never expire. Below zero, this is debt.
    pub prepaid: Credits,
    /// How far below zero an Enterprise workspace may spend.
    pub credit_limit: Credits,
    /// When the balance next changes by itself: an expiry, the start of a grant paid ahead or the end of a billed
    /// month. [`NEVER`] if none is ahead, [`FENCE`] while changes are queued.
    pub expires_next: Timestamp,
    /// Grants paid ahead, earliest start first.
    pub next: Vec<NextGrant>,
    /// When debt is billed next; `None` unless use beyond credits is invoiced (M8).
    pub invoices_at: Option<Timestamp>,
    /// [`Balance::owned`] is low at or below each of these; none if the alert is switched off (M15).
    pub low_at: AlertThresholds,
    /// Automatic top-up buys a pack at or below this [`Balance::available`]; `None` if it is switched off.
    pub top_up_at: Option<Amount>,
    /// The latest addition of credits (top-up, grant, allocation, reversal); `None` if none was recorded.
    pub added: Option<Amount>,
    /// Whether a refusal has left the workspace out of credits since the latest addition.
    pub exhaustion_noted: bool,
    /// Changes that wait for the next close, in the order of their writes.
    pub changes: Vec<QueuedChange>,
    /// Credits in open holds of this epoch.
    pub held: Credits,
    /// Open holds of earlier epochs, by epoch.
    pub earlier_epochs: BTreeMap<u64, ClosedHolds>,
    /// Consumption by month. Closes and debits remove months before the last one.
    pub consumed: BTreeMap<Month, Credits>,
    /// The open lanes. `None` if none is open, and in a balance that [`Balance::with_lanes`] returns.
    pub lanes: Option<OpenLanes>,
    /// How often lanes were opened.
    pub lane_generation: u64,
    /// The version of the workspace's own prices; `None` if it has none.
    pub pricing: Option<u64>,
    /// The number of postings that change usage without consuming credits: those of free calls and of refunds of debits.
    pub usage_marks: u64,
    /// The number of closes so far.
    pub epoch: u64,
    /// Incremented by every write. A settlement also adds the writes of its lanes.
    pub version: u64,
    /// The key of the latest write's ledger entry: `key#K` for a caller's key, `sys#K` for one of ours. Readers of the
    /// stream find the entry of each write by it.
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
            low_at: AlertThresholds::default(),
            top_up_at: None,
            added: None,
            exhaustion_noted: false,
            changes: Vec::new(),
            held: Credits::ZERO,
            earlier_epochs: BTreeMap::new(),
            consumed: BTreeMap::new(),
            lanes: None,
            lane_generation: 0,
            pricing: None,
            usage_marks: 0,
            epoch: 0,
            version: 0,
            last: String::new(),
        }
    }
}

impl Balance {
    /// Returns whether the balance must be closed before the next debit.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.expires_next <= now
    }

    /// Returns the thresholds.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { low_at: self.low_at.largest(), top_up_at: self.top_up_at }
    }

    /// Returns what the customer owns and may spend, without the credit limit (docs/api.md). While lanes are open, this
    /// is only the balance's own part.
    pub fn available(&self) -> Result<Credits, OutOfRange> {
        self.spendable.minus(self.credit_limit)
    }

    /// Returns what the customer owns: `available` plus the credits in open holds. Placing a hold does not change it.
    pub fn owned(&self) -> Result<Credits, OutOfRange> {
        self.available()?.plus(self.all_held()?)
    }

    /// Returns whether `available` is at or below the threshold of automatic top-up. It is not while lanes are open.
    pub fn wants_top_up(&self) -> Result<bool, OutOfRange> {
        let available = self.available()?;
        Ok(self.lanes.is_none() && self.top_up_at.is_some_and(|top_up_at| available <= top_up_at.credits()))
    }

    /// Returns what is left of each grant.
    pub fn waterfall(&self) -> Result<Waterfall, OutOfRange> {
        Waterfall::run_down(&self.grants, self.prepaid, self.used)
    }

    /// Returns the credits in all open holds.
    pub fn all_held(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.earlier_epochs.values().map(|holds| holds.held))?.plus(self.held)
    }

    /// Returns whether any hold is open.
    #[must_use]
    pub fn has_open_holds(&self) -> bool {
        !self.held.is_zero() || self.earlier_epochs.values().any(|holds| !holds.held.is_zero())
    }

    /// Returns the credits in open holds of earlier epochs that have not expired.
    pub fn live_in_earlier_epochs(&self) -> Result<Credits, OutOfRange> {
        self.earlier_epochs
            .values()
            .try_fold(Credits::ZERO, |sum, holds| sum.plus(holds.held.minus(holds.dead)?))
    }

    /// Returns the consumption of a month.
    #[must_use]
    pub fn consumed_in(&self, month: Month) -> Credits {
        self.consumed.get(&month).copied().unwrap_or_default()
    }

    /// Returns whether the counters satisfy the equation of this module.
    pub fn is_consistent(&self) -> Result<bool, OutOfRange> {
        let owned = Credits::sum(self.grants.iter().map(|grant| grant.amount))?.plus(self.prepaid)?;
        let in_lanes = self.lanes.map_or(Ok(Credits::ZERO), OpenLanes::credits)?;
        let taken = self.used.plus(self.held)?.plus(self.live_in_earlier_epochs()?)?.plus(in_lanes)?;
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

    /// Returns a balance of `available` credits with a credit limit of 50 and automatic top-up at 100.
    fn with(available: &str) -> Balance {
        let spendable = credits(available).plus(credits("50")).unwrap();
        let (threshold, prepaid) = ("100".parse().ok(), credits(available));
        let credit_limit = credits("50");
        Balance { spendable, prepaid, credit_limit, top_up_at: threshold, ..Balance::default() }
    }

    #[test]
    fn m05_top_up_is_wanted_at_the_threshold_without_the_limit() {
        for (available, is_wanted) in [("100.000001", false), ("100", true), ("99", true), ("-20", true)] {
            let balance = with(available);
            assert_eq!(balance.wants_top_up(), Ok(is_wanted), "{available}");
            assert_eq!(Balance { top_up_at: None, ..balance }.wants_top_up(), Ok(false));
        }
    }

    #[test]
    fn counters_that_do_not_agree_are_inconsistent() {
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
