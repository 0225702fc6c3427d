//! Postings: what a debit, a top-up or a change does to a balance, and under which condition.
//!
//! This crate states a posting, and the store makes one conditional write of it. [`Posting::apply`] states what that
//! write does. So property tests check the rules here at full speed, and the store is tested against this statement.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, FENCE};
use crate::change::{Change, QueuedChange};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;

/// The condition under which the store writes a posting. All of its parts must hold, and the workspace must have a
/// balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `spendable` covers this amount.
    pub covers: Option<Amount>,
    /// Nothing is due at this instant: `expires_next > now`. The caller closes first what is due.
    pub nothing_due_at: Option<Timestamp>,
    /// The balance is in this epoch. A hold keeps the epoch in which it was placed.
    pub epoch: Option<u64>,
    /// The holds of these earlier epochs still keep these credits.
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
    /// Added to the credits that holds of the current epoch keep.
    pub held: Credits,
    /// Replaces the credits that holds of earlier epochs keep; `None` if no hold of that epoch is left.
    pub closed: BTreeMap<u64, Option<ClosedHolds>>,
    /// Added to a month's consumption. This removes the counters of the months that [`Month::retired`] returns.
    pub consumed: Option<(Month, Credits)>,
    /// Replaces the credit limit, and ends a noted exhaustion.
    pub credit_limit: Option<Credits>,
    /// Replaces the credits that were added last, and ends a noted exhaustion.
    pub added: Option<Amount>,
    /// Waits for the next close. A queued change sets `expires_next` to the fence.
    pub change: Option<QueuedChange>,
}

/// A conditional change of a balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posting {
    pub condition: Condition,
    pub movement: Movement,
}

/// The reason why the balance refuses a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something has expired, or changes wait. The caller closes the balance first.
    #[error("the balance is due and has to be closed first")]
    Due,
    /// Another caller has changed the credit limit since it was read.
    #[error("the credit limit has changed to {current}")]
    OtherLimit { current: Credits },
    /// The epoch, or the credits that its holds keep, have changed. The caller reads the balance again.
    #[error("the epoch or its holds have changed")]
    Moved,
    /// The balance has insufficient credits.
    #[error("insufficient credits: {available} are available")]
    Insufficient {
        /// The spendable credits, including the credit limit.
        available: Credits,
    },
    /// A sum is out of range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl Posting {
    /// Creates the posting of an AI call, which takes credits (M2).
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

    /// Creates the posting of prepaid credits (M5).
    ///
    /// Prepaid credits pay debt, so what is due is closed first: a month's debt is billed before later credits pay it.
    #[must_use]
    pub fn top_up(amount: Amount, now: Timestamp) -> Self {
        let credits = amount.credits();
        let movement =
            Movement { spendable: credits, prepaid: credits, added: Some(amount), ..Movement::default() };
        Self { condition: Condition { nothing_due_at: Some(now), ..Condition::default() }, movement }
    }

    /// Creates the posting of a new credit limit (M8). A lower limit may take the spendable credits below zero.
    pub fn limit(old: Credits, new: Credits) -> Result<Self, OutOfRange> {
        let movement =
            Movement { spendable: new.minus(old)?, credit_limit: Some(new), ..Movement::default() };
        let condition = Condition { credit_limit: Some(old), ..Condition::default() };
        Ok(Self { condition, movement })
    }

    /// Creates the posting that queues a change behind the fence, because it reorders or shrinks the waterfall.
    #[must_use]
    pub fn change(change: Change, now: Timestamp) -> Self {
        let movement = Movement { change: Some(QueuedChange { at: now, change }), ..Movement::default() };
        Self { condition: Condition::default(), movement }
    }

    /// Checks the condition against a balance. A balance that is due takes precedence over one with insufficient
    /// credits (`docs/design.md`).
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

    /// Returns the balance after the posting, as the database's conditional write makes it.
    pub fn apply(&self, balance: &Balance, last: &str) -> Result<Balance, Refusal> {
        self.check(balance)?;
        let next = self.movement.of(balance)?;
        Ok(Balance { version: next.version.saturating_add(1), last: last.to_owned(), ..next })
    }
}

impl Condition {
    /// Creates the condition that a balance covers an amount and nothing is due.
    #[must_use]
    pub fn covering(amount: Amount, now: Timestamp) -> Self {
        Self { covers: Some(amount), nothing_due_at: Some(now), ..Self::default() }
    }
}

impl Movement {
    /// Returns the balance with its counters changed, without a check of the condition.
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
    fn posting_increments_the_version_and_records_its_entry() {
        let balance = Balance { version: 7, last: "key#before".to_owned(), ..Balance::default() };
        let after = Posting::default().apply(&balance, "key#after").unwrap();
        assert_eq!(after, Balance { version: 8, last: "key#after".to_owned(), ..balance });
    }
}
