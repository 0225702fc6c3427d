//! Lanes: items beside a busy balance, so that concurrent debits do not meet on one item.
//!
//! `DynamoDB` cancels transactions that meet on one item. So when a workspace is busy, half of what it can spend is
//! allotted to lanes. A debit on a lane is the same write as at the balance, on another item. At any time:
//!
//! ```text
//! left + spent              = what the lane was allotted
//! Σ (left + spent) of lanes = allotted
//! what a debit may take     = spendable + reserve + Σ left
//! reserve                   > credit_limit + max(threshold of the alert, threshold of automatic top-up, 1 % of the addition)
//! ```
//!
//! No debit takes the reserve. So while lanes are open, the workspace is above each threshold, and a write crosses a
//! threshold only at a balance without lanes, where [`crate::alert::Crossing`] detects it.
//!
//! A *settlement* moves stopped lanes back into the balance. The last one returns the reserve, and can carry the posting
//! that needs the credits. Lanes of one opening have one *generation*, in which no lane number is used twice.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use crate::balance::Balance;
use crate::credits::{Amount, CallPrice, Credits, OutOfRange};
use crate::month::Month;
use crate::posting::{Condition, Movement, Posting};

/// The maximum number of a lane in one generation.
pub const MAX_LANES: u16 = 256;

/// How many debits of the size that met conflicts an allotment pays at least. Smaller allotments would be used up at once.
const MIN_DEBITS: u16 = 4;

/// The same for further lanes, which are worth a recall of so many only while the credits last.
const MIN_DEBITS_OF_FURTHER: u16 = 16;

/// Lanes are opened together: one alone would be no better than the balance.
const MIN_LANES: u16 = 2;

/// The `ends_at` of a lane that a recall has stopped.
pub const STOPPED: Timestamp = Timestamp::UNIX_EPOCH;

/// A lane: an item with an allotment of a balance's credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub number: u16,
    /// The opening that it belongs to ([`Balance::lane_generation`]).
    pub generation: u64,
    /// What debits may still take.
    pub left: Credits,
    /// What debits have taken.
    pub spent: Credits,
    /// `spent` by month.
    pub consumed: BTreeMap<Month, Credits>,
    /// Debits pass until then. [`STOPPED`] once a recall has stopped it.
    pub ends_at: Timestamp,
    /// The latest possible `ends_at`: when the balance was due, as of the opening.
    pub hard_end: Timestamp,
    /// When a recall stopped it, by `DynamoDB`'s clock.
    pub stopped_at: Option<Timestamp>,
    /// The version of the workspace's own prices, as of the opening.
    pub pricing: Option<u64>,
    /// The number of its writes.
    pub writes: u64,
    /// The key of the latest debit's ledger entry, as in [`Balance::last`]; empty before the first.
    pub last: String,
}

/// The open lanes of a balance: those from `first` up to `end`, which is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLanes {
    pub first: u16,
    pub end: u16,
    /// The sum of what the open lanes were allotted, spent or not.
    pub allotted: Credits,
    /// What the balance keeps aside while lanes are open.
    pub reserve: Credits,
}

/// Which lanes a write of the balance requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneCondition {
    /// No lane is open.
    Closed,
    /// No lane is open, and none was since this generation.
    ClosedSince(u64),
    /// Lanes of this generation are open.
    Open(u64),
    /// Exactly these lanes are open.
    Listed { generation: u64, first: u16, end: u16 },
}

/// What a write of the balance does to its lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneMovement {
    /// Opens a new generation, which ends at `ends_at` if no lane is prolonged.
    Opened { lanes: OpenLanes, ends_at: Timestamp },
    /// Adds lanes up to `end`, with these credits together.
    Extended { end: u16, credits: Credits },
    /// Gives an open lane more credits.
    Refilled(Credits),
    /// Settles the first lanes: `first` is the first that stays open, if any does.
    Settled { first: u16, is_last: bool, credits: Credits, writes: u64 },
}

/// A request for lanes.
#[derive(Debug, Clone, Copy)]
pub struct LaneRequest {
    /// The number of new lanes. There are fewer if that many can't be spared for.
    pub count: u16,
    /// The debit that met conflicts.
    pub debit: CallPrice,
    /// The later of the caller's clock and `DynamoDB`'s, so that no lane outlives the epoch.
    pub now: Timestamp,
    pub lasts: SignedDuration,
}

/// A posting that allots credits to lanes, with the lanes as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    pub posting: Posting,
    pub lanes: Vec<Lane>,
}

/// A settlement: stopped lanes that are moved back into the balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSettlement {
    generation: u64,
    listed: OpenLanes,
    /// The first of the listed lanes, stopped.
    lanes: Vec<Lane>,
}

impl Lane {
    /// Returns whether a debit of this price passes now.
    #[must_use]
    pub fn covers(&self, price: CallPrice, now: Timestamp) -> bool {
        self.left >= price.credits() && self.ends_at > now
    }

    /// Returns the lane after a debit, as the conditional write leaves it; `None` if the lane refuses it.
    pub fn debit(
        &self,
        price: CallPrice,
        now: Timestamp,
        entry_key: &str,
    ) -> Result<Option<Self>, OutOfRange> {
        if !self.covers(price, now) {
            return Ok(None);
        }
        let taken = price.credits();
        let mut next = self.clone();
        next.left = self.left.minus(taken)?;
        next.spent = self.spent.plus(taken)?;
        add_to(&mut next.consumed, [(Month::of(now), taken)])?;
        entry_key.clone_into(&mut next.last);
        next.writes = self.writes.saturating_add(1);
        Ok(Some(next))
    }

    /// Returns the later end of a lane in use; `None` if its present end is still far or can't be later.
    #[must_use]
    pub fn prolonged(&self, now: Timestamp, lasts: SignedDuration) -> Option<Timestamp> {
        let rest = self.ends_at.duration_since(now);
        let end = now.checked_add(lasts).ok()?.min(self.hard_end);
        let is_needed = rest.is_positive() && rest < lasts.checked_div(2)? && end > self.ends_at;
        is_needed.then_some(end)
    }
}

impl OpenLanes {
    /// Returns the numbers of the lanes.
    #[must_use]
    pub fn numbers(self) -> Range<u16> {
        self.first..self.end
    }

    /// Returns what the balance has given away: the allotments and the reserve.
    pub fn credits(self) -> Result<Credits, OutOfRange> {
        self.allotted.plus(self.reserve)
    }

    fn count(self) -> u16 {
        self.end.saturating_sub(self.first)
    }
}

impl LaneCondition {
    pub(crate) fn holds(self, balance: &Balance) -> bool {
        match self {
            Self::Closed => balance.lanes.is_none(),
            Self::ClosedSince(generation) => balance.lanes.is_none() && balance.lane_generation == generation,
            Self::Open(generation) => balance.lanes.is_some() && balance.lane_generation == generation,
            Self::Listed { generation, first, end } => {
                balance.lane_generation == generation
                    && balance.lanes.is_some_and(|lanes| (lanes.first, lanes.end) == (first, end))
            }
        }
    }
}

impl LaneMovement {
    /// Returns the writes of the lanes that it settles.
    pub(crate) fn writes(&self) -> u64 {
        match self {
            Self::Settled { writes, .. } => *writes,
            Self::Opened { .. } | Self::Extended { .. } | Self::Refilled(_) => 0,
        }
    }

    pub(crate) fn apply_to(&self, balance: &mut Balance) -> Result<(), OutOfRange> {
        if let Self::Opened { lanes, .. } = self {
            balance.lanes = Some(*lanes);
            balance.lane_generation = balance.lane_generation.saturating_add(1);
        }
        let Some(lanes) = &mut balance.lanes else { return Ok(()) };
        match self {
            Self::Opened { .. } => {}
            Self::Extended { end, credits } => {
                (lanes.end, lanes.allotted) = (*end, lanes.allotted.plus(*credits)?);
            }
            Self::Refilled(credits) => lanes.allotted = lanes.allotted.plus(*credits)?,
            Self::Settled { is_last: true, .. } => balance.lanes = None,
            Self::Settled { first, credits, .. } => {
                (lanes.first, lanes.allotted) = (*first, lanes.allotted.minus(*credits)?);
            }
        }
        Ok(())
    }
}

impl Balance {
    /// Returns the allotment that opens lanes; `None` if lanes are open, if too little can be spared, or if the balance is
    /// due.
    pub fn open_lanes(&self, request: LaneRequest) -> Result<Option<Allotment>, OutOfRange> {
        let reserve = self.lane_reserve()?;
        let spare = self.spendable.minus(reserve)?;
        // An opening that is soon followed by a recall costs more than it gains.
        if self.lanes.is_some() || spare < reserve {
            return Ok(None);
        }
        let (condition, first) = (LaneCondition::ClosedSince(self.lane_generation), 1);
        let generation = self.lane_generation.saturating_add(1);
        let most = affordable(spare, request.debit, MIN_DEBITS)?;
        let request = LaneRequest { count: request.count.min(most), ..request };
        let allotted = self.allot(request, spare, generation, first)?;
        let Some((mut allotment, end, allotted)) = allotted else { return Ok(None) };
        let lanes = OpenLanes { first, end, allotted, reserve };
        let taken = allotted.plus(reserve)?;
        let Posting { condition: conditions, movement } = &mut allotment.posting;
        (conditions.lanes, conditions.covers) = (Some(condition), Some(taken));
        (conditions.credit_limit, conditions.thresholds) = (Some(self.credit_limit), Some(self.thresholds()));
        conditions.priced_with = Some(self.pricing.into());
        let ends_at = request.now.checked_add(request.lasts).map_err(|_| OutOfRange)?.min(self.expires_next);
        (movement.spendable, movement.lanes) =
            (taken.negated(), Some(LaneMovement::Opened { lanes, ends_at }));
        Ok(Some(allotment))
    }

    /// Returns the allotment that adds lanes to the open ones; `None` if too little can be spared, if there are enough
    /// lanes, or if the balance is due.
    pub fn extend_lanes(&self, request: LaneRequest) -> Result<Option<Allotment>, OutOfRange> {
        let Some(lanes) = self.lanes else { return Ok(None) };
        if lanes.end.saturating_add(request.count).saturating_sub(1) > MAX_LANES {
            return Ok(None);
        }
        let generation = self.lane_generation;
        let most = affordable(self.spendable, request.debit, MIN_DEBITS_OF_FURTHER)?;
        let request = LaneRequest { count: request.count.min(most), ..request };
        let allotted = self.allot(request, self.spendable, generation, lanes.end)?;
        let Some((mut allotment, end, credits)) = allotted else { return Ok(None) };
        let Posting { condition, movement } = &mut allotment.posting;
        condition.lanes = Some(LaneCondition::Listed { generation, first: lanes.first, end: lanes.end });
        condition.covers = Some(credits);
        movement.spendable = credits.negated();
        movement.lanes = Some(LaneMovement::Extended { end, credits });
        Ok(Some(allotment))
    }

    /// Returns the credits for a refill of one lane, with the posting that takes them; `None` if no lane is open or too
    /// little can be spared.
    pub fn refill_lane(
        &self,
        debit: CallPrice,
        now: Timestamp,
    ) -> Result<Option<(Credits, Posting)>, OutOfRange> {
        let Some(lanes) = self.lanes else { return Ok(None) };
        let credits = half_for(self.spendable, lanes.count())?;
        if credits < debit.credits().times(MIN_DEBITS)? {
            return Ok(None);
        }
        let condition = Condition {
            covers: Some(credits),
            nothing_due_at: Some(now),
            lanes: Some(LaneCondition::Open(self.lane_generation)),
            ..Condition::default()
        };
        let lanes = Some(LaneMovement::Refilled(credits));
        let movement = Movement { spendable: credits.negated(), lanes, ..Movement::default() };
        Ok(Some((credits, Posting { condition, movement })))
    }

    /// Returns the balance as if its lanes were settled; `None` if an open lane is missing or of another generation.
    pub fn with_lanes(&self, lanes: &BTreeMap<u16, Lane>) -> Result<Option<Self>, OutOfRange> {
        let Some(open) = self.lanes else { return Ok(Some(self.clone())) };
        let mut next = Self { lanes: None, ..self.clone() };
        next.spendable = next.spendable.plus(open.credits()?)?;
        for number in open.numbers() {
            let lane = lanes.get(&number).filter(|lane| lane.generation == self.lane_generation);
            let Some(lane) = lane else { return Ok(None) };
            // `left` would count a refill twice or not at all, if it came between the reads of the balance and the lane.
            next.spendable = next.spendable.minus(lane.spent)?;
            next.used = next.used.plus(lane.spent)?;
            add_to(&mut next.consumed, lane.consumed.iter().map(|(month, credits)| (*month, *credits)))?;
            next.version = next.version.saturating_add(lane.writes);
        }
        Ok(Some(next))
    }

    /// Returns the reserve: more than the credit limit and the largest threshold.
    fn lane_reserve(&self) -> Result<Credits, OutOfRange> {
        let thresholds =
            [self.low_at.largest(), self.top_up_at].map(|at| at.map_or(Credits::ZERO, Amount::credits));
        let largest = thresholds.into_iter().fold(self.next_to_nothing()?, Credits::max);
        largest.plus(self.credit_limit)?.plus(Credits::ONE)
    }

    /// Makes new lanes from half of `spare`, numbered from `first`, and a posting that requires that they end before the
    /// balance is due. Also returns the number after the last one, and the credits of all together. Returns `None` if too
    /// little can be spared.
    fn allot(
        &self,
        request: LaneRequest,
        spare: Credits,
        generation: u64,
        first: u16,
    ) -> Result<Option<(Allotment, u16, Credits)>, OutOfRange> {
        let count = request.count;
        if count < MIN_LANES {
            return Ok(None);
        }
        let (each, after) = (half_for(spare, count)?, first.saturating_add(count));
        let end = request.now.checked_add(request.lasts).map_err(|_| OutOfRange)?;
        let ends_at = end.min(self.expires_next);
        if ends_at <= request.now {
            return Ok(None);
        }
        let lane = |number| Lane {
            number,
            generation,
            left: each,
            spent: Credits::ZERO,
            consumed: BTreeMap::new(),
            ends_at,
            hard_end: self.expires_next,
            stopped_at: None,
            pricing: self.pricing,
            writes: 0,
            last: String::new(),
        };
        let lanes = (first..after).map(lane).collect();
        // The balance may be due exactly when the lanes end, but not earlier.
        let before = ends_at.checked_sub(SignedDuration::from_millis(1)).map_err(|_| OutOfRange)?;
        let condition = Condition { nothing_due_at: Some(before), ..Condition::default() };
        let posting = Posting { condition, movement: Movement::default() };
        Ok(Some((Allotment { posting, lanes }, after, each.times(count)?)))
    }
}

impl LaneSettlement {
    /// Creates the settlement of the first lanes that a balance lists. They must be stopped.
    ///
    /// Returns `None` if the balance has no lanes, or if these are not its first ones.
    #[must_use]
    pub fn of(balance: &Balance, lanes: Vec<Lane>) -> Option<Self> {
        let (listed, generation) = (balance.lanes?, balance.lane_generation);
        let in_order = lanes.iter().map(|lane| lane.number).eq(listed.numbers().take(lanes.len()));
        let stopped = lanes.iter().all(|lane| lane.generation == generation && lane.ends_at == STOPPED);
        (in_order && stopped && !lanes.is_empty()).then_some(Self { generation, listed, lanes })
    }

    /// Returns the lanes that it settles.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Returns the generation of its lanes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether no lane stays open.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.lanes.last().is_some_and(|lane| lane.number.saturating_add(1) == self.listed.end)
    }

    /// Returns what the balance can spend in addition: what is left of the lanes, and after the last one the reserve.
    pub fn returned(&self) -> Result<Credits, OutOfRange> {
        let reserve = if self.is_last() { self.listed.reserve } else { Credits::ZERO };
        Credits::sum(self.lanes.iter().map(|lane| lane.left))?.plus(reserve)
    }

    /// Returns the posting of the settlement alone.
    pub fn posting(&self) -> Result<Posting, OutOfRange> {
        Posting::default().with_settlement(self)
    }
}

impl Posting {
    /// Returns the posting that settles lanes too. The balance must have exactly the lanes that the settlement has read, and
    /// what they return counts as spendable.
    pub fn with_settlement(mut self, settlement: &LaneSettlement) -> Result<Self, OutOfRange> {
        let returned = settlement.returned()?;
        let LaneSettlement { generation, listed, lanes } = settlement;
        let (condition, movement) = (&mut self.condition, &mut self.movement);
        condition.lanes =
            Some(LaneCondition::Listed { generation: *generation, first: listed.first, end: listed.end });
        if let Some(covers) = &mut condition.covers {
            *covers = covers.minus(returned)?;
        }
        let spent = Credits::sum(lanes.iter().map(|lane| lane.spent))?;
        movement.spendable = movement.spendable.plus(returned)?;
        movement.used = movement.used.plus(spent)?;
        for lane in lanes {
            add_to(&mut movement.consumed, lane.consumed.iter().map(|(month, credits)| (*month, *credits)))?;
        }
        movement.lanes = Some(LaneMovement::Settled {
            first: lanes.last().map_or(listed.first, |lane| lane.number.saturating_add(1)),
            is_last: settlement.is_last(),
            credits: Credits::sum(lanes.iter().map(|lane| lane.left))?.plus(spent)?,
            writes: lanes.iter().fold(0, |sum, lane| lane.writes.saturating_add(sum)),
        });
        Ok(self)
    }
}

/// Returns half of `spare` divided by a number of lanes.
fn half_for(spare: Credits, lanes: u16) -> Result<Credits, OutOfRange> {
    spare.or_zero().share(1, u64::from(lanes).saturating_mul(2))
}

/// Returns for how many lanes half of `spare` suffices, each of which pays `debits` debits.
fn affordable(spare: Credits, debit: CallPrice, debits: u16) -> Result<u16, OutOfRange> {
    let each = debit.credits().times(debits)?.times(2)?.micros()?;
    let count = spare.or_zero().micros()?.checked_div(each).unwrap_or_default();
    Ok(u16::try_from(count).unwrap_or(u16::MAX))
}

fn add_to(
    months: &mut BTreeMap<Month, Credits>,
    more: impl IntoIterator<Item = (Month, Credits)>,
) -> Result<(), OutOfRange> {
    for (month, credits) in more {
        let sum = months.get(&month).copied().unwrap_or_default().plus(credits)?;
        months.insert(month, sum);
    }
    Ok(())
}
