//! Sends calls, with retries.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::error::{Error, Unavailable};
use crate::key::IdempotencyKey;
use crate::outage::Outage;
use crate::request::Answered;
use crate::retry::retry_after;

/// A call before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    pub(crate) client: Client,
    pub(crate) method: Method,
    /// The path without the base URL.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) deadline: Option<Duration>,
}

/// An attempt that did not succeed.
enum FailedAttempt {
    Final(Error),
    /// A retry may succeed, after a pause if `Retry-After` asks for one.
    Retried(Error, Option<Duration>),
}

impl Outbound {
    /// Sends the call, and retries it until it has a final response or the deadline is over.
    pub(crate) async fn send(mut self) -> Result<Answered<Value>, Error> {
        let url = self.url()?;
        if self.method == Method::POST {
            self.key.get_or_insert_with(IdempotencyKey::random);
        } else {
            self.key = None;
        }
        let retry = self.client.0.retry;
        let (start, deadline) = (Instant::now(), self.deadline.unwrap_or(retry.deadline));
        let mut attempts = 0_u32;
        loop {
            attempts = attempts.saturating_add(1);
            let time = retry.attempt_timeout.min(deadline.saturating_sub(start.elapsed()));
            let attempt = timeout(time, self.attempt(url.clone())).await;
            let (last, after) = match attempt.unwrap_or_else(|elapsed| Err(FailedAttempt::lost(elapsed))) {
                Ok(answered) => return Ok(answered),
                Err(FailedAttempt::Final(error)) => return Err(error),
                Err(FailedAttempt::Retried(last, after)) => (last, after),
            };
            let pause = retry.pause(attempts, after);
            if pause >= deadline.saturating_sub(start.elapsed()) {
                return Err(Error::Unavailable(self.unavailable(attempts, last).await));
            }
            sleep(pause).await;
        }
    }

    fn url(&self) -> Result<Url, Error> {
        let invalid = || Error::Path(self.path.clone());
        // Without the slash, the key could be sent to another host.
        let path = self.path.strip_prefix('/').ok_or_else(invalid)?;
        // A URL drops these segments, and the call would reach another resource.
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(invalid());
        }
        let mut url = Url::parse(&format!("{}/{path}", self.client.0.base)).map_err(|_| invalid())?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    async fn attempt(&self, url: Url) -> Result<Answered<Value>, FailedAttempt> {
        let deployment = &self.client.0;
        let key = deployment.key.get().await.map_err(FailedAttempt::Final)?;
        let mut request = deployment.http.request(self.method.clone(), url).bearer_auth(key);
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key.as_str());
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(FailedAttempt::lost)?;
        let status = response.status();
        let after = retry_after(response.headers());
        let replayed = response.headers().contains_key("idempotent-replayed");
        // An incomplete response says nothing about the result, so the call is retried.
        let body = response.bytes().await.map_err(FailedAttempt::lost)?;
        if status.is_success() {
            let body = serde_json::from_slice(&body);
            return match body {
                Ok(body) => Ok(Answered { body, replayed }),
                // It is not the service that has answered.
                Err(error) => Err(FailedAttempt::Retried(Error::Unread(error), after)),
            };
        }
        let error = Error::of(status.as_u16(), &body);
        Err(if is_transient(status) {
            FailedAttempt::Retried(error, after)
        } else {
            FailedAttempt::Final(error)
        })
    }

    /// Returns the error of a call without a final response, once the hook has received it.
    async fn unavailable(self, attempts: u32, last: Error) -> Unavailable {
        let error =
            Unavailable { attempts, idempotency_key: self.key.clone(), last: Arc::new(last), hook: None };
        let Some(idempotency_key) = self.key.filter(|_| self.path.starts_with("/v1/workspaces/")) else {
            return error;
        };
        let order = self.body.unwrap_or_default();
        let outage =
            Outage { method: self.method, path: self.path, order, idempotency_key, error: error.clone() };
        let hooked = self.client.0.hook.call(outage).await;
        Unavailable { hook: hooked.err().map(Arc::from), ..error }
    }
}

impl FailedAttempt {
    fn lost(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Retried(Error::Unanswered(Box::new(error)), None)
    }
}

/// Returns whether a retry may succeed. API Gateway answers 500 for a function that crashed.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use crate::{Client, Error};

    #[tokio::test]
    async fn a_path_that_leads_elsewhere_is_refused() {
        let credits = Client::new("http://127.0.0.1:1/stage/", "key").unwrap();
        for path in
            ["", "/", "@elsewhere.example/v1", ".elsewhere.example", "//elsewhere.example", "/v1/../v1"]
        {
            let refused = credits.request::<()>(Method::GET, path).await;
            assert!(matches!(refused, Err(Error::Path(ref it)) if it == path), "{path}: {refused:?}");
        }
        for id in ["", ".", ".."] {
            assert!(matches!(credits.workspace(id).get_balance().await, Err(Error::Path(_))), "{id}");
        }
    }
}
