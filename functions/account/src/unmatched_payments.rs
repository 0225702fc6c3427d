//! `GET /v1/unmatched-payments`: payments that fit nothing, for an operator to look at.

use credits_core::price::Currency;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::payments::UnmatchedPayment;
use jiff::Timestamp;
use serde::Serialize;

use crate::Account;

#[derive(Debug, Serialize)]
struct UnmatchedBody {
    payments: Vec<PaymentBody>,
}

#[derive(Debug, Serialize)]
struct PaymentBody {
    payment_id: String,
    amount: u64,
    currency: Currency,
    reason: String,
    at: Timestamp,
}

impl Account {
    pub(crate) async fn unmatched_payments(&self, call: &Call) -> Result<Answer, Problem> {
        call.claims().demand(Scope::Manage)?;
        call.claims().demand_all_workspaces()?;
        let unmatched = self.store.until(call.deadline()).unmatched_payments().await?;
        Ok(Answer::ok(&UnmatchedBody { payments: unmatched.into_iter().map(PaymentBody::from).collect() }))
    }
}

impl From<UnmatchedPayment> for PaymentBody {
    fn from(payment: UnmatchedPayment) -> Self {
        let UnmatchedPayment { payment_id, amount_minor, currency, reason, at } = payment;
        Self { payment_id, amount: amount_minor, currency, reason: reason.to_string(), at }
    }
}
