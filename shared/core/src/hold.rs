//! Holds: credits set aside for calls whose cost is known only afterwards (M4).
//!
//! A hold lives in an item of its own; the balance knows no more of it than how much the holds of each epoch keep.
//! Placing one is blind, so only its epoch can say later which credits it stood on: open holds stand directly after
//! what is used, older epochs first, and what of them stood on credits that have expired since is *dead*. What is
//! captured takes dead credits first, what is given back is live first, and the rest expires. So what was promised can
//! be captured, and no credit becomes everlasting by way of a hold.

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;
use crate::posting::{Condition, Movement, Posting};

/// What a balance has to be told of a hold when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The balance's epoch in which it was placed.
    pub epoch: u64,
    /// What it keeps.
    pub amount: Amount,
}

/// How a hold ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What it does to the balance.
    pub posting: Posting,
    /// What of it is given back and has expired meanwhile; its ledger entry is an expiry.
    pub expired: Credits,
}

/// Why a hold can't end so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// More was captured than it keeps, or less than nothing.
    #[error("a hold can't end with what it doesn't keep")]
    NotKept,
    /// The balance knows nothing of its epoch.
    #[error("the balance keeps no hold of this epoch")]
    UnknownEpoch,
    /// The sums leave their range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl Posting {
    /// Sets an amount aside, if the balance covers it and is in the epoch that the hold will keep.
    #[must_use]
    pub fn hold(amount: Amount, now: Timestamp, epoch: u64) -> Self {
        let kept = amount.credits();
        let movement = Movement { spendable: kept.negated(), held: kept, ..Movement::default() };
        Self { condition: Condition::CoversIn { amount, now, epoch }, movement }
    }
}

impl Balance {
    /// Works out how a hold ends of which so much was captured. What is captured counts as consumed now.
    ///
    /// In the hold's own epoch debits may pass meanwhile; later, the posting asks that the holds of that epoch are those
    /// that were read here.
    pub fn end_hold(&self, hold: Placement, captured: Credits, now: Timestamp) -> Result<Ending, HoldError> {
        let kept = hold.amount.credits();
        let rest = kept.minus(captured)?;
        if captured < Credits::ZERO || rest < Credits::ZERO {
            return Err(HoldError::NotKept);
        }
        let consumed = (!captured.is_zero()).then(|| (Month::of(now), captured));
        if hold.epoch == self.epoch {
            let movement = Movement {
                spendable: rest,
                used: captured,
                held: kept.negated(),
                consumed,
                ..Movement::default()
            };
            let posting = Posting { condition: Condition::EpochIs(hold.epoch), movement };
            return Ok(Ending { posting, expired: Credits::ZERO });
        }
        let read = *self.closed.get(&hold.epoch).ok_or(HoldError::UnknownEpoch)?;
        let of_dead = captured.min(read.dead);
        let used = captured.minus(of_dead)?;
        let live = read.held.minus(read.dead)?.minus(used)?;
        let back = rest.min(live);
        let expired = rest.minus(back)?;
        let left =
            ClosedHolds { held: read.held.minus(kept)?, dead: read.dead.minus(of_dead)?.minus(expired)? };
        let left = (!left.held.is_zero()).then_some(left);
        let closed = Some((hold.epoch, left));
        let movement = Movement { spendable: back, used, consumed, closed, ..Movement::default() };
        let condition = Condition::HoldsAre { epoch: hold.epoch, holds: read };
        Ok(Ending { posting: Posting { condition, movement }, expired })
    }
}
