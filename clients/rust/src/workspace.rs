//! The calls of one workspace.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::call::{Begin, Call};
use crate::client::Client;
use crate::error::Error;
use crate::request::ApiRequest;
use crate::schema::{
    Balance, Batch, Capture, Debit, DebitOrder, DebitRefund, DebitRefundReason, History, Hold, HoldOrder,
    Holds, Ledger, Quote, Run, Runs, SettleOrder, StartedRun, TopUp, TopUpStatus, Trigger, Usage,
};

/// The characters of a path's segment that need no escape, beside letters and digits.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A client of one workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub(crate) client: Client,
    /// The path of the workspace.
    path: String,
}

impl Workspace {
    pub(crate) fn new(client: Client, id: &str) -> Self {
        Self { client, path: path(id) }
    }

    /// Holds credits for an AI call whose cost is known only afterwards: `units` of the order are an upper bound. If the
    /// balance does not cover them, nothing is held, and the AI call must not follow.
    pub fn begin(&self, order: &HoldOrder) -> Begin {
        Begin::new(self.clone(), order.clone())
    }

    /// Holds credits, runs `work`, and settles the call however `work` ends. It is short for [`Begin::gate`].
    ///
    /// ```no_run
    /// # use ai_credits_client::{BoxError, HoldOrder, Workspace};
    /// # struct Answer { text: String, input_tokens: u64, output_tokens: u64 }
    /// # async fn call_the_model() -> Result<Answer, BoxError> { Err("no model".into()) }
    /// # async fn answer(acme: Workspace, order: HoldOrder) -> Result<String, BoxError> {
    /// acme.gate(&order, |call| async move {
    ///     let answer = call_the_model().await?;
    ///     call.record([("input_tokens", answer.input_tokens), ("output_tokens", answer.output_tokens)]);
    ///     Ok(answer.text)
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn gate<T, E, F, W>(&self, order: &HoldOrder, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnOnce(Call) -> W,
        W: Future<Output = Result<T, E>>,
    {
        self.begin(order).gate(work).await
    }

    /// Draws credits for an AI call. If the balance does not cover it, draws nothing and fails with
    /// [`Error::InsufficientCredits`].
    pub fn create_debit(&self, order: &DebitOrder) -> ApiRequest<Debit> {
        self.post("debits", json!(order))
    }

    /// Draws credits for up to 500 AI calls in one ledger entry: for all of them or none, unless it is
    /// [`partial`](ApiRequest::partial).
    pub fn create_debit_batch(&self, lines: &[DebitOrder]) -> ApiRequest<Batch> {
        self.post("debits/batch", json!({ "lines": lines }))
    }

    /// Refunds a debit or a settlement, by default as a whole.
    pub fn refund_debit(&self, debit_id: &str, reason: &DebitRefundReason) -> ApiRequest<DebitRefund> {
        self.post(&format!("debits/{}/refund", segment(debit_id)), json!({ "reason": reason }))
    }

    /// Holds credits for calls of one operation and one consumer.
    pub fn create_hold(&self, order: &HoldOrder) -> ApiRequest<Hold> {
        self.post("holds", json!(order))
    }

    /// Holds credits in 2 to 50 holds of the same size: either all or none.
    pub fn create_holds(&self, order: &HoldOrder, count: u8) -> ApiRequest<Holds> {
        let mut body = json!(order);
        body["count"] = json!(count);
        self.post("holds/batch", body)
    }

    /// Returns a hold.
    pub fn get_hold(&self, hold_id: &str) -> ApiRequest<Hold> {
        self.get(&format!("holds/{}", segment(hold_id)))
    }

    /// Pays a call from a hold.
    pub fn create_capture(&self, hold_id: &str, order: &DebitOrder) -> ApiRequest<Capture> {
        self.post(&format!("holds/{}/captures", segment(hold_id)), json!(order))
    }

    /// Settles a hold, after a last call if the order has one: posts what was captured, and releases the rest.
    pub fn settle_hold(&self, hold_id: &str, order: &SettleOrder) -> ApiRequest<Hold> {
        self.post(&format!("holds/{}/settle", segment(hold_id)), json!(order))
    }

    /// Settles up to 50 holds in one ledger entry.
    pub fn settle_holds(&self, hold_ids: &[String]) -> ApiRequest<Holds> {
        self.post("holds/batch/settle", json!({ "hold_ids": hold_ids }))
    }

    /// Returns the price of a call, and whether the balance covers it now. Draws nothing.
    pub fn create_quote(&self, order: &DebitOrder) -> ApiRequest<Quote> {
        self.post("quotes", json!(order))
    }

    /// Returns the balance.
    pub fn get_balance(&self) -> ApiRequest<Balance> {
        self.get("balance")
    }

    /// Lists the ledger, newest first. Awaited, the request is one page; [`items`](ApiRequest::items) has all entries.
    pub fn list_ledger_entries(&self) -> ApiRequest<Ledger> {
        self.get("ledger")
    }

    /// Returns what a month's credits were spent on.
    pub fn get_usage(&self) -> ApiRequest<Usage> {
        self.get("usage")
    }

    /// Returns the sums of the last months, and the purchases that would have suited them.
    pub fn get_usage_history(&self) -> ApiRequest<History> {
        self.get("usage/history")
    }

    /// Opens a checkout for a pack of the catalogue. A person pays it at its `checkout_url`.
    pub fn create_top_up(&self, pack: &str) -> ApiRequest<TopUp> {
        self.post("top-ups", json!({ "pack": pack }))
    }

    /// Returns whether a top-up is paid.
    pub fn get_top_up(&self, top_up_id: &str) -> ApiRequest<TopUpStatus> {
        self.get(&format!("top-ups/{}", segment(top_up_id)))
    }

    /// Starts a workflow run, which counts against the plan's monthly runs.
    pub fn create_run(&self, workflow_id: &str, trigger: &Trigger) -> ApiRequest<StartedRun> {
        self.post("runs", json!({ "workflow_id": workflow_id, "trigger": trigger }))
    }

    /// Marks a run succeeded. A debit that is refused for insufficient credits marks its run failed by itself.
    pub fn complete_run(&self, run_id: &str) -> ApiRequest<Run> {
        self.post(&format!("runs/{}/complete", segment(run_id)), json!({}))
    }

    /// Returns a run.
    pub fn get_run(&self, run_id: &str) -> ApiRequest<Run> {
        self.get(&format!("runs/{}", segment(run_id)))
    }

    /// Lists the runs, newest first. Awaited, the request is one page; [`items`](ApiRequest::items) has all runs.
    pub fn list_runs(&self) -> ApiRequest<Runs> {
        self.get("runs")
    }

    fn get<T>(&self, path: &str) -> ApiRequest<T> {
        self.client.request(Method::GET, &format!("{}/{path}", self.path))
    }

    fn post<T>(&self, path: &str, body: Value) -> ApiRequest<T> {
        self.client.request(Method::POST, &format!("{}/{path}", self.path)).body(body)
    }
}

/// Returns the path of a workspace.
pub(crate) fn path(id: &str) -> String {
    format!("/v1/workspaces/{}", segment(id))
}

fn segment(id: &str) -> impl std::fmt::Display {
    utf8_percent_encode(id, ESCAPED)
}
