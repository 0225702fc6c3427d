//! `/v1/workspaces/{workspace_id}/runs`: workflow runs, which count against the plan's monthly runs (M10, M13, M14).

use credits_core::id::Id;
use credits_core::run::{Allowance, Run, RunStatus, Trigger};
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::table::index::Cursor;
use serde::Serialize;
use serde_json::Value;

use crate::cursor::CursorScope;
use crate::{Account, query};

#[derive(Debug, Serialize)]
struct StartedBody {
    #[serde(flatten)]
    run: Run,
    allowance: Allowance,
}

#[derive(Debug, Serialize)]
struct RunsBody {
    runs: Vec<Run>,
    allowance: Allowance,
    next_cursor: Option<String>,
}

impl Account {
    pub(crate) async fn start_run(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let (workflow_id, trigger) = read_start(&body)?;
        let limit = |plan| self.catalogue.terms(plan).and_then(|terms| terms.monthly_runs);
        let started = store.runs().start(&claim, &workflow_id, trigger, limit).await?;
        let body = StartedBody { run: started.run, allowance: started.allowance };
        Ok(Answer::created_once(started.key_use, &body))
    }

    pub(crate) async fn complete_run(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let run_id = named_run(call)?;
        let body = call.json_if_any()?;
        let claim = call.claim(&workspace, &body)?;
        Fields::of(&body)?.finish(Some(()))?;
        let (run, key_use) = store.runs().complete(&claim, &run_id).await?;
        Ok(Answer::changed_once(key_use, &run))
    }

    pub(crate) async fn run(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let run = store.runs().get(&workspace, &named_run(call)?).await?;
        Ok(Answer::ok(&run.ok_or_else(Problem::not_found)?))
    }

    pub(crate) async fn runs(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let (status, after) = read_query(call)?;
        let known = store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let limit = self.catalogue.terms(known.profile.plan).and_then(|terms| terms.monthly_runs);
        let runs = store.runs();
        let (page, allowance) = tokio::try_join!(
            runs.list(&workspace, status, after.as_ref()),
            runs.allowance(&workspace, limit)
        )?;
        Ok(Answer::ok(&RunsBody {
            runs: page.items,
            allowance,
            next_cursor: page.next.as_ref().map(|next| listing(call).write_position(next)),
        }))
    }
}

fn named_run(call: &Call) -> Result<Id, Problem> {
    call.path_parameter("run_id").parse().map_err(|_| Problem::not_found())
}

fn read_start(body: &Value) -> Result<(Id, Trigger), Problem> {
    let mut fields = Fields::of(body)?;
    let workflow_id = fields.required("workflow_id", parsed::<Id>);
    let trigger = fields.required("trigger", parsed::<Trigger>);
    fields.finish(workflow_id.zip(trigger))
}

fn read_query(call: &Call) -> Result<(Option<RunStatus>, Option<Cursor>), Problem> {
    let (mut status, mut after) = (None, None);
    query::read(call.query(), |name, value| {
        match name {
            "status" => status = Some(query::parsed(value)?),
            "cursor" => after = Some(listing(call).read_position(value).map_err(|error| error.to_string())?),
            _ => return query::unknown(),
        }
        Ok(())
    })?;
    Ok((status, after))
}

/// Returns the listing that a cursor must belong to.
fn listing(call: &Call) -> CursorScope<'_> {
    CursorScope { name: "runs", workspace: call.unchecked_workspace_id() }
}
