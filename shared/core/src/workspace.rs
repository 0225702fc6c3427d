//! A workspace: what credits are scoped to, and the plan that it is on.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;

/// The plans of M7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Prepaid only.
    Free,
    /// Prepaid and subscription.
    Starter,
    /// Prepaid and subscription.
    Team,
    /// Prepaid and subscription.
    Pro,
    /// Any structure (M8).
    Enterprise,
}

/// A text that is not a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of free, starter, team, pro, enterprise")]
pub struct UnknownPlan;

/// What the hub tells of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name that people see.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// Where receipts and warnings go.
    pub billing_email: String,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub workspace_id: WorkspaceId,
    /// What the hub tells of it.
    pub profile: Profile,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Plan {
    /// Every plan, in order.
    pub const ALL: [Self; 5] = [Self::Free, Self::Starter, Self::Team, Self::Pro, Self::Enterprise];

    /// The plan's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Starter => "starter",
            Self::Team => "team",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }
}

impl FromStr for Plan {
    type Err = UnknownPlan;

    fn from_str(text: &str) -> Result<Self, UnknownPlan> {
        Self::ALL.into_iter().find(|plan| plan.as_str() == text).ok_or(UnknownPlan)
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn m13_plans_are_read_by_the_names_that_they_are_shown_with() {
        for plan in Plan::ALL {
            assert_eq!(plan.as_str().parse(), Ok(plan));
            assert_eq!(plan.as_str(), format!("{plan:?}").to_ascii_lowercase());
            assert_eq!(serde_json::to_value(plan).unwrap(), plan.as_str());
        }
        assert!("".parse::<Plan>().is_err());
    }
}
