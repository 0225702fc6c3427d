//! Failures that a control has planned for the next requests.

use serde::Deserialize;

use super::StripeStandIn;
use super::errors::{ErrorType, Stage, StripeRefusal};
use super::idempotency::key_in_use;

/// A planned failure, in the form of `POST /_local/provider/failures`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFailure {
    /// The start of the paths that fail, without `/v1/`. If absent, all requests fail.
    pub path: Option<String>,
    /// The status of the response, from 400 to 599.
    pub status: u16,
    /// The number of requests that fail.
    pub count: u32,
    /// Whether the response is kept under the request's idempotency key. By default only a 500 is.
    pub kept: Option<bool>,
    /// Whether the request is executed before it fails. By default such a response is kept. False if absent.
    pub executed: Option<bool>,
    /// Whether the events of the executed request are lost. False if absent.
    pub lost: Option<bool>,
}

/// A planned failure with its remaining count.
#[derive(Debug, Clone)]
pub(super) struct RemainingFailure {
    path: String,
    status: u16,
    left: u32,
    stage: Stage,
    is_executed: bool,
    is_lost: bool,
}

/// The failure of one request.
pub(super) struct Planned {
    pub refusal: StripeRefusal,
    /// Whether the request is executed first.
    pub is_executed: bool,
    /// Whether its events are lost.
    pub is_lost: bool,
}

impl StripeStandIn {
    /// Makes the next requests fail. A 401, 409 or 429 is never kept, as at Stripe.
    pub fn plan_failure(&mut self, order: &PlannedFailure) {
        let is_executed = order.executed.unwrap_or_default();
        let is_kept = order.kept.unwrap_or(order.status == 500 || is_executed)
            && !matches!(order.status, 401 | 409 | 429);
        self.failures.push(RemainingFailure {
            path: format!("/v1/{}", order.path.as_deref().unwrap_or_default().trim_start_matches('/')),
            status: order.status,
            left: order.count,
            stage: if is_kept { Stage::Execution } else { Stage::Validation },
            is_executed,
            is_lost: order.lost.unwrap_or_default(),
        });
    }

    /// Takes the planned failure for a request, if one applies.
    pub(super) fn planned_failure(&mut self, stage: Stage, path: &str, key: Option<&str>) -> Option<Planned> {
        self.failures.retain(|failure| failure.left > 0);
        let mut planned = self.failures.iter_mut();
        let failure = planned.find(|failure| failure.stage == stage && path.starts_with(&failure.path))?;
        failure.left = failure.left.saturating_sub(1);
        let refusal = refusal(failure.status, stage, key.unwrap_or_default());
        Some(Planned { refusal, is_executed: failure.is_executed, is_lost: failure.is_lost })
    }
}

fn refusal(status: u16, stage: Stage, key: &str) -> StripeRefusal {
    let (kind, message) = match status {
        409 => return key_in_use(key),
        429 => {
            let message = "Request rate limit exceeded. Learn more about rate limits here \
                           https://stripe.com/docs/rate-limits.";
            let refusal = StripeRefusal::new(ErrorType::InvalidRequest, stage, message);
            return refusal.status(429).code("rate_limit");
        }
        400..500 => (ErrorType::InvalidRequest, "The request was refused."),
        _ => (ErrorType::Api, "An unknown error occurred"),
    };
    StripeRefusal::new(kind, stage, message).status(status)
}

/// Returns the response to an internal error of Stripe's.
pub(super) fn server_error() -> StripeRefusal {
    refusal(500, Stage::Execution, "")
}
