//! Calls: what was asked, when, and what came of it.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

tokio::task_local! {
    /// The call that a task works on.
    pub static CALL: u64;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Of which workspace.
    pub workspace: String,
    /// The method.
    pub method: &'static str,
    /// What of the workspace's, such as `debits`.
    pub path: String,
    /// The idempotency key.
    pub key: Option<String>,
    /// The body.
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Value,
    /// Whether it was given before.
    pub replayed: bool,
}

/// A call, once or one of several times.
#[derive(Debug, Clone)]
pub struct Called {
    /// What was asked.
    pub order: Order,
    /// How many commits there were then.
    pub from: usize,
    /// When.
    pub at: Timestamp,
    /// The answer, if one came.
    pub answered: Option<Answered>,
}

/// When an answer came.
#[derive(Debug, Clone)]
pub struct Answered {
    /// How many commits there were then.
    pub until: usize,
    /// When.
    pub at: Timestamp,
    /// What it is.
    pub reply: Reply,
}

impl Order {
    /// A call of a workspace's with a key.
    #[must_use]
    pub fn post(workspace: &str, path: &str, key: String, body: Value) -> Self {
        Self { workspace: workspace.into(), method: "POST", path: path.into(), key: Some(key), body }
    }

    /// A call of a workspace's that sets something.
    #[must_use]
    pub fn put(workspace: &str, path: &str, body: Value) -> Self {
        Self { workspace: workspace.into(), method: "PUT", path: path.into(), key: None, body }
    }

    /// A read.
    #[must_use]
    pub fn get(workspace: &str, path: &str) -> Self {
        let body = Value::Null;
        Self { workspace: workspace.into(), method: "GET", path: path.into(), key: None, body }
    }

    /// The path of the whole.
    #[must_use]
    pub fn uri(&self) -> String {
        let parts = ["/v1/workspaces", self.workspace.as_str(), self.path.as_str()];
        parts.join("/").trim_end_matches('/').to_owned()
    }

    /// In a line.
    #[must_use]
    pub fn shown(&self) -> String {
        let key = self.key.as_deref().unwrap_or("-");
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        format!("{} {}/{} key={key} {body}", self.method, self.workspace, self.path)
    }
}

impl Reply {
    /// Whether nobody can tell what became of the call.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.status >= 500
    }
}

/// Credits of an answer: what is not there is no zero.
#[must_use]
pub fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

/// An instant of an answer.
#[must_use]
pub fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
