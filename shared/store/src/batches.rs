//! Batches: up to 500 AI calls in one posting, exactly once, never more than the balance covers (M2, M4).

use credits_core::batch::{Batch, PricedCall, covered};
use credits_core::ledger::Cause;
use credits_core::rate_card::PriceVersion;

use crate::debits::DebitStore;
use crate::debits::{DebitRefusal, Posted};
use crate::error::{Corrupt, Fault};
use crate::idempotency::Claim;

/// A request to debit several AI calls together.
#[derive(Debug, Clone, Copy)]
pub struct BatchOrder<'a> {
    pub priced_by: &'a PriceVersion,
    /// The calls, in the order in which they are debited.
    pub lines: &'a [PricedCall],
    /// Whether to debit the first calls that the balance covers, if it doesn't cover all.
    pub partial: bool,
}

impl DebitStore<'_> {
    /// Debits the cost of a batch: of all lines or, if `partial` is set, of the first lines that the balance covers.
    ///
    /// A batch is one posting, like a debit. A partial batch needs a second attempt under the same key, and a third if
    /// the balance has fallen meanwhile.
    pub async fn debit_batch(self, claim: &Claim, order: BatchOrder<'_>) -> Result<Posted, DebitRefusal> {
        let BatchOrder { priced_by, lines, partial } = order;
        let mut taken = lines.len();
        let mut attempts = self.store.attempts();
        loop {
            let (batch, amount) = Batch::of(priced_by, lines, taken)
                .map_err(|_| Fault::Corrupt(Corrupt::Attribute("lines")))?;
            let refused = match self.debit(claim, amount, Cause::Batch(batch)).await {
                Err(refused @ DebitRefusal::Insufficient { .. }) => refused,
                other => return other,
            };
            let DebitRefusal::Insufficient { balance, .. } = &refused else { return Err(refused) };
            if !partial {
                return Err(refused);
            }
            // The balance covers fewer lines than were just refused, unless credits were added meanwhile.
            let fits =
                covered(lines, balance.spendable).map_err(|sum| Fault::Corrupt(sum.into()))?.min(lines.len());
            if fits == 0 {
                return Err(of_the_first(lines, refused));
            }
            attempts.retry_now()?;
            taken = fits;
        }
    }
}

/// Returns the refusal for a balance that does not cover even the first line: that line's price is required.
fn of_the_first(lines: &[PricedCall], refused: DebitRefusal) -> DebitRefusal {
    match (refused, lines.first()) {
        (DebitRefusal::Insufficient { balance, .. }, Some(first)) => {
            DebitRefusal::Insufficient { required: first.amount, balance }
        }
        (refused, _) => refused,
    }
}
