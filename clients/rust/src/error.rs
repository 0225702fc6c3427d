//! The errors of calls.

use std::fmt;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;

use crate::key::IdempotencyKey;

/// An error of another crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The balance or the hold does not cover the call (402). Nothing was charged, and the AI call must not follow.
    #[error("{0}")]
    InsufficientCredits(Box<InsufficientCredits>),
    /// The call was refused for another reason. Nothing has changed, and a retry would be refused again.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The call had no final response before its deadline. It may have been carried out: retry it with its key.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// An attempt had no response, or only a part of one. It is the cause of [`Error::Unavailable`].
    #[error("no complete response arrived")]
    Unanswered(#[source] BoxError),
    /// The call succeeded, but its response is not what the description of the API says.
    #[error("the response can't be read")]
    Unread(#[source] serde_json::Error),
    /// The function of [`ApiKey::from_fn`](crate::ApiKey::from_fn) failed.
    #[error("there is no API key")]
    ApiKey(#[source] BoxError),
    /// The path does not start with a slash, or has an id that is empty, `.` or `..`.
    #[error("{0:?} is no path of a call")]
    Path(String),
    /// The base URL is not one of HTTP, or has a query.
    #[error("the base address is not a URL of HTTP")]
    Base,
}

/// A refusal because the balance or the hold does not cover the call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct InsufficientCredits {
    /// The price of the call.
    #[serde(with = "rust_decimal::serde::str")]
    pub required: Decimal,
    /// The credits that the call could have spent.
    #[serde(with = "rust_decimal::serde::str")]
    pub available: Decimal,
    /// `required` less `available`.
    #[serde(with = "rust_decimal::serde::str")]
    pub shortfall: Decimal,
    /// The page on which a person adds credits.
    pub top_up_url: String,
    /// A sentence that you can show to a person.
    pub prompt: String,
    /// What automatic top-up does; `None` if it is off. After `started`, retry with the same key in a few seconds.
    #[serde(default)]
    pub top_up: Option<String>,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The reason for programs, such as `workspace_not_found`; `http_STATUS` if the response has none.
    pub code: String,
    /// The reason for people.
    pub detail: String,
    /// All invalid fields of the request.
    pub errors: Vec<FieldError>,
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FieldError {
    /// The field's path, such as `consumer.user_id`. Empty for the body itself.
    pub field: String,
    /// What the field must be.
    pub message: String,
}

/// A call without a final response.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub struct Unavailable {
    /// The number of attempts.
    pub attempts: u32,
    /// The key with which the call can be repeated; `None` for a call that can be repeated without one.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The error of the last attempt.
    #[source]
    pub last: Arc<Error>,
    /// The error of the hook that [`Client::on_outage`](crate::Client::on_outage) has set.
    pub hook: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Parses the body of a response that is no success.
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if status == 402
            && body["code"] == "insufficient_credits"
            && let Ok(insufficient) = InsufficientCredits::deserialize(&body)
        {
            return Self::InsufficientCredits(Box::new(insufficient));
        }
        // A refusal of API Gateway itself has only a `message`.
        let message = body["message"].as_str();
        let code = body["code"].as_str().map(str::to_owned);
        let code = code.or_else(|| Some(message?.to_lowercase().replace(' ', "_")));
        Self::Refused(Box::new(Problem {
            status,
            code: code.unwrap_or_else(|| format!("http_{status}")),
            detail: body["detail"].as_str().or(message).unwrap_or_default().to_owned(),
            errors: Vec::deserialize(&body["errors"]).unwrap_or_default(),
        }))
    }
}

impl fmt::Display for InsufficientCredits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} credits are required and {} are available", self.required, self.available)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.detail)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no final response in {} attempts; the call may have been carried out", self.attempts)?;
        match &self.idempotency_key {
            Some(key) => write!(f, ", and can be repeated with the same key, {key}")?,
            None => write!(f, ", and can be repeated")?,
        }
        self.hook.as_ref().map_or(Ok(()), |error| write!(f, "; the outage hook failed: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Error;

    #[test]
    fn any_response_is_a_refusal_with_a_code() {
        let code = |status, body: &str| match Error::of(status, body.as_bytes()) {
            Error::Refused(problem) => problem.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(401, r#"{ "message": "Unauthorized" }"#), "unauthorized");
        assert_eq!(
            code(403, r#"{ "message": "Missing Authentication Token" }"#),
            "missing_authentication_token"
        );
        assert_eq!(code(409, r#"{ "code": "hold_closed" }"#), "hold_closed");
        for body in ["", "<html>", "[]", "null", r#"{ "message": null }"#] {
            assert_eq!(code(404, body), "http_404", "{body}");
        }
        // It lacks the fields of one for insufficient credits.
        assert_eq!(code(402, r#"{ "code": "insufficient_credits" }"#), "insufficient_credits");
    }

    #[test]
    fn insufficient_credits_are_exact() {
        let body = json!({
            "code": "insufficient_credits", "required": "999999999999.999999", "available": "-0.000001",
            "shortfall": "1000000000000", "top_up_url": "https://credits.example", "prompt": "Add credits.",
        });
        let Error::InsufficientCredits(refusal) = Error::of(402, body.to_string().as_bytes()) else {
            panic!("expected insufficient credits")
        };
        assert_eq!(refusal.required - refusal.available, refusal.shortfall);
        assert_eq!(
            refusal.to_string(),
            "999999999999.999999 credits are required and -0.000001 are available"
        );
    }
}
