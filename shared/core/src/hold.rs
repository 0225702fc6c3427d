//! Holds: credits set aside for calls whose cost is known only afterwards (M4).
//!
//! A hold lives in an item of its own; the balance knows no more of it than how much the holds of each epoch keep.
//! Placing one is blind, so only its epoch can say later which credits it stood on: open holds stand directly after
//! what is used, older epochs first, and what of them stood on credits that have expired since is *dead*. What is
//! captured takes dead credits first, what is given back is live first, and the rest expires. So what was promised can
//! be captured, and no credit becomes everlasting by way of a hold.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;
use crate::planted::{Slip, slips};
use crate::posting::{Condition, Movement, Posting};

/// What a balance has to be told of a hold when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The balance's epoch in which it was placed.
    pub epoch: u64,
    /// What it keeps.
    pub amount: Amount,
}

/// How some holds end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What it does to the balance.
    pub posting: Posting,
    /// What of them is given back and has expired meanwhile; its ledger entry is an expiry.
    pub expired: Credits,
}

/// Why a hold can't end so, or grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
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
        let condition = Condition { epoch: Some(epoch), ..Condition::covering(amount, now) };
        Self { condition, movement }
    }
}

impl Balance {
    /// Sets more aside for a hold, if the balance covers it. It stands where the hold stands.
    pub fn extend_hold(&self, hold: Placement, more: Amount, now: Timestamp) -> Result<Posting, HoldError> {
        if hold.epoch == self.epoch {
            return Ok(Posting::hold(more, now, hold.epoch));
        }
        let read = self.holds_of(hold.epoch)?;
        let grown = ClosedHolds { held: read.held.plus(more.credits())?, ..read };
        let condition =
            Condition { holds: BTreeMap::from([(hold.epoch, read)]), ..Condition::covering(more, now) };
        let closed = BTreeMap::from([(hold.epoch, Some(grown))]);
        let movement = Movement { spendable: more.credits().negated(), closed, ..Movement::default() };
        Ok(Posting { condition, movement })
    }

    /// Works out how holds end of which so much was captured, all in one posting. What is captured counts as consumed
    /// now; what of it is above its hold, the balance has to cover. Nothing may be due: which credits expire depends on
    /// whether a hold has ended before.
    ///
    /// In the holds' own epoch debits may pass meanwhile; later, the posting asks that the holds of their epochs are those
    /// that were read here.
    pub fn end_holds(
        &self,
        holds: impl IntoIterator<Item = (Placement, Credits)>,
        now: Timestamp,
    ) -> Result<Ending, HoldError> {
        let mut balance = self.clone();
        let mut all = Ending { posting: Posting::default(), expired: Credits::ZERO };
        for (hold, captured) in holds {
            let Ending { posting, expired } = balance.end_hold(hold, captured, now)?;
            balance = posting.movement.of(&balance)?;
            all = Ending { posting: all.posting.then(posting)?, expired: all.expired.plus(expired)? };
        }
        Ok(all)
    }

    fn end_hold(&self, hold: Placement, captured: Credits, now: Timestamp) -> Result<Ending, HoldError> {
        let kept = hold.amount.credits();
        let (rest, above) = (kept.minus(captured)?.or_zero(), captured.minus(kept)?.or_zero());
        let consumed = (!captured.is_zero()).then(|| (Month::of(now), captured));
        let ends =
            Condition { covers: Amount::new(above).ok(), nothing_due_at: Some(now), ..Condition::default() };
        if hold.epoch == self.epoch {
            let spendable = rest.minus(above)?;
            let movement =
                Movement { spendable, used: captured, held: kept.negated(), consumed, ..Movement::default() };
            let condition = Condition { epoch: Some(hold.epoch), ..ends };
            return Ok(Ending { posting: Posting { condition, movement }, expired: Credits::ZERO });
        }
        let read = self.holds_of(hold.epoch)?;
        let of_dead = captured.min(read.dead);
        let used = captured.minus(of_dead)?;
        let live = read.held.minus(read.dead)?.plus(above)?.minus(used)?;
        let back = if slips(Slip::ExpiredComesBack) { rest } else { rest.min(live) };
        let expired = rest.minus(back)?;
        let left =
            ClosedHolds { held: read.held.minus(kept)?, dead: read.dead.minus(of_dead)?.minus(expired)? };
        let left = (!left.held.is_zero()).then_some(left);
        let closed = BTreeMap::from([(hold.epoch, left)]);
        let movement =
            Movement { spendable: back.minus(above)?, used, consumed, closed, ..Movement::default() };
        let holds = BTreeMap::from([(hold.epoch, read)]);
        let condition = Condition { holds, ..ends };
        Ok(Ending { posting: Posting { condition, movement }, expired })
    }

    fn holds_of(&self, epoch: u64) -> Result<ClosedHolds, HoldError> {
        self.closed.get(&epoch).copied().ok_or(HoldError::UnknownEpoch)
    }
}

impl Posting {
    /// Both in one write: the second was worked out on what the first leaves.
    fn then(self, next: Self) -> Result<Self, OutOfRange> {
        let (mut condition, first, second) = (self.condition, self.movement, next.movement);
        condition.epoch = condition.epoch.or(next.condition.epoch);
        condition.nothing_due_at = condition.nothing_due_at.or(next.condition.nothing_due_at);
        for (epoch, holds) in next.condition.holds {
            // Of an epoch that both touch, the second has read what the first leaves.
            condition.holds.entry(epoch).or_insert(holds);
        }
        condition.covers = match (condition.covers, next.condition.covers) {
            (Some(one), Some(other)) => {
                let amount = one.credits().plus(other.credits())?;
                Some(Amount::new(amount).map_err(|_| OutOfRange)?)
            }
            (one, other) => one.or(other),
        };
        let consumed = match (first.consumed, second.consumed) {
            (Some((month, one)), Some((_, other))) => Some((month, one.plus(other)?)),
            (one, other) => one.or(other),
        };
        let mut closed = first.closed;
        closed.extend(second.closed);
        let movement = Movement {
            spendable: first.spendable.plus(second.spendable)?,
            used: first.used.plus(second.used)?,
            held: first.held.plus(second.held)?,
            closed,
            consumed,
            ..Movement::default()
        };
        Ok(Self { condition, movement })
    }
}
