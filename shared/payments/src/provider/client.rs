//! The client itself: requests, retries, and what a failure means.

use std::sync::Arc;
use std::time::Duration;

use credits_core::price::Unchargeable;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::signature::Secret;
use crate::transport::{Transport, Unreachable};

/// The API version of every request: the newest that Stripe's official libraries know (stripe-node 23.1.0).
pub const STRIPE_VERSION: &str = "2026-10-28.endive";

/// The timeout of one request to Stripe. A caller waits for the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of retries after 409 or 429. Stripe sends these before it does anything.
const MAX_BUSY_RETRIES: u32 = 4;

/// The backoff before the first of these retries; it doubles with each.
const FIRST_BUSY_BACKOFF: Duration = Duration::from_millis(150);

/// A client of Stripe's API.
#[derive(Debug, Clone)]
pub struct Provider {
    http: reqwest::Client,
    transport: Arc<dyn Transport>,
    base: String,
}

/// The reason why a request to Stripe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Stripe could not be reached, or its response could not be read. Stripe may have carried out the request.
    #[error("no readable response from Stripe")]
    Unreachable(#[from] Unreachable),
    /// Stripe answered 5xx, and repeats that response under the idempotency key. Stripe may have carried out the
    /// request.
    #[error("Stripe failed with {0}")]
    Failed(Box<ProviderRefusal>),
    /// Stripe answered 409 or 429 to every attempt, and did nothing.
    #[error("Stripe is busy: {0}")]
    Busy(Box<ProviderRefusal>),
    /// Stripe rejected the API key (401 or 403), and did nothing.
    #[error("Stripe rejected the API key: {0}")]
    Unauthorised(Box<ProviderRefusal>),
    /// Stripe refused the request, and refuses it again on a retry.
    #[error("Stripe refused with {0}")]
    Refused(Box<ProviderRefusal>),
    /// The outcome of a charge or checkout is not known yet, or the request may still be in progress.
    #[error("the outcome of the payment is not known yet")]
    Unsettled,
    /// Stripe can't charge this price, so no request was sent.
    #[error(transparent)]
    Unchargeable(#[from] Unchargeable),
}

/// Stripe's error response: its codes, for the log and the operator. It omits Stripe's message, which may repeat the
/// request's data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderRefusal {
    pub status: u16,
    /// Stripe's error type, such as `card_error`.
    pub kind: Option<String>,
    /// Stripe's error code, such as `card_declined`.
    pub code: Option<String>,
    /// The card issuer's reason, such as `insufficient_funds`.
    pub decline_code: Option<String>,
    /// The name of the invalid parameter.
    pub param: Option<String>,
    /// The `Request-Id` header, by which Stripe's support finds the request.
    pub request_id: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorMembers,
}

#[derive(Deserialize)]
struct ErrorMembers {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct StripeList<T> {
    pub data: Vec<T>,
    #[serde(default)]
    pub has_more: bool,
}

impl ProviderError {
    /// Returns whether a retry of the same request may succeed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Unchargeable(_))
    }

    /// Returns whether Stripe says that the object does not exist.
    #[must_use]
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_missing())
    }
}

impl ProviderRefusal {
    /// Returns the most specific reason that Stripe gives.
    #[must_use]
    pub fn reason(&self) -> &str {
        let codes = [&self.decline_code, &self.code, &self.kind];
        codes.into_iter().find_map(Option::as_deref).unwrap_or("unknown")
    }

    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 || self.code.as_deref() == Some("resource_missing")
    }

    fn of(status: u16, request_id: Option<String>, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
        let Some(ErrorMembers { kind, code, decline_code, param }) = error else {
            return Self { status, request_id, ..Self::default() };
        };
        Self { status, kind, code, decline_code, param, request_id }
    }

    fn into_error(self) -> ProviderError {
        match self.status {
            401 | 403 => ProviderError::Unauthorised(Box::new(self)),
            409 | 429 => ProviderError::Busy(Box::new(self)),
            500.. => ProviderError::Failed(Box::new(self)),
            _ => ProviderError::Refused(Box::new(self)),
        }
    }
}

impl std::fmt::Display for ProviderRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        let members = [
            ("type", &self.kind),
            ("code", &self.code),
            ("decline_code", &self.decline_code),
            ("param", &self.param),
            ("request-id", &self.request_id),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

impl Provider {
    /// Creates a client for the API at a base URL, such as `https://api.stripe.com`.
    pub fn new(base: &str) -> Result<Self, ProviderError> {
        // This fails only if another crypto provider is installed already, which works as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let http = http.redirect(reqwest::redirect::Policy::none()).build().map_err(Unreachable::from)?;
        Ok(Self { transport: Arc::new(http.clone()), http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Replaces the transport.
    #[must_use]
    pub fn over(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    pub(super) fn get(&self, key: &Secret, path: &str, query: &[(&str, String)]) -> reqwest::RequestBuilder {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let separator = if query.is_empty() { "" } else { "?" };
        headed(key, self.http.get(format!("{}{path}{separator}{query}", self.base)))
    }

    /// Builds a POST that may run twice. It has no idempotency key: Stripe repeats a 500 under the same key for a day.
    pub(super) fn post(
        &self,
        key: &Secret,
        path: &str,
        form: &[(String, String)],
    ) -> reqwest::RequestBuilder {
        headed(key, self.http.post(format!("{}{path}", self.base)).form(form))
    }

    /// Builds a POST that Stripe runs once per idempotency key, however often it is sent.
    pub(super) fn post_once(
        &self,
        key: &Secret,
        path: &str,
        idempotency_key: &str,
        form: &[(String, String)],
    ) -> reqwest::RequestBuilder {
        self.post(key, path, form).header("idempotency-key", idempotency_key)
    }

    /// Sends a request, retries it while Stripe is busy, and parses the response.
    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ProviderError> {
        let request = request.build().map_err(Unreachable::from)?;
        let mut backoff = FIRST_BUSY_BACKOFF;
        for _ in 0..MAX_BUSY_RETRIES {
            let Some(copy) = request.try_clone() else { break };
            match self.answer_once(copy).await {
                Err(ProviderError::Busy(_)) => tokio::time::sleep(backoff).await,
                answered => return answered,
            }
            backoff = backoff.saturating_mul(2);
        }
        self.answer_once(request).await
    }

    pub(super) async fn answer_once<T: DeserializeOwned>(
        &self,
        request: reqwest::Request,
    ) -> Result<T, ProviderError> {
        let response = self.transport.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.json().await.map_err(Unreachable::from)?);
        }
        let request_id = response.headers().get("request-id").and_then(|id| id.to_str().ok());
        let request_id = request_id.map(str::to_owned);
        let body = response.bytes().await.map_err(Unreachable::from)?;
        let refusal = ProviderRefusal::of(status.as_u16(), request_id, &body);
        metrics::counter!("ProviderRefusals").increment(1);
        Err(refusal.into_error())
    }
}

/// Adds the headers of every request: the API key and the API version.
fn headed(key: &Secret, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.bearer_auth(key.expose()).header("stripe-version", STRIPE_VERSION)
}

/// Builds the fields of a form.
pub(super) fn fields<const N: usize>(fields: [(&str, String); N]) -> Vec<(String, String)> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::{ProviderError, ProviderRefusal};

    #[test]
    fn an_error_shows_stripes_codes_but_not_its_message() {
        let body =
            br#"{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds",
            "message":"Your card ending in 4242 was declined.","param":"payment_method"}}"#;
        let refusal = ProviderRefusal::of(402, Some("req_1".to_owned()), body);
        let shown = "402 type=card_error code=card_declined decline_code=insufficient_funds param=payment_method request-id=req_1";
        assert_eq!(refusal.to_string(), shown);
        assert_eq!(refusal.reason(), "insufficient_funds");
        assert_eq!(ProviderRefusal::of(502, None, b"<html>").to_string(), "502");
    }

    #[test]
    fn what_a_status_means_decides_whether_to_retry() {
        let passing = |status| {
            let refusal = ProviderRefusal { status, ..ProviderRefusal::default() };
            refusal.into_error().is_passing()
        };
        for status in [401, 403, 409, 429, 500, 503] {
            assert!(passing(status), "{status}");
        }
        for status in [400, 402, 404] {
            assert!(!passing(status), "{status}");
        }
        assert!(ProviderError::Unsettled.is_passing());
    }
}
