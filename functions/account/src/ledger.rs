//! `GET /v1/workspaces/{workspace_id}/ledger` and `…/ledger.csv`: lists every movement of credits, newest first.

use credits_core::id::WorkspaceId;
use credits_core::ledger::{Entry, EntryKind};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::ledger::LedgerQuery;
use credits_store::table::index::{Cursor, Page};
use serde::Serialize;

use crate::cursor::CursorScope;
use crate::{Account, ledger_csv, query};

const MAX_ENTRIES: u16 = 1_000;
const USUAL_ENTRIES: u16 = 100;
const MAX_ROWS: u16 = 10_000;

#[derive(Debug, Serialize)]
struct LedgerBody {
    entries: Vec<Entry>,
    next_cursor: Option<String>,
}

/// The parameters of the query string.
#[derive(Debug, PartialEq)]
struct LedgerParameters {
    limit: u16,
    after: Option<Cursor>,
    kind: Option<EntryKind>,
}

impl Account {
    /// Answers with a page of entries as JSON, or as CSV if the `Accept` header prefers it.
    pub(crate) async fn ledger(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        if wants_csv(call) {
            return self.ledger_csv(call, store).await;
        }
        let workspace = call.workspace(Scope::Read)?;
        let asked = read_query(call, MAX_ENTRIES, USUAL_ENTRIES)?;
        let (entries, next_cursor) = page(call, store, &workspace, &asked).await?;
        Ok(Answer::ok(&LedgerBody { entries, next_cursor }))
    }

    /// Answers with a page of entries as a CSV file.
    pub(crate) async fn ledger_csv(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let asked = read_query(call, MAX_ROWS, MAX_ROWS)?;
        let (entries, next_cursor) = page(call, store, &workspace, &asked).await?;
        let name = format!("ledger-{workspace}.csv");
        let answer = Answer::text("text/csv; charset=utf-8", ledger_csv::write(&entries)?)
            .with("content-disposition", &format!("attachment; filename=\"{name}\""));
        Ok(match next_cursor {
            Some(cursor) => answer.with("link", &next_page(call, &asked, &cursor)),
            None => answer,
        })
    }
}

/// Reads a page of entries, and the cursor of the next page if there is one.
async fn page(
    call: &Call,
    store: &Store,
    workspace: &WorkspaceId,
    asked: &LedgerParameters,
) -> Result<(Vec<Entry>, Option<String>), Problem> {
    // Reading the balance posts everything that is due, so the ledger's entries sum to the balance.
    store.balances().get(workspace).await?.ok_or_else(Problem::workspace_not_found)?;
    let query = LedgerQuery { limit: asked.limit, after: asked.after.as_ref(), kind: asked.kind };
    let Page { items: entries, next } = store.ledger().page(workspace, &query).await?;
    Ok((entries, next.as_ref().map(|next| listing(call).write_position(next))))
}

/// Returns whether the `Accept` header prefers CSV: the supported type with the highest weight wins, and the first of
/// several with equal weight (RFC 9110, 12.5.1).
fn wants_csv(call: &Call) -> bool {
    let accepted = call.header("accept").unwrap_or_default().to_ascii_lowercase();
    let ours = ["text/csv", "application/json", "application/*", "*/*"];
    let ranges = accepted.split(',').map(weighed);
    let mut ranges: Vec<(&str, f32)> =
        ranges.filter(|(range, weight)| ours.contains(range) && *weight > 0.0).collect();
    ranges.sort_by(|one, other| other.1.total_cmp(&one.1));
    ranges.first().is_some_and(|(range, _)| *range == "text/csv")
}

/// Splits a media range from its weight, 0 to 1; 1 if it names none.
fn weighed(range: &str) -> (&str, f32) {
    let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
    let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    (range.trim(), weight.and_then(|weight| weight.parse().ok()).unwrap_or(1.0))
}

/// Returns the `Link` header that leads to the next page (RFC 8288).
fn next_page(call: &Call, asked: &LedgerParameters, cursor: &str) -> String {
    let kind = asked.kind.map(|kind| format!("&kind={}", kind.name())).unwrap_or_default();
    let (workspace, limit) = (call.unchecked_workspace_id(), asked.limit);
    format!("</v1/workspaces/{workspace}/ledger.csv?limit={limit}&cursor={cursor}{kind}>; rel=\"next\"")
}

fn read_query(call: &Call, most: u16, usual: u16) -> Result<LedgerParameters, Problem> {
    let mut asked = LedgerParameters { limit: usual, after: None, kind: None };
    query::read(call.query(), |name, value| {
        match name {
            "limit" => asked.limit = query::whole_number(value, 1..=most)?,
            "cursor" => {
                asked.after = Some(listing(call).read_position(value).map_err(|error| error.to_string())?);
            }
            "kind" => asked.kind = Some(query::parsed(value)?),
            _ => return query::unknown(),
        }
        Ok(())
    })?;
    Ok(asked)
}

/// Returns the listing that a cursor must belong to.
fn listing(call: &Call) -> CursorScope<'_> {
    CursorScope { name: "ledger", workspace: call.unchecked_workspace_id() }
}
