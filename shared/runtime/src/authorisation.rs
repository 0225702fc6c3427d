//! Authorisation: API Gateway verifies the token, and this module checks its scopes and workspace (docs/api.md).

use credits_core::id::WorkspaceId;

use crate::event::{JwtClaims, ScopeClaim};
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
    /// `credits:refund`
    Refund,
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
            Self::Refund => "credits:refund",
        }
    }
}

/// Returns the names in a claim. A list may arrive as a text: `[a b]`, or as JSON, `["a","b"]`.
fn names(claim: ScopeClaim) -> Vec<String> {
    match claim {
        ScopeClaim::Text(text) => {
            let separates = |c: char| c.is_ascii_whitespace() || matches!(c, '[' | ']' | ',' | '"');
            text.split(separates).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        ScopeClaim::List(names) => names,
        ScopeClaim::Other(_) => Vec::new(),
    }
}

impl TokenClaims {
    /// Reads the claims that API Gateway's authorizer passes on.
    #[must_use]
    pub fn read(claims: JwtClaims) -> Self {
        let scopes = [claims.scope, claims.scp].into_iter().flatten().flat_map(names).collect();
        Self { scopes, workspace: claims.workspace.unwrap_or_default() }
    }

    /// Refuses a token that lacks the scope.
    pub fn demand(&self, scope: Scope) -> Result<(), Problem> {
        // Cognito prefixes a scope with its resource server: `api/credits:spend`.
        let name = |held: &String| held.rsplit('/').next() == Some(scope.as_str());
        if self.scopes.iter().any(name) { Ok(()) } else { Err(Problem::scope_missing(scope.as_str())) }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Scope, TokenClaims};

    fn allows(claims: serde_json::Value, scope: Scope) -> bool {
        TokenClaims::read(serde_json::from_value(claims).unwrap()).demand(scope).is_ok()
    }

    #[test]
    fn scopes_of_every_issuer_are_understood() {
        for claims in [
            json!({ "scope": "openid credits:spend" }),
            json!({ "scope": ["openid", "credits:spend"] }),
            json!({ "scope": "[openid credits:spend]" }),
            json!({ "scope": "[\"openid\",\"credits:spend\"]" }),
            json!({ "scope": "api/credits:read api/credits:spend" }),
            json!({ "scp": "credits:spend" }),
            json!({ "scp": ["credits:spend"], "scope": 7 }),
        ] {
            assert!(allows(claims.clone(), Scope::Spend), "{claims}");
            assert!(!allows(claims.clone(), Scope::Manage), "{claims}");
        }
        for claims in [
            json!({}),
            json!({ "scope": "" }),
            json!({ "scope": "credits:spending credits:spend/other xcredits:spend" }),
            json!({ "scope": { "credits:spend": true } }),
        ] {
            assert!(!allows(claims.clone(), Scope::Spend), "{claims}");
        }
    }
}
