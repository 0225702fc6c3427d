//! Postings: what a debit, a top-up or a change does to a balance, and under which condition.
//!
//! Core states a posting, the store makes one conditional write of it, and [`Posting::apply`] says what that write
//! does, so that the rules are tested here at full speed and the store is tested against this statement.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, FENCE};
use crate::change::{Change, QueuedChange};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;

/// Under which condition a posting is written: all that is asked here, and that the workspace has a balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `spendable` covers this amount.
    pub covers: Option<Amount>,
    /// Nothing is due at this instant: `expires_next > now`. What is due is closed first.
    pub nothing_due_at: Option<Timestamp>,
    /// The balance is in this epoch: a hold keeps the one in which it was placed.
    pub epoch: Option<u64>,
    /// What the holds of earlier epochs keep is still this.
    pub holds: BTreeMap<u64, ClosedHolds>,
    /// The credit limit is still this one.
    pub credit_limit: Option<Credits>,
}

/// What a posting adds to the balance's counters, and what it queues behind the fence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Movement {
    /// Added to `spendable`.
    pub spendable: Credits,
    /// Added to `used`.
    pub used: Credits,
    /// Added to `prepaid`.
    pub prepaid: Credits,
    /// Added to what holds of the present epoch keep.
    pub held: Credits,
    /// What holds of earlier epochs keep from now on; nothing if there are none left.
    pub closed: BTreeMap<u64, Option<ClosedHolds>>,
    /// Added to a month's consumption; the counters of the months that it retires go.
    pub consumed: Option<(Month, Credits)>,
    /// Becomes the credit limit, which ends an exhaustion that was noted.
    pub credit_limit: Option<Credits>,
    /// Becomes the credits that were added last, which ends an exhaustion that was noted.
    pub added: Option<Amount>,
    /// Waits for the next close; where there is one, `expires_next` becomes the fence.
    pub change: Option<QueuedChange>,
}

/// One conditional change of a balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posting {
    /// Under which condition.
    pub condition: Condition,
    /// What changes.
    pub movement: Movement,
}

/// Why the balance refuses a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something has expired, or changes wait: close first.
    #[error("the balance has to be closed first")]
    Due,
    /// The credit limit was changed by somebody else.
    #[error("the credit limit is {current} by now")]
    OtherLimit {
        /// What it is.
        current: Credits,
    },
    /// The epoch, or what its holds keep, is another by now: read the balance again.
    #[error("the epoch or its holds are others by now")]
    Moved,
    /// There is not enough to spend.
    #[error("{available} credits are available")]
    Insufficient {
        /// What there is, the credit limit included.
        available: Credits,
    },
    /// The sums leave their range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl Posting {
    /// An AI call draws credits (M2).
    #[must_use]
    pub fn debit(amount: Amount, now: Timestamp) -> Self {
        let taken = amount.credits();
        Self {
            condition: Condition::covering(amount, now),
            movement: Movement {
                spendable: taken.negated(),
                used: taken,
                consumed: Some((Month::of(now), taken)),
                ..Movement::default()
            },
        }
    }

    /// Prepaid credits arrive (M5). They pay debt by themselves, so what is due is closed first: a month's debt is billed
    /// before later credits pay it.
    #[must_use]
    pub fn top_up(amount: Amount, now: Timestamp) -> Self {
        let credits = amount.credits();
        let movement =
            Movement { spendable: credits, prepaid: credits, added: Some(amount), ..Movement::default() };
        Self { condition: Condition { nothing_due_at: Some(now), ..Condition::default() }, movement }
    }

    /// The credit limit becomes another (M8); lowering it may take what may be spent below zero.
    pub fn limit(old: Credits, new: Credits) -> Result<Self, OutOfRange> {
        let movement =
            Movement { spendable: new.minus(old)?, credit_limit: Some(new), ..Movement::default() };
        let condition = Condition { credit_limit: Some(old), ..Condition::default() };
        Ok(Self { condition, movement })
    }

    /// Something that reorders or shrinks the waterfall is put behind the fence.
    #[must_use]
    pub fn change(change: Change, now: Timestamp) -> Self {
        let movement = Movement { change: Some(QueuedChange { at: now, change }), ..Movement::default() };
        Self { condition: Condition::default(), movement }
    }

    /// Why the balance, as it stands, would refuse; the order is that of DESIGN.md: what is due before what is short.
    pub fn check(&self, balance: &Balance) -> Result<(), Refusal> {
        let Condition { covers, nothing_due_at, epoch, holds, credit_limit } = &self.condition;
        if nothing_due_at.is_some_and(|now| balance.is_due(now)) {
            return Err(Refusal::Due);
        }
        let moved = holds.iter().any(|(epoch, holds)| balance.closed.get(epoch) != Some(holds));
        if moved || epoch.is_some_and(|epoch| balance.epoch != epoch) {
            return Err(Refusal::Moved);
        }
        if covers.is_some_and(|amount| balance.spendable < amount.credits()) {
            return Err(Refusal::Insufficient { available: balance.spendable });
        }
        match credit_limit {
            Some(limit) if *limit != balance.credit_limit => {
                Err(Refusal::OtherLimit { current: balance.credit_limit })
            }
            _ => Ok(()),
        }
    }

    /// The balance after the posting, as the database's one conditional write makes it.
    pub fn apply(&self, balance: &Balance, last: &str) -> Result<Balance, Refusal> {
        self.check(balance)?;
        let next = self.movement.of(balance)?;
        Ok(Balance { version: next.version.saturating_add(1), last: last.to_owned(), ..next })
    }
}

impl Condition {
    /// That a balance covers an amount, and nothing is due.
    #[must_use]
    pub fn covering(amount: Amount, now: Timestamp) -> Self {
        Self { covers: Some(amount), nothing_due_at: Some(now), ..Self::default() }
    }
}

impl Movement {
    /// What a balance's counters are after it.
    pub(crate) fn of(&self, balance: &Balance) -> Result<Balance, OutOfRange> {
        let mut next = balance.clone();
        next.spendable = next.spendable.plus(self.spendable)?;
        next.used = next.used.plus(self.used)?;
        next.prepaid = next.prepaid.plus(self.prepaid)?;
        next.held = next.held.plus(self.held)?;
        for (epoch, holds) in &self.closed {
            match holds {
                Some(holds) => drop(next.closed.insert(*epoch, *holds)),
                None => drop(next.closed.remove(epoch)),
            }
        }
        if let Some((month, credits)) = self.consumed {
            next.consumed.insert(month, balance.consumed_in(month).plus(credits)?);
            next.consumed.retain(|counted, _| !month.retired().any(|retired| retired == *counted));
        }
        if let Some(limit) = self.credit_limit {
            next.credit_limit = limit;
            next.exhaustion_noted = false;
        }
        if self.added.is_some() {
            next.added = self.added;
            next.exhaustion_noted = false;
        }
        if let Some(change) = &self.change {
            next.changes.push(change.clone());
            next.expires_next = FENCE;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::Posting;
    use crate::balance::Balance;

    #[test]
    fn a_posting_counts_one_version_up_and_leaves_its_entry_s_name() {
        let balance = Balance { version: 7, last: "key#before".to_owned(), ..Balance::default() };
        let after = Posting::default().apply(&balance, "key#after").unwrap();
        assert_eq!(after, Balance { version: 8, last: "key#after".to_owned(), ..balance });
    }
}
