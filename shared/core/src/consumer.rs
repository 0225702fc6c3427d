//! Consumers of credits: the three kinds of M4.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// The consumer that a debit is for. Breakdowns of usage group by its ids (M9). The ids are not looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Consumer {
    /// An AI step of a workflow run.
    WorkflowStep { workflow_id: Id, run_id: Id, step_id: Id },
    /// An AI action that a user starts by hand in the workspace.
    Action { feature: Id, user_id: Id },
    /// A bulk AI operation over list records.
    Bulk {
        job_id: Id,
        feature: Id,
        /// The list that holds the records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        list_id: Option<Id>,
        /// The user who started the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<Id>,
    },
}
