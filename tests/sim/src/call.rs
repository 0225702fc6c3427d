//! Calls of the API and their responses.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

tokio::task_local! {
    /// The number of the call that a task runs.
    pub static CALL: u64;
}

/// A call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub workspace: String,
    pub method: &'static str,
    /// The path below the workspace, such as `debits`.
    pub path: String,
    /// The idempotency key, which only a `POST` has.
    pub key: Option<String>,
    /// The body; null if the call has none.
    pub body: Value,
}

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    /// Whether the response repeats an earlier one (`idempotent-replayed`).
    pub replayed: bool,
}

/// One attempt of a call.
#[derive(Debug, Clone)]
pub struct Called {
    pub order: Order,
    /// The number of commits when the call began.
    pub from: usize,
    /// When the call began.
    pub at: Timestamp,
    /// The response; absent if none arrived.
    pub answered: Option<Answered>,
}

/// A response with its time.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The number of commits when the response arrived.
    pub until: usize,
    /// When the response arrived.
    pub at: Timestamp,
    pub reply: Reply,
}

impl Order {
    /// Creates a `POST` with an idempotency key.
    #[must_use]
    pub fn post(workspace: &str, path: &str, key: String, body: Value) -> Self {
        Self { workspace: workspace.into(), method: "POST", path: path.into(), key: Some(key), body }
    }

    /// Creates a `PUT`.
    #[must_use]
    pub fn put(workspace: &str, path: &str, body: Value) -> Self {
        Self { workspace: workspace.into(), method: "PUT", path: path.into(), key: None, body }
    }

    /// Creates a `GET`.
    #[must_use]
    pub fn get(workspace: &str, path: &str) -> Self {
        let body = Value::Null;
        Self { workspace: workspace.into(), method: "GET", path: path.into(), key: None, body }
    }

    /// Returns the full path.
    #[must_use]
    pub fn uri(&self) -> String {
        let parts = ["/v1/workspaces", self.workspace.as_str(), self.path.as_str()];
        parts.join("/").trim_end_matches('/').to_owned()
    }

    /// Formats the call as one line.
    #[must_use]
    pub fn shown(&self) -> String {
        let key = self.key.as_deref().unwrap_or("-");
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        format!("{} {}/{} key={key} {body}", self.method, self.workspace, self.path)
    }
}

impl Reply {
    /// Returns whether the call's effect is unknown to the caller.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.status >= 500
    }
}

/// Returns a quantity of credits in a response. Panics if it is absent, because that is not zero.
#[must_use]
pub fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

/// Returns an instant in a response.
#[must_use]
pub fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
