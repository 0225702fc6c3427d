//! The event that an HTTP call comes as: API Gateway's payload 2.0, of which we read what we need.
//!
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>.

use std::collections::HashMap;

use serde::Deserialize;

/// What API Gateway hands on of a call. Absent and null members are empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpEvent {
    /// The route that was matched, such as `GET /v1/catalog`.
    pub route_key: Option<String>,
    /// The path, as it was called.
    pub raw_path: Option<String>,
    /// The route's variables, decoded.
    pub path_parameters: Option<HashMap<String, String>>,
    /// The query, decoded; the values of one name are joined by commas.
    pub query_string_parameters: Option<HashMap<String, String>>,
    /// The headers, by names in small letters; the values of one name are joined by commas.
    pub headers: HashMap<String, String>,
    /// The body, as text or in base64.
    pub body: Option<String>,
    /// Whether the body is in base64.
    pub is_base64_encoded: bool,
    /// What API Gateway says of the call.
    pub request_context: RequestContext,
}

/// What API Gateway says of a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestContext {
    /// The id that it gave the request.
    pub request_id: Option<String>,
    /// The host name that was called.
    pub domain_name: Option<String>,
    /// Who calls; nothing for a route without a token.
    pub authorizer: Option<Authorizer>,
}

/// What the authorizer has found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Authorizer {
    /// The token that it has checked.
    pub jwt: Option<Jwt>,
}

/// A token that was checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Jwt {
    /// Its claims.
    pub claims: JwtClaims,
}

/// The claims of a token that are ours (API.md, Who may call).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct JwtClaims {
    /// What it may be used for, separated by white space.
    pub scope: Option<String>,
    /// The workspace that it is for, or `*`.
    pub workspace: Option<String>,
}
