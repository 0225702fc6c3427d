//! Errors in the form of Stripe's.

use serde_json::{Map, Value, json};

/// The `type` of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorType {
    Api,
    Card,
    Idempotency,
    InvalidRequest,
}

impl ErrorType {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api_error",
            Self::Card => "card_error",
            Self::Idempotency => "idempotency_error",
            Self::InvalidRequest => "invalid_request_error",
        }
    }
}

/// The stage at which a request failed. Stripe keeps a response under its idempotency key once the endpoint has begun
/// to execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before the execution: the same key may be sent again.
    Validation,
    /// During the execution: the same key gets the same error for 24 hours.
    Execution,
}

/// An error response.
#[derive(Debug, Clone)]
pub(super) struct StripeRefusal {
    pub status: u16,
    pub stage: Stage,
    members: Map<String, Value>,
}

impl StripeRefusal {
    /// Creates an `invalid_request_error` for wrong parameters.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidRequest, Stage::Validation, message)
    }

    /// Creates an `invalid_request_error` that the endpoint raises during its execution.
    pub fn execution(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidRequest, Stage::Execution, message)
    }

    /// Creates an error of any type, with status 400.
    pub fn new(kind: ErrorType, stage: Stage, message: impl Into<String>) -> Self {
        let mut members = Map::new();
        members.insert("type".into(), json!(kind.name()));
        members.insert("message".into(), json!(message.into()));
        Self { status: 400, stage, members }
    }

    /// Creates the error for an id without an object. `object` is the type's name in Stripe's message.
    pub fn missing(object: &str, id: &str, param: &str) -> Self {
        let message = format!("No such {object}: '{id}'");
        Self::execution(message).code("resource_missing").param(param)
    }

    /// Creates the error for a missing parameter.
    pub fn required(param: &str) -> Self {
        Self::validation(format!("Missing required param: {param}.")).code("parameter_missing").param(param)
    }

    /// Creates the error for two parameters that exclude each other.
    pub fn exclusive(first: &str, second: &str) -> Self {
        let message = format!("You may only specify one of these parameters: {first}, {second}.");
        Self::validation(message).code("parameters_exclusive").param(first)
    }

    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub fn code(self, code: &str) -> Self {
        self.member("code", json!(code))
    }

    pub fn param(self, param: &str) -> Self {
        self.member("param", json!(param))
    }

    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Returns the response body for the request with this id.
    pub fn body(mut self, request: &str, now: i64) -> Value {
        if let Some(code) = self.members.get("code").and_then(Value::as_str) {
            let url = format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"));
            self.members.insert("doc_url".into(), json!(url));
        }
        if self.status != 401 {
            let url = format!("https://dashboard.stripe.com/test/logs/{request}?t={now}");
            self.members.insert("request_log_url".into(), json!(url));
        }
        json!({ "error": self.members })
    }
}
