//! Workspaces, to which credits belong, and their plans.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;

/// The plans of M7, with what `infra/catalogue.json` allows on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Prepaid credits only.
    Free,
    /// Prepaid credits and subscriptions.
    Starter,
    /// Prepaid credits and subscriptions.
    Team,
    /// Prepaid credits and subscriptions.
    Pro,
    /// Prepaid credits, subscriptions and agreements, in any combination (M8).
    Enterprise,
}

/// A text that is not a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of free, starter, team, pro, enterprise")]
pub struct UnknownPlan;

/// The data of a workspace that the hub sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name that people see.
    pub name: String,
    pub plan: Plan,
    /// The address for receipts and warnings.
    pub billing_email: String,
}

/// A workspace with the hub's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub workspace_id: WorkspaceId,
    pub profile: Profile,
    pub created_at: Timestamp,
}

impl Plan {
    /// All plans, in order.
    pub const ALL: [Self; 5] = [Self::Free, Self::Starter, Self::Team, Self::Pro, Self::Enterprise];

    /// Returns the plan's name in the API.
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
    fn m13_plans_parse_their_serialized_names() {
        for plan in Plan::ALL {
            assert_eq!(plan.as_str().parse(), Ok(plan));
            assert_eq!(plan.as_str(), format!("{plan:?}").to_ascii_lowercase());
            assert_eq!(serde_json::to_value(plan).unwrap(), plan.as_str());
        }
        assert!("".parse::<Plan>().is_err());
    }
}
