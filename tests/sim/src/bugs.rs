//! Planted bugs: one at a time, by its number.

use serde_json::Value;

/// A planted bug's number.
pub type Bug = u8;

/// The bug of a run, if there is one.
#[derive(Debug, Default)]
pub struct Bugs(Option<Bug>);

impl Bugs {
    /// One bug, or none.
    #[must_use]
    pub fn planted(bug: Option<Bug>) -> Self {
        Self(bug)
    }

    /// What becomes of a request.
    #[must_use]
    pub fn in_request(&self, _operation: &str, body: Value) -> Value {
        body
    }

    /// What becomes of an answer.
    #[must_use]
    pub fn in_answer(&self, _operation: &str, _body: &Value, answered: (u16, String)) -> (u16, String) {
        answered
    }

    /// Whether events that the bus refused pass for taken.
    #[must_use]
    pub fn hides_refused_events(&self) -> bool {
        self.0 == Some(201)
    }

    /// Whether mails that were refused pass for sent.
    #[must_use]
    pub fn hides_refused_mails(&self) -> bool {
        self.0 == Some(202)
    }

    /// Whether records that failed pass for worked off.
    #[must_use]
    pub fn hides_failed_records(&self) -> bool {
        self.0 == Some(203)
    }

    /// Whether the provider is asked without an idempotency key.
    #[must_use]
    pub fn drops_the_providers_key(&self) -> bool {
        self.0 == Some(204)
    }
}
