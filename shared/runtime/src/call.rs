//! Calls: HTTP requests that API Gateway has routed to a function, with the checks that every function needs.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credits_core::id::WorkspaceId;
use credits_store::{Claim, Fingerprint};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::authorisation::{Scope, TokenClaims};
use crate::event::HttpEvent;
use crate::fields::FieldError;
use crate::problem::Problem;
use crate::{json, query};

/// The maximum size of a request body. It bounds the time and memory that an invocation spends on JSON: Lambda accepts
/// events of up to 6 MB.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// An HTTP request that API Gateway has routed to a function, with the claims of its token.
#[derive(Debug, Clone)]
pub struct Call {
    route: String,
    path: String,
    path_parameters: HashMap<String, String>,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    token_claims: TokenClaims,
    /// `None` if the event marks the body as base64 but it can't be decoded.
    body: Option<Vec<u8>>,
    request_id: String,
    domain_name: String,
    deadline: Instant,
}

impl Call {
    /// Creates the call of an event. Decodes a body that API Gateway encoded in base64.
    #[must_use]
    pub fn from_event(event: HttpEvent, deadline: Instant) -> Self {
        let body = event.body.unwrap_or_default();
        let body = if event.is_base64_encoded { STANDARD.decode(body).ok() } else { Some(body.into_bytes()) };
        let context = event.request_context;
        let jwt = context.authorizer.and_then(|authorizer| authorizer.jwt);
        Self {
            route: event.route_key.unwrap_or_default(),
            path: event.raw_path.unwrap_or_default(),
            path_parameters: event.path_parameters.unwrap_or_default(),
            query: event.query_string_parameters.unwrap_or_default(),
            headers: event.headers,
            token_claims: jwt.map(|jwt| TokenClaims::read(jwt.claims)).unwrap_or_default(),
            body,
            request_id: context.request_id.unwrap_or_default(),
            domain_name: context.domain_name.unwrap_or_default(),
            deadline,
        }
    }

    /// Returns the route that API Gateway matched, such as `GET /v1/catalog`.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Returns API Gateway's id of the request, for the log.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the host name that the request was sent to.
    #[must_use]
    pub fn domain_name(&self) -> &str {
        &self.domain_name
    }

    /// Returns the path parameter `workspace_id` without any check: it may be any text. [`Self::workspace`] checks it.
    #[must_use]
    pub fn unchecked_workspace_id(&self) -> &str {
        self.path_parameter("workspace_id")
    }

    /// Returns a path parameter, unchecked; empty if the route has none of this name.
    #[must_use]
    pub fn path_parameter(&self, name: &str) -> &str {
        self.path_parameters.get(name).map_or("", String::as_str)
    }

    /// Returns the instant at which Lambda ends the invocation, or the test's limit.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the claims of the token; empty on a route without authorisation.
    #[must_use]
    pub fn token_claims(&self) -> &TokenClaims {
        &self.token_claims
    }

    /// Returns a header by its lowercase name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the query parameters, decoded. Several values of one name are joined by commas.
    #[must_use]
    pub fn query(&self) -> &HashMap<String, String> {
        &self.query
    }

    /// Refuses all query parameters on a `/v1/` route. Other routes, such as the settings page, accept any that their
    /// callers add.
    pub(crate) fn check_query(&self) -> Result<(), Problem> {
        let of_api = self.route.split(' ').nth(1).is_some_and(|path| path.starts_with("/v1/"));
        if of_api { query::none(&self.query) } else { Ok(()) }
    }

    /// Returns the workspace in the path. Refuses a token that lacks the scope (403) or is for another workspace (403), and
    /// a path that names no valid workspace id (404).
    pub fn workspace(&self, scope: Scope) -> Result<WorkspaceId, Problem> {
        self.token_claims.demand(scope)?;
        self.token_claims.workspace(self.unchecked_workspace_id())
    }

    /// Returns the raw body. Refuses a body above [`MAX_BODY_BYTES`], and a body that the event marks as base64 but that
    /// can't be decoded.
    pub fn raw_body(&self) -> Result<&[u8], Problem> {
        let body = self.body.as_deref().ok_or_else(Problem::malformed_base64)?;
        if body.len() > MAX_BODY_BYTES { Err(Problem::body_too_large()) } else { Ok(body) }
    }

    /// Parses the body as JSON. Refuses members that occur more than once.
    pub fn json(&self) -> Result<Value, Problem> {
        let body = self.raw_body()?;
        let media_type = self.header("content-type").and_then(|media| media.split(';').next());
        if !media_type.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Problem::unsupported_media_type());
        }
        let (value, repeated) = json::read(body).map_err(|_| Problem::malformed_json())?;
        if repeated.is_empty() {
            return Ok(value);
        }
        let message = "is given more than once";
        let errors = repeated.into_iter().map(|field| FieldError { field, message: message.to_owned() });
        Err(Problem::invalid_request(&errors.collect::<Vec<_>>()))
    }

    /// Parses the body as JSON, for a route without required members: an empty body counts as `{}`.
    pub fn json_if_any(&self) -> Result<Value, Problem> {
        if self.body.as_ref().is_some_and(Vec::is_empty) { Ok(json!({})) } else { self.json() }
    }

    /// Builds the claim of the request's idempotency key for its method, path and payload.
    ///
    /// The fingerprint covers the parsed payload, so white space and the order of members do not change it.
    pub fn claim(&self, workspace_id: &WorkspaceId, body: &Value) -> Result<Claim, Problem> {
        let key = self.header("idempotency-key").ok_or_else(Problem::idempotency_key_missing)?;
        let method = self.route.split(' ').next().unwrap_or_default();
        let payload = serde_json::to_vec(body).map_err(|_| Problem::malformed_json())?;
        let fingerprint = Fingerprint::of(&[method.as_bytes(), self.path.as_bytes(), &payload]);
        let key = key.parse().map_err(|_| Problem::idempotency_key_invalid())?;
        Ok(Claim { workspace_id: workspace_id.clone(), key, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::Call;
    use crate::event::HttpEvent;
    use crate::problem::Problem;

    #[test]
    fn a_body_that_is_not_in_its_base64_says_so() {
        let body = |body: &str| {
            let event =
                HttpEvent { body: Some(body.to_owned()), is_base64_encoded: true, ..HttpEvent::default() };
            Call::from_event(event, Instant::now()).raw_body().map(<[u8]>::to_vec)
        };
        assert_eq!(body("e30="), Ok(b"{}".to_vec()));
        assert_eq!(body("%"), Err(Problem::malformed_base64()));
        assert_ne!(Problem::malformed_base64(), Problem::malformed_json());
    }
}
