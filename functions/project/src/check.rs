//! The check: months are counted anew from their ledgers, and a difference rings the alarm.

use std::time::Duration;

use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_store::audit::{Audit, QUIET_AFTER};
use credits_store::{Fault, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What is left of an invocation when no further month is begun.
const KEPT_FOR_THE_LAST: Duration = Duration::from_secs(5);

/// What a schedule or an operator asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Check the months that are due.
    Schedule(Scheduled),
    /// Put what the ledger says in the place of a month's usage.
    Recount {
        /// Whose.
        workspace_id: WorkspaceId,
        /// Which month.
        month: Month,
    },
}

/// What a schedule asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scheduled {
    /// Check the months that are due.
    Checks,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The order can't be read. What exactly is wrong with it may repeat what is in it, and is not told.
    #[error("the order is neither {{\"schedule\": \"checks\"}} nor {{\"recount\": {{…}}}}")]
    Order,
    /// The table failed.
    #[error("the table failed")]
    Store(#[from] Fault),
    /// Months are counted otherwise than their ledgers say; the log says which.
    #[error("the usage of {0} months differs from the ledger")]
    Differs(usize),
    /// Credits kept moving.
    #[error("credits moved while the month was counted: try again at a quieter moment")]
    Moving,
}

/// Carries an order out.
pub(crate) async fn carry_out(store: &Store, order: Value, deadline: Instant) -> Result<Value, CheckError> {
    match serde_json::from_value(order).map_err(|_| CheckError::Order)? {
        Order::Schedule(Scheduled::Checks) => check_due(store, deadline).await,
        Order::Recount { workspace_id, month } => {
            if store.mend_usage(&workspace_id, month).await? {
                tracing::warn!(workspace_id = %workspace_id, %month, "the usage was counted anew");
                Ok(json!({ "recounted": true }))
            } else {
                Err(CheckError::Moving)
            }
        }
    }
}

async fn check_due(store: &Store, deadline: Instant) -> Result<Value, CheckError> {
    let (mut checked, mut differing, mut moving) = (0_usize, 0_usize, 0_usize);
    for check in store.due_checks().await? {
        if deadline.saturating_duration_since(Instant::now()) < KEPT_FOR_THE_LAST {
            // What is left, the next firing finds.
            break;
        }
        match store.audit(&check.workspace_id, check.month, QUIET_AFTER).await? {
            Audit::Moving => {
                moving = moving.saturating_add(1);
                store.checked(&check, false).await?;
            }
            Audit::Compared(differences) if differences.is_empty() => {
                checked = checked.saturating_add(1);
                store.checked(&check, true).await?;
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
