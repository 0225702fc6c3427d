//! `GET /v1/workspaces/{workspace_id}/ledger`: every movement of credits, newest first.

use std::collections::HashMap;

use credits_core::ledger::{Entry, KINDS};
use credits_runtime::fields::FieldError;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::index::Cursor;
use credits_store::ledger::LedgerQuery;
use serde::Serialize;

use crate::{Account, cursor};

const MOST_ENTRIES: u16 = 1_000;
const USUAL_ENTRIES: u16 = 100;

#[derive(Debug, Serialize)]
struct LedgerBody {
    entries: Vec<Entry>,
    next_cursor: Option<String>,
}

/// What the query string asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    limit: u16,
    after: Option<Cursor>,
    kind: Option<String>,
}

impl Account {
    pub(crate) async fn ledger(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let asked = read_query(call.query())?;
        let store = self.store.until(call.deadline());
        // Reading the balance closes what is due, so that the ledger sums to what it shows.
        store.balance(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let query =
            LedgerQuery { limit: asked.limit, after: asked.after.as_ref(), kind: asked.kind.as_deref() };
        let page = store.ledger(&workspace, &query).await?;
        let next_cursor = page.next.as_ref().map(cursor::write);
        Ok(Answer::ok(&LedgerBody { entries: page.items, next_cursor }))
    }
}

fn read_query(query: &HashMap<String, String>) -> Result<Asked, Problem> {
    let mut asked = Asked { limit: USUAL_ENTRIES, after: None, kind: None };
    let mut errors = Vec::new();
    let mut names: Vec<&String> = query.keys().collect();
    names.sort();
    for name in names {
        if let Err(message) = asked.take(name, &query[name]) {
            errors.push(FieldError { field: name.clone(), message });
        }
    }
    if errors.is_empty() { Ok(asked) } else { Err(Problem::invalid_request(&errors)) }
}

impl Asked {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST_ENTRIES).contains(limit));
                self.limit =
                    limit.ok_or_else(|| format!("must be a whole number from 1 to {MOST_ENTRIES}"))?;
            }
            "cursor" => self.after = Some(cursor::read(value).map_err(|invalid| invalid.to_string())?),
            "kind" if KINDS.contains(&value) => self.kind = Some(value.to_owned()),
            "kind" => return Err(format!("must be one of {}", KINDS.join(", "))),
            _ => return Err("is not a parameter of this request".to_owned()),
        }
        Ok(())
    }
}
