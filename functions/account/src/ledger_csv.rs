//! The ledger as CSV: one row per entry, without cells that a spreadsheet would run as formulas.

use std::borrow::Cow;

use credits_core::claw_back::ClawBackReason;
use credits_core::consumer::Consumer;
use credits_core::ledger::{Cause, Entry};
use credits_core::metadata::LineMetadata;
use credits_runtime::Problem;
use serde::Serialize;

const COLUMNS: [&str; 18] = [
    "entry_id",
    "at",
    "kind",
    "credits",
    "operation",
    "model",
    "rate_card",
    "consumer",
    "workflow_id",
    "run_id",
    "step_id",
    "feature",
    "user_id",
    "job_id",
    "list_id",
    "reference",
    "reason",
    "metadata",
];

/// Writes a header line and one row per entry.
pub(crate) fn write(entries: &[Entry]) -> Result<String, Problem> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let headed = writer.write_record(COLUMNS).is_ok();
    let written = headed && entries.iter().all(|entry| writer.write_record(row(entry)).is_ok());
    let text = writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|_| written).ok_or_else(Problem::unavailable)
}

fn row(entry: &Entry) -> [String; COLUMNS.len()] {
    let mut row = Row::default();
    row.set("entry_id", &entry.entry_id);
    row.set("at", &entry.at);
    row.set("kind", &entry.cause.kind().name());
    row.set("credits", &entry.credits);
    match &entry.cause {
        Cause::Debit { operation, model, rate_card, consumer, metadata, .. } => {
            row.set("operation", operation);
            row.set_some("model", model.as_ref());
            row.set("rate_card", rate_card);
            row.set_consumer(consumer);
            if !metadata.is_empty() {
                row.set_json("metadata", metadata);
            }
        }
        Cause::Batch(batch) => {
            row.set("rate_card", &batch.rate_card);
            row.set("reference", &format!("{} calls", batch.lines));
            row.set_line_metadata(&batch.line_metadata);
        }
        Cause::DebitRefund(refund) => {
            row.set("operation", &joined(refund.operations.keys()));
            row.set("reference", &refund.debit_id);
            row.set("reason", &refund.reason.name());
        }
        Cause::TopUp { top_up_id, .. } => row.set("reference", top_up_id),
        Cause::Grant { grant_id, reason, .. } | Cause::Void { grant_id, reason } => {
            row.set("reference", grant_id);
            row.set("reason", reason);
        }
        Cause::Allocation { grant_id, tier, .. } => {
            row.set("reference", grant_id);
            row.set("reason", tier);
        }
        Cause::HoldSettled(settlement) => {
            row.set("rate_card", &joined(&settlement.rate_cards));
            row.set("reference", &joined(&settlement.hold_ids));
            row.set("reason", &format!("{} calls", settlement.lines));
            row.set_line_metadata(&settlement.line_metadata);
        }
        Cause::Expiry { grant_ids, hold_ids } => {
            row.set("reference", &joined(grant_ids.iter().chain(hold_ids)));
        }
        Cause::ClawBack { payment_id, reason } | Cause::ClawBackReversed { payment_id, reason } => {
            row.set("reference", payment_id);
            row.set("reason", &reason.map_or("", ClawBackReason::name));
        }
        Cause::Invoiced { month } => row.set("reference", month),
    }
    row.0
}

fn joined(ids: impl IntoIterator<Item: ToString>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
}

/// The cells of a row, in the order of [`COLUMNS`].
#[derive(Default)]
struct Row([String; COLUMNS.len()]);

impl Row {
    fn set(&mut self, column: &str, value: &impl ToString) {
        let cells = COLUMNS.iter().zip(&mut self.0);
        if let Some((_, cell)) = cells.into_iter().find(|(name, _)| **name == column) {
            *cell = inert(&value.to_string()).into_owned();
        }
    }

    fn set_some(&mut self, column: &str, value: Option<&impl ToString>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    fn set_line_metadata(&mut self, lines: &[LineMetadata]) {
        if !lines.is_empty() {
            self.set_json("metadata", &lines);
        }
    }

    fn set_json(&mut self, column: &str, value: &impl Serialize) {
        self.set(column, &serde_json::json!(value));
    }

    fn set_consumer(&mut self, consumer: &Consumer) {
        match consumer {
            Consumer::WorkflowStep { workflow_id, run_id, step_id } => {
                self.set("consumer", &"workflow_step");
                self.set("workflow_id", workflow_id);
                self.set("run_id", run_id);
                self.set("step_id", step_id);
            }
            Consumer::Action { feature, user_id } => {
                self.set("consumer", &"action");
                self.set("feature", feature);
                self.set("user_id", user_id);
            }
            Consumer::Bulk { job_id, feature, list_id, user_id } => {
                self.set("consumer", &"bulk");
                self.set("job_id", job_id);
                self.set("feature", feature);
                self.set_some("list_id", list_id.as_ref());
                self.set_some("user_id", user_id.as_ref());
            }
        }
    }
}

/// Prefixes a text that a spreadsheet would run as a formula with an apostrophe (OWASP, CSV injection). A negative
/// number stays as it is.
fn inert(text: &str) -> Cow<'_, str> {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let number = text.parse::<credits_core::credits::Credits>().is_ok();
    if risky && !number { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn cells_are_no_formulas_and_numbers_stay_numbers() {
        for bad in ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "-2+3", "--1"] {
            assert_eq!(inert(bad), format!("'{bad}"));
        }
        for good in ["-3.4", "0", "plain", "a=b", ""] {
            assert_eq!(inert(good), good);
        }
    }
}
