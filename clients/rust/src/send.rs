//! Sends one call, with retries.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode, Url};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Client;
use crate::error::{Error, Problem};
use crate::key::IdempotencyKey;
use crate::types::Answered;

/// A complete response.
struct Whole {
    status: StatusCode,
    replayed: bool,
    body: Vec<u8>,
}

/// A failed attempt that may be retried.
struct Failed {
    error: Error,
    /// The shortest pause before the retry, from `Retry-After`.
    asked: Option<Duration>,
}

#[derive(Deserialize)]
struct Insufficient {
    required: Decimal,
    available: Decimal,
    top_up_url: String,
    prompt: String,
}

impl Client {
    /// Sends a call under one key, and retries it until it has a final response or no attempts are left.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        key: Option<&IdempotencyKey>,
        body: Option<Value>,
    ) -> Result<Answered<T>, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| Error::Base)?.pop_if_empty().extend(path);
        let mut tries = 1;
        loop {
            let failed = match self.try_once(method.clone(), url.clone(), key, body.as_ref()).await {
                Ok(answer) => return answer.read(),
                Err(failed) => failed,
            };
            if tries >= self.retry.most_tries {
                return Err(Error::Unavailable { tries, key: key.cloned(), last: Box::new(failed.error) });
            }
            tokio::time::sleep(self.retry.pause(tries, failed.asked)).await;
            tries = tries.saturating_add(1);
        }
    }

    async fn try_once(
        &self,
        method: Method,
        url: Url,
        key: Option<&IdempotencyKey>,
        body: Option<&Value>,
    ) -> Result<Whole, Failed> {
        let mut request =
            self.http.request(method, url).bearer_auth((self.token)()).timeout(self.retry.try_timeout);
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unanswered =
            |error: reqwest::Error| Failed { error: Error::Unanswered(error.without_url()), asked: None };
        let answer = request.send().await.map_err(unanswered)?;
        let (status, headers) = (answer.status(), answer.headers());
        let replayed = headers.contains_key("idempotent-replayed");
        let seconds = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        // An incomplete response says nothing about the result, so the call is retried.
        let answer = Whole { status, replayed, body: answer.bytes().await.map_err(unanswered)?.into() };
        if !is_passing(status) {
            return Ok(answer);
        }
        Err(Failed { asked: seconds.map(Duration::from_secs), error: answer.refusal() })
    }
}

/// Returns whether a retry may succeed.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

impl Whole {
    fn read<T: DeserializeOwned>(self) -> Result<Answered<T>, Error> {
        if !self.status.is_success() {
            return Err(self.refusal());
        }
        let body = serde_json::from_slice(&self.body).map_err(|_| self.unread())?;
        Ok(Answered { body, replayed: self.replayed })
    }

    /// Parses the error of a refusal.
    fn refusal(&self) -> Error {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return self.unread() };
        if body["code"] == "insufficient_credits"
            && let Ok(Insufficient { required, available, top_up_url, prompt }) =
                serde_json::from_value(body.clone())
        {
            return Error::InsufficientCredits { required, available, top_up_url, prompt };
        }
        match serde_json::from_value::<Problem>(body.clone()) {
            Ok(problem) => Error::Refused(problem),
            // A refusal of API Gateway itself has only a `message`.
            Err(_) => match body["message"].as_str() {
                Some(message) => Error::Refused(Problem {
                    status: self.status.as_u16(),
                    code: message.to_lowercase().replace(' ', "_"),
                    detail: message.to_owned(),
                    errors: Vec::new(),
                }),
                None => self.unread(),
            },
        }
    }

    fn unread(&self) -> Error {
        Error::Unread { status: self.status.as_u16() }
    }
}
