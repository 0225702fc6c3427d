//! The stand-in for API Gateway: matches the route, checks the token, invokes the function, and returns its response.
//!
//! The first route that matches is taken, so the template must list a literal path before one with a parameter in its
//! place. API Gateway itself prefers the more specific route, whatever the order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body as EventBody;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credits_runtime::event::HttpEvent;
use credits_store::Sources;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::functions::Functions;
use crate::template::Route;
use crate::tokens::Issuer;

/// The HTTP API of template.yaml.
#[derive(Debug)]
pub struct Gateway {
    routes: Vec<Route>,
    pub functions: Functions,
    /// Issues and verifies the tokens.
    pub issuer: Issuer,
    pub sources: Sources,
    requests: AtomicU64,
}

/// An HTTP request.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// The path and the query.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Gateway {
    pub fn new(routes: Vec<Route>, functions: Functions, issuer: Issuer, sources: Sources) -> Self {
        Self { routes, functions, issuer, sources, requests: AtomicU64::new(0) }
    }

    /// Answers a request as API Gateway would.
    pub async fn answer(&self, request: Request) -> Response<Vec<u8>> {
        let matched = self.routes.iter().find_map(|route| Some((route, path_parameters(route, &request)?)));
        let Some((route, parameters)) = matched else { return message(StatusCode::NOT_FOUND, "Not Found") };
        let claims = if route.needs_token {
            let header = request.headers.get("authorization").and_then(|header| header.to_str().ok());
            match header.and_then(|header| self.issuer.verify(header, self.sources.now())) {
                Some(claims) => Some(claims),
                None => return message(StatusCode::UNAUTHORIZED, "Unauthorized"),
            }
        } else {
            None
        };
        let event = self.event(route, &request, &parameters, claims.as_ref());
        let Ok(event) = serde_json::from_value::<HttpEvent>(event) else {
            tracing::error!(route = route.key, "the stand-in has built an event that can't be read");
            return message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        };
        match self.functions.invoke(&route.function, event).await {
            Some(response) => http_response(response),
            None => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        }
    }

    /// Builds the event of payload format 2.0.
    fn event(
        &self,
        route: &Route,
        request: &Request,
        parameters: &HashMap<String, String>,
        claims: Option<&HashMap<String, String>>,
    ) -> Value {
        let now = self.sources.now();
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (body, is_base64_encoded) = encoded(request);
        let path = request.uri.path();
        let authorizer = claims.map(|claims| json!({ "jwt": { "claims": claims, "scopes": null } }));
        json!({
            "version": "2.0",
            "routeKey": route.key,
            "rawPath": path,
            "rawQueryString": request.uri.query().unwrap_or_default(),
            "headers": headers(&request.headers),
            "queryStringParameters": query(&request.uri),
            "pathParameters": parameters,
            "requestContext": {
                "accountId": "000000000000",
                "apiId": "local",
                "authorizer": authorizer,
                "domainName": "127.0.0.1",
                "domainPrefix": "127",
                "http": {
                    "method": request.method.as_str(), "path": path, "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1", "userAgent": "local",
                },
                "requestId": format!("local-{id}"),
                "routeKey": route.key,
                "stage": "$default",
                "time": now.to_string(),
                "timeEpoch": now.as_millisecond(),
            },
            "body": body,
            "isBase64Encoded": is_base64_encoded,
        })
    }
}

/// Returns the decoded path parameters if the request matches the route.
fn path_parameters(route: &Route, request: &Request) -> Option<HashMap<String, String>> {
    let (method, path) = route.key.split_once(' ')?;
    let (wanted, given) = (path.split('/'), request.uri.path().split('/'));
    if method != request.method.as_str() || wanted.clone().count() != given.clone().count() {
        return None;
    }
    let mut parameters = HashMap::new();
    for (wanted, given) in wanted.zip(given) {
        if let Some(name) = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            let value = percent_decode_str(given).decode_utf8().ok().filter(|value| !value.is_empty())?;
            parameters.insert(name.to_owned(), value.into_owned());
        } else if wanted != given {
            return None;
        }
    }
    Some(parameters)
}

/// Joins the values of each header with commas. Names are in lowercase.
fn headers(headers: &HeaderMap) -> HashMap<&str, String> {
    let mut joined: HashMap<&str, String> = HashMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = joined.entry(name.as_str()).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(&value);
    }
    joined
}

fn query(uri: &Uri) -> HashMap<String, String> {
    let mut joined: HashMap<String, String> = HashMap::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let known = joined.entry(name.into_owned()).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(&value);
    }
    joined
}

/// Returns the body as text, or in base64 if it is not UTF-8, and whether it is in base64.
fn encoded(request: &Request) -> (Option<String>, bool) {
    if request.body.is_empty() {
        return (None, false);
    }
    match String::from_utf8(request.body.clone()) {
        Ok(text) => (Some(text), false),
        Err(bytes) => (Some(STANDARD.encode(bytes.as_bytes())), true),
    }
}

fn http_response(response: ApiGatewayV2httpResponse) -> Response<Vec<u8>> {
    let body = match response.body {
        Some(EventBody::Text(text)) => text.into_bytes(),
        Some(EventBody::Binary(bytes)) => bytes,
        _ => Vec::new(),
    };
    let mut converted = Response::new(body);
    let status = u16::try_from(response.status_code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    *converted.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let copies = response.headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    converted.headers_mut().extend(copies);
    converted
}

/// Builds a response of API Gateway's own, such as 401 or 404.
#[must_use]
pub fn message(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    json_response(status, &json!({ "message": text }))
}

/// Builds a JSON response.
#[must_use]
pub fn json_response(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}
