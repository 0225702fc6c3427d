//! Batches: up to 500 AI calls in one posting, exactly once, never below zero (M2, M4).

use credits_core::batch::{Batch, Line, covered};
use credits_core::id::Name;
use credits_core::ledger::Cause;

use crate::Store;
use crate::debits::{DebitRefusal, Posted};
use crate::error::{Corrupt, Fault};
use crate::idempotency::Claim;

/// Some AI calls that are to be paid together.
#[derive(Debug, Clone, Copy)]
pub struct BatchOrder<'a> {
    /// The version of the prices.
    pub rate_card: &'a Name,
    /// The calls, in the order in which they are taken.
    pub lines: &'a [Line],
    /// Whether the first calls that the balance covers are taken where it doesn't cover all.
    pub partial: bool,
}

impl Store {
    /// Draws what a batch costs: all of it, or, where that was asked for, of its first lines.
    ///
    /// A batch is one posting, as a debit is. Where the balance covers a part of it, the part is another posting under
    /// the same key; it may take a third where the balance has fallen meanwhile.
    pub async fn debit_batch(&self, claim: &Claim, order: BatchOrder<'_>) -> Result<Posted, DebitRefusal> {
        let BatchOrder { rate_card, lines, partial } = order;
        let mut taken = lines.len();
        let mut attempts = self.attempts();
        loop {
            let (batch, amount) = Batch::of(rate_card, lines, taken)
                .map_err(|_| Fault::Corrupt(Corrupt::Attribute("lines")))?;
            let refused = match self.debit(claim, amount, Cause::Batch(batch)).await {
                Err(refused @ DebitRefusal::Insufficient { .. }) => refused,
                other => return other,
            };
            let DebitRefusal::Insufficient { balance, .. } = &refused else { return Err(refused) };
            if !partial {
                return Err(refused);
            }
            // What is covered is fewer than what was just refused, unless credits were added meanwhile.
            let fits =
                covered(lines, balance.spendable).map_err(|sum| Fault::Corrupt(sum.into()))?.min(lines.len());
            if fits == 0 {
                return Err(of_the_first(lines, refused));
            }
            attempts.at_once()?;
            taken = fits;
        }
    }
}

/// Where not even the first line is covered, it is that line's price that is missing.
fn of_the_first(lines: &[Line], refused: DebitRefusal) -> DebitRefusal {
    match (refused, lines.first()) {
        (DebitRefusal::Insufficient { balance, .. }, Some(first)) => {
            DebitRefusal::Insufficient { required: first.amount, balance }
        }
        (refused, _) => refused,
    }
}
