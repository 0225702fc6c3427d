//! `POST /v1/workspaces/{workspace_id}/grants` and `…/grants/{grant_id}/void`: the operator grants credits, or takes
//! back what is left of a grant (M8).

use credits_core::credits::{Amount, Credits};
use credits_core::grant::GrantKind;
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use credits_runtime::fields::{Fields, choice, parsed, remark};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::grants::{GrantOrder, Term};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

#[derive(Debug, Serialize)]
struct GrantBody {
    grant_id: Id,
    credits: Credits,
    kind: GrantKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    reason: String,
    granted_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct VoidBody {
    grant_id: Id,
    /// The rest of the grant, which is taken back.
    credits: Credits,
    reason: String,
    voided_at: Timestamp,
}

impl Account {
    pub(crate) async fn grant(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = operators_workspace(call)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let posted = match read_grant(&body, store.now()) {
            Ok(grant) => store.grants().grant(&claim, &grant).await?,
            // A retry whose `expires_at` has passed meanwhile gets the answer of the first call.
            Err(problem) => store.debits().earlier_posting(&claim).await?.ok_or(problem)?,
        };
        let answer = GrantBody::of(posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(posted.key_use, &answer))
    }

    pub(crate) async fn void_grant(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = operators_workspace(call)?;
        let grant_id: Id = call.path_parameter("grant_id").parse().map_err(|_| Problem::not_found())?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let mut fields = Fields::of(&body)?;
        let reason = fields.required("reason", remark);
        let reason = fields.finish(reason)?;
        let posted = store.grants().void(&claim, &grant_id, &reason).await?;
        let answer = VoidBody::of(posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::changed_once(posted.key_use, &answer))
    }
}

/// Returns the workspace of a call that needs a token for all workspaces, so that no customer can grant itself credits.
fn operators_workspace(call: &Call) -> Result<WorkspaceId, Problem> {
    let workspace = call.workspace(Scope::Manage)?;
    call.token_claims().demand_all_workspaces()?;
    Ok(workspace)
}

fn read_grant(body: &Value, now: Timestamp) -> Result<GrantOrder, Problem> {
    let mut fields = Fields::of(body)?;
    let amount = fields.required("credits", parsed::<Amount>);
    let kind = fields.required("kind", read_kind);
    let reason = fields.required("reason", remark);
    let told_end = fields.present("expires_at").is_some();
    let end = fields.optional("expires_at", |end| read_end(end, now));
    let term = match kind {
        Some(GrantKind::Prepaid) if told_end => {
            fields.refuse("expires_at", "must not be given: prepaid credits never expire");
            None
        }
        Some(GrantKind::Prepaid) => Some(Term::Prepaid),
        Some(_) if !told_end => {
            fields.refuse("expires_at", "is required for credits of this kind");
            None
        }
        Some(kind) => end.map(|end| Term::Until(kind, end)),
        None => None,
    };
    let order = amount.zip(term).zip(reason);
    fields.finish(order.map(|((amount, term), reason)| GrantOrder { amount, term, reason }))
}

fn read_kind(value: &Value) -> Result<GrantKind, String> {
    let kinds = [
        ("prepaid", GrantKind::Prepaid),
        ("promotional", GrantKind::Promotional),
        ("commitment", GrantKind::Commitment),
    ];
    choice(value, &kinds)
}

/// Reads a future instant and truncates it to the second, which is the precision of expiry.
fn read_end(value: &Value, now: Timestamp) -> Result<Timestamp, String> {
    let end: Option<Timestamp> = parsed(value).ok().filter(|_| value.as_str().is_some_and(is_written_whole));
    let end = end.ok_or("must be a time such as 2026-12-31T00:00:00Z")?;
    let end = Timestamp::from_second(end.as_second()).unwrap_or(end);
    if end <= now {
        return Err("must be in the future".to_owned());
    }
    if end >= credits_core::balance::NEVER {
        return Err("must be before the year 9998 ends".to_owned());
    }
    Ok(end)
}

/// Returns whether a time has the format of RFC 3339 in UTC. The parser that reads it accepts more formats.
fn is_written_whole(time: &str) -> bool {
    let digit = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    let shape: String = time.chars().map(digit).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let zone = rest.strip_prefix(".0").map_or(rest, |fraction| fraction.trim_start_matches('0'));
    matches!(zone, "Z" | "+00:00" | "-00:00")
}

impl GrantBody {
    fn of(entry: Entry) -> Option<Self> {
        let Entry { credits, at: granted_at, cause, .. } = entry;
        let Cause::Grant { grant_id, grant_kind: kind, expires_at, reason } = cause else { return None };
        Some(Self { grant_id, credits, kind, expires_at, reason, granted_at })
    }
}

impl VoidBody {
    fn of(entry: Entry) -> Option<Self> {
        let Entry { credits, at: voided_at, cause, .. } = entry;
        let Cause::Void { grant_id, reason } = cause else { return None };
        Some(Self { grant_id, credits: credits.negated(), reason, voided_at })
    }
}
