//! Who spends credits: the three kinds of consumer of M4.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// Who a debit is for. Its members are ids that are not looked up, and what the breakdowns group by (M9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Consumer {
    /// An AI step of a workflow run.
    WorkflowStep {
        /// The workflow.
        workflow_id: Id,
        /// The run of it.
        run_id: Id,
        /// The step of the run.
        step_id: Id,
    },
    /// An AI action by hand in the workspace.
    Action {
        /// The feature that was used.
        feature: Id,
        /// Who used it.
        user_id: Id,
    },
    /// A bulk AI operation over list records.
    Bulk {
        /// The job.
        job_id: Id,
        /// The feature that was used.
        feature: Id,
        /// The list that the records are of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        list_id: Option<Id>,
        /// Who started it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<Id>,
    },
}
