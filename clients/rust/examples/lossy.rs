//! Makes 1,000 AI calls over a wire that loses requests and responses: `node clients/conformance/lossy.js "$URL" -- lossy`.
//! Checks that each is charged once.
#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ai_credits_client::{
    BoxError, Client, Consumer, DebitOrder, HoldOrder, IdempotencyKey, LedgerEntryDetails, Method, Plan,
    Retry, Workspace, WorkspaceProfile,
};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CALLS: u64 = 1_000;
const WORKERS: usize = 16;
const GRANTED: u64 = 100_000;

/// What calls cost, by their numbers.
type Charges = BTreeMap<u64, Decimal>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (stack, lossy, token) =
        (env::var("AI_CREDITS_LOCAL")?, env::var("AI_CREDITS_LOSSY")?, env::var("AI_CREDITS_TOKEN")?);
    let id = IdempotencyKey::random().to_string();
    let workspace = workspace_with_credits(&Client::new(&stack, token.as_str())?, &id).await?;
    let retry = Retry {
        deadline: Duration::from_mins(5),
        first_pause: Duration::from_millis(10),
        ..Retry::default()
    };
    let charged = made(Client::new(&lossy, token)?.with_retry(retry).workspace(&id)).await?;

    let posted = posted(&workspace).await?;
    assert_eq!(charged.len(), usize::try_from(CALLS)?);
    assert_eq!(posted, charged, "the ledger has what the client was told");
    let balance = workspace.get_balance().await?;
    let spent: Decimal = charged.values().sum();
    assert_eq!(
        (balance.available, balance.held),
        (Decimal::from(GRANTED).checked_sub(spent).ok_or("overflow")?, Decimal::ZERO)
    );
    println!("{CALLS} calls were charged once each, for {} credits", spent.normalize());
    Ok(())
}

async fn workspace_with_credits(credits: &Client, id: &str) -> Result<Workspace, BoxError> {
    let profile = WorkspaceProfile::of("Lossy", Plan::Free, "billing@lossy.example");
    credits.put_workspace(id, &profile).await?;
    let grant = json!({ "credits": GRANTED.to_string(), "kind": "prepaid", "reason": "test" });
    credits.request::<Value>(Method::POST, &format!("/v1/workspaces/{id}/grants")).body(grant).await?;
    Ok(credits.workspace(id))
}

/// Makes the calls.
async fn made(workspace: Workspace) -> Result<Charges, BoxError> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (next, workspace) = (Arc::clone(&next), workspace.clone());
        workers.spawn(async move {
            let mut charged = Charges::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CALLS {
                    return Ok::<_, BoxError>(charged);
                }
                charged.insert(number, call(&workspace, number).await?);
            }
        });
    }
    let mut charged = Charges::new();
    while let Some(ended) = workers.join_next().await {
        charged.extend(ended??);
    }
    Ok(charged)
}

/// Makes one call: a debit, or a hold and its settlement. Returns what it cost.
async fn call(workspace: &Workspace, number: u64) -> Result<Decimal, BoxError> {
    let (operation, consumer) = ("text.generate", Consumer::action("assistant", "ada"));
    if number.is_multiple_of(2) {
        let order = DebitOrder::of(operation, consumer).unit("input_tokens", number).unit("output_tokens", 1);
        return Ok(workspace.create_debit(&order.metadata("number", &number.to_string())).await?.credits);
    }
    let order = HoldOrder::of(operation, consumer).unit("input_tokens", number).unit("output_tokens", 500);
    let held = workspace.begin(&order.metadata("number", &number.to_string())).await?;
    Ok(held.finish([("input_tokens", number), ("output_tokens", 1)]).await?.captured)
}

/// Reads what the calls cost from the ledger.
async fn posted(workspace: &Workspace) -> Result<Charges, BoxError> {
    let mut posted = Charges::new();
    let mut entries = workspace.list_ledger_entries().items();
    while let Some(entry) = entries.try_next().await? {
        let metadata = match entry.details {
            LedgerEntryDetails::Debit { metadata, .. } => metadata,
            LedgerEntryDetails::HoldSettled { mut line_metadata, .. } => {
                line_metadata.pop().ok_or("a settlement without metadata")?.metadata
            }
            _ => continue,
        };
        let number = metadata.get("number").ok_or("an entry without a number")?.parse()?;
        let twice = posted.insert(number, entry.credits.abs()).is_some();
        assert!(!twice, "call {number} is charged twice");
    }
    Ok(posted)
}
