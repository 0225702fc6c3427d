//! The errors of calls.

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::key::IdempotencyKey;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The balance or the hold does not cover the call (402). Nothing was drawn.
    #[error("{required} credits are required and {available} are available")]
    InsufficientCredits {
        /// The price of the call.
        required: Decimal,
        /// The credits that the call could have spent.
        available: Decimal,
        /// The page on which a person adds credits.
        top_up_url: String,
        /// A sentence that you can show to a person.
        prompt: String,
    },
    /// The call was refused for another reason. Nothing has changed, and a retry would be refused again.
    #[error("{0}")]
    Refused(Problem),
    /// No attempt had a final response. The call may have been carried out: retry it with this key.
    #[error("no final response after {tries} attempts; retry with the same key")]
    Unavailable {
        /// The number of attempts.
        tries: u32,
        /// `None` for a call without a key, which is safe to repeat.
        key: Option<IdempotencyKey>,
        /// The error of the last attempt.
        #[source]
        last: Box<Error>,
    },
    /// An attempt had no response, or only a part of one.
    #[error("no response arrived")]
    Unanswered(#[source] reqwest::Error),
    /// The response does not have the documented shape.
    #[error("the response with status {status} can't be read")]
    Unread { status: u16 },
    #[error("the base address is not a URL")]
    Base,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The reason for programs, such as `workspace_not_found` or `idempotency_key_reused`.
    pub code: String,
    /// The reason for people.
    pub detail: String,
    /// All invalid fields of the request.
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// The field's path, such as `consumer.user_id`.
    pub field: String,
    /// What the field must be.
    pub message: String,
}
