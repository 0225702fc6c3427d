//! `POST /v1/workspaces/{workspace_id}/payments/{payment_id}/refund`: the operator refunds all or part of a payment
//! (M5).

use credits_billing::RefundAttempt;
use credits_core::id::WorkspaceId;
use credits_core::payment::Payment;
use credits_core::price::Price;
use credits_core::refund::RefundStatus;
use credits_runtime::fields::{Fields, remark};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::payments::refunds::{OwedRefund, RefundResult, StoredRefund};
use credits_store::{KeyUse, Store};
use serde::Serialize;
use serde_json::Value;

use crate::Account;
use crate::payments::named_payment;

#[derive(Debug, Serialize)]
struct RefundBody<'a> {
    /// Stripe's id of the refund.
    refund_id: &'a str,
    payment_id: &'a str,
    amount: Price,
    status: RefundStatus,
}

struct RefundRequest {
    /// In minor units of the payment's currency; `None` for all that is left.
    amount_minor: Option<u64>,
    reason: String,
}

impl Account {
    pub(crate) async fn refund_payment(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let asked = read_refund(&body)?;
        let billing = self.billing(call, store).await?;
        if let Some(stored) = store.refunds().earlier(&claim).await? {
            let end = billing.refund(&stored, RefundAttempt::Again).await?;
            return answer(&stored, &end);
        }
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let payment = store.payments().get(named_payment(call)?).await?;
        let payment = payment.filter(|payment| is_of(payment, &workspace)).ok_or_else(Problem::not_found)?;
        let amount = refunded_now(&payment, asked.amount_minor)?;
        let refund = OwedRefund {
            refund_id: store.sources().new_id("ref"),
            workspace_id: workspace,
            payment_id: payment.payment_id,
            price: amount,
            amount_minor: Some(amount.amount_minor),
            reason: Some(asked.reason),
            begun_at: store.now(),
        };
        let stored = store.refunds().begin(&claim, &refund).await?;
        let is_first = stored.refund.refund_id == refund.refund_id;
        let attempt = if is_first { RefundAttempt::First } else { RefundAttempt::Again };
        let end = billing.refund(&stored, attempt).await?;
        tracing::info!(payment_id = stored.refund.payment_id, "an operator refunded a payment");
        answer(&stored, &end)
    }
}

fn read_refund(body: &Value) -> Result<RefundRequest, Problem> {
    let mut fields = Fields::of(body)?;
    let amount_minor = fields.optional("amount", |amount| {
        let amount = amount.as_u64().filter(|amount| *amount > 0);
        amount.ok_or_else(|| "must be a whole number of minor units, at least 1".to_owned())
    });
    let reason = fields.required("reason", remark);
    fields.finish(reason.map(|reason| RefundRequest { amount_minor, reason }))
}

fn is_of(payment: &Payment, workspace: &WorkspaceId) -> bool {
    payment.sale.as_ref().is_some_and(|sale| sale.workspace_id == *workspace)
}

/// Returns the amount to refund: the requested amount, or all that is left of the payment.
fn refunded_now(payment: &Payment, amount_minor: Option<u64>) -> Result<Price, Problem> {
    if payment.is_disputed() {
        return Err(Problem::payment_disputed());
    }
    let left =
        payment.refundable().filter(|left| left.amount_minor > 0).ok_or_else(Problem::exceeds_payment)?;
    let amount = Price { amount_minor: amount_minor.unwrap_or(left.amount_minor), ..left };
    if amount.amount_minor > left.amount_minor {
        return Err(Problem::exceeds_payment());
    }
    amount
        .provider_refund()
        .map_err(|unchargeable| Problem::invalid_field("amount", unchargeable.to_string()))?;
    Ok(amount)
}

/// Answers with Stripe's result. The call is a replay if the stored refund had a result before the call.
fn answer(stored: &StoredRefund, end: &RefundResult) -> Result<Answer, Problem> {
    let OwedRefund { payment_id, price: amount, .. } = &stored.refund;
    match end {
        RefundResult::Made { made_as: Some(refund_id), status } => {
            let body = RefundBody { refund_id, payment_id, amount: *amount, status: *status };
            Ok(Answer::created_once(KeyUse::first_if(stored.end.is_none()), &body))
        }
        RefundResult::Made { made_as: None, .. } | RefundResult::ExceedsPayment => {
            Err(Problem::exceeds_payment())
        }
        RefundResult::Disputed => Err(Problem::payment_disputed()),
        RefundResult::PaymentMissing => Err(Problem::not_found()),
    }
}
