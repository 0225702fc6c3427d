//! `POST /v1/workspaces/{workspace_id}/debits/{debit_id}/refund`: the operator refunds credits of an AI call (M2).

use credits_core::batch::MAX_LINES;
use credits_core::credits::{Amount, Credits};
use credits_core::debit_refund::DebitRefundReason;
use credits_core::id::Id;
use credits_runtime::fields::{Fields, choice, count, parsed, remark};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::debit_refunds::{DebitRefundOrder, RefundedDebit};
use serde::Serialize;
use serde_json::Value;

use crate::Account;

#[derive(Debug, Serialize)]
struct DebitRefundBody {
    refund_id: Id,
    debit_id: Id,
    credits: Credits,
    /// What can still be refunded of the calls that the request meant.
    refundable: Credits,
}

impl Account {
    pub(crate) async fn refund_debit(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Refund)?;
        call.token_claims().demand_all_workspaces()?;
        let debit_id: Id = call.path_parameter("debit_id").parse().map_err(|_| Problem::not_found())?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let order = read_order(debit_id, &body)?;
        let RefundedDebit { entry, refund, key_use } = store.debit_refunds().refund(&claim, &order).await?;
        let answer = DebitRefundBody {
            refund_id: entry.entry_id,
            debit_id: refund.debit_id,
            credits: entry.credits,
            refundable: refund.refundable,
        };
        Ok(Answer::created_once(key_use, &answer))
    }
}

fn read_order(debit_id: Id, body: &Value) -> Result<DebitRefundOrder, Problem> {
    let last_line = u64::try_from(MAX_LINES).unwrap_or(u64::MAX).saturating_sub(1);
    let mut fields = Fields::of(body)?;
    let credits = fields.optional("credits", parsed::<Amount>);
    let line = fields.optional("line", |line| count(line, last_line));
    let capture_id = fields.optional("capture_id", parsed::<Id>);
    let reason = fields.required("reason", |reason| choice(reason, &DebitRefundReason::ALL));
    let note = fields.optional("note", remark);
    if line.is_some() && capture_id.is_some() {
        fields.refuse("capture_id", "or line, not both");
    }
    let line = line.and_then(|line| usize::try_from(line).ok());
    fields.finish(reason.map(|reason| DebitRefundOrder { debit_id, line, capture_id, credits, reason, note }))
}
