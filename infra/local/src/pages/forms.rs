//! The forms of the index that move the clock and play the payment provider.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use credits_store::Clock;
use credits_store::error::Chain;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

use super::index::LocalPage;
use super::serving::{FormFields, PageError, PageNote};
use crate::provider::PlayedOutcome;
use crate::provider_api::provider;
use crate::state::Shared;

/// How far a button moves the clock.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClockStep {
    Hour,
    Day,
    Month,
}

impl ClockStep {
    /// Returns the seconds to the same time an hour, a day or a calendar month later.
    fn seconds_from(self, now: Timestamp) -> Option<i64> {
        let span = match self {
            Self::Hour => 1.hour(),
            Self::Day => 1.day(),
            Self::Month => 1.month(),
        };
        let target = now.to_zoned(TimeZone::UTC).checked_add(span).ok()?;
        Some(target.timestamp().duration_since(now).as_secs())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "an hour",
            Self::Day => "a day",
            Self::Month => "a month",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutageStep {
    Start,
    End,
}

/// Moves the clock ahead, as `POST /_local/clock` does.
pub(super) async fn advance_clock(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Response, PageError> {
    let step: ClockStep = FormFields::read(&body).choice("by")?;
    let seconds = step.seconds_from(shared.clock.now());
    let Some(target) = seconds.and_then(|seconds| shared.clock.ahead(seconds)) else {
        return Ok(PageNote::problem("The clock is a hundred years ahead already.").on("/", "#clock"));
    };
    let advanced = shared.worker.advance(&shared, target).await;
    advanced.map_err(|error| PageError::Failed(Chain(&error).to_string()))?;
    shared.worker.drain(&shared).await;
    Ok(PageNote::done(format!("The clock moved ahead by {}.", step.name())).on("/", "#clock"))
}

/// Sets the outcome of a workspace's next charges, as `POST /_local/payments` does.
pub(super) async fn decide_charges(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Response, PageError> {
    let fields = FormFields::read(&body);
    let (page, outcome): (LocalPage, PlayedOutcome) = (fields.choice("page")?, fields.choice("outcome")?);
    let workspace = match fields.text("workspace") {
        "" => return Err(PageError::Field("workspace")),
        workspace => workspace,
    };
    provider(&shared).decide(workspace, outcome);
    let note = PageNote::done(format!("The outcome of the next charges of {workspace} is set."));
    Ok(note.on(page.path(), "#provider"))
}

/// Starts or ends an outage of the provider, as `POST /_local/provider/outage` does.
pub(super) async fn set_outage(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Response, PageError> {
    let fields = FormFields::read(&body);
    let (page, step): (LocalPage, OutageStep) = (fields.choice("page")?, fields.choice("step")?);
    provider(&shared).down = step == OutageStep::Start;
    let note = match step {
        OutageStep::Start => "The payment provider is unreachable: it answers every request with 503.",
        OutageStep::End => "The payment provider is reachable again.",
    };
    Ok(PageNote::done(note).on(page.path(), "#provider"))
}
