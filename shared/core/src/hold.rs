//! Holds with their captures, and settlements, the ledger's records of holds that ended (M4).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::PricedCall;
use crate::consumer::Consumer;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::debit_refund::RefundedLine;
use crate::hold_posting::Placement;
use crate::id::{Id, Name};
use crate::metadata::{LineMetadata, Metadata};
use crate::rate_card::PriceVersion;

/// The maximum number of holds that one request places or settles (`infra/openapi.json`).
pub const MAX_HOLDS: usize = 50;

/// The maximum number of captures of a hold. Each capture makes the item longer, and a capture costs one write unit
/// per started KB.
pub const MAX_CAPTURES: usize = 100;

/// The longest time for which a hold may stay open, in seconds: a day (`infra/openapi.json`).
pub const MAX_TTL_SECONDS: u64 = 86_400;

/// The status of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// The hold keeps credits.
    Open,
    /// A caller has settled the hold.
    Settled,
    /// The hold's time ran out. Its captures are settled, and the rest is released.
    Expired,
}

/// The purpose of a hold: the values that a capture takes unless it states its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    pub operation: Name,
    /// The prices when the hold was placed.
    pub priced_by: PriceVersion,
    pub consumer: Consumer,
    pub metadata: Metadata,
}

/// A call that was paid from a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// A digest of the idempotency key, which is unique within the hold.
    pub key: String,
    /// A digest of the request.
    pub fingerprint: String,
    /// The call, with its consumer and its price.
    pub line: PricedCall,
    pub priced_by: PriceVersion,
    /// The part of the price that the hold did not keep before; the capture has added it to the hold.
    pub added: Option<Amount>,
    /// The part of the price that neither the hold nor the balance covered. Nobody pays it.
    pub uncollected: Credits,
}

/// A hold: credits set aside for calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub hold_id: Id,
    /// The credits that the hold keeps, and its epoch.
    pub placement: Placement,
    pub purpose: Purpose,
    pub status: HoldStatus,
    /// The hold has expired from this instant on.
    pub expires_at: Timestamp,
    /// In the order in which they were made.
    pub captures: Vec<Capture>,
    /// Names the ledger entry of the captures, as a balance's `last` does; `None` while the hold is open or without captures.
    pub entry: Option<String>,
}

/// The ledger's record of holds that were settled together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub hold_ids: Vec<Id>,
    /// The versions of the rate card.
    pub rate_cards: BTreeSet<Name>,
    /// The versions of the workspace's own prices.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pricing: BTreeSet<u64>,
    /// The number of calls that were captured.
    pub lines: usize,
    /// The credits spent on each operation.
    pub operations: BTreeMap<Name, Credits>,
    /// The part of the prices that neither the holds nor the balance covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncollected: Option<Amount>,
    /// The part of the captures that credits paid that have expired since their hold was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_by_expired: Option<Amount>,
    /// What was refunded of the calls since, in the order of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunded: Vec<RefundedLine>,
    /// The metadata of the captured calls that have some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line_metadata: Vec<LineMetadata>,
    /// The captured calls. The list of the ledger omits them.
    #[serde(skip)]
    pub content: Vec<PricedCall>,
}

impl Hold {
    /// Returns the credits that were captured.
    pub fn captured(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.captures.iter().map(|capture| capture.line.amount.credits()))
    }

    /// Returns the part of the prices that neither the hold nor the balance covered.
    pub fn uncollected(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.captures.iter().map(|capture| capture.uncollected))
    }

    /// Returns the credits that can still be captured.
    pub fn remaining(&self) -> Result<Credits, OutOfRange> {
        match self.status {
            HoldStatus::Open => self.placement.amount.credits().minus(self.captured()?),
            HoldStatus::Settled | HoldStatus::Expired => Ok(Credits::ZERO),
        }
    }

    /// Returns the placement with more credits set aside; `None` if the sum exceeds the largest amount.
    #[must_use]
    pub fn grown_by(&self, more: Amount) -> Option<Placement> {
        let grown = self.placement.amount.credits().plus(more.credits()).ok()?;
        Some(Placement { amount: Amount::new(grown).ok()?, ..self.placement })
    }

    /// Returns the credits that were left after the capture at `place`. Later captures do not change the result.
    pub fn left_after(&self, place: usize) -> Result<Credits, OutOfRange> {
        let (earlier, later) = self.captures.split_at(place.saturating_add(1).min(self.captures.len()));
        let added_later = later.iter().filter_map(|capture| capture.added).map(Amount::credits);
        let taken = Credits::sum(earlier.iter().map(|capture| capture.line.amount.credits()))?;
        self.placement.amount.credits().minus(Credits::sum(added_later)?)?.minus(taken)
    }

    /// Returns whether the hold has expired.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

impl Settlement {
    /// Creates the settlement of holds, and returns it with the credits that were captured from all of them.
    pub fn of(holds: &[Hold]) -> Result<(Self, Credits), OutOfRange> {
        let calls: Vec<&Capture> = holds.iter().flat_map(|hold| &hold.captures).collect();
        let content: Vec<PricedCall> = calls.iter().map(|capture| capture.line.clone()).collect();
        let mut operations: BTreeMap<Name, Credits> = BTreeMap::new();
        for line in &content {
            let sum = operations.entry(line.operation.clone()).or_default();
            *sum = sum.plus(line.amount.credits())?;
        }
        let captured = Credits::sum(operations.values().copied())?;
        let rate_cards = calls.iter().map(|capture| capture.priced_by.rate_card.clone()).collect();
        let pricing = calls.iter().filter_map(|capture| capture.priced_by.pricing).collect();
        let uncollected = Amount::new(Credits::sum(calls.iter().map(|capture| capture.uncollected))?).ok();
        let hold_ids = holds.iter().map(|hold| hold.hold_id.clone()).collect();
        let lines = content.len();
        let line_metadata = Metadata::of_lines(content.iter().map(|line| &line.metadata));
        let settlement = Self {
            hold_ids,
            rate_cards,
            pricing,
            lines,
            operations,
            uncollected,
            refunded: Vec::new(),
            paid_by_expired: None,
            line_metadata,
            content,
        };
        Ok((settlement, captured))
    }
}

#[cfg(test)]
mod tests {
    use super::{Capture, Hold, HoldStatus, Purpose, Settlement};
    use crate::batch::PricedCall;
    use crate::consumer::Consumer;
    use crate::credits::Credits;
    use crate::hold_posting::Placement;
    use crate::metadata::Metadata;
    use crate::rate_card::PriceVersion;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    fn version() -> PriceVersion {
        PriceVersion::of("v1".parse().unwrap())
    }

    fn hold(captures: &[(&str, Option<&str>)]) -> Hold {
        let consumer = Consumer::Action { feature: "f".parse().unwrap(), user_id: "u".parse().unwrap() };
        let line = |amount: &str| {
            let operation = format!("op.{}", amount.len()).parse().unwrap();
            PricedCall::stated(operation, consumer.clone(), amount.parse().unwrap())
        };
        let capture = |(place, (amount, added)): (usize, &(&str, Option<&str>))| Capture {
            key: place.to_string(),
            fingerprint: String::new(),
            line: line(amount),
            priced_by: version(),
            added: added.map(|added| added.parse().unwrap()),
            uncollected: Credits::ZERO,
        };
        Hold {
            hold_id: "hold".parse().unwrap(),
            placement: Placement { epoch: 1, amount: "12".parse().unwrap() },
            purpose: Purpose {
                operation: "op".parse().unwrap(),
                priced_by: version(),
                consumer: consumer.clone(),
                metadata: Metadata::default(),
            },
            status: HoldStatus::Open,
            expires_at: jiff::Timestamp::UNIX_EPOCH,
            captures: captures.iter().enumerate().map(capture).collect(),
            entry: None,
        }
    }

    #[test]
    fn later_captures_do_not_change_what_an_earlier_one_left() {
        // The hold was placed with 10 credits, and its second capture added 2.
        let hold = hold(&[("2.5", None), ("9.5", Some("2"))]);
        assert_eq!(hold.left_after(0), Ok(credits("7.5")));
        assert_eq!(hold.left_after(1), Ok(credits("0")));
        assert_eq!((hold.captured(), hold.remaining()), (Ok(credits("12")), Ok(credits("0"))));
    }

    #[test]
    fn settlement_sums_captures_by_operation() {
        let holds = [hold(&[("2.5", None), ("1", None)]), hold(&[("3", None)]), hold(&[])];
        let (settlement, captured) = Settlement::of(&holds).unwrap();
        assert_eq!((settlement.lines, captured), (3, credits("6.5")));
        let sums: Vec<String> =
            settlement.operations.iter().map(|(operation, sum)| format!("{operation} {sum}")).collect();
        assert_eq!(sums, ["op.1 4", "op.3 2.5"]);
    }

    #[test]
    fn m04_only_an_open_hold_has_remaining_credits() {
        let open = hold(&[("5", None), ("3.5", None)]);
        assert_eq!(open.remaining(), Ok(credits("3.5")));
        for status in [HoldStatus::Settled, HoldStatus::Expired] {
            assert_eq!(Hold { status, ..open.clone() }.remaining(), Ok(Credits::ZERO));
        }
    }

    #[test]
    fn m04_hold_expires_at_its_last_instant() {
        let hold = hold(&[]);
        let before = hold.expires_at - jiff::SignedDuration::from_millis(1);
        assert!(hold.has_expired(hold.expires_at) && !hold.has_expired(before));
    }
}
