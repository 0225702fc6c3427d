//! Counts the records of a batch into monthly usage: consumption by the marks of the balance and its lanes, other facts one by one.

use std::collections::BTreeMap;

use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::invoice::Invoice;
use credits_core::ledger::Cause;
use credits_core::month::Month;
use credits_core::payment::Payment;
use credits_core::price::Price;
use credits_store::error::Chain;
use credits_store::invoices::VersionedInvoice;
use credits_store::stream::ItemChange;
use credits_store::usage::Noted;
use credits_store::usage::rollup::Spending;
use credits_store::{Fault, Store};
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::records::ParsedRecord;

/// The workspaces that are counted at once.
const AT_A_TIME: usize = 16;

/// A fact other than consumption that a month counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    /// Identifies the fact, so that a redelivery is not counted again.
    fact_id: String,
    workspace_id: WorkspaceId,
    month: Month,
    noted: Vec<Noted>,
}

/// Counts all records of a batch. An error carries the index of the first record that has to be delivered again.
pub(crate) async fn count(store: &Store, records: &[ParsedRecord<'_>]) -> Result<(), (usize, Fault)> {
    let mut spendings: BTreeMap<WorkspaceId, (usize, Vec<Spending>)> = BTreeMap::new();
    let mut failed: Option<(usize, Fault)> = None;
    let mut fail = |place: usize, fault: Fault| {
        if matches!(fault, Fault::Corrupt(_)) {
            // A retry would fail forever and block the records behind it. The check against the ledger reports the gap.
            tracing::error!(error = %Chain(&fault), "a record could not be counted");
        } else if failed.as_ref().is_none_or(|(earlier, _)| place < *earlier) {
            failed = Some((place, fault));
        }
    };
    for (place, known) in records.iter().enumerate() {
        let Some(written) = &known.written else { continue };
        if let Some((workspace, spending)) = written.spending() {
            let (_, of_workspace) = spendings.entry(workspace.clone()).or_insert_with(|| (place, Vec::new()));
            of_workspace.push(spending);
        }
        for note in notes_of(written, known.at) {
            let counted =
                store.usage().note(&note.fact_id, &note.workspace_id, note.month, &note.noted).await;
            if let Err(fault) = counted {
                fail(place, fault);
            }
        }
    }
    let mut spendings = spendings.into_iter();
    loop {
        // An invocation is paid by its time, so it waits for several workspaces at once.
        let mut running = JoinSet::new();
        for (workspace, (place, spendings)) in spendings.by_ref().take(AT_A_TIME) {
            let store = store.clone();
            running.spawn(async move { (place, store.usage().roll_up(&workspace, &spendings).await) });
        }
        if running.is_empty() {
            return failed.map_or(Ok(()), Err);
        }
        for (place, counted) in running.join_all().await {
            if let Err(fault) = counted {
                fail(place, fault);
            }
        }
    }
}

fn notes_of(written: &ItemChange, at: Timestamp) -> Vec<Note> {
    let note = match written {
        ItemChange::Entry { workspace, entry }
            if !matches!(entry.cause, Cause::Debit { .. } | Cause::Batch(_)) =>
        {
            let moved = credits_core::usage::Moved::beside_consumption(entry);
            let noted = moved.map(|(moved, credits)| Noted::Moved(moved, credits)).into_iter().collect();
            Some(Note {
                fact_id: entry.entry_id.to_string(),
                workspace_id: workspace.clone(),
                month: Month::of(entry.at),
                noted,
            })
        }
        ItemChange::RunFailed { workspace, run, .. } => {
            let required = run.failure.as_ref().map_or(Credits::ZERO, |failure| failure.required.credits());
            Some(Note {
                fact_id: format!("blocked-{workspace}-{}", run.run_id),
                workspace_id: workspace.clone(),
                month: Month::of(run.ended_at.unwrap_or(at)),
                noted: vec![Noted::Blocked(required)],
            })
        }
        ItemChange::Invoice { workspace, before, after } => {
            Some(note_of_invoice(workspace, before.as_deref(), after))
        }
        ItemChange::Payment { before, after } => note_of_payment(before.as_deref(), after, at),
        _ => None,
    };
    note.into_iter().filter(|note| !note.noted.is_empty()).collect()
}

/// Returns the change of an invoice's charge by one write: a payment if it rose, a refund if it fell, as when the
/// invoice is voided.
fn note_of_invoice(workspace: &WorkspaceId, before: Option<&Invoice>, after: &VersionedInvoice) -> Note {
    let VersionedInvoice { invoice, version } = after;
    let (charged, was) = (invoice.charged_minor(), before.map_or(0, Invoice::charged_minor));
    let price = |amount_minor| Price { amount_minor, ..invoice.total };
    let noted = [
        (charged > was).then(|| Noted::Paid(price(charged.saturating_sub(was)))),
        (charged < was).then(|| Noted::Refunded(price(was.saturating_sub(charged)))),
    ];
    // Version 0 marks an invoice of an older release, which wrote each invoice once.
    let write = if *version == 0 { String::new() } else { format!("-{version}") };
    Note {
        fact_id: format!("invoice-{workspace}-{}{write}", invoice.invoice_id),
        workspace_id: workspace.clone(),
        month: invoice.month,
        noted: noted.into_iter().flatten().collect(),
    }
}

/// Returns the change of a payment's paid and refunded amounts by one write; `None` before its credits are granted.
fn note_of_payment(before: Option<&Payment>, after: &Payment, at: Timestamp) -> Option<Note> {
    let granted = after.granted.as_ref()?;
    let currency = after.paid.as_ref()?.currency;
    let price = |amount_minor| Price { amount_minor, currency };
    let was = before.filter(|before| before.granted.is_some());
    let paid = if was.is_none() { granted.amount_minor } else { 0 };
    let before_minor = was.map_or(0, Payment::paid_back_minor);
    let refunded = after.paid_back_minor().saturating_sub(before_minor);
    // A refund has failed, or a lost dispute was won after all: the money is back, and counts as paid again.
    let paid = paid.saturating_add(before_minor.saturating_sub(after.paid_back_minor()));
    let noted = [Noted::Paid(price(paid)), Noted::Refunded(price(refunded))];
    let noted = noted.into_iter().zip([paid, refunded]).filter(|(_, amount)| *amount > 0);
    Some(Note {
        fact_id: format!("payment-{}-{}", after.payment_id, after.version),
        workspace_id: granted.workspace_id.clone(),
        month: Month::of(at),
        noted: noted.map(|(noted, _)| noted).collect(),
    })
}
