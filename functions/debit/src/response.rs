//! The response bodies of the debit function.

use credits_core::balance::Balance;
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, CallPrice, Credits, OutOfRange};
use credits_core::hold::{Hold, HoldStatus};
use credits_core::id::{Id, Name, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use credits_core::rate_card::PriceVersion;
use jiff::Timestamp;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct DebitBody<'a> {
    debit_id: Id,
    workspace_id: &'a WorkspaceId,
    operation: Name,
    credits: Credits,
    rate_card: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<u64>,
    consumer: Consumer,
    posted_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub(crate) struct QuoteBody {
    credits: CallPrice,
    rate_card: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<u64>,
    available: Credits,
    spendable: Credits,
    affordable: bool,
}

impl<'a> DebitBody<'a> {
    /// Returns the body for a debit's ledger entry; `None` for an entry of another kind. A replay yields the same body.
    pub fn of(workspace_id: &'a WorkspaceId, entry: Entry) -> Option<Self> {
        let Cause::Debit { operation, rate_card, pricing, consumer, .. } = entry.cause else { return None };
        let credits = entry.credits.negated();
        let (debit_id, posted_at) = (entry.entry_id, entry.at);
        Some(Self { debit_id, workspace_id, operation, credits, rate_card, pricing, consumer, posted_at })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BatchBody {
    debit_id: Id,
    credits: Credits,
    accepted: usize,
    lines: Vec<LineBody>,
    /// The index of the first line that the balance did not cover; absent if all were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_from: Option<usize>,
}

#[derive(Debug, Serialize)]
struct LineBody {
    credits: CallPrice,
}

impl BatchBody {
    /// Returns the body for a batch's ledger entry; `None` for an entry of another kind. A replay yields the same body.
    pub fn of(entry: Entry) -> Option<Self> {
        let Cause::Batch(batch) = entry.cause else { return None };
        Some(Self {
            debit_id: entry.entry_id,
            credits: entry.credits.negated(),
            accepted: batch.lines,
            lines: batch.content.iter().map(|line| LineBody { credits: line.amount }).collect(),
            refused_from: (batch.lines < batch.asked).then_some(batch.lines),
        })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct HoldAnswer<'a> {
    hold_id: &'a Id,
    credits: Amount,
    captured: Credits,
    remaining: Credits,
    /// The part of the last call's price that neither the hold nor the balance covered.
    uncollected: Credits,
    status: HoldStatus,
    expires_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub(crate) struct CaptureAnswer {
    pub capture_id: Id,
    pub credits: CallPrice,
    pub remaining: Credits,
}

impl<'a> HoldAnswer<'a> {
    pub fn of(hold: &'a Hold) -> Result<Self, OutOfRange> {
        Ok(Self {
            hold_id: &hold.hold_id,
            credits: hold.placement.amount,
            captured: hold.captured()?,
            remaining: hold.remaining()?,
            uncollected: hold.uncollected()?,
            status: hold.status,
            expires_at: hold.expires_at,
        })
    }
}

impl QuoteBody {
    pub fn of(credits: CallPrice, priced_by: PriceVersion, balance: &Balance) -> Result<Self, OutOfRange> {
        let PriceVersion { rate_card, pricing } = priced_by;
        let (available, spendable) = (balance.available()?, balance.spendable);
        let affordable = credits == CallPrice::ZERO || spendable >= credits.credits();
        Ok(Self { credits, rate_card, pricing, available, spendable, affordable })
    }
}
