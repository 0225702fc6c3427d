//! What a call returned, as the judge reads it.

use ai_credits_client::{BoxError, Error, IdempotencyKey};
use serde_json::{Value, json};

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The error of the driver's own, in the scope of `gate`.
    Thrown,
    Client(Error),
    /// The driver can't make the call.
    Driver(BoxError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Driver(error.into())
    }
}

impl From<&str> for Failure {
    fn from(error: &str) -> Self {
        Self::Driver(error.into())
    }
}

impl Failure {
    /// Returns the outcome of a call that failed. An error that no case expects fails the driver.
    pub(crate) fn outcome(self) -> Result<Value, BoxError> {
        let error = match self {
            Self::Thrown => return Ok(json!({ "raises": "Thrown" })),
            Self::Driver(error) => return Err(error),
            Self::Client(error) => error,
        };
        let message = error.to_string();
        let (raises, fields) = match error {
            Error::InsufficientCredits(error) => (
                "InsufficientCredits",
                json!({
                    "required": error.required, "available": error.available, "shortfall": error.shortfall,
                    "top_up_url": error.top_up_url, "prompt": error.prompt, "top_up": error.top_up,
                }),
            ),
            Error::Refused(error) => {
                let errors =
                    error.errors.iter().map(|it| json!({ "field": it.field, "message": it.message }));
                let errors: Vec<Value> = errors.collect();
                let fields = json!({
                    "status": error.status, "code": error.code, "detail": error.detail, "errors": errors,
                });
                ("Refused", fields)
            }
            Error::Unavailable(error) => {
                let key = error.idempotency_key.as_ref().map(IdempotencyKey::as_str);
                ("Unavailable", json!({ "attempts": error.attempts, "idempotency_key": key }))
            }
            error => return Err(error.into()),
        };
        Ok(json!({ "raises": raises, "fields": fields, "message": message }))
    }
}
