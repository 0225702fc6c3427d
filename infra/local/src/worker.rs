//! The background work: delivers the provider's events, processes the stream and the bus, and fires schedules.

use std::sync::{Arc, PoisonError};

use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use credits_store::Clock;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gateway::{Request, message};
use crate::provider::Delivery;
use crate::schedules::Schedule;
use crate::stack_error::StackError;
use crate::state::{Shared, Worker};

impl Worker {
    /// Processes all waiting work and everything that follows from it. Returns whether nothing waits any more.
    pub async fn drain(&self, shared: &Arc<Shared>) -> bool {
        let _turn = self.turn.lock().await;
        for _ in 0..MAX_TRIES {
            if work_off(shared).await {
                return true;
            }
        }
        false
    }

    /// Moves the clock ahead to `target`, and fires each schedule on the way that has due work.
    pub async fn advance(&self, shared: &Arc<Shared>, target: Timestamp) -> Result<(), StackError> {
        let _turn = self.turn.lock().await;
        work_off(shared).await;
        while let Some((at, schedule)) = self.next_firing(shared).await? {
            if at > target {
                break;
            }
            shared.clock.move_to(at)?;
            fire(shared, schedule).await;
            work_off(shared).await;
        }
        shared.clock.move_to(target)?;
        self.skip_until(target);
        Ok(())
    }

    /// Fires each schedule that the clock has passed since the last call.
    pub async fn catch_up(&self, shared: &Arc<Shared>) {
        let _turn = self.turn.lock().await;
        let now = shared.clock.now();
        let fired_until = self.skip_until(now);
        for schedule in self.schedules.iter().filter(|schedule| schedule.every.after(fired_until) <= now) {
            fire(shared, schedule).await;
        }
        work_off(shared).await;
    }

    /// Returns the next firing that has due work. It is always after the current time.
    async fn next_firing(&self, shared: &Arc<Shared>) -> Result<Option<(Timestamp, &Schedule)>, StackError> {
        let now = shared.clock.now();
        let mut next: Option<(Timestamp, &Schedule)> = None;
        for schedule in &self.schedules {
            let due = shared.gateway.functions.next_due(&schedule.function).await?;
            let firing = due.map(|due| schedule.every.at_or_after(due).max(schedule.every.after(now)));
            if let Some(at) = firing.filter(|at| next.is_none_or(|(earliest, _)| *at < earliest)) {
                next = Some((at, schedule));
            }
        }
        Ok(next)
    }
}

async fn fire(shared: &Arc<Shared>, schedule: &Schedule) {
    let input: Value = serde_json::from_str(&schedule.input).unwrap_or_default();
    if let Err(error) = shared.gateway.functions.fire(&schedule.function, input).await {
        tracing::warn!(function = schedule.function, error, "a scheduled invocation failed");
    }
}

/// How often a function gets an event before it becomes a dead letter. Lambda makes three attempts.
const MAX_TRIES: u32 = 3;

/// Processes the provider's events, the stream and the bus, until all are empty or the stream has to be retried.
/// Returns whether all are empty.
async fn work_off(shared: &Arc<Shared>) -> bool {
    loop {
        let told = shared.provider.lock().unwrap_or_else(PoisonError::into_inner).take_outbox();
        let events = told.len();
        for delivery in told {
            let status = deliver(shared, delivery).await.status();
            if !status.is_success() {
                tracing::warn!(%status, "the webhook refused an event");
            }
        }
        let streamed = work_off_stream(shared).await;
        if events == 0 && !matches!(streamed, Streamed::WorkedOff) && !work_off_bus(shared).await {
            return matches!(streamed, Streamed::Empty);
        }
    }
}

/// The result of processing the next batch of the stream.
enum Streamed {
    Empty,
    WorkedOff,
    /// The bus or the table could not be reached. The records are delivered again.
    Failed,
}

/// Delivers the next batch of the stream to `project`.
async fn work_off_stream(shared: &Arc<Shared>) -> Streamed {
    let Some(batch) = shared.stream.next(&shared.clock) else { return Streamed::Empty };
    let projected = shared.gateway.functions.fire("project", json!({ "Records": batch.records })).await;
    let failed =
        projected.map(|answer| answer["batchItemFailures"].as_array().is_none_or(|it| !it.is_empty()));
    if failed.unwrap_or(true) {
        return Streamed::Failed;
    }
    // The events that the batch caused are processed before the position is kept, so that a crash loses none.
    while work_off_bus(shared).await {}
    shared.stream.go_on(batch);
    Streamed::WorkedOff
}

/// Delivers the next event of the bus to its function. Returns whether an event was waiting.
async fn work_off_bus(shared: &Arc<Shared>) -> bool {
    let Some(mut waiting) = shared.bus.next() else { return false };
    let handled = shared.gateway.functions.fire(&waiting.function, waiting.event.clone()).await;
    if let Err(error) = handled {
        waiting.failures = waiting.failures.saturating_add(1);
        if waiting.failures < MAX_TRIES {
            shared.bus.put_back(waiting);
        } else {
            let function = waiting.function;
            tracing::error!(function, error, "an event failed its last attempt and is a dead letter");
            shared.bus.bury(&function, &waiting.event, &error);
        }
    }
    true
}

/// Delivers an event of the provider to the webhook.
pub(crate) async fn deliver(shared: &Shared, delivery: Delivery) -> Response<Vec<u8>> {
    let Ok(signature) = HeaderValue::from_str(&delivery.signature) else {
        let error = "an event's signature is not a valid header value";
        tracing::error!(error, "could not deliver an event");
        return message(StatusCode::INTERNAL_SERVER_ERROR, error);
    };
    let mut headers = HeaderMap::new();
    headers.insert("stripe-signature", signature);
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    let uri = Uri::from_static("/v1/webhooks/stripe");
    let body = delivery.body.clone().into_bytes();
    let answer = shared.gateway.answer(Request { method: Method::POST, uri, headers, body }).await;
    shared.provider.lock().unwrap_or_else(PoisonError::into_inner).delivered(&delivery.body);
    answer
}
