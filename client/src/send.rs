//! One call, from its first try to its answer.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response, StatusCode, Url};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Client;
use crate::error::{Error, Problem};
use crate::key::IdempotencyKey;
use crate::types::Answered;

/// A try that may be made again, and how long to wait for it at least.
struct Failed {
    error: Error,
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
    /// Sends a call until it has an answer, under one key.
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
                Ok(answer) => return read(answer).await,
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
    ) -> Result<Response, Failed> {
        let mut request =
            self.http.request(method, url).bearer_auth((self.token)()).timeout(self.retry.try_timeout);
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| Failed { error: Error::Unanswered(error.without_url()), asked: None })?;
        if !is_passing(answer.status()) {
            return Ok(answer);
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        Err(Failed { asked: seconds.map(Duration::from_secs), error: refusal(answer).await })
    }
}

/// Whether the same call may be answered otherwise a moment later.
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

async fn read<T: DeserializeOwned>(answer: Response) -> Result<Answered<T>, Error> {
    let status = answer.status();
    if !status.is_success() {
        return Err(refusal(answer).await);
    }
    let replayed = answer.headers().contains_key("idempotent-replayed");
    let body = answer.json().await.map_err(|_| Error::Unread { status: status.as_u16() })?;
    Ok(Answered { body, replayed })
}

/// What a refusal says.
async fn refusal(answer: Response) -> Error {
    let status = answer.status().as_u16();
    let Ok(body) = answer.json::<Value>().await else { return Error::Unread { status } };
    if body["code"] == "insufficient_credits"
        && let Ok(Insufficient { required, available, top_up_url, prompt }) =
            serde_json::from_value(body.clone())
    {
        return Error::InsufficientCredits { required, available, top_up_url, prompt };
    }
    match serde_json::from_value::<Problem>(body.clone()) {
        Ok(problem) => Error::Refused(problem),
        // API Gateway's own refusals have a message alone.
        Err(_) => match body["message"].as_str() {
            Some(message) => Error::Refused(Problem {
                status,
                code: message.to_lowercase().replace(' ', "_"),
                detail: message.to_owned(),
                errors: Vec::new(),
            }),
            None => Error::Unread { status },
        },
    }
}
