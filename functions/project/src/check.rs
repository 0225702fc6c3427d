//! The usage check: recounts months from their ledgers. An alarm rings if the counted usage differs.

use std::collections::VecDeque;
use std::time::Duration;

use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_store::error::Chain;
use credits_store::usage::audit::{Audit, Check, QUIET_AFTER};
use credits_store::usage::recount::{RecountSlice, UsageAuditStore};
use credits_store::usage::repair::Repair;
use credits_store::{Fault, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The time that must be left of an invocation to begin another slice.
const MIN_TIME: Duration = Duration::from_secs(30);

/// The longest slice of a recount. Then the next check gets its turn.
const MAX_SLICE_TIME: Duration = Duration::from_mins(1);

/// An order of a schedule or an operator.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CheckOrder {
    Schedule(Scheduled),
    /// Replaces a month's usage by what its ledger says.
    Recount(RecountOrder),
}

/// An operator's order to replace a month's usage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecountOrder {
    workspace_id: WorkspaceId,
    month: Month,
    /// The number of ledger entries after which a slice is stored; by default, only time ends a slice.
    slice_entries: Option<usize>,
}

/// An order of a schedule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scheduled {
    /// Checks the months that are due.
    Checks,
    /// The same, and stores a slice after this number of ledger entries.
    ChecksInSlices(usize),
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The order has an unknown shape. The error carries no cause, since that could quote the order's content.
    #[error("the order is neither {{\"schedule\": \"checks\"}} nor {{\"recount\": {{…}}}}")]
    CheckOrder,
    #[error("the table failed")]
    Store(#[from] Fault),
    /// The number of months whose usage differs. The log names them.
    #[error("the usage of {0} months differs from the ledger")]
    Differs(usize),
    /// The number of months whose checks failed, and are postponed. The log says why.
    #[error("the checks of {0} months failed")]
    Failed(usize),
    /// The counted part is stored.
    #[error("the recount is not finished; send the same order again, and it goes on")]
    Unfinished,
    /// The ledger changed during the recount, or shortly before it.
    #[error("credits moved while the month was counted; retry when the workspace is quiet")]
    Moving,
}

/// Carries out an order.
pub(crate) async fn carry_out(store: &Store, order: Value, deadline: Instant) -> Result<Value, CheckError> {
    let audit = |entries| Checker { store, entries, deadline };
    match serde_json::from_value(order).map_err(|_| CheckError::CheckOrder)? {
        CheckOrder::Schedule(Scheduled::Checks) => audit(usize::MAX).check_due().await,
        CheckOrder::Schedule(Scheduled::ChecksInSlices(entries)) => audit(entries).check_due().await,
        CheckOrder::Recount(order) => audit(order.slice_entries.unwrap_or(usize::MAX)).repair(&order).await,
    }
}

/// The audit within one invocation.
#[derive(Clone, Copy)]
struct Checker<'a> {
    store: &'a Store,
    /// The number of ledger entries after which a slice ends.
    entries: usize,
    deadline: Instant,
}

/// The number of checks by result.
#[derive(Debug, Default)]
struct CheckCounts {
    right: usize,
    differing: usize,
    moving: usize,
    failed: usize,
}

impl Checker<'_> {
    fn has_time(self) -> bool {
        self.deadline.saturating_duration_since(Instant::now()) >= MIN_TIME
    }

    /// Returns the audit for one slice, which ends early enough to store its sums.
    fn audit(&self) -> UsageAuditStore<'_> {
        let slice_end = Instant::now().checked_add(MAX_SLICE_TIME);
        let until = [slice_end, self.deadline.checked_sub(MIN_TIME)].into_iter().flatten().min();
        self.store.usage_audit().in_slices(RecountSlice { entries: self.entries, until })
    }

    async fn repair(self, order: &RecountOrder) -> Result<Value, CheckError> {
        let RecountOrder { workspace_id, month, .. } = order;
        loop {
            match self.audit().repair(workspace_id, *month).await? {
                Repair::Done => {
                    tracing::warn!(%workspace_id, %month, "the usage was recounted");
                    return Ok(json!({ "recounted": true }));
                }
                Repair::Unfinished if self.has_time() => {}
                Repair::Unfinished => return Err(CheckError::Unfinished),
                Repair::Moving => return Err(CheckError::Moving),
            }
        }
    }

    /// Checks the months that are due, one slice of each after the other. A check that fails is postponed, and the others
    /// go on.
    async fn check_due(self) -> Result<Value, CheckError> {
        let mut due = VecDeque::from(self.store.usage_audit().due_checks().await?);
        let mut counts = CheckCounts::default();
        while let Some(check) = due.pop_front().filter(|_| self.has_time()) {
            match self.audit().check(&check.workspace_id, check.month, QUIET_AFTER).await {
                Ok(Audit::Unfinished) => due.push_back(self.store.usage_audit().put_behind(&check).await?),
                Ok(audit) => self.end(&check, &audit, &mut counts).await?,
                Err(fault) => {
                    counts.failed = counts.failed.saturating_add(1);
                    let (workspace_id, month) = (&check.workspace_id, check.month);
                    tracing::error!(%workspace_id, %month, error = %Chain(&fault), "a check failed");
                    self.store.usage_audit().postpone_check(&check).await?;
                }
            }
        }
        let CheckCounts { right, differing, moving, failed } = counts;
        if differing > 0 || failed > 0 || right > 0 || moving > 0 {
            tracing::info!(right, differing, moving, failed, "checked usage");
        }
        match counts {
            CheckCounts { differing: 0, failed: 0, .. } => Ok(json!({ "checked": right })),
            CheckCounts { differing: 0, .. } => Err(CheckError::Failed(failed)),
            _ => Err(CheckError::Differs(differing)),
        }
    }

    async fn end(self, check: &Check, audit: &Audit, counts: &mut CheckCounts) -> Result<(), Fault> {
        let Audit::Compared(differences) = audit else {
            counts.moving = counts.moving.saturating_add(1);
            return self.store.usage_audit().repeat_check(check).await;
        };
        if differences.is_empty() {
            counts.right = counts.right.saturating_add(1);
            return self.store.usage_audit().end_check(check).await;
        }
        counts.differing = counts.differing.saturating_add(1);
        let (workspace_id, month) = (&check.workspace_id, check.month);
        let groups = differences.len();
        metrics::counter!("UsageDifferences").increment(1);
        tracing::error!(%workspace_id, %month, groups, "the usage differs from the ledger");
        // The next invocation checks it again, after the others.
        self.store.usage_audit().put_behind(check).await.map(drop)
    }
}
