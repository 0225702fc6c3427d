//! What can be refunded of a debit: its calls, less what was refunded of them.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, CallPrice, Credits, OutOfRange};
use credits_core::debit_refund::RefundedLine;
use credits_core::id::Name;
use credits_core::ledger::{Cause, Entry};

use crate::debit_refunds::{DebitRefundOrder, DebitRefundRefusal};
use crate::error::{Corrupt, Fault};
use crate::table::attribute::text;
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;

/// The path of what was refunded of a debit, in its ledger entry.
const REFUNDED: &str = "detail.refunded";

/// A debit to be refunded, with its calls that an order can mean.
#[derive(Debug)]
pub(super) struct RefundTarget {
    pub key: ItemKey,
    pub entry: Entry,
    /// The calls with their indices in the entry.
    pub calls: Vec<(usize, PricedCall)>,
}

/// The calls that an order refunds.
#[derive(Debug)]
pub(super) struct Selection {
    pub amount: Amount,
    /// What can still be refunded of the calls that the order means.
    pub left: Credits,
    /// The refunded calls, each with what is refunded of it.
    pub content: Vec<PricedCall>,
    lines: Vec<RefundedLine>,
}

impl RefundTarget {
    /// Takes the order's credits from the calls that it means, latest first.
    pub fn select(&self, order: &DebitRefundOrder) -> Result<Selection, DebitRefundRefusal> {
        let mut open = Vec::new();
        for (line, call) in self.calls.iter().rev() {
            let refunded = self.refunded_of(*line).map_err(corrupt)?;
            open.push((*line, call, call.amount.credits().minus(refunded).map_err(corrupt)?));
        }
        let refundable = Credits::sum(open.iter().map(|(_, _, left)| *left)).map_err(corrupt)?;
        let exceeds = || DebitRefundRefusal::ExceedsDebit { refundable };
        let amount = order.credits.map_or_else(|| Amount::new(refundable).map_err(|_| exceeds()), Ok)?;
        let left = refundable.minus(amount.credits()).map_err(corrupt)?;
        if left < Credits::ZERO {
            return Err(exceeds());
        }
        let mut selection = Selection { amount, left, content: Vec::new(), lines: Vec::new() };
        let mut rest = amount.credits();
        for (line, call, open) in open {
            let taken = rest.min(open);
            if let Ok(part) = Amount::new(taken) {
                rest = rest.minus(taken).map_err(corrupt)?;
                selection.lines.push(RefundedLine {
                    line,
                    operation: call.operation.clone(),
                    credits: taken,
                });
                selection.content.push(PricedCall { amount: CallPrice::from(part), ..call.clone() });
            }
        }
        Ok(selection)
    }

    /// Splits a refund into the part that live credits paid and the part that expired credits paid. Live credits return first.
    pub fn paid_parts(&self, amount: Amount) -> Result<(Credits, Credits), OutOfRange> {
        let expired = match &self.entry.cause {
            Cause::HoldSettled(settlement) => {
                settlement.paid_by_expired.map_or(Credits::ZERO, Amount::credits)
            }
            _ => Credits::ZERO,
        };
        let refunded = self.refunded()?;
        let live = self.entry.credits.negated().minus(expired)?.minus(refunded)?.or_zero();
        let of_live = amount.credits().min(live);
        Ok((of_live, amount.credits().minus(of_live)?))
    }

    /// Returns the write that adds a refund to what was refunded, if nothing else was refunded meanwhile.
    pub fn refunded_write(&self, table: &str, selection: &Selection) -> Result<TransactWriteItem, Corrupt> {
        let write = if let Cause::Debit { refunded, .. } = &self.entry.cause {
            let sum = self.refunded()?.plus(selection.amount.credits())?;
            let write = Expression::new().set(REFUNDED, text(sum.to_string()));
            match refunded {
                Some(before) => write.when(REFUNDED, "=", text(before.to_string())),
                None => write.when_absent(REFUNDED),
            }
        } else {
            let before = self.refunded_lines();
            let after = selection.lines.iter().try_fold(before.to_vec(), with_line)?;
            let write = Expression::new().set(REFUNDED, serde_dynamo::to_attribute_value(&after)?);
            match before {
                [] => write.when_absent(REFUNDED),
                before => write.when(REFUNDED, "=", serde_dynamo::to_attribute_value(before)?),
            }
        };
        write.update(table, &self.key)
    }

    fn refunded(&self) -> Result<Credits, OutOfRange> {
        match &self.entry.cause {
            Cause::Debit { refunded, .. } => Ok(refunded.unwrap_or_default()),
            _ => Credits::sum(self.refunded_lines().iter().map(|line| line.credits)),
        }
    }

    fn refunded_of(&self, line: usize) -> Result<Credits, OutOfRange> {
        if let Cause::Debit { .. } = &self.entry.cause {
            return self.refunded();
        }
        let of_line = self.refunded_lines().iter().filter(|refunded| refunded.line == line);
        Credits::sum(of_line.map(|refunded| refunded.credits))
    }

    fn refunded_lines(&self) -> &[RefundedLine] {
        match &self.entry.cause {
            Cause::Batch(batch) => &batch.refunded,
            Cause::HoldSettled(settlement) => &settlement.refunded,
            _ => &[],
        }
    }
}

impl Selection {
    /// Returns the refunded credits by operation.
    pub fn operations(&self) -> Result<BTreeMap<Name, Credits>, OutOfRange> {
        let mut operations: BTreeMap<Name, Credits> = BTreeMap::new();
        for call in &self.content {
            let sum = operations.entry(call.operation.clone()).or_default();
            *sum = sum.plus(call.amount.credits())?;
        }
        Ok(operations)
    }
}

fn with_line(mut lines: Vec<RefundedLine>, more: &RefundedLine) -> Result<Vec<RefundedLine>, OutOfRange> {
    match lines.iter_mut().find(|line| line.line == more.line) {
        Some(line) => line.credits = line.credits.plus(more.credits)?,
        None => lines.push(more.clone()),
    }
    lines.sort_by_key(|line| line.line);
    Ok(lines)
}

fn corrupt(sum: OutOfRange) -> DebitRefundRefusal {
    Fault::Corrupt(Corrupt::Sum(sum)).into()
}
