//! Who may call: API Gateway has checked the token; here its scope and its workspace are (API.md, Who may call).

use credits_core::id::WorkspaceId;

use crate::event::JwtClaims;
use crate::problem::Problem;

/// A scope of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `credits:spend`
    Spend,
    /// `credits:read`
    Read,
    /// `credits:manage`
    Manage,
}

/// The claims of a token that API Gateway believes.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    scopes: Vec<String>,
    workspace: String,
}

impl Scope {
    /// The scope's name in a token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spend => "credits:spend",
            Self::Read => "credits:read",
            Self::Manage => "credits:manage",
        }
    }
}

impl Claims {
    /// Reads the claims that the authorizer hands on.
    #[must_use]
    pub fn read(claims: JwtClaims) -> Self {
        let scopes = claims.scope.unwrap_or_default();
        let scopes = scopes.split_ascii_whitespace().map(str::to_owned).collect();
        Self { scopes, workspace: claims.workspace.unwrap_or_default() }
    }

    /// Refuses a token without the scope.
    pub fn demand(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.iter().any(|held| held == scope.as_str()) {
            Ok(())
        } else {
            Err(Problem::scope_missing(scope.as_str()))
        }
    }

    /// Refuses a token that isn't the hub's own: the `*` of all workspaces.
    pub fn demand_all_workspaces(&self) -> Result<(), Problem> {
        if self.workspace == "*" { Ok(()) } else { Err(Problem::workspace_forbidden()) }
    }

    /// The workspace of a path, if the token is for it. Whether it exists makes no difference to the answer.
    pub fn workspace(&self, named: &str) -> Result<WorkspaceId, Problem> {
        if self.workspace != named {
            self.demand_all_workspaces()?;
        }
        named.parse().map_err(|_| Problem::workspace_not_found())
    }
}
