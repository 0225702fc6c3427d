//! The Lambda event of an HTTP call: the members of API Gateway's payload 2.0 that this crate reads.
//!
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// An HTTP call from API Gateway. Absent members are `None` or empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpEvent {
    /// The matched route, such as `GET /v1/catalog`.
    pub route_key: Option<String>,
    /// The path of the request.
    pub raw_path: Option<String>,
    /// The path parameters, decoded.
    pub path_parameters: Option<HashMap<String, String>>,
    /// The query parameters, decoded. Several values of one name are joined by commas.
    pub query_string_parameters: Option<HashMap<String, String>>,
    /// The headers by lowercase name. Several values of one name are joined by commas.
    pub headers: HashMap<String, String>,
    /// The body as text or in base64.
    pub body: Option<String>,
    pub is_base64_encoded: bool,
    pub request_context: RequestContext,
}

/// The metadata of a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestContext {
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// The host name of the request.
    pub domain_name: Option<String>,
    /// The authorizer's result; absent on a route without authorisation.
    pub authorizer: Option<Authorizer>,
}

/// The result of the authorizer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Authorizer {
    /// The verified token.
    pub jwt: Option<Jwt>,
}

/// A verified access token.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Jwt {
    pub claims: JwtClaims,
}

/// The scopes of a token, as text or as a list.
///
/// API Gateway's HTTP API passes a list on as a text, such as `[credits:read credits:spend]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum ScopeClaim {
    Text(String),
    List(Vec<String>),
    /// Anything else names no scope.
    Other(IgnoredAny),
}

/// The claims of a token that this API uses (docs/api.md).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct JwtClaims {
    /// The scopes, as most issuers name them.
    pub scope: Option<ScopeClaim>,
    /// The scopes, as Entra and Okta name them.
    pub scp: Option<ScopeClaim>,
    /// The workspace's id, or `*` for all.
    pub workspace: Option<String>,
}
