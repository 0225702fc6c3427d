//! `PUT` and `GET /v1/workspaces/{workspace_id}`: the hub registers its workspaces (M1).

use credits_core::id::WorkspaceId;
use credits_core::workspace::{Plan, Profile, Workspace};
use credits_runtime::fields::{FieldError, Fields, line, mail_address, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

const MAX_NAME_CHARACTERS: usize = 200;

#[derive(Debug, Serialize)]
struct WorkspaceBody {
    workspace_id: WorkspaceId,
    name: String,
    plan: Plan,
    billing_email: String,
    created_at: Timestamp,
}

impl Account {
    pub(crate) async fn put_workspace(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        call.token_claims().demand(Scope::Manage)?;
        call.token_claims().demand_all_workspaces()?;
        let id = call.unchecked_workspace_id().parse().map_err(|invalid: credits_core::id::InvalidId| {
            Problem::invalid_request(&[FieldError {
                field: "workspace_id".into(),
                message: invalid.to_string(),
            }])
        })?;
        let profile = read_profile(&call.json()?)?;
        let put = store.workspaces().put(&id, &profile).await?;
        if !put.created && profile.plan != Plan::Enterprise {
            store.agreements().end(&id).await?;
        }
        let body = WorkspaceBody::from(put.workspace);
        Ok(if put.created { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn workspace(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let id = call.workspace(Scope::Read)?;
        let workspace = store.workspaces().get(&id).await?;
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
    let name = fields.required("name", |name| line(name, MAX_NAME_CHARACTERS));
    let plan = fields.required("plan", parsed::<Plan>);
    let billing_email = fields.required("billing_email", mail_address);
    let profile = name.zip(plan).zip(billing_email);
    fields.finish(profile.map(|((name, plan), billing_email)| Profile { name, plan, billing_email }))
}
