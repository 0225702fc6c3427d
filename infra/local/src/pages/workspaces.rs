//! The workspaces on the index: their list, and the forms that open and create one.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::response::Response;
use credits_core::id::WorkspaceId;
use credits_core::workspace::{Plan, Workspace};
use credits_store::error::Chain;
use credits_store::{Fault, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::index::LocalPage;
use super::serving::{FormFields, PageError, PageNote, redirect};
use crate::gateway::Request;
use crate::state::Shared;
use crate::tokens::TokenOrder;
use crate::verify;

/// The largest number of workspaces on the index.
pub(super) const MAX_SHOWN: usize = 50;

/// A workspace of the index.
#[derive(Debug, Serialize)]
pub(super) struct WorkspaceRow {
    id: WorkspaceId,
    name: String,
    plan: Plan,
    /// The available credits, for people.
    available: String,
    /// The credits in open holds, for people; absent without any.
    held: Option<String>,
    is_out_of_credits: bool,
}

/// The workspaces of the index.
#[derive(Debug, Serialize)]
pub(super) struct WorkspaceList {
    /// The newest workspaces, newest first.
    rows: Vec<WorkspaceRow>,
    /// The ids of all workspaces, sorted.
    ids: Vec<WorkspaceId>,
}

/// The person who opens the settings page.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Opener {
    Owner,
    Reader,
}

impl Opener {
    fn scope(self) -> &'static str {
        match self {
            Self::Owner => "credits:read credits:manage",
            Self::Reader => "credits:read",
        }
    }
}

/// Returns the workspaces.
pub(super) async fn list(shared: &Shared) -> Result<WorkspaceList, PageError> {
    let failed = |error: &dyn std::error::Error| PageError::Failed(Chain(error).to_string());
    let ids = verify::workspaces(&shared.client, &shared.table).await.map_err(|error| failed(&error))?;
    let store = shared.gateway.functions.observer();
    let mut known = Vec::new();
    for id in &ids {
        known.extend(store.workspaces().get(id).await.map_err(|error| failed(&error))?);
    }
    known.sort_by_key(|workspace| std::cmp::Reverse(workspace.created_at));
    known.truncate(MAX_SHOWN);
    let mut rows = Vec::new();
    for workspace in known {
        rows.extend(row(store, workspace).await.map_err(|error| failed(&error))?);
    }
    Ok(WorkspaceList { rows, ids })
}

async fn row(store: &Store, workspace: Workspace) -> Result<Option<WorkspaceRow>, Fault> {
    let Some(balance) = store.balances().get(&workspace.workspace_id).await? else { return Ok(None) };
    let sum = |sum: credits_core::credits::OutOfRange| Fault::Corrupt(sum.into());
    let (available, held) = (balance.available().map_err(sum)?, balance.all_held().map_err(sum)?);
    Ok(Some(WorkspaceRow {
        id: workspace.workspace_id,
        name: workspace.profile.name,
        plan: workspace.profile.plan,
        is_out_of_credits: available <= credits_core::credits::Credits::ZERO,
        available: grouped(&available.to_string()),
        held: (!held.is_zero()).then(|| grouped(&held.to_string())),
    }))
}

/// Opens a workspace's settings page with a new token.
pub(super) async fn open(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, PageError> {
    let fields = FormFields::read(&body);
    let opener: Opener = fields.choice("as")?;
    let workspace: WorkspaceId = fields.choice("workspace")?;
    let token = token(&shared, workspace.as_str(), opener.scope())?;
    Ok(redirect(&format!("/settings/ai-credits#token={token}")))
}

/// Creates a workspace, as the hub does.
pub(super) async fn create(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, PageError> {
    let fields = FormFields::read(&body);
    let Ok(id) = fields.choice::<WorkspaceId>("workspace") else {
        return Ok(at_workspaces(&PageNote::problem("An id has 1 to 64 letters, digits, - or _.")));
    };
    let known = shared.gateway.functions.observer().workspaces().get(&id).await;
    if known.map_err(|fault| PageError::Failed(Chain(&fault).to_string()))?.is_some() {
        return Ok(at_workspaces(&PageNote::problem(format!("The workspace {id} exists already."))));
    }
    let profile = json!({
        "name": fields.text("name"), "plan": fields.text("plan"), "billing_email": fields.text("email"),
    });
    let note = match put(&shared, &id, &profile).await? {
        None => PageNote::done(format!("The workspace {id} was created.")),
        Some(problem) => PageNote::problem(problem),
    };
    Ok(at_workspaces(&note))
}

/// Calls `PUT /v1/workspaces/{id}`. Returns why the API refuses it.
async fn put(shared: &Shared, id: &WorkspaceId, profile: &Value) -> Result<Option<String>, PageError> {
    let token = token(shared, "*", "credits:manage")?;
    let failed = |error: &dyn std::error::Error| PageError::Failed(error.to_string());
    let uri: Uri = format!("/v1/workspaces/{id}").parse().map_err(|error| failed(&error))?;
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| failed(&error))?;
    headers.insert("authorization", bearer);
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let request = Request { method: Method::PUT, uri, headers, body: profile.to_string().into_bytes() };
    let answer = shared.gateway.answer(request).await;
    if answer.status().is_success() {
        return Ok(None);
    }
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("The API gave no reason.");
    Ok(Some(format!("The workspace was not created: {detail}")))
}

fn at_workspaces(note: &PageNote) -> Response {
    note.on(LocalPage::Index.path(), "#workspaces")
}

fn token(shared: &Shared, workspace: &str, scope: &str) -> Result<String, PageError> {
    let order = TokenOrder { workspace: workspace.to_owned(), scope: scope.to_owned(), ttl_seconds: None };
    let token = shared.gateway.issuer.issue(&order, shared.gateway.sources.now());
    token.ok_or_else(|| PageError::Failed("could not issue a token".to_owned()))
}

/// Formats credits for people: digits in groups of three, and at most two decimals.
fn grouped(credits: &str) -> String {
    let (whole, decimals) = credits.split_once('.').unwrap_or((credits, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("\u{2212}", digits));
    let mut shown = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    let decimals: String = decimals.chars().take(2).collect();
    match decimals.trim_end_matches('0') {
        "" => shown,
        decimals => format!("{shown}.{decimals}"),
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn credits_are_grouped_by_three_digits() {
        for (credits, shown) in [
            ("0", "0"),
            ("999.5", "999.5"),
            ("1000", "1,000"),
            ("-1234567.899", "\u{2212}1,234,567.89"),
            ("12.001", "12"),
        ] {
            assert_eq!(grouped(credits), shown);
        }
    }
}
