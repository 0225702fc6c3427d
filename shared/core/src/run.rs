//! Workflow runs: what the hub starts, what counts against the plan, and what fails for lack of credits (M10, M13).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits};
use crate::id::Id;

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person.
    Manual,
    /// A schedule.
    Scheduled,
    /// Something that happened.
    Event,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It goes on.
    Running,
    /// The hub has completed it.
    Succeeded,
    /// A step of it was refused credits. It is never retried by us (M14).
    Failed,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Always that credits were missing; other failures are the hub's own.
    pub code: FailureCode,
    /// The step that was refused.
    pub step_id: Id,
    /// What it would have cost.
    pub required: Amount,
    /// What could be spent.
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
    /// Its id.
    pub run_id: Id,
    /// The workflow that it is of.
    pub workflow_id: Id,
    /// What started it.
    pub trigger: Trigger,
    /// How it stands.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// When it succeeded or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How many runs the month has seen, and may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// Runs that were started; those that failed count as well (M13).
    pub used: u64,
    /// The plan's limit; `None` is no limit.
    pub limit: Option<u64>,
    /// When the next month begins.
    pub resets_at: Timestamp,
}

impl Trigger {
    /// Every trigger with its name on the wire.
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
    /// Every status with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Running, "running"), (Self::Succeeded, "succeeded"), (Self::Failed, "failed")];

    /// The status's name on the wire.
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
    fn triggers_and_statuses_are_read_by_the_names_that_they_are_written_with() {
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
