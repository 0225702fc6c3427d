//! What a ledger entry says of the holds that were settled, and the hold itself with its captures (M4).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::Line;
use crate::consumer::Consumer;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::hold::Placement;
use crate::id::{Id, Name};

/// How many holds are placed or settled together at most (API.md).
pub const MOST_HOLDS: usize = 50;

/// How many captures a hold has room for. Each makes it longer, and a capture costs a write unit for each started KB.
pub const MOST_CAPTURES: usize = 100;

/// How long a hold may stay open, in seconds: a day (API.md).
pub const MOST_TTL_SECONDS: u64 = 86_400;

/// Whether a hold still keeps credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// It does.
    Open,
    /// It was settled.
    Settled,
    /// Its time had run out: what was captured is settled, the rest is given back.
    Expired,
}

/// What a hold was placed for: what a call of it takes after, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// What is to be called.
    pub operation: Name,
    /// The version of the prices when it was placed.
    pub rate_card: Name,
    /// Who spends.
    pub consumer: Consumer,
}

/// A call that was paid from a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// A digest of its key, which is its own within the hold.
    pub key: String,
    /// A digest of what was asked for.
    pub fingerprint: String,
    /// What was called, by whom, and what it took.
    pub line: Line,
    /// The version of the prices.
    pub rate_card: Name,
    /// What of it was set aside only when it was captured.
    pub added: Option<Amount>,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub hold_id: Id,
    /// What it keeps, and where it stands.
    pub placement: Placement,
    /// What for.
    pub purpose: Purpose,
    /// Whether it still does.
    pub status: HoldStatus,
    /// Until when it does.
    pub expires_at: Timestamp,
    /// What was captured, in order.
    pub captures: Vec<Capture>,
}

/// Holds that were settled together, as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Which holds.
    pub hold_ids: Vec<Id>,
    /// The versions of the prices.
    pub rate_cards: BTreeSet<Name>,
    /// How many calls were captured.
    pub lines: usize,
    /// What was spent on each operation.
    pub operations: BTreeMap<Name, Credits>,
    /// The calls. Where the ledger is listed they are not told.
    #[serde(skip)]
    pub content: Vec<Line>,
}

impl Hold {
    /// What was captured of it.
    pub fn captured(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.captures.iter().map(|capture| capture.line.amount.credits()))
    }

    /// What can still be captured.
    pub fn remaining(&self) -> Result<Credits, OutOfRange> {
        match self.status {
            HoldStatus::Open => self.placement.amount.credits().minus(self.captured()?),
            HoldStatus::Settled | HoldStatus::Expired => Ok(Credits::ZERO),
        }
    }

    /// The hold with more set aside; `None` if that is more than an amount may be.
    #[must_use]
    pub fn grown_by(&self, more: Amount) -> Option<Placement> {
        let grown = self.placement.amount.credits().plus(more.credits()).ok()?;
        Some(Placement { amount: Amount::new(grown).ok()?, ..self.placement })
    }

    /// What was left after the capture at this place, whatever has come since.
    pub fn left_after(&self, place: usize) -> Result<Credits, OutOfRange> {
        let (earlier, later) = self.captures.split_at(place.saturating_add(1).min(self.captures.len()));
        let added_later = later.iter().filter_map(|capture| capture.added).map(Amount::credits);
        let taken = Credits::sum(earlier.iter().map(|capture| capture.line.amount.credits()))?;
        self.placement.amount.credits().minus(Credits::sum(added_later)?)?.minus(taken)
    }

    /// Whether its time has run out.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

impl Settlement {
    /// The settlement of some holds, with what was captured of them all.
    pub fn of(holds: &[Hold]) -> Result<(Self, Credits), OutOfRange> {
        let calls: Vec<&Capture> = holds.iter().flat_map(|hold| &hold.captures).collect();
        let content: Vec<Line> = calls.iter().map(|capture| capture.line.clone()).collect();
        let mut operations: BTreeMap<Name, Credits> = BTreeMap::new();
        for line in &content {
            let sum = operations.entry(line.operation.clone()).or_default();
            *sum = sum.plus(line.amount.credits())?;
        }
        let captured = Credits::sum(operations.values().copied())?;
        let rate_cards = calls.iter().map(|capture| capture.rate_card.clone()).collect();
        let hold_ids = holds.iter().map(|hold| hold.hold_id.clone()).collect();
        Ok((Self { hold_ids, rate_cards, lines: content.len(), operations, content }, captured))
    }
}

#[cfg(test)]
mod tests {
    use super::{Capture, Hold, HoldStatus, Purpose, Settlement};
    use crate::batch::Line;
    use crate::consumer::Consumer;
    use crate::credits::Credits;
    use crate::hold::Placement;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    fn hold(captures: &[(&str, Option<&str>)]) -> Hold {
        let consumer = Consumer::Action { feature: "f".parse().unwrap(), user_id: "u".parse().unwrap() };
        let line = |amount: &str| Line {
            operation: format!("op.{}", amount.len()).parse().unwrap(),
            model: None,
            units: None,
            consumer: consumer.clone(),
            amount: amount.parse().unwrap(),
        };
        let capture = |(place, (amount, added)): (usize, &(&str, Option<&str>))| Capture {
            key: place.to_string(),
            fingerprint: String::new(),
            line: line(amount),
            rate_card: "v1".parse().unwrap(),
            added: added.map(|added| added.parse().unwrap()),
        };
        Hold {
            hold_id: "hold".parse().unwrap(),
            placement: Placement { epoch: 1, amount: "12".parse().unwrap() },
            purpose: Purpose {
                operation: "op".parse().unwrap(),
                rate_card: "v1".parse().unwrap(),
                consumer: consumer.clone(),
            },
            status: HoldStatus::Open,
            expires_at: jiff::Timestamp::UNIX_EPOCH,
            captures: captures.iter().enumerate().map(capture).collect(),
        }
    }

    #[test]
    fn what_was_left_after_a_capture_is_the_same_whatever_comes_later() {
        // Placed with 10, and grown by 2 with its second capture.
        let hold = hold(&[("2.5", None), ("9.5", Some("2"))]);
        assert_eq!(hold.left_after(0), Ok(credits("7.5")));
        assert_eq!(hold.left_after(1), Ok(credits("0")));
        assert_eq!((hold.captured(), hold.remaining()), (Ok(credits("12")), Ok(credits("0"))));
    }

    #[test]
    fn a_settlement_sums_what_its_holds_captured_by_operation() {
        let holds = [hold(&[("2.5", None), ("1", None)]), hold(&[("3", None)]), hold(&[])];
        let (settlement, captured) = Settlement::of(&holds).unwrap();
        assert_eq!((settlement.lines, captured), (3, credits("6.5")));
        let sums: Vec<String> =
            settlement.operations.iter().map(|(operation, sum)| format!("{operation} {sum}")).collect();
        assert_eq!(sums, ["op.1 4", "op.3 2.5"]);
    }

    #[test]
    fn m04_what_remains_of_a_hold_is_what_was_not_captured_while_it_is_open() {
        let open = hold(&[("5", None), ("3.5", None)]);
        assert_eq!(open.remaining(), Ok(credits("3.5")));
        for status in [HoldStatus::Settled, HoldStatus::Expired] {
            assert_eq!(Hold { status, ..open.clone() }.remaining(), Ok(Credits::ZERO));
        }
    }

    #[test]
    fn m04_a_hold_is_over_with_its_last_instant() {
        let hold = hold(&[]);
        let before = hold.expires_at - jiff::SignedDuration::from_millis(1);
        assert!(hold.is_over(hold.expires_at) && !hold.is_over(before));
    }
}
