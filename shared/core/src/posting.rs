//! Postings: what a debit, a top-up or a change does to a balance, and under which condition.
//!
//! This crate describes a posting. The store makes one conditional write of it. [`Posting::apply`] is the model of that
//! write: property tests check the rules on the model, and the store's tests compare the stored balance with it.
//!
//! A posting changes counters only, so it needs no read of the grants. The *waterfall* is the order in which credits are
//! spent: expiring grants, earliest end first, then prepaid credits. A change that reorders or shrinks the waterfall
//! needs the grants. So its posting only queues it and sets `expires_next` to the [`FENCE`], an instant in the past.
//! The balance is then due, and no debit is written before a close has applied the queued changes.
//!
//! A *close* brings a due balance up to date: it expires grants, applies the queued changes and begins a new *epoch*. The
//! holds of an earlier epoch that are still open are counted by epoch, as [`ClosedHolds`].

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, FENCE};
use crate::change::{Change, QueuedChange};
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;

/// The condition under which the store writes a posting. All of its parts must be true, and the workspace must have a
/// balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `spendable` covers this amount.
    pub covers: Option<Amount>,
    /// The balance is not due at this instant: `expires_next > now`. The caller closes a due balance first.
    pub nothing_due_at: Option<Timestamp>,
    /// The balance is in this epoch. Each close begins another one; a hold keeps the epoch in which it was placed.
    pub epoch: Option<u64>,
    /// The open holds of these earlier epochs have exactly these sums.
    pub earlier_epochs: BTreeMap<u64, ClosedHolds>,
    /// The credit limit is this one.
    pub credit_limit: Option<Credits>,
}

/// The changes of the balance's counters, and the change that waits for the next close.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Movement {
    /// Added to `spendable`.
    pub spendable: Credits,
    /// Added to `used`.
    pub used: Credits,
    /// Added to `prepaid`.
    pub prepaid: Credits,
    /// Added to `held`, the credits in holds of the current epoch.
    pub held: Credits,
    /// Replaces the holds of earlier epochs, by epoch. `None` removes the epoch, because none of its holds is left.
    pub earlier_epochs: BTreeMap<u64, Option<ClosedHolds>>,
    /// Added to a month's consumption. This removes the counters of the months that [`Month::retired`] returns.
    pub consumed: Option<(Month, Credits)>,
    /// Replaces the credit limit and clears `exhaustion_noted`.
    pub credit_limit: Option<Credits>,
    /// Replaces `added`, the latest addition of credits, and clears `exhaustion_noted`.
    pub added: Option<Amount>,
    /// Appended to the changes that wait for the next close. Sets `expires_next` to the fence.
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
    /// A grant has expired or changes wait. The caller closes the balance first.
    #[error("the balance is due and has to be closed first")]
    Due,
    /// Another caller has changed the credit limit since it was read.
    #[error("the credit limit has changed to {current}")]
    OtherLimit { current: Credits },
    /// The epoch, or the holds of an earlier epoch, have changed. The caller reads the balance again.
    #[error("the epoch or its holds have changed")]
    EpochChanged,
    /// The balance has insufficient credits.
    #[error("insufficient credits: {spendable} can be spent")]
    Insufficient {
        /// Includes the credit limit.
        spendable: Credits,
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
    /// A due balance is closed first. Otherwise the new credits would pay a month's debt before it is billed.
    #[must_use]
    pub fn top_up(amount: Amount, now: Timestamp) -> Self {
        let credits = amount.credits();
        let movement =
            Movement { spendable: credits, prepaid: credits, added: Some(amount), ..Movement::default() };
        Self { condition: Condition { nothing_due_at: Some(now), ..Condition::default() }, movement }
    }

    /// Creates the posting that replaces the credit limit `old` by `new` (M8). `spendable` changes by the difference, and
    /// a lower limit may take it below zero. The posting is refused if the limit is no longer `old`.
    pub fn limit(old: Credits, new: Credits) -> Result<Self, OutOfRange> {
        let movement =
            Movement { spendable: new.minus(old)?, credit_limit: Some(new), ..Movement::default() };
        let condition = Condition { credit_limit: Some(old), ..Condition::default() };
        Ok(Self { condition, movement })
    }

    /// Creates the posting that queues a change until the next close.
    #[must_use]
    pub fn queue_change(change: Change, now: Timestamp) -> Self {
        let movement = Movement { change: Some(QueuedChange { at: now, change }), ..Movement::default() };
        Self { condition: Condition::default(), movement }
    }

    /// Checks the condition against a balance. Returns the first refusal in this order: due, epoch changed, insufficient
    /// credits, other limit (`docs/design.md`).
    pub fn check(&self, balance: &Balance) -> Result<(), Refusal> {
        let Condition { covers, nothing_due_at, epoch, earlier_epochs, credit_limit } = &self.condition;
        if nothing_due_at.is_some_and(|now| balance.is_due(now)) {
            return Err(Refusal::Due);
        }
        let epoch_changed = epoch.is_some_and(|expected| balance.epoch != expected);
        let has_other_holds = |(earlier, expected)| balance.earlier_epochs.get(earlier) != Some(expected);
        if epoch_changed || earlier_epochs.iter().any(has_other_holds) {
            return Err(Refusal::EpochChanged);
        }
        if covers.is_some_and(|amount| balance.spendable < amount.credits()) {
            return Err(Refusal::Insufficient { spendable: balance.spendable });
        }
        match credit_limit {
            Some(expected) if *expected != balance.credit_limit => {
                Err(Refusal::OtherLimit { current: balance.credit_limit })
            }
            _ => Ok(()),
        }
    }

    /// Returns the balance after the posting, as the conditional write leaves it. `entry_key` is the key of the posting's
    /// ledger entry, which the balance records in `last`.
    pub fn apply(&self, balance: &Balance, entry_key: &str) -> Result<Balance, Refusal> {
        self.check(balance)?;
        let next = self.movement.applied_to(balance)?;
        Ok(Balance { version: next.version.saturating_add(1), last: entry_key.to_owned(), ..next })
    }
}

impl Condition {
    /// Creates the condition that the balance covers an amount and is not due.
    #[must_use]
    pub fn covering(amount: Amount, now: Timestamp) -> Self {
        Self { covers: Some(amount), nothing_due_at: Some(now), ..Self::default() }
    }
}

impl Movement {
    /// Returns the balance with its counters changed, without a check of the condition.
    pub(crate) fn applied_to(&self, balance: &Balance) -> Result<Balance, OutOfRange> {
        let mut next = balance.clone();
        next.spendable = next.spendable.plus(self.spendable)?;
        next.used = next.used.plus(self.used)?;
        next.prepaid = next.prepaid.plus(self.prepaid)?;
        next.held = next.held.plus(self.held)?;
        for (epoch, holds) in &self.earlier_epochs {
            match holds {
                Some(holds) => drop(next.earlier_epochs.insert(*epoch, *holds)),
                None => drop(next.earlier_epochs.remove(epoch)),
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
