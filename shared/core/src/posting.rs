//! Postings: what a debit, a top-up or a change does to a balance, and under which condition.
//!
//! Core states a posting, the store makes one conditional write of it, and [`Posting::apply`] says what that write
//! does, so that the rules are tested here at full speed and the store is tested against this statement.

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, FENCE};
use crate::change::Change;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::month::Month;

/// Under which condition a posting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The workspace has a balance; nothing else is asked.
    Exists,
    /// The credit limit is still this one.
    LimitIs(Credits),
    /// `spendable` covers the amount, and nothing is due: `spendable >= amount AND expires_next > now`.
    Covers {
        /// What is wanted.
        amount: Amount,
        /// The instant of the attempt.
        now: Timestamp,
    },
    /// The same, and the balance is in this epoch: a hold that is placed keeps it.
    CoversIn {
        /// What is wanted.
        amount: Amount,
        /// The instant of the attempt.
        now: Timestamp,
        /// The epoch.
        epoch: u64,
    },
    /// The balance is in this epoch.
    EpochIs(u64),
    /// What the holds of an earlier epoch keep is still this.
    HoldsAre {
        /// The epoch.
        epoch: u64,
        /// What they keep.
        holds: ClosedHolds,
    },
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
    /// What holds of an earlier epoch keep from now on; nothing if there are none left.
    pub closed: Option<(u64, Option<ClosedHolds>)>,
    /// Added to a month's consumption; the counters of the months that it retires go.
    pub consumed: Option<(Month, Credits)>,
    /// Becomes the credit limit.
    pub credit_limit: Option<Credits>,
    /// Waits for the next close; where there is one, `expires_next` becomes the fence.
    pub change: Option<Change>,
}

/// One conditional change of a balance.
#[derive(Debug, Clone, PartialEq, Eq)]
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
            condition: Condition::Covers { amount, now },
            movement: Movement {
                spendable: taken.negated(),
                used: taken,
                consumed: Some((Month::of(now), taken)),
                ..Movement::default()
            },
        }
    }

    /// Prepaid credits arrive (M5), blindly: they pay debt by themselves.
    #[must_use]
    pub fn top_up(amount: Amount) -> Self {
        let added = amount.credits();
        let movement = Movement { spendable: added, prepaid: added, ..Movement::default() };
        Self { condition: Condition::Exists, movement }
    }

    /// The credit limit becomes another (M8); lowering it may take what may be spent below zero.
    pub fn limit(old: Credits, new: Credits) -> Result<Self, OutOfRange> {
        let movement =
            Movement { spendable: new.minus(old)?, credit_limit: Some(new), ..Movement::default() };
        Ok(Self { condition: Condition::LimitIs(old), movement })
    }

    /// Something that reorders or shrinks the waterfall is put behind the fence.
    #[must_use]
    pub fn change(change: Change) -> Self {
        let movement = Movement { change: Some(change), ..Movement::default() };
        Self { condition: Condition::Exists, movement }
    }

    /// Why the balance, as it stands, would refuse; the order is that of DESIGN.md: what is due before what is short.
    pub fn check(&self, balance: &Balance) -> Result<(), Refusal> {
        match self.condition {
            Condition::Covers { now, .. } | Condition::CoversIn { now, .. } if balance.is_due(now) => {
                Err(Refusal::Due)
            }
            Condition::CoversIn { epoch, .. } | Condition::EpochIs(epoch) if balance.epoch != epoch => {
                Err(Refusal::Moved)
            }
            Condition::HoldsAre { epoch, holds } if balance.closed.get(&epoch) != Some(&holds) => {
                Err(Refusal::Moved)
            }
            Condition::Covers { amount, .. } | Condition::CoversIn { amount, .. }
                if balance.spendable < amount.credits() =>
            {
                Err(Refusal::Insufficient { available: balance.spendable })
            }
            Condition::LimitIs(limit) if balance.credit_limit != limit => {
                Err(Refusal::OtherLimit { current: balance.credit_limit })
            }
            Condition::Exists
            | Condition::LimitIs(_)
            | Condition::Covers { .. }
            | Condition::CoversIn { .. }
            | Condition::EpochIs(_)
            | Condition::HoldsAre { .. } => Ok(()),
        }
    }

    /// The balance after the posting, as the database's one conditional write makes it.
    pub fn apply(&self, balance: &Balance, last: &str) -> Result<Balance, Refusal> {
        self.check(balance)?;
        let mut next = balance.clone();
        next.spendable = next.spendable.plus(self.movement.spendable)?;
        next.used = next.used.plus(self.movement.used)?;
        next.prepaid = next.prepaid.plus(self.movement.prepaid)?;
        next.held = next.held.plus(self.movement.held)?;
        match self.movement.closed {
            Some((epoch, Some(holds))) => drop(next.closed.insert(epoch, holds)),
            Some((epoch, None)) => drop(next.closed.remove(&epoch)),
            None => {}
        }
        if let Some((month, credits)) = self.movement.consumed {
            next.consumed.insert(month, balance.consumed_in(month).plus(credits)?);
            next.consumed.retain(|counted, _| !month.retired().any(|retired| retired == *counted));
        }
        if let Some(limit) = self.movement.credit_limit {
            next.credit_limit = limit;
        }
        if let Some(change) = &self.movement.change {
            next.changes.push(change.clone());
            next.expires_next = FENCE;
        }
        next.version = next.version.saturating_add(1);
        last.clone_into(&mut next.last);
        Ok(next)
    }
}
