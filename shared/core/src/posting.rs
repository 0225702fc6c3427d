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

use crate::alert::AlertThresholds;
use crate::balance::{Balance, ClosedHolds, FENCE};
use crate::change::{Change, QueuedChange};
use crate::credits::{Amount, CallPrice, Credits, OutOfRange};
use crate::lane::{LaneCondition, LaneMovement};
use crate::month::Month;
use crate::own_prices::{OtherPrices, PricedWith};

/// The condition under which the store writes a posting. All of its parts must be true, and the workspace must have a
/// balance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `spendable` is at least this.
    pub covers: Option<Credits>,
    /// The balance is not due at this instant: `expires_next > now`. The caller closes a due balance first.
    pub nothing_due_at: Option<Timestamp>,
    /// The balance is in this epoch. Each close begins another one; a hold keeps the epoch in which it was placed.
    pub epoch: Option<u64>,
    /// The open holds of these earlier epochs have exactly these sums.
    pub earlier_epochs: BTreeMap<u64, ClosedHolds>,
    /// The credit limit is this one.
    pub credit_limit: Option<Credits>,
    /// The thresholds are these.
    pub thresholds: Option<Thresholds>,
    /// The open lanes.
    pub lanes: Option<LaneCondition>,
    /// The workspace's own prices have this version, or it has none.
    pub priced_with: Option<PricedWith>,
}

/// The amounts of [`Balance::available`] and [`Balance::owned`] at which a write is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// The largest of [`Balance::low_at`].
    pub low_at: Option<Amount>,
    /// See [`Balance::top_up_at`].
    pub top_up_at: Option<Amount>,
}

/// A threshold that a person has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewThreshold {
    Off,
    At(Amount),
}

impl NewThreshold {
    /// Returns the amount; `None` if the threshold is off.
    #[must_use]
    pub fn amount(self) -> Option<Amount> {
        match self {
            Self::Off => None,
            Self::At(amount) => Some(amount),
        }
    }
}

impl From<Option<Amount>> for NewThreshold {
    fn from(amount: Option<Amount>) -> Self {
        amount.map_or(Self::Off, Self::At)
    }
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
    /// Added to the consumption of months. This removes the counters of the months that [`Month::retired`] returns for
    /// the first of them.
    pub consumed: BTreeMap<Month, Credits>,
    /// Replaces the credit limit and clears `exhaustion_noted`.
    pub credit_limit: Option<Credits>,
    /// Replaces `added`, the latest addition of credits, and clears `exhaustion_noted`.
    pub added: Option<Amount>,
    /// Appended to the changes that wait for the next close. Sets `expires_next` to the fence.
    pub change: Option<QueuedChange>,
    /// Replaces the thresholds of the low-balance alert.
    pub low_at: Option<AlertThresholds>,
    /// Replaces the threshold of automatic top-up.
    pub top_up_at: Option<NewThreshold>,
    /// Opens, extends or settles lanes.
    pub lanes: Option<LaneMovement>,
    /// Replaces the version of the workspace's own prices.
    pub pricing: Option<u64>,
    /// Whether usage changes by an entry that does not raise `consumed`: that of a free call, or a refund of a debit.
    pub usage_mark: UsageMark,
}

/// Whether a posting tells the stream's readers that usage changes, although `consumed` does not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageMark {
    #[default]
    Unmarked,
    Marked,
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
    /// Lanes were opened, settled or recalled since the balance was read.
    #[error("the lanes have changed")]
    LanesChanged,
    #[error(transparent)]
    OtherPrices(OtherPrices),
    /// Another caller has changed a threshold since it was read.
    #[error("a threshold has changed")]
    OtherThresholds,
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
    pub fn debit(price: CallPrice, now: Timestamp) -> Self {
        let taken = price.credits();
        Self {
            condition: Condition::covering(price, now),
            movement: Movement {
                spendable: taken.negated(),
                used: taken,
                consumed: BTreeMap::from([(Month::of(now), taken)]),
                usage_mark: if taken.is_zero() { UsageMark::Marked } else { UsageMark::Unmarked },
                ..Movement::default()
            },
        }
    }

    /// Adds the condition that the workspace's own prices are those of a call; `None` if its caller has priced it.
    #[must_use]
    pub fn priced_with(mut self, prices: Option<PricedWith>) -> Self {
        self.condition.priced_with = prices;
        self
    }

    /// Creates the posting that replaces the workspace's own prices `old` by the version `new`. No lane may be open, so that
    /// none takes debits at the old prices.
    #[must_use]
    pub fn pricing(old: Option<u64>, new: u64) -> Self {
        let posting = Self::without_lanes().priced_with(Some(old.into()));
        Self { movement: Movement { pricing: Some(new), ..Movement::default() }, ..posting }
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
        let Self { condition, .. } = Self::without_lanes();
        Ok(Self { condition: Condition { credit_limit: Some(old), ..condition }, movement })
    }

    /// Creates the posting that queues a change until the next close.
    #[must_use]
    pub fn queue_change(change: Change, now: Timestamp) -> Self {
        let movement = Movement { change: Some(QueuedChange { at: now, change }), ..Movement::default() };
        Self { condition: Condition::default(), movement }
    }

    /// Creates the posting that replaces the thresholds of the low-balance alert (M15).
    #[must_use]
    pub fn low_at(thresholds: AlertThresholds) -> Self {
        Self {
            movement: Movement { low_at: Some(thresholds), ..Movement::default() },
            ..Self::without_lanes()
        }
    }

    /// Creates the posting that replaces the threshold of automatic top-up (M5).
    #[must_use]
    pub fn top_up_at(threshold: NewThreshold) -> Self {
        Self {
            movement: Movement { top_up_at: Some(threshold), ..Movement::default() },
            ..Self::without_lanes()
        }
    }

    /// Checks the condition against a balance. Returns the first refusal in this order: due, epoch changed, lanes
    /// changed, other prices, insufficient credits, other limit, other thresholds (`docs/design.md`).
    pub fn check(&self, balance: &Balance) -> Result<(), Refusal> {
        let Condition { covers, nothing_due_at, epoch, earlier_epochs, credit_limit, thresholds, .. } =
            &self.condition;
        if nothing_due_at.is_some_and(|now| balance.is_due(now)) {
            return Err(Refusal::Due);
        }
        let epoch_changed = epoch.is_some_and(|expected| balance.epoch != expected);
        let has_other_holds = |(earlier, expected)| balance.earlier_epochs.get(earlier) != Some(expected);
        if epoch_changed || earlier_epochs.iter().any(has_other_holds) {
            return Err(Refusal::EpochChanged);
        }
        if !self.condition.accepts_lanes_of(balance) {
            return Err(Refusal::LanesChanged);
        }
        if self.condition.priced_with.is_some_and(|prices| prices != PricedWith::from(balance.pricing)) {
            return Err(Refusal::OtherPrices(OtherPrices { current: balance.pricing }));
        }
        if covers.is_some_and(|least| balance.spendable < least) {
            return Err(Refusal::Insufficient { spendable: balance.spendable });
        }
        if credit_limit.is_some_and(|expected| expected != balance.credit_limit) {
            return Err(Refusal::OtherLimit { current: balance.credit_limit });
        }
        if thresholds.is_some_and(|expected| expected != balance.thresholds()) {
            return Err(Refusal::OtherThresholds);
        }
        Ok(())
    }

    /// Returns the balance after the posting, as the conditional write leaves it. `entry_key` is the key of the posting's
    /// ledger entry, which the balance records in `last`.
    pub fn apply(&self, balance: &Balance, entry_key: &str) -> Result<Balance, Refusal> {
        self.check(balance)?;
        let next = self.movement.applied_to(balance)?;
        let version = next.version.saturating_add(self.movement.versions());
        Ok(Balance { version, last: entry_key.to_owned(), ..next })
    }

    fn without_lanes() -> Self {
        let condition = Condition { lanes: Some(LaneCondition::Closed), ..Condition::default() };
        Self { condition, movement: Movement::default() }
    }
}

impl Condition {
    /// Returns whether the balance has the lanes that this requires.
    #[must_use]
    pub fn accepts_lanes_of(&self, balance: &Balance) -> bool {
        self.lanes.is_none_or(|lanes| lanes.holds(balance))
    }

    /// Creates the condition that the balance covers a price and is not due. Any balance covers a price of zero, even one
    /// that a claw-back has taken below zero.
    #[must_use]
    pub fn covering(price: CallPrice, now: Timestamp) -> Self {
        let covers = Some(price.credits()).filter(|credits| !credits.is_zero());
        Self { covers, nothing_due_at: Some(now), ..Self::default() }
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
        for (month, credits) in &self.consumed {
            next.consumed.insert(*month, balance.consumed_in(*month).plus(*credits)?);
        }
        let retired: Vec<Month> = self.retired_months().collect();
        next.consumed.retain(|counted, _| !retired.contains(counted));
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
        if let Some(thresholds) = &self.low_at {
            next.low_at.clone_from(thresholds);
        }
        if let Some(threshold) = self.top_up_at {
            next.top_up_at = threshold.amount();
        }
        if let Some(lanes) = &self.lanes {
            lanes.apply_to(&mut next)?;
        }
        next.pricing = self.pricing.or(next.pricing);
        if self.usage_mark == UsageMark::Marked {
            next.usage_marks = next.usage_marks.saturating_add(1);
        }
        Ok(next)
    }

    /// Returns the months whose counters this removes from the balance.
    pub fn retired_months(&self) -> impl Iterator<Item = Month> {
        self.consumed.keys().next().into_iter().flat_map(|month| month.retired())
    }

    /// Returns how much the balance's version grows: by one, and by the writes of the lanes that are settled.
    #[must_use]
    pub fn versions(&self) -> u64 {
        self.lanes.as_ref().map_or(0, LaneMovement::writes).saturating_add(1)
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
