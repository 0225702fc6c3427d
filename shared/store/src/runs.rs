//! Workflow runs: started once, counted against the plan's month, and failed by a refusal (M10, M13).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_core::run::{Allowance, Failure, Run, RunStatus, Trigger};
use credits_core::workspace::Plan;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, KeyUse};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys::{self, DETAIL, INDEX_PK, INDEX_SK, ItemKey, PK, position};
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// Maximum number of runs on a page.
const RUNS_A_PAGE: usize = 100;

/// A run that was started by this call, or by an earlier one under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run as it was started.
    pub run: Run,
    /// The month's allowance, with this run counted.
    pub allowance: Allowance,
    /// Whether an earlier call under the key started it.
    pub key_use: KeyUse,
}

/// Why the start of a run is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The workspace has used up its plan's runs of the month.
    #[error("the month's {} runs are used up", .0.used)]
    AllowanceExhausted(Allowance),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why the completion of a run is refused.
#[derive(Debug, thiserror::Error)]
pub enum CompleteRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the run does not exist")]
    RunNotFound,
    /// The run has succeeded or failed already.
    #[error("the run has ended")]
    Closed,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Workflow runs.
#[derive(Debug, Clone, Copy)]
pub struct RunStore<'a> {
    pub(crate) store: &'a Store,
}

impl RunStore<'_> {
    /// Starts a run under the caller's key, and counts it against the month in the same transaction. The limit is a
    /// condition of that transaction, so concurrent starts can't exceed it.
    ///
    /// `limit` returns how many runs a month a plan allows. The count is read after the write and stored with the key,
    /// so that a replay returns the same count.
    pub async fn start(
        self,
        claim: &Claim,
        workflow_id: &Id,
        trigger: Trigger,
        limit: impl Fn(Plan) -> Option<u64>,
    ) -> Result<Started, StartRefusal> {
        let mut attempts = self.store.attempts();
        let run_id = self.store.sources.new_id("run");
        let mut plan = self.plan(&claim.workspace_id).await?;
        loop {
            let (run_id, workflow_id, started_at) = (run_id.clone(), workflow_id.clone(), self.store.now());
            let status = RunStatus::Running;
            let run = Run { run_id, workflow_id, trigger, status, started_at, ended_at: None, failure: None };
            let writes = self.start_writes(claim, &run, plan, limit(plan)).map_err(Fault::from)?;
            match self.store.transact(writes).await? {
                TransactionOutcome::Written => {
                    return self.started(claim, run, limit(plan), KeyUse::First).await;
                }
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match read_obstacle(&reasons, claim)? {
                    StartObstacle::Begun(begun, limit) => {
                        let key_use = KeyUse::first_if(begun.run_id == run.run_id);
                        return self.started(claim, *begun, limit, key_use).await;
                    }
                    StartObstacle::Exhausted(used) => {
                        let resets_at = Month::of(started_at).end();
                        let allowance = Allowance { used, limit: limit(plan), resets_at };
                        return Err(StartRefusal::AllowanceExhausted(allowance));
                    }
                    StartObstacle::Busy => attempts.retry_after_conflict().await?,
                    StartObstacle::OtherPlan => {
                        plan = self.plan(&claim.workspace_id).await?;
                        attempts.retry_after_conflict().await?;
                    }
                },
            }
        }
    }

    /// Completes a run under the caller's key. Returns the run.
    pub async fn complete(self, claim: &Claim, run_id: &Id) -> Result<(Run, KeyUse), CompleteRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let run = self.get(&claim.workspace_id, run_id).await?.ok_or(CompleteRefusal::RunNotFound)?;
            let now = self.store.now();
            let done = Run { status: RunStatus::Succeeded, ended_at: Some(now), ..run };
            let ended = end_write(RunStatus::Succeeded, now)
                .update(&self.store.table, &ItemKey::run(&claim.workspace_id, run_id));
            let key = entry_item::put(&self.store.table, entry_item::claimed(claim)).map_err(Fault::from)?;
            let writes = vec![key, ended.map_err(Fault::from)?];
            let reasons = match self.store.transact(writes).await? {
                TransactionOutcome::Written => return Ok((done, KeyUse::First)),
                TransactionOutcome::Unknown(error) => {
                    attempts.retry_after_failure(error).await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
            match reasons.first() {
                Some(Reason::Condition(Some(item))) if !entry_item::is_of(item, Some(claim.fingerprint)) => {
                    return Err(CompleteRefusal::KeyReused);
                }
                Some(Reason::Condition(_)) => {
                    let run = self.get(&claim.workspace_id, run_id).await?;
                    return run.map(|run| (run, KeyUse::Replay)).ok_or(CompleteRefusal::RunNotFound);
                }
                _ if is_busy(&reasons) => attempts.retry_after_conflict().await?,
                _ => return Err(CompleteRefusal::Closed),
            }
        }
    }

    /// Marks a running run as failed by the balance at this version. Does nothing if the run has ended or doesn't
    /// exist.
    ///
    /// The caller does this before it refuses a step, so that every failure is reported.
    pub async fn fail(
        self,
        workspace: &WorkspaceId,
        run_id: &Id,
        failure: &Failure,
        balance_version: u64,
    ) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let failed = end_write(RunStatus::Failed, self.store.now())
                .set("detail.failure", serde_dynamo::to_attribute_value(failure).map_err(Corrupt::from)?)
                .set("balance_version", number(balance_version))
                .update(&self.store.table, &ItemKey::run(workspace, run_id))?;
            match self.store.transact(vec![failed]).await? {
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) if is_busy(&reasons) => {
                    attempts.retry_after_conflict().await?;
                }
                // If it is cancelled, the run has ended or doesn't exist: debits don't look their run up.
                TransactionOutcome::Written | TransactionOutcome::Cancelled(_) => return Ok(()),
            }
        }
    }

    /// Returns the run with this id.
    pub async fn get(self, workspace: &WorkspaceId, run_id: &Id) -> Result<Option<Run>, Fault> {
        let item = self.store.get(&ItemKey::run(workspace, run_id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Returns a page of the workspace's runs, newest first.
    pub async fn list(
        self,
        workspace: &WorkspaceId,
        status: Option<RunStatus>,
        after: Option<&Cursor>,
    ) -> Result<Page<Run>, Fault> {
        let filter = status.map(|status| ("status", status.as_str()));
        let listing = IndexQuery { partitions: &[keys::runs(workspace)], limit: RUNS_A_PAGE, after, filter };
        self.store.page(listing, read).await
    }

    async fn plan(self, workspace: &WorkspaceId) -> Result<Plan, StartRefusal> {
        let workspace =
            self.store.workspaces().get(workspace).await?.ok_or(StartRefusal::WorkspaceNotFound)?;
        Ok(workspace.profile.plan)
    }

    /// Returns this month's use of an allowance of `limit` runs.
    pub async fn allowance(self, workspace: &WorkspaceId, limit: Option<u64>) -> Result<Allowance, Fault> {
        let month = Month::of(self.store.now());
        let count = self.store.get(&ItemKey::allowance(workspace, month)).await?;
        let used = count.map_or(Ok(0), |count| read_used(&count))?;
        Ok(Allowance { used, limit, resets_at: month.end() })
    }

    /// Builds the result of a start: the run, and the month's count of the first response.
    async fn started(
        self,
        claim: &Claim,
        run: Run,
        limit: Option<u64>,
        key_use: KeyUse,
    ) -> Result<Started, StartRefusal> {
        let month = Month::of(run.started_at);
        let used = self.told_count(claim, month).await?;
        let allowance = Allowance { used, limit, resets_at: month.end() };
        Ok(Started { run, allowance, key_use })
    }

    /// Returns the month's count that the key's first response had. If none is stored yet, reads and stores it.
    async fn told_count(self, claim: &Claim, month: Month) -> Result<u64, Fault> {
        let key = ItemKey::called(&claim.workspace_id, &claim.key);
        let mut attempts = self.store.attempts();
        loop {
            let kept = self.store.get(&key).await?.ok_or(Corrupt::Attribute("run"))?;
            if kept.contains_key("used") {
                return Ok(read_used(&kept)?);
            }
            let count = self.store.get(&ItemKey::allowance(&claim.workspace_id, month)).await?;
            let used = read_used(&count.ok_or(Corrupt::Attribute("used"))?)?;
            let tell = Expression::new().set("used", number(used)).when_absent("used").when_exists();
            match self.store.transact(vec![tell.update(&self.store.table, &key)?]).await? {
                TransactionOutcome::Written => return Ok(used),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                // Another call under the same key has stored its count, or is storing it.
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    fn start_writes(
        self,
        claim: &Claim,
        run: &Run,
        plan: Plan,
        limit: Option<u64>,
    ) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let mut key = entry_item::claimed(claim);
        key.insert("run".into(), serde_dynamo::to_attribute_value(run)?);
        if let Some(limit) = limit {
            key.insert("limit".into(), number(limit));
        }
        let mut item = keyed(&ItemKey::run(&claim.workspace_id, &run.run_id));
        item.insert(INDEX_PK.into(), text(keys::runs(&claim.workspace_id)));
        item.insert(INDEX_SK.into(), text(position(run.started_at, run.run_id.as_str())));
        item.insert(DETAIL.into(), serde_dynamo::to_attribute_value(run)?);
        let count = Expression::new().add("used", number(1));
        let count = match limit {
            Some(limit) => count.when_absent_or("used", "<", number(limit)),
            None => count,
        };
        let same_plan = Expression::new().when("plan", "=", text(plan.as_str()));
        let month = Month::of(run.started_at);
        Ok(vec![
            entry_item::put(&self.store.table, key)?,
            count.update(&self.store.table, &ItemKey::allowance(&claim.workspace_id, month))?,
            same_plan.check(&self.store.table, &ItemKey::workspace(&claim.workspace_id))?,
            Expression::new().when_absent(PK).put(&self.store.table, item)?,
        ])
    }
}

/// Builds the end of a run, on the condition that the run is running.
fn end_write(status: RunStatus, at: Timestamp) -> Expression {
    Expression::new()
        .set("detail.status", text(status.as_str()))
        .set("detail.ended_at", text(at.to_string()))
        .when("detail.status", "=", text(RunStatus::Running.as_str()))
}

pub(crate) fn read(item: &Item) -> Result<Run, Corrupt> {
    let detail = item.get(DETAIL).cloned().ok_or(Corrupt::Attribute(DETAIL))?;
    Ok(serde_dynamo::from_attribute_value(detail)?)
}

fn read_used(item: &Item) -> Result<u64, Corrupt> {
    Reader(item).number("used")
}

/// Why a start was not written.
enum StartObstacle {
    /// The key belongs to a start with this limit: this call's, whose response was lost, or an earlier call's.
    Begun(Box<Run>, Option<u64>),
    /// The month's runs are used up: this many.
    Exhausted(u64),
    /// Another transaction was on the same items.
    Busy,
    /// The workspace's plan has changed.
    OtherPlan,
}

/// Reads the cancellation reasons in the only correct order: the key's, then any conflict, then the plan's (another
/// plan has another limit), and the count's last.
fn read_obstacle(reasons: &[Reason], claim: &Claim) -> Result<StartObstacle, StartRefusal> {
    if let Some(Reason::Condition(Some(item))) = reasons.first() {
        if !entry_item::is_of(item, Some(claim.fingerprint)) {
            return Err(StartRefusal::KeyReused);
        }
        return Ok(read_begun(item).map_err(Fault::from)?);
    }
    if is_busy(reasons) {
        return Ok(StartObstacle::Busy);
    }
    if matches!(reasons.get(2), Some(Reason::Condition(_))) {
        return Ok(StartObstacle::OtherPlan);
    }
    match reasons.get(1) {
        Some(Reason::Condition(Some(item))) => {
            Ok(StartObstacle::Exhausted(read_used(item).map_err(Fault::from)?))
        }
        _ => Ok(StartObstacle::Busy),
    }
}

fn read_begun(item: &Item) -> Result<StartObstacle, Corrupt> {
    let run = item.get("run").cloned().ok_or(Corrupt::Attribute("run"))?;
    let limit = item.contains_key("limit").then(|| Reader(item).number("limit")).transpose()?;
    Ok(StartObstacle::Begun(Box::new(serde_dynamo::from_attribute_value(run)?), limit))
}
