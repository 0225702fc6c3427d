//! `PUT` and `GET /v1/workspaces/{workspace_id}`: the hub tells us of its workspaces (M1).

use credits_core::id::WorkspaceId;
use credits_core::workspace::{Plan, Profile, Workspace};
use credits_runtime::fields::{FieldError, Fields, line, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

const MOST_NAME_CHARACTERS: usize = 200;
/// RFC 5321, 4.5.3.1.3: a path of 256 characters with its angle brackets.
const MOST_ADDRESS_CHARACTERS: usize = 254;

#[derive(Debug, Serialize)]
struct WorkspaceBody {
    workspace_id: WorkspaceId,
    name: String,
    plan: Plan,
    billing_email: String,
    created_at: Timestamp,
}

impl Account {
    pub(crate) async fn put_workspace(&self, call: &Call) -> Result<Answer, Problem> {
        call.claims().demand(Scope::Manage)?;
        call.claims().demand_all_workspaces()?;
        let id = call.named_workspace().parse().map_err(|invalid: credits_core::id::InvalidId| {
            Problem::invalid_request(&[FieldError {
                field: "workspace_id".into(),
                message: invalid.to_string(),
            }])
        })?;
        let profile = read_profile(&call.json()?)?;
        let put = self.store.until(call.deadline()).put_workspace(&id, &profile).await?;
        let body = WorkspaceBody::from(put.workspace);
        Ok(if put.created { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn workspace(&self, call: &Call) -> Result<Answer, Problem> {
        let id = call.workspace(Scope::Read)?;
        let workspace = self.store.until(call.deadline()).workspace(&id).await?;
        let workspace = workspace.ok_or_else(Problem::workspace_not_found)?;
        Ok(Answer::ok(&WorkspaceBody::from(workspace)))
    }
}

impl From<Workspace> for WorkspaceBody {
    fn from(workspace: Workspace) -> Self {
        let Workspace { workspace_id, profile: Profile { name, plan, billing_email }, created_at } =
            workspace;
        Self { workspace_id, name, plan, billing_email, created_at }
    }
}

fn read_profile(body: &Value) -> Result<Profile, Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.required("name", |name| line(name, MOST_NAME_CHARACTERS));
    let plan = fields.required("plan", parsed::<Plan>);
    let billing_email = fields.required("billing_email", mail_address);
    let profile = name.zip(plan).zip(billing_email);
    fields.finish(profile.map(|((name, plan), billing_email)| Profile { name, plan, billing_email }))
}

/// An address that a mail could go to, without what could end a header or name a second one.
fn mail_address(value: &Value) -> Result<String, String> {
    let said = || "must be an e-mail address".to_owned();
    let text = value.as_str().ok_or_else(said)?;
    let allowed = |c: char| c.is_ascii_graphic() && !"<>()[],;:\\\"".contains(c);
    let (local, domain) = text.rsplit_once('@').ok_or_else(said)?;
    let whole = !local.is_empty() && !local.contains('@') && text.len() <= MOST_ADDRESS_CHARACTERS;
    let labels = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    if whole && labels && text.chars().all(allowed) { Ok(text.to_owned()) } else { Err(said()) }
}

#[cfg(test)]
mod tests {
    use super::mail_address;
    use serde_json::json;

    #[test]
    fn an_address_cannot_carry_a_header_or_a_second_recipient() {
        assert!(mail_address(&json!("billing+ai@acme.example")).is_ok());
        for bad in [
            "",
            "acme",
            "a@b",
            "a@@b.example",
            "a b@c.example",
            "a@b.example\r\nBcc: x@y.example",
            "a@b..example",
            "a@b.example,c@d.example",
            "<a@b.example>",
        ] {
            assert!(mail_address(&json!(bad)).is_err(), "{bad:?}");
        }
    }
}
