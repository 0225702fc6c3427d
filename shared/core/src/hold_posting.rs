//! Holds in a balance: credits reserved for calls whose cost is known only afterwards (M4).
//!
//! Each hold has an item of its own. The balance only counts the credits in the holds of each epoch.
//!
//! A hold is placed without reading the grants, so only its epoch shows later which credits it reserved. Open holds
//! take credits directly after what is used, older epochs first. Reserved credits that have expired since are *dead*.
//!
//! A capture takes dead credits first. A release returns live credits first, and the rest expires. So a reserved amount
//! can always be captured, and a hold can't keep credits from expiring for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;
use crate::posting::{Condition, Movement, Posting};

/// The epoch and amount of a hold, which the balance needs when the hold ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The balance's epoch in which the hold was placed.
    pub epoch: u64,
    /// The reserved credits.
    pub amount: Amount,
}

/// A posting that ends one or more holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPosting {
    pub posting: Posting,
    /// Released credits that have expired meanwhile. Their ledger entry is an expiry.
    pub expired: Credits,
    /// Captured credits that have expired meanwhile.
    pub paid_by_expired: Credits,
}

/// Why a hold can't end or be extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The balance counts no open hold of the hold's epoch.
    #[error("the balance has no open hold of this epoch")]
    UnknownEpoch,
    /// A sum of credits is out of range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl Posting {
    /// Returns the posting that places a hold. The balance must cover the amount and be in the given epoch.
    #[must_use]
    pub fn hold(amount: Amount, now: Timestamp, epoch: u64) -> Self {
        let kept = amount.credits();
        let movement = Movement { spendable: kept.negated(), held: kept, ..Movement::default() };
        let condition = Condition { epoch: Some(epoch), ..Condition::covering(amount.into(), now) };
        Self { condition, movement }
    }
}

impl Balance {
    /// Returns the posting that extends a hold. The balance must cover the addition, which belongs to the hold's epoch.
    pub fn extend_hold(&self, hold: Placement, more: Amount, now: Timestamp) -> Result<Posting, HoldError> {
        if hold.epoch == self.epoch {
            return Ok(Posting::hold(more, now, hold.epoch));
        }
        let read = self.holds_of(hold.epoch)?;
        let grown = ClosedHolds { held: read.held.plus(more.credits())?, ..read };
        let condition = Condition {
            earlier_epochs: BTreeMap::from([(hold.epoch, read)]),
            ..Condition::covering(more.into(), now)
        };
        let earlier_epochs = BTreeMap::from([(hold.epoch, Some(grown))]);
        let movement =
            Movement { spendable: more.credits().negated(), earlier_epochs, ..Movement::default() };
        Ok(Posting { condition, movement })
    }

    /// Returns one posting that ends holds, each with the credits captured of it.
    ///
    /// Captured credits count as consumed now. If a capture exceeds its hold, the balance must cover the difference.
    /// Nothing may be due, because which credits expire depends on whether a hold has ended before.
    ///
    /// While the balance is in the holds' own epoch, debits may pass between the read and the write. In a later epoch,
    /// the posting requires that the holds of their epochs are still those that were read here.
    pub fn end_holds(
        &self,
        holds: impl IntoIterator<Item = (Placement, Credits)>,
        now: Timestamp,
    ) -> Result<EndPosting, HoldError> {
        let mut balance = self.clone();
        let mut all = EndPosting {
            posting: Posting::default(),
            expired: Credits::ZERO,
            paid_by_expired: Credits::ZERO,
        };
        for (hold, captured) in holds {
            let EndPosting { posting, expired, paid_by_expired } = balance.end_hold(hold, captured, now)?;
            balance = posting.movement.applied_to(&balance)?;
            all = EndPosting {
                posting: all.posting.then(posting)?,
                expired: all.expired.plus(expired)?,
                paid_by_expired: all.paid_by_expired.plus(paid_by_expired)?,
            };
        }
        Ok(all)
    }

    fn end_hold(&self, hold: Placement, captured: Credits, now: Timestamp) -> Result<EndPosting, HoldError> {
        let kept = hold.amount.credits();
        let (rest, above) = (kept.minus(captured)?.or_zero(), captured.minus(kept)?.or_zero());
        let consumed = (!captured.is_zero()).then(|| (Month::of(now), captured)).into_iter().collect();
        let covers = Some(above).filter(|above| !above.is_zero());
        let ends = Condition { covers, nothing_due_at: Some(now), ..Condition::default() };
        if hold.epoch == self.epoch {
            let spendable = rest.minus(above)?;
            let movement =
                Movement { spendable, used: captured, held: kept.negated(), consumed, ..Movement::default() };
            let condition = Condition { epoch: Some(hold.epoch), ..ends };
            let posting = Posting { condition, movement };
            return Ok(EndPosting { posting, expired: Credits::ZERO, paid_by_expired: Credits::ZERO });
        }
        let read = self.holds_of(hold.epoch)?;
        let of_dead = captured.min(read.dead);
        let used = captured.minus(of_dead)?;
        let live = read.held.minus(read.dead)?.plus(above)?.minus(used)?;
        let back = rest.min(live);
        let expired = rest.minus(back)?;
        let left =
            ClosedHolds { held: read.held.minus(kept)?, dead: read.dead.minus(of_dead)?.minus(expired)? };
        let left = (!left.held.is_zero()).then_some(left);
        let earlier_epochs = BTreeMap::from([(hold.epoch, left)]);
        let movement =
            Movement { spendable: back.minus(above)?, used, consumed, earlier_epochs, ..Movement::default() };
        let condition = Condition { earlier_epochs: BTreeMap::from([(hold.epoch, read)]), ..ends };
        Ok(EndPosting { posting: Posting { condition, movement }, expired, paid_by_expired: of_dead })
    }

    fn holds_of(&self, epoch: u64) -> Result<ClosedHolds, HoldError> {
        self.earlier_epochs.get(&epoch).copied().ok_or(HoldError::UnknownEpoch)
    }
}

impl Posting {
    /// Merges two postings into one write. The second was computed from the balance that the first leaves.
    fn then(self, next: Self) -> Result<Self, OutOfRange> {
        let (mut condition, first, second) = (self.condition, self.movement, next.movement);
        condition.epoch = condition.epoch.or(next.condition.epoch);
        condition.nothing_due_at = condition.nothing_due_at.or(next.condition.nothing_due_at);
        for (epoch, holds) in next.condition.earlier_epochs {
            // If both change an epoch, the second has read what the first leaves, so the first condition holds.
            condition.earlier_epochs.entry(epoch).or_insert(holds);
        }
        condition.covers = match (condition.covers, next.condition.covers) {
            (Some(one), Some(other)) => Some(one.plus(other)?),
            (one, other) => one.or(other),
        };
        let mut consumed = first.consumed;
        for (month, credits) in second.consumed {
            let sum = consumed.get(&month).copied().unwrap_or_default().plus(credits)?;
            consumed.insert(month, sum);
        }
        let mut earlier_epochs = first.earlier_epochs;
        earlier_epochs.extend(second.earlier_epochs);
        let movement = Movement {
            spendable: first.spendable.plus(second.spendable)?,
            used: first.used.plus(second.used)?,
            held: first.held.plus(second.held)?,
            earlier_epochs,
            consumed,
            ..Movement::default()
        };
        Ok(Self { condition, movement })
    }
}
