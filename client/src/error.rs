//! What a call can come to, apart from its answer.

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::key::IdempotencyKey;

/// Why a call has no answer of its type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The balance doesn't cover it, and nothing was drawn (402).
    #[error("{required} credits are required and {available} are available")]
    InsufficientCredits {
        /// What the call costs.
        required: Decimal,
        /// What may be spent.
        available: Decimal,
        /// Where a person adds credits.
        top_up_url: String,
        /// A sentence for a person to read.
        prompt: String,
    },
    /// The call was refused for another reason. Nothing has changed, and the same call would be refused again.
    #[error("{0}")]
    Refused(Problem),
    /// Every try was answered that it can't be done now (503), or not at all in between. It may have been carried out:
    /// call again with this key.
    #[error("not answered after {tries} tries; call again with the same key")]
    Unavailable {
        /// How often it was tried.
        tries: u32,
        /// The key, if the call has one.
        key: Option<IdempotencyKey>,
        /// What became of the last try.
        #[source]
        last: Box<Error>,
    },
    /// A try had no answer.
    #[error("no answer came")]
    Unanswered(#[source] reqwest::Error),
    /// The answer is not as described.
    #[error("the answer with status {status} can't be read")]
    Unread {
        /// Its status.
        status: u16,
    },
    /// The base address is none.
    #[error("the base address is not a URL")]
    Base,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What it is, for a program: `workspace_not_found`, `idempotency_key_reused`, …
    pub code: String,
    /// What it is, for a person.
    pub detail: String,
    /// Every field that is wrong.
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// Where it is, such as `consumer.user_id`.
    pub field: String,
    /// What it must be.
    pub message: String,
}
