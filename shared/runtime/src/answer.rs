//! HTTP responses that a function returns to API Gateway.

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credits_store::error::Chain;
use credits_store::{Fingerprint, KeyUse};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;

use crate::call::Call;
use crate::problem::Problem;

/// An HTTP response to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
    /// The code of a problem, for the log and the metrics.
    code: Option<&'static str>,
}

impl Answer {
    /// Builds a 200 with a JSON body.
    #[must_use]
    pub fn ok(body: &impl Serialize) -> Self {
        Self::json(200, body)
    }

    /// Builds a 201 with a JSON body.
    #[must_use]
    pub fn created(body: &impl Serialize) -> Self {
        Self::json(201, body)
    }

    /// Builds a 200 with a text body of a media type.
    #[must_use]
    pub fn text(media_type: &'static str, body: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { status: 200, headers, body, code: None }
    }

    /// Builds the response for a file that ships with the function: a 200, or a 304 if the caller has the same file
    /// (RFC 9110, 13.1.2).
    #[must_use]
    pub fn file(call: &Call, media_type: &'static str, body: &'static str) -> Self {
        let digest = Fingerprint::of(&[body.as_bytes()]);
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.bytes()));
        let known = call.header("if-none-match").unwrap_or_default().split(',');
        let known =
            known.map(|tag| tag.trim().trim_start_matches("W/")).any(|known| known == tag || known == "*");
        let mut answer = Self::text(media_type, if known { String::new() } else { body.to_owned() });
        if known {
            answer.status = 304;
        }
        answer.with("etag", &tag).with("cache-control", "no-cache").with("x-content-type-options", "nosniff")
    }

    /// Adds a header. Ignores a value that is invalid in a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Builds the response to a call that creates something under an idempotency key: 201 to the first call.
    #[must_use]
    pub fn created_once(key_use: KeyUse, body: &impl Serialize) -> Self {
        match key_use {
            KeyUse::First => Self::created(body),
            KeyUse::Replay => Self::replay(body),
        }
    }

    /// Builds the response to a call that changes something under an idempotency key: 200 to the first call.
    #[must_use]
    pub fn changed_once(key_use: KeyUse, body: &impl Serialize) -> Self {
        match key_use {
            KeyUse::First => Self::ok(body),
            KeyUse::Replay => Self::replay(body),
        }
    }

    /// Builds the response to a replay: 200 with the header `idempotent-replayed`.
    #[must_use]
    pub fn replay(body: &impl Serialize) -> Self {
        metrics::counter!("Replays").increment(1);
        let mut answer = Self::ok(body);
        answer.headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        answer
    }

    /// Returns the HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the problem's code, if the response is a problem.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        self.code
    }

    fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => {
                let mut headers = HeaderMap::new();
                headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Self { status, headers, body, code: None }
            }
            Err(error) => {
                let error = Chain(&error);
                tracing::error!(%error, "a response could not be serialised");
                Problem::unavailable().into()
            }
        }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.retry_after_seconds() {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = problem.body().to_string();
        Self { status: problem.status(), headers, body, code: Some(problem.code()) }
    }
}

impl From<Answer> for ApiGatewayV2httpResponse {
    fn from(answer: Answer) -> Self {
        let mut response = Self::default();
        response.status_code = answer.status.into();
        response.headers = answer.headers;
        response.body = Some(answer.body.into());
        response
    }
}
