//! Batches: up to 500 AI calls as one posting, either all of them or the first ones that the balance covers (M4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consumer::Consumer;
use crate::credits::{CallPrice, Credits, OutOfRange, ParseCreditsError};
use crate::debit_refund::RefundedLine;
use crate::id::Name;
use crate::metadata::{LineMetadata, Metadata};
use crate::rate_card::PriceVersion;
use crate::units::Units;

/// The maximum number of lines of a batch.
pub const MAX_LINES: usize = 500;

/// One AI call of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedCall {
    pub operation: Name,
    pub model: Option<Name>,
    /// What the call used; `None` where the caller stated the price.
    pub units: Option<Units>,
    pub consumer: Consumer,
    pub metadata: Metadata,
    /// The price of the call.
    pub amount: CallPrice,
}

/// The batch that a ledger entry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The version of the rate card.
    pub rate_card: Name,
    /// The version of the workspace's own prices; `None` without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<u64>,
    /// The number of calls that were taken.
    pub lines: usize,
    /// The number of calls in the request.
    pub asked: usize,
    /// The credits spent on each operation.
    pub operations: BTreeMap<Name, Credits>,
    /// What was refunded of the calls since, in the order of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunded: Vec<RefundedLine>,
    /// The metadata of the calls that have some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line_metadata: Vec<LineMetadata>,
    /// The calls that were taken. Listings of the ledger leave them out.
    #[serde(skip)]
    pub content: Vec<PricedCall>,
}

/// Why lines don't make a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Their total price is too large.
    #[error(transparent)]
    Amount(#[from] ParseCreditsError),
    /// A sum of prices is out of range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl PricedCall {
    /// Makes a call whose price the caller has stated, without a model and metadata.
    #[must_use]
    pub fn stated(operation: Name, consumer: Consumer, amount: CallPrice) -> Self {
        Self { operation, model: None, units: None, consumer, metadata: Metadata::default(), amount }
    }
}

impl Batch {
    /// Makes a batch of the first `taken` lines, and returns it with their total price.
    pub fn of(
        priced_by: &PriceVersion,
        lines: &[PricedCall],
        taken: usize,
    ) -> Result<(Self, CallPrice), BatchError> {
        let content: Vec<PricedCall> = lines.iter().take(taken).cloned().collect();
        let mut operations: BTreeMap<Name, Credits> = BTreeMap::new();
        for line in &content {
            let sum = operations.entry(line.operation.clone()).or_default();
            *sum = sum.plus(line.amount.credits())?;
        }
        let amount = CallPrice::new(Credits::sum(operations.values().copied())?)?;
        let PriceVersion { rate_card, pricing } = priced_by.clone();
        let pricing = pricing.filter(|_| content.iter().any(|line| line.units.is_some()));
        let (taken, asked) = (content.len(), lines.len());
        let line_metadata = Metadata::of_lines(content.iter().map(|line| &line.metadata));
        let batch = Self {
            rate_card,
            pricing,
            lines: taken,
            asked,
            operations,
            refunded: Vec::new(),
            line_metadata,
            content,
        };
        Ok((batch, amount))
    }
}

/// Returns how many lines, from the first one on, `spendable` covers together.
pub fn covered(lines: &[PricedCall], spendable: Credits) -> Result<usize, OutOfRange> {
    let mut sum = Credits::ZERO;
    for (taken, line) in lines.iter().enumerate() {
        sum = sum.plus(line.amount.credits())?;
        if sum > spendable {
            return Ok(taken);
        }
    }
    Ok(lines.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Batch, PricedCall, covered};
    use crate::consumer::Consumer;
    use crate::credits::Credits;
    use crate::rate_card::PriceVersion;

    fn line(operation: &str, credits: &str) -> PricedCall {
        let id = || "a".parse().unwrap();
        let consumer = Consumer::Action { feature: id(), user_id: id() };
        PricedCall::stated(operation.parse().unwrap(), consumer, credits.parse().unwrap())
    }

    #[test]
    fn batch_sums_the_lines_that_it_takes_by_operation() {
        let lines = [line("a", "1.5"), line("b", "2"), line("a", "0.000001"), line("c", "9")];
        let version = PriceVersion::of("v1".parse().unwrap());
        let (batch, amount) = Batch::of(&version, &lines, 3).unwrap();
        assert_eq!((batch.lines, batch.asked, amount.to_string().as_str()), (3, 4, "3.500001"));
        let sums: Vec<String> =
            batch.operations.iter().map(|(operation, credits)| format!("{operation} {credits}")).collect();
        assert_eq!(sums, ["a 1.500001", "b 2"]);
        let dear = vec![line("a", "999999999999"); 2];
        assert!(Batch::of(&version, &dear, 2).is_err(), "the sum has too many digits");
    }

    #[test]
    fn line_that_costs_the_last_credit_is_covered() {
        let lines = [line("a", "1"), line("b", "2"), line("c", "0.000001")];
        assert_eq!(covered(&lines, "3".parse().unwrap()), Ok(2));
        assert_eq!(covered(&lines, "2.999999".parse().unwrap()), Ok(1));
    }

    proptest! {
        #[test]
        fn covered_lines_are_the_most_that_the_balance_pays_for(
            micros in proptest::collection::vec(1_i128..5_000_000, 1..40),
            spendable in -5_000_000_i128..100_000_000,
        ) {
            let credits = |micros: i128| Credits::from_micros(micros).unwrap();
            let lines: Vec<PricedCall> = micros.iter().map(|it| line("a", &credits(*it).to_string())).collect();
            let taken = covered(&lines, credits(spendable)).unwrap();
            let sum: i128 = micros.iter().take(taken).sum();
            prop_assert!(taken == 0 || sum <= spendable);
            prop_assert!(taken == micros.len() || sum + micros[taken] > spendable);
        }
    }
}
