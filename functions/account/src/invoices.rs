//! `/v1/workspaces/{workspace_id}/invoices`: the invoices of an Enterprise workspace, and their status (M8).

use credits_core::id::Id;
use credits_core::invoice::{Invoice, InvoiceStatus};
use credits_runtime::fields::{Fields, choice, remark};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::invoices::StatusChange;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

#[derive(Debug, Serialize)]
struct InvoicesBody {
    invoices: Vec<Invoice>,
}

impl Account {
    pub(crate) async fn invoices(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        Ok(Answer::ok(&InvoicesBody { invoices: store.invoices().list(&workspace).await? }))
    }

    /// Sets an invoice's status. It moves no credits and charges nothing.
    pub(crate) async fn set_invoice_status(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let invoice_id: Id = call.path_parameter("invoice_id").parse().map_err(|_| Problem::not_found())?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let change = read_status(&body)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let (invoice, key_use) = store.invoices().set_status(&claim, &invoice_id, &change).await?;
        Ok(Answer::changed_once(key_use, &invoice))
    }
}

fn read_status(body: &Value) -> Result<StatusChange, Problem> {
    let mut fields = Fields::of(body)?;
    let statuses =
        [("open", InvoiceStatus::Open), ("paid", InvoiceStatus::Paid), ("void", InvoiceStatus::Void)];
    let status = fields.required("status", |status| choice(status, &statuses));
    let note = fields.optional("note", remark);
    fields.finish(status.map(|status| StatusChange { status, note }))
}
