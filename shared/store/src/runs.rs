//! Workflow runs: started once, counted against the plan's month, and failed by a refusal (M10, M13).

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_core::run::{Allowance, Failure, Run, RunStatus, Trigger};
use credits_core::workspace::Plan;
use jiff::Timestamp;

use crate::attribute::{Item, Reader, keyed, number, text};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::Claim;
use crate::index::{Cursor, Listing, Page};
use crate::keys::{self, DETAIL, INDEX_PK, INDEX_SK, ItemKey, PK, position};
use crate::transaction::{Outcome, Reason, is_busy};
use crate::{Store, entry_item};

/// How many runs a page holds at most.
const RUNS_A_PAGE: usize = 100;

/// A run that was started, now or when the key was first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run as it was started.
    pub run: Run,
    /// The month's runs, this one included.
    pub allowance: Allowance,
    /// Whether it was there before.
    pub replayed: bool,
}

/// Why a run can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartRefusal {
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// There is no such workspace.
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The plan's month has seen all its runs.
    #[error("the month's {} runs are used up", .0.used)]
    AllowanceExhausted(Allowance),
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a run can't be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteRefusal {
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// The workspace has no such run.
    #[error("the run does not exist")]
    RunNotFound,
    /// It has succeeded or failed already.
    #[error("the run has ended")]
    Closed,
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Store {
    /// Starts a run under the caller's key, and counts it against the month in the same transaction.
    ///
    /// `limit` is the runs a month of a plan. The count is conditional on what it was seen to be, so that the answer
    /// can tell it; a start that was overtaken learns the new count from the refusal itself.
    pub async fn start_run(
        &self,
        claim: &Claim,
        (workflow_id, trigger): (&Id, Trigger),
        limit: impl Fn(Plan) -> Option<u64>,
    ) -> Result<Started, StartRefusal> {
        let mut attempts = self.attempts();
        let run_id = self.sources.new_id("run");
        let (mut plan, mut seen) = (self.plan(&claim.workspace_id).await?, None);
        loop {
            let started_at = self.now();
            let month = Month::of(started_at);
            let used = match seen.take() {
                Some((of, used)) if of == month => used,
                _ => self.runs_used(&claim.workspace_id, month).await?,
            };
            let resets_at = month.end();
            let allowance = Allowance { used: used.saturating_add(1), limit: limit(plan), resets_at };
            if allowance.limit.is_some_and(|limit| allowance.used > limit) {
                let exhausted = StartRefusal::AllowanceExhausted(Allowance { used, ..allowance });
                return self.started_before(claim).await?.ok_or(exhausted)?;
            }
            let (run_id, workflow_id) = (run_id.clone(), workflow_id.clone());
            let status = RunStatus::Running;
            let run = Run { run_id, workflow_id, trigger, status, started_at, ended_at: None, failure: None };
            let started = Started { run, allowance, replayed: false };
            let writes = self.start_writes(claim, &started, plan, month).map_err(Fault::from)?;
            let reasons = match self.transact(writes).await? {
                Outcome::Written => return Ok(started),
                Outcome::Unknown(error) => {
                    attempts.after_failure(error).await?;
                    continue;
                }
                Outcome::Cancelled(reasons) => reasons,
            };
            if let Some(Reason::Condition(Some(item))) = reasons.first() {
                return read_started(item, claim, &started);
            }
            if is_busy(&reasons) {
                attempts.after_conflict().await?;
                continue;
            }
            attempts.at_once()?;
            if let Some(Reason::Condition(item)) = reasons.get(1) {
                seen = Some((month, item.as_ref().map_or(Ok(0), read_used).map_err(Fault::from)?));
            } else {
                plan = self.plan(&claim.workspace_id).await?;
            }
        }
    }

    /// Completes a run under the caller's key.
    pub async fn complete_run(&self, claim: &Claim, run_id: &Id) -> Result<(Run, bool), CompleteRefusal> {
        let mut attempts = self.attempts();
        loop {
            let run = self.run(&claim.workspace_id, run_id).await?.ok_or(CompleteRefusal::RunNotFound)?;
            let now = self.now();
            let done = Run { status: RunStatus::Succeeded, ended_at: Some(now), ..run };
            let ended = end_write(RunStatus::Succeeded, now)
                .update(&self.table, &ItemKey::run(&claim.workspace_id, run_id));
            let key = entry_item::put(&self.table, claimed(claim)).map_err(Fault::from)?;
            let writes = vec![key, ended.map_err(Fault::from)?];
            let reasons = match self.transact(writes).await? {
                Outcome::Written => return Ok((done, false)),
                Outcome::Unknown(error) => {
                    attempts.after_failure(error).await?;
                    continue;
                }
                Outcome::Cancelled(reasons) => reasons,
            };
            match reasons.first() {
                Some(Reason::Condition(Some(item))) if !entry_item::is_of(item, Some(claim.fingerprint)) => {
                    return Err(CompleteRefusal::KeyReused);
                }
                Some(Reason::Condition(_)) => {
                    let run = self.run(&claim.workspace_id, run_id).await?;
                    return run.map(|run| (run, true)).ok_or(CompleteRefusal::RunNotFound);
                }
                _ if is_busy(&reasons) => attempts.after_conflict().await?,
                _ => return Err(CompleteRefusal::Closed),
            }
        }
    }

    /// Marks a run failed by the balance of this version, if it is one of ours and still goes on.
    ///
    /// Done before a step's refusal is answered, so that no failure goes untold.
    pub async fn fail_run(
        &self,
        workspace: &WorkspaceId,
        run_id: &Id,
        failure: &Failure,
        balance_version: u64,
    ) -> Result<(), Fault> {
        let mut attempts = self.attempts();
        loop {
            let failed = end_write(RunStatus::Failed, self.now())
                .set("detail.failure", serde_dynamo::to_attribute_value(failure).map_err(Corrupt::from)?)
                .set("balance_version", number(balance_version))
                .update(&self.table, &ItemKey::run(workspace, run_id))?;
            match self.transact(vec![failed]).await? {
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                // Cancelled, it has ended already or is none of ours: a debit never looks its run up.
                Outcome::Written | Outcome::Cancelled(_) => return Ok(()),
            }
        }
    }

    /// The run of that id.
    pub async fn run(&self, workspace: &WorkspaceId, run_id: &Id) -> Result<Option<Run>, Fault> {
        let item = self.get(&ItemKey::run(workspace, run_id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// A page of the workspace's runs, newest first.
    pub async fn runs(
        &self,
        workspace: &WorkspaceId,
        status: Option<RunStatus>,
        after: Option<&Cursor>,
    ) -> Result<Page<Run>, Fault> {
        let filter = status.map(|status| ("status", status.as_str()));
        let listing = Listing { partition: &keys::runs(workspace), limit: RUNS_A_PAGE, after, filter };
        self.page(listing, read).await
    }

    async fn plan(&self, workspace: &WorkspaceId) -> Result<Plan, StartRefusal> {
        let workspace = self.workspace(workspace).await?.ok_or(StartRefusal::WorkspaceNotFound)?;
        Ok(workspace.profile.plan)
    }

    async fn runs_used(&self, workspace: &WorkspaceId, month: Month) -> Result<u64, Fault> {
        let item = self.get(&ItemKey::allowance(workspace, month)).await?;
        Ok(item.as_ref().map_or(Ok(0), read_used)?)
    }

    /// What the key stands for, if it is a run: a replay is answered also when the month is used up.
    async fn started_before(&self, claim: &Claim) -> Result<Option<Result<Started, StartRefusal>>, Fault> {
        let item = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        Ok(item.map(|item| replayed(&item, claim)))
    }

    fn start_writes(
        &self,
        claim: &Claim,
        started: &Started,
        plan: Plan,
        month: Month,
    ) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let Started { run, allowance, .. } = started;
        let mut key = claimed(claim);
        key.insert("run".into(), serde_dynamo::to_attribute_value(run)?);
        key.insert("used".into(), number(allowance.used));
        allowance.limit.iter().for_each(|limit| drop(key.insert("limit".into(), number(*limit))));
        let mut item = keyed(&ItemKey::run(&claim.workspace_id, &run.run_id));
        item.insert(INDEX_PK.into(), text(keys::runs(&claim.workspace_id)));
        item.insert(INDEX_SK.into(), text(position(run.started_at, run.run_id.as_str())));
        item.insert(DETAIL.into(), serde_dynamo::to_attribute_value(run)?);
        let count = Expression::new().set("used", number(allowance.used));
        let count = match allowance.used.saturating_sub(1) {
            0 => count.when_absent("used"),
            seen => count.when("used", "=", number(seen)),
        };
        let same_plan = Expression::new().when("plan", "=", text(plan.as_str()));
        Ok(vec![
            entry_item::put(&self.table, key)?,
            count.update(&self.table, &ItemKey::allowance(&claim.workspace_id, month))?,
            same_plan.check(&self.table, &ItemKey::workspace(&claim.workspace_id))?,
            Expression::new().when_absent(PK).put(&self.table, item)?,
        ])
    }
}

/// The item of a key that stands for something that is no ledger entry.
fn claimed(claim: &Claim) -> Item {
    let mut item = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
    item.insert("fingerprint".into(), AttributeValue::B(Blob::new(claim.fingerprint.bytes())));
    item
}

/// Ends a run, if it still goes on.
fn end_write(status: RunStatus, at: Timestamp) -> Expression {
    Expression::new()
        .set("detail.status", text(status.as_str()))
        .set("detail.ended_at", text(at.to_string()))
        .when("detail.status", "=", text(RunStatus::Running.as_str()))
}

fn read(item: &Item) -> Result<Run, Corrupt> {
    let detail = item.get(DETAIL).cloned().ok_or(Corrupt::Attribute(DETAIL))?;
    Ok(serde_dynamo::from_attribute_value(detail)?)
}

fn read_used(item: &Item) -> Result<u64, Corrupt> {
    Reader(item).number("used")
}

/// What stands under the key: this very start, whose answer was lost, or an earlier one.
fn read_started(item: &Item, claim: &Claim, started: &Started) -> Result<Started, StartRefusal> {
    let before = replayed(item, claim)?;
    let ours = before.run.run_id == started.run.run_id;
    Ok(Started { replayed: !ours, ..before })
}

fn replayed(item: &Item, claim: &Claim) -> Result<Started, StartRefusal> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Err(StartRefusal::KeyReused);
    }
    Ok(read_claimed(item).map_err(Fault::from)?)
}

fn read_claimed(item: &Item) -> Result<Started, Corrupt> {
    let run = item.get("run").cloned().ok_or(Corrupt::Attribute("run"))?;
    let run: Run = serde_dynamo::from_attribute_value(run)?;
    let limit = item.contains_key("limit").then(|| Reader(item).number("limit")).transpose()?;
    let allowance = Allowance { used: read_used(item)?, limit, resets_at: Month::of(run.started_at).end() };
    Ok(Started { run, allowance, replayed: true })
}
