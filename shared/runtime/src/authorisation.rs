//! Authorisation: API Gateway verifies the token, and this module checks its scopes and workspace (docs/api.md).

use credits_core::id::WorkspaceId;

use crate::event::JwtClaims;
use crate::problem::Problem;

/// A scope of an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `credits:spend`
    Spend,
    /// `credits:read`
    Read,
    /// `credits:manage`
    Manage,
}

/// The claims of a token that API Gateway has verified.
#[derive(Debug, Clone, Default)]
pub struct TokenClaims {
    scopes: Vec<String>,
    workspace: String,
}

impl Scope {
    /// Returns the scope's name in a token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spend => "credits:spend",
            Self::Read => "credits:read",
            Self::Manage => "credits:manage",
        }
    }
}

impl TokenClaims {
    /// Reads the claims that API Gateway's authorizer passes on.
    #[must_use]
    pub fn read(claims: JwtClaims) -> Self {
        let scopes = claims.scope.unwrap_or_default();
        let scopes = scopes.split_ascii_whitespace().map(str::to_owned).collect();
        Self { scopes, workspace: claims.workspace.unwrap_or_default() }
    }

    /// Refuses a token that lacks the scope.
    pub fn demand(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.iter().any(|held| held == scope.as_str()) {
            Ok(())
        } else {
            Err(Problem::scope_missing(scope.as_str()))
        }
    }

    /// Refuses a token that is not for all workspaces (`*`), as the hub's own token is.
    pub fn demand_all_workspaces(&self) -> Result<(), Problem> {
        if self.workspace == "*" { Ok(()) } else { Err(Problem::workspace_forbidden()) }
    }

    /// Returns the workspace that a path names, if the token is for it. A token for another workspace is refused,
    /// whether or not the named one exists.
    pub fn workspace(&self, named: &str) -> Result<WorkspaceId, Problem> {
        if self.workspace != named {
            self.demand_all_workspaces()?;
        }
        named.parse().map_err(|_| Problem::workspace_not_found())
    }
}
