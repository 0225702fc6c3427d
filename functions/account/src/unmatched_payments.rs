//! `GET /v1/unmatched-payments` and `POST …/{payment_id}/resolve`: an operator lists and resolves unmatched payments.

use credits_core::id::WorkspaceId;
use credits_core::payment::{Resolution, Resolved};
use credits_core::price::Currency;
use credits_runtime::fields::{Fields, choice, remark};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::payments::unmatched::{UnmatchedPayment, UnmatchedStatus};
use credits_store::table::index::Cursor;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cursor::CursorScope;
use crate::payments::named_payment;
use crate::{Account, query};

/// The payments on a page if the call names no limit.
const PAGE: u16 = 100;

/// The maximum number of payments on a page.
const MAX_PAGE: u16 = 1_000;

#[derive(Debug, Serialize)]
struct UnmatchedBody {
    payments: Vec<UnmatchedPaymentBody>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct UnmatchedPaymentBody {
    payment_id: String,
    amount: u64,
    currency: Currency,
    reason: String,
    at: Timestamp,
    workspace_id: Option<WorkspaceId>,
    status: &'static str,
    resolution: Option<Resolution>,
    note: Option<String>,
}

/// The parameters of the query string.
struct UnmatchedParameters {
    status: UnmatchedStatus,
    limit: u16,
    after: Option<Cursor>,
}

impl Account {
    pub(crate) async fn unmatched_payments(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        call.token_claims().demand(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let UnmatchedParameters { status, limit, after } = UnmatchedParameters::read(call)?;
        let page = store.unmatched_payments().list(status, limit.into(), after.as_ref()).await?;
        let next_cursor = page.next.as_ref().map(|next| listing(status).write_position(next));
        let payments = page.items.into_iter().map(UnmatchedPaymentBody::from).collect();
        Ok(Answer::ok(&UnmatchedBody { payments, next_cursor }))
    }

    /// Resolves a payment. A repeated call changes nothing, so the call takes no idempotency key.
    pub(crate) async fn resolve_payment(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        call.token_claims().demand(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let resolved = read_resolved(&call.json()?)?;
        let payment_id = named_payment(call)?;
        let payment = store.unmatched_payments().resolve(payment_id, &resolved).await?;
        tracing::info!(payment_id = payment.payment_id, "an unmatched payment was resolved");
        Ok(Answer::ok(&UnmatchedPaymentBody::from(payment)))
    }
}

impl UnmatchedParameters {
    fn read(call: &Call) -> Result<Self, Problem> {
        let (mut status, mut limit, mut cursor) = (UnmatchedStatus::Open, PAGE, None);
        query::read(call.query(), |name, value| {
            match (name, value) {
                ("status", "open") => status = UnmatchedStatus::Open,
                ("status", "resolved") => status = UnmatchedStatus::Resolved,
                ("status", _) => return Err("must be one of open, resolved".to_owned()),
                ("limit", value) => limit = query::whole_number(value, 1..=MAX_PAGE)?,
                ("cursor", value) => cursor = Some(value.to_owned()),
                _ => return query::unknown(),
            }
            Ok(())
        })?;
        // The status decides which listing a cursor belongs to, so the cursor is read after it.
        let read = cursor.map(|cursor| listing(status).read_position(&cursor)).transpose();
        let after = read.clone().unwrap_or_default();
        query::read(call.query(), |name, _| match (name, &read) {
            ("cursor", Err(invalid)) => Err(invalid.to_string()),
            _ => Ok(()),
        })?;
        Ok(Self { status, limit, after })
    }
}

/// Returns the listing that a cursor must belong to.
fn listing(status: UnmatchedStatus) -> CursorScope<'static> {
    let name = match status {
        UnmatchedStatus::Open => "unmatched",
        UnmatchedStatus::Resolved => "resolved",
    };
    CursorScope { name, workspace: "*" }
}

fn read_resolved(body: &Value) -> Result<Resolved, Problem> {
    let mut fields = Fields::of(body)?;
    let resolutions = [
        ("granted", Resolution::Granted),
        ("refunded", Resolution::Refunded),
        ("ignored", Resolution::Ignored),
    ];
    let resolution = fields.required("resolution", |resolution| choice(resolution, &resolutions));
    let note = fields.required("note", remark);
    fields.finish(resolution.zip(note).map(|(resolution, note)| Resolved { resolution, note }))
}

impl From<UnmatchedPayment> for UnmatchedPaymentBody {
    fn from(payment: UnmatchedPayment) -> Self {
        let UnmatchedPayment { payment_id, price, reason, at, workspace_id, resolved } = payment;
        let status = if resolved.is_some() { "resolved" } else { "open" };
        let (resolution, note) = resolved.map(|it| (it.resolution, it.note)).unzip();
        let (amount, reason) = (price.amount_minor, reason.to_string());
        Self {
            payment_id,
            amount,
            currency: price.currency,
            reason,
            at,
            workspace_id,
            status,
            resolution,
            note,
        }
    }
}
