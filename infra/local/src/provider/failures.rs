//! Failures that a control has planned for the next requests.

use serde::Deserialize;

use super::Provider;
use super::errors::{ErrorType, Refusal, Stage};
use super::idempotency::key_in_use;

/// The order for a failure, as `POST /_local/provider/failures` takes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFailure {
    /// Which requests fail: those whose path begins with this behind `/v1/`, or all.
    pub path: Option<String>,
    /// The status of the answer, from 400 on.
    pub status: u16,
    /// How many requests fail.
    pub count: u32,
    /// Whether the answer is kept under the request's idempotency key. By default a 500 is, and no other.
    pub kept: Option<bool>,
    /// Whether Stripe carries the request out before it fails; the answer is kept then. False if absent.
    pub executed: Option<bool>,
    /// Whether the events of what was carried out never come. False if absent.
    pub lost: Option<bool>,
}

/// A failure with requests still to come.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    path: String,
    status: u16,
    left: u32,
    stage: Stage,
    is_executed: bool,
    is_lost: bool,
}

/// How one request fails.
pub(super) struct Planned {
    pub refusal: Refusal,
    /// Whether the request is carried out first.
    pub is_executed: bool,
    /// Whether its events are lost.
    pub is_lost: bool,
}

impl Provider {
    /// Makes the next requests fail. Stripe keeps no answer of 401, 409 and 429, whatever the order says.
    pub fn plan_failure(&mut self, order: &PlannedFailure) {
        let is_executed = order.executed.unwrap_or_default();
        let is_kept = order.kept.unwrap_or(order.status == 500 || is_executed)
            && !matches!(order.status, 401 | 409 | 429);
        self.failures.push(Failure {
            path: format!("/v1/{}", order.path.as_deref().unwrap_or_default().trim_start_matches('/')),
            status: order.status,
            left: order.count,
            stage: if is_kept { Stage::Execution } else { Stage::Validation },
            is_executed,
            is_lost: order.lost.unwrap_or_default(),
        });
    }

    /// Takes the failure that was planned for this request, if one was.
    pub(super) fn planned_failure(&mut self, stage: Stage, path: &str, key: Option<&str>) -> Option<Planned> {
        self.failures.retain(|failure| failure.left > 0);
        let mut planned = self.failures.iter_mut();
        let failure = planned.find(|failure| failure.stage == stage && path.starts_with(&failure.path))?;
        failure.left = failure.left.saturating_sub(1);
        let refusal = refusal(failure.status, stage, key.unwrap_or_default());
        Some(Planned { refusal, is_executed: failure.is_executed, is_lost: failure.is_lost })
    }
}

fn refusal(status: u16, stage: Stage, key: &str) -> Refusal {
    let (kind, message) = match status {
        409 => return key_in_use(key),
        429 => {
            let message = "Request rate limit exceeded. Learn more about rate limits here \
                           https://stripe.com/docs/rate-limits.";
            let refusal = Refusal::new(ErrorType::InvalidRequest, stage, message);
            return refusal.status(429).code("rate_limit");
        }
        400..500 => (ErrorType::InvalidRequest, "The request was refused."),
        _ => (ErrorType::Api, "An unknown error occurred"),
    };
    Refusal::new(kind, stage, message).status(status)
}

/// The answer that Stripe gives when it has failed itself.
pub(super) fn server_error() -> Refusal {
    refusal(500, Stage::Execution, "")
}
