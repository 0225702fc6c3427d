//! The usage check: recounts months from their ledgers. An alarm rings if the counted usage differs.

use std::time::Duration;

use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_store::usage::audit::{Audit, QUIET_AFTER};
use credits_store::{Fault, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The time that must be left of an invocation to begin another month.
const KEPT_FOR_THE_LAST: Duration = Duration::from_secs(5);

/// An order of a schedule or an operator.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CheckOrder {
    Schedule(Scheduled),
    /// Replaces a month's usage by what its ledger says.
    Recount {
        workspace_id: WorkspaceId,
        month: Month,
    },
}

/// An order of a schedule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scheduled {
    /// Checks the months that are due.
    Checks,
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
    /// The ledger changed during the recount, or shortly before it.
    #[error("credits moved while the month was counted; retry when the workspace is quiet")]
    Moving,
}

/// Carries out an order.
pub(crate) async fn carry_out(store: &Store, order: Value, deadline: Instant) -> Result<Value, CheckError> {
    match serde_json::from_value(order).map_err(|_| CheckError::CheckOrder)? {
        CheckOrder::Schedule(Scheduled::Checks) => check_due(store, deadline).await,
        CheckOrder::Recount { workspace_id, month } => {
            if store.usage_audit().mend(&workspace_id, month).await? {
                tracing::warn!(workspace_id = %workspace_id, %month, "the usage was recounted");
                Ok(json!({ "recounted": true }))
            } else {
                Err(CheckError::Moving)
            }
        }
    }
}

async fn check_due(store: &Store, deadline: Instant) -> Result<Value, CheckError> {
    let (mut checked, mut differing, mut moving) = (0_usize, 0_usize, 0_usize);
    for check in store.usage_audit().due_checks().await? {
        if deadline.saturating_duration_since(Instant::now()) < KEPT_FOR_THE_LAST {
            // The next scheduled invocation finds the rest.
            break;
        }
        match store.usage_audit().check(&check.workspace_id, check.month, QUIET_AFTER).await? {
            Audit::Moving => {
                moving = moving.saturating_add(1);
                store.usage_audit().repeat_check(&check).await?;
            }
            Audit::Compared(differences) if differences.is_empty() => {
                checked = checked.saturating_add(1);
                store.usage_audit().end_check(&check).await?;
            }
            Audit::Compared(differences) => {
                differing = differing.saturating_add(1);
                let (workspace_id, month) = (&check.workspace_id, check.month);
                let groups = differences.len();
                metrics::counter!("UsageDifferences").increment(1);
                tracing::error!(%workspace_id, %month, groups, "the usage differs from the ledger");
            }
        }
    }
    tracing::info!(checked, differing, moving, "checked usage");
    if differing > 0 { Err(CheckError::Differs(differing)) } else { Ok(json!({ "checked": checked })) }
}
