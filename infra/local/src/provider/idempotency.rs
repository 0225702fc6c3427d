//! Idempotency keys, after <https://docs.stripe.com/api/idempotent_requests>.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errors::{ErrorType, Stage, StripeRefusal};
use super::{StripeStandIn, form};

/// How long an answer is kept, in seconds. Stripe removes keys that are at least 24 hours old.
const KEY_RETENTION_SECONDS: i64 = 86_400;
/// The largest length of a key, in characters.
const MAX_KEY: usize = 255;
/// The number of keys after which expired ones are removed.
const PRUNE_INTERVAL: usize = 1_024;

/// The kept answer of a key's first request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    pub path: String,
    pub form: String,
    pub at: i64,
    /// The id of the first request; absent in a file of the first format.
    pub request: Option<String>,
    pub kept: SavedAnswer,
}

/// The content of a kept answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SavedAnswer {
    /// A response.
    Whole { status: u16, body: Value },
    /// The id of a session or an intent, answered as it is now. The first format of the memory kept no more.
    Object(String),
}

/// Encodes parameters in a canonical order.
pub(super) fn canonical(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl StripeStandIn {
    /// Makes requests with this key conflict, as if its first request were in flight.
    pub fn begin_in_flight(&mut self, key: &str) {
        self.in_flight.insert(key.to_owned());
    }

    /// Ends the conflict that [`Self::begin_in_flight`] began.
    pub fn end_in_flight(&mut self, key: &str) {
        self.in_flight.remove(key);
    }

    /// Returns the answer kept under a key. Refuses a key that is too long, in flight, or was used for another request.
    pub(super) fn kept_answer(
        &self,
        key: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Option<KeptAnswer>, StripeRefusal> {
        let length = key.chars().count();
        if length > MAX_KEY {
            let message =
                format!("Idempotency keys can have up to {MAX_KEY} characters; this one has {length}.");
            return Err(StripeRefusal::validation(message));
        }
        if self.in_flight.contains(key) {
            return Err(key_in_use(key));
        }
        let oldest = self.now().saturating_sub(KEY_RETENTION_SECONDS);
        let Some(kept) = self.memory.keys.get(key).filter(|kept| kept.at > oldest) else { return Ok(None) };
        let misused = |how: String| {
            let message = format!(
                "Keys for idempotent requests can only be used {how}. Try using a key other than '{key}' if you meant to \
                 execute a different request."
            );
            Err(StripeRefusal::new(ErrorType::Idempotency, Stage::Validation, message))
        };
        if kept.path != path {
            return misused(format!(
                "for the same endpoint they were first used for ('{path}' vs '{}')",
                kept.path
            ));
        }
        if kept.form != canonical(form::pairs(body)) {
            return misused("with the same parameters they were first used with".into());
        }
        Ok(Some(kept.clone()))
    }

    /// Keeps the answer of a key's first request.
    pub(super) fn keep_answer(&mut self, key: &str, answer: KeptAnswer) {
        self.memory.keys.insert(key.to_owned(), answer);
        if self.memory.keys.len().is_multiple_of(PRUNE_INTERVAL) {
            let oldest = self.now().saturating_sub(KEY_RETENTION_SECONDS);
            self.memory.keys.retain(|_, kept| kept.at > oldest);
        }
        self.keep();
    }
}

/// Returns the error for a key whose first request is in flight.
pub(super) fn key_in_use(key: &str) -> StripeRefusal {
    let message = format!(
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted \
         twice, and the other request is still going through): {key}. Please try again later."
    );
    StripeRefusal::new(ErrorType::Idempotency, Stage::Validation, message)
        .status(409)
        .code("idempotency_key_in_use")
}
