//! Workflow runs: which runs the hub starts, which count against the plan, and which fail with insufficient credits
//! (M10, M13).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{CallPrice, Credits};
use crate::id::Id;

/// The cause that started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Manual,
    Scheduled,
    Event,
}

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    /// The hub has completed the run.
    Succeeded,
    /// A step of the run was refused for insufficient credits. The service never retries it (M14).
    Failed,
}

/// The failure of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Always insufficient credits; the hub handles other failures itself.
    pub code: FailureCode,
    /// The run's first step in the refused request.
    pub step_id: Id,
    /// The price of all the run's steps in the refused request.
    pub required: CallPrice,
    /// The credits that could be spent, including the credit limit.
    pub available: Credits,
}

/// The code of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The balance didn't cover a step.
    InsufficientCredits,
}

/// A workflow run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub run_id: Id,
    pub workflow_id: Id,
    pub trigger: Trigger,
    pub status: RunStatus,
    pub started_at: Timestamp,
    /// When the run succeeded or failed; `None` while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Set if the run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The number of runs that a workspace has started in the month, and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// Counts each run that was started, including those that failed (M13).
    pub used: u64,
    /// The plan's limit per month; `None` if there is no limit.
    pub limit: Option<u64>,
    /// When the next month begins.
    pub resets_at: Timestamp,
}

impl Trigger {
    /// All triggers, with their names in the API.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Manual, "manual"), (Self::Scheduled, "scheduled"), (Self::Event, "event")];
}

/// A text that is not a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of manual, scheduled, event")]
pub struct UnknownTrigger;

impl std::str::FromStr for Trigger {
    type Err = UnknownTrigger;

    fn from_str(text: &str) -> Result<Self, UnknownTrigger> {
        Self::ALL
            .into_iter()
            .find(|(_, name)| *name == text)
            .map(|(trigger, _)| trigger)
            .ok_or(UnknownTrigger)
    }
}

impl RunStatus {
    /// All statuses, with their names in the API.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Running, "running"), (Self::Succeeded, "succeeded"), (Self::Failed, "failed")];

    /// Returns the status's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

/// A text that is not a run's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of running, succeeded, failed")]
pub struct UnknownStatus;

impl std::str::FromStr for RunStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(status, _)| status).ok_or(UnknownStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::{RunStatus, Trigger};

    #[test]
    fn triggers_and_statuses_parse_their_serialized_names() {
        for (trigger, name) in
            [(Trigger::Manual, "manual"), (Trigger::Scheduled, "scheduled"), (Trigger::Event, "event")]
        {
            assert_eq!(name.parse(), Ok(trigger));
            assert_eq!(serde_json::to_value(trigger).unwrap(), name);
        }
        for (status, name) in [
            (RunStatus::Running, "running"),
            (RunStatus::Succeeded, "succeeded"),
            (RunStatus::Failed, "failed"),
        ] {
            assert_eq!((name.parse(), status.as_str()), (Ok(status), name));
            assert_eq!(serde_json::to_value(status).unwrap(), name);
        }
        assert!("".parse::<Trigger>().is_err() && "".parse::<RunStatus>().is_err());
    }
}
