//! Makes the calls of the cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ai_credits_client::{
    ApiRequest, Begin, BoxError, Call, Client, DebitOrder, HoldOrder, Method, Paged, SettleOrder, Used,
    Workspace, WorkspaceProfile,
};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::outcome::Failure;

/// A client that makes the calls of a case one after another.
pub(crate) struct Driver {
    client: Client,
    /// The calls that `begin` has placed.
    held: Vec<Call>,
}

/// A page of the one listing that the cases iterate over by `request`.
#[derive(Deserialize)]
struct Payments {
    payments: Vec<Value>,
    next_cursor: Option<String>,
}

impl Paged for Payments {
    type Item = Value;

    fn into_parts(self) -> (Vec<Value>, Option<String>) {
        (self.payments, self.next_cursor)
    }
}

impl Driver {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, held: Vec::new() }
    }

    /// Makes a call, and returns what it did.
    pub(crate) async fn outcome(&mut self, call: &Value) -> Result<Value, BoxError> {
        let entered = Arc::new(AtomicBool::new(false));
        let mut outcome = self.made(call, &entered).await.or_else(Failure::outcome)?;
        if call["method"] == "gate" {
            outcome["entered"] = json!(entered.load(Ordering::SeqCst));
        }
        Ok(outcome)
    }

    async fn made(&mut self, call: &Value, entered: &Arc<AtomicBool>) -> Result<Value, Failure> {
        let workspace = self.client.workspace(text(call, "workspace"));
        match text(call, "method") {
            "begin" => {
                let held = begun(&workspace, call)?.await?;
                let returns = json!({ "returns": { "hold_id": held.hold().hold_id } });
                self.held.push(held);
                Ok(returns)
            }
            "finish" => Ok(json!({ "returns": self.held()?.finish(used(call)?).await? })),
            "cancel" => Ok(json!({ "returns": self.held()?.cancel().await? })),
            "gate" => gated(begun(&workspace, call)?, call, Arc::clone(entered)).await,
            "request" => requested(&self.client, call).await,
            "putWorkspace" => {
                let profile: WorkspaceProfile = parsed(&call["order"])?;
                answered(self.client.put_workspace(text(call, "workspace"), &profile), call).await
            }
            "getWorkspace" => answered(self.client.get_workspace(text(call, "workspace")), call).await,
            "getCatalog" => answered(self.client.get_catalog(), call).await,
            method if method.starts_with("create") || method.starts_with("settle") => {
                written(&workspace, call).await
            }
            _ => read(&workspace, call).await,
        }
    }

    fn held(&self) -> Result<&Call, Failure> {
        self.held.last().ok_or_else(|| "there is no call to settle".into())
    }
}

fn begun(workspace: &Workspace, call: &Value) -> Result<Begin, Failure> {
    let order = &call["order"];
    let mut hold = HoldOrder::of(text(order, "operation"), parsed(&order["consumer"])?);
    for (unit, count) in parsed::<BTreeMap<String, u64>>(&order["units"])? {
        hold = hold.unit(&unit, count);
    }
    for (key, value) in parsed::<Option<BTreeMap<String, String>>>(&order["metadata"])?.unwrap_or_default() {
        hold = hold.metadata(&key, &value);
    }
    if let Some(model) = order["model"].as_str() {
        hold = hold.model(model);
    }
    if let Some(ttl_seconds) = order["ttl_seconds"].as_u64() {
        hold = hold.ttl_seconds(ttl_seconds);
    }
    let mut begin = workspace.begin(&hold);
    if let Some(overrun) = parsed(&order["overrun"])? {
        begin = begin.overrun(overrun);
    }
    if let Some(key) = call["idempotency_key"].as_str() {
        begin = begin.idempotency_key(key);
    }
    Ok(begin)
}

fn used(call: &Value) -> Result<Used, Failure> {
    let mut used = Used::from(parsed::<BTreeMap<String, u64>>(&call["units"])?);
    if let Some(model) = call["model"].as_str() {
        used = used.model(model);
    }
    Ok(if call["estimated"] == true { used.estimated() } else { used })
}

async fn gated(begin: Begin, call: &Value, entered: Arc<AtomicBool>) -> Result<Value, Failure> {
    let uses: Vec<BTreeMap<String, u64>> = parsed(&call["use"])?;
    let throws = call["then"] == "throw";
    let work = |held: Call| async move {
        entered.store(true, Ordering::SeqCst);
        for units in uses {
            held.record(units);
        }
        if throws { Err(Failure::Thrown) } else { Ok(json!({ "returns": "done" })) }
    };
    begin.gate(work).await
}

async fn requested(client: &Client, call: &Value) -> Result<Value, Failure> {
    let method = Method::from_bytes(text(call, "http_method").as_bytes());
    let method = method.map_err(|error| Failure::Driver(error.into()))?;
    let path = text(call, "path");
    match call["items"].as_str() {
        Some("payments") => all(client.request::<Payments>(method, path), call).await,
        Some(_) => Err("the driver has no type for this listing".into()),
        None => {
            let request = client.request::<Value>(method, path);
            let body = call.get("body").cloned();
            answered(if let Some(body) = body { request.body(body) } else { request }, call).await
        }
    }
}

async fn written(workspace: &Workspace, call: &Value) -> Result<Value, Failure> {
    let (order, hold_id) = (&call["order"], text(call, "hold_id"));
    match text(call, "method") {
        "createDebit" => answered(workspace.create_debit(&parsed(order)?), call).await,
        "createDebitBatch" => {
            let request = workspace.create_debit_batch(&parsed::<Vec<DebitOrder>>(&order["lines"])?);
            answered(if order["partial"] == true { request.partial() } else { request }, call).await
        }
        "createHold" => answered(workspace.create_hold(&parsed(order)?), call).await,
        "createHolds" => {
            answered(workspace.create_holds(&parsed(order)?, parsed(&order["count"])?), call).await
        }
        "createCapture" => {
            let request = workspace.create_capture(hold_id, &parsed(order)?);
            answered(if order["extend"] == true { request.extend() } else { request }, call).await
        }
        "settleHold" => answered(workspace.settle_hold(hold_id, &parsed::<SettleOrder>(order)?), call).await,
        "settleHolds" => {
            let hold_ids: Vec<String> = parsed(&order["hold_ids"])?;
            answered(workspace.settle_holds(&hold_ids), call).await
        }
        "createQuote" => answered(workspace.create_quote(&parsed(order)?), call).await,
        "createTopUp" => answered(workspace.create_top_up(text(order, "pack")), call).await,
        "createRun" => {
            let request = workspace.create_run(text(order, "workflow_id"), &parsed(&order["trigger"])?);
            answered(request, call).await
        }
        _ => Err("the driver does not know the method".into()),
    }
}

async fn read(workspace: &Workspace, call: &Value) -> Result<Value, Failure> {
    let (order, run_id, is_page) = (&call["order"], text(call, "run_id"), call["page"] == true);
    match text(call, "method") {
        "refundDebit" => {
            let credits = parsed::<Option<Decimal>>(&order["credits"])?;
            let request = workspace.refund_debit(text(call, "debit_id"), &parsed(&order["reason"])?);
            answered(if let Some(credits) = credits { request.credits(credits) } else { request }, call).await
        }
        "completeRun" => answered(workspace.complete_run(run_id), call).await,
        "getHold" => answered(workspace.get_hold(text(call, "hold_id")), call).await,
        "getBalance" => answered(workspace.get_balance(), call).await,
        "listLedgerEntries" if is_page => answered(workspace.list_ledger_entries(), call).await,
        "listLedgerEntries" => all(workspace.list_ledger_entries(), call).await,
        "getUsage" => answered(workspace.get_usage(), call).await,
        "getUsageHistory" => answered(workspace.get_usage_history(), call).await,
        "getTopUp" => answered(workspace.get_top_up(text(call, "top_up_id")), call).await,
        "getRun" => answered(workspace.get_run(run_id), call).await,
        "listRuns" if is_page => answered(workspace.list_runs(), call).await,
        "listRuns" => all(workspace.list_runs(), call).await,
        _ => Err("the driver does not know the method".into()),
    }
}

async fn answered<T>(request: ApiRequest<T>, call: &Value) -> Result<Value, Failure>
where
    T: DeserializeOwned + Serialize,
{
    let answered = adjusted(request, call).answered().await?;
    Ok(json!({ "returns": answered.body, "replayed": answered.replayed }))
}

/// Returns the items of all pages.
async fn all<P: Paged<Item: Serialize>>(request: ApiRequest<P>, call: &Value) -> Result<Value, Failure> {
    let mut items = adjusted(request, call).items();
    let mut all = Vec::new();
    while let Some(item) = items.try_next().await? {
        all.push(json!(item));
    }
    Ok(json!({ "returns": all }))
}

/// Sets the query and the options of a call.
fn adjusted<T>(mut request: ApiRequest<T>, call: &Value) -> ApiRequest<T> {
    for (name, value) in call["query"].as_object().into_iter().flatten() {
        request = match value.as_str() {
            Some(text) => request.query(name, text),
            None => request.query(name, value),
        };
    }
    if let Some(key) = call["idempotency_key"].as_str() {
        request = request.idempotency_key(key);
    }
    match call["deadline_ms"].as_u64() {
        Some(deadline) => request.deadline(Duration::from_millis(deadline)),
        None => request,
    }
}

/// Returns a text of a call; empty if it is absent.
fn text<'a>(call: &'a Value, name: &str) -> &'a str {
    call[name].as_str().unwrap_or_default()
}

fn parsed<T: DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(value)
}
