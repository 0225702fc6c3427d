//! The HTTP side of the stand-in provider: its API under `/_local/provider`, and controls that play payers, banks and
//! outages. `pages` has the forms of the same controls.

use std::sync::{Arc, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::{any, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::{json_response, message};
use crate::provider::{
    ChargeSettlement, MethodKind, PayerOutcome, Paying, PlannedFailure, PlayError, PlayedOutcome,
    ProviderRequest, StripeDisputeStatus, StripeRefundStatus, StripeStandIn,
};
use crate::reply::{ControlReply, read, reply};
use crate::state::{OPERATOR_KEY, Shared};
use crate::worker::deliver;

/// The path prefix of the stand-in's API.
const BASE: &str = "/_local/provider";

/// Returns the routes of the provider's API and of the controls.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_local/checkouts/{checkout_id}/pay", post(pay))
        .route("/_local/payments", post(decide_payments))
        .route("/_local/payments/{payment_id}/settle", post(settle))
        .route("/_local/payments/{payment_id}/refund", post(refund))
        .route("/_local/payments/{payment_id}/dispute", post(dispute))
        .route("/_local/refunds/{refund_id}", post(end_refund))
        .route("/_local/disputes/{dispute_id}", post(move_dispute))
        .route("/_local/provider/outage", post(outage))
        .route("/_local/provider/failures", post(failures))
        .route("/_local/provider/requests", get(requests))
        .route("/_local/provider/v1/{*path}", any(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    outcome: PayerOutcome,
    method: Option<MethodKind>,
    discount_percent: Option<u64>,
    tax_percent: Option<u64>,
    /// Whether the events of this payment are lost, and never delivered.
    lost: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PaymentsDesk {
    workspace: String,
    outcome: PlayedOutcome,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    outcome: ChargeSettlement,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundControl {
    amount: Option<u64>,
    status: Option<StripeRefundStatus>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisputeControl {
    amount: Option<u64>,
    status: Option<StripeDisputeStatus>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundEnd {
    status: StripeRefundStatus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisputeMove {
    status: StripeDisputeStatus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    down: bool,
}

/// Parses the body of a control, or returns the response that refuses it.
macro_rules! order {
    ($body:expr) => {
        match read(&$body) {
            Ok(order) => order,
            Err(refusal) => return *refusal,
        }
    };
}

async fn pay(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> ControlReply {
    let order: Pay = order!(body);
    let paying = Paying {
        outcome: order.outcome,
        method: order.method.unwrap_or(MethodKind::Card),
        discount_percent: order.discount_percent.unwrap_or_default(),
        tax_percent: order.tax_percent.unwrap_or_default(),
    };
    let played = provider(&shared).pay(&id, &paying);
    let delivery = match played {
        Ok(delivery) => delivery,
        Err(error) => return refused(error),
    };
    let payment_id = delivery.payment_id.clone();
    if order.lost == Some(true) {
        let mut provider = provider(&shared);
        for lost in std::iter::once(delivery).chain(provider.take_outbox()) {
            provider.delivered(&lost.body);
        }
        return reply(json_response(StatusCode::OK, &json!({ "payment_id": payment_id })));
    }
    let answer = deliver(&shared, delivery).await;
    let webhook: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let status = answer.status();
    // The webhook's members stand at the top level too, so that the answer reads like the webhook's own.
    let mut body = webhook.clone();
    if !body.is_object() {
        body = json!({});
    }
    body["status"] = json!(status.as_u16());
    body["body"] = webhook;
    body["payment_id"] = json!(payment_id);
    reply(json_response(status, &body))
}

async fn decide_payments(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let PaymentsDesk { workspace, outcome } = order!(body);
    provider(&shared).decide(&workspace, outcome);
    reply(json_response(StatusCode::OK, &json!({ "workspace": workspace, "outcome": outcome })))
}

/// Ends a payment that is processing.
async fn settle(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> ControlReply {
    let Settle { outcome } = order!(body);
    let played = provider(&shared).settle(&id, outcome);
    published(&shared, played.map(|()| json!({ "payment_id": id, "outcome": outcome }))).await
}

/// Refunds a payment, as in Stripe's dashboard.
async fn refund(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> ControlReply {
    let RefundControl { amount, status } = order!(body);
    let status = status.unwrap_or(StripeRefundStatus::Succeeded);
    let played = provider(&shared).refund(&id, amount, status);
    published(&shared, played.map(|refund| json!({ "payment_id": id, "refund_id": refund }))).await
}

/// Opens a dispute.
async fn dispute(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> ControlReply {
    let DisputeControl { amount, status } = order!(body);
    let status = status.unwrap_or(StripeDisputeStatus::NeedsResponse);
    let played = provider(&shared).dispute(&id, amount, status);
    published(&shared, played.map(|dispute| json!({ "payment_id": id, "dispute_id": dispute }))).await
}

/// Ends a refund.
async fn end_refund(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> ControlReply {
    let RefundEnd { status } = order!(body);
    let played = provider(&shared).end_refund(&id, status);
    published(&shared, played.map(|()| json!({ "refund_id": id }))).await
}

/// Moves a dispute to another status.
async fn move_dispute(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> ControlReply {
    let DisputeMove { status } = order!(body);
    let played = provider(&shared).move_dispute(&id, status);
    published(&shared, played.map(|()| json!({ "dispute_id": id }))).await
}

/// Starts or ends an outage of the provider.
async fn outage(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let Outage { down } = order!(body);
    provider(&shared).down = down;
    reply(json_response(StatusCode::OK, &json!({ "down": down })))
}

/// Makes the next requests fail.
async fn failures(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let order: PlannedFailure = order!(body);
    if !(400..600).contains(&order.status) {
        return reply(message(StatusCode::BAD_REQUEST, "status is out of range: 400 to 599"));
    }
    provider(&shared).plan_failure(&order);
    reply(json_response(StatusCode::OK, &json!({ "status": order.status, "count": order.count })))
}

/// Lists examples of the requests that the application has sent.
async fn requests(State(shared): State<Arc<Shared>>) -> ControlReply {
    reply(json_response(StatusCode::OK, &json!(provider(&shared).requests())))
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> ControlReply {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = ProviderRequest {
        method: method.as_str(),
        path: uri.path().strip_prefix(BASE).unwrap_or_default(),
        query: uri.query().unwrap_or_default(),
        authorization: header("authorization"),
        version: header("stripe-version"),
        key: header("idempotency-key"),
        body: &body,
    };
    let checkouts_url = format!("{}/_local/checkouts", shared.url);
    let is_operator = asked.authorization.and_then(|it| it.strip_prefix("Bearer ")) == Some(OPERATOR_KEY);
    let mut provider = provider(&shared);
    let answered = if is_operator {
        provider.answer_operator(&asked, &checkouts_url)
    } else {
        provider.answer(&asked, &checkouts_url)
    };
    reply(answered.into_response())
}

/// Delivers the waiting events, oldest first. Answers with the played object, and the webhook's status for each event.
async fn published(shared: &Shared, played: Result<Value, PlayError>) -> ControlReply {
    let mut body = match played {
        Ok(body) => body,
        Err(error) => return refused(error),
    };
    body["events"] = json!(deliver_outbox(shared).await);
    reply(json_response(StatusCode::OK, &body))
}

/// Delivers the waiting events, oldest first. Returns each event's type and the status of the webhook's response.
pub(crate) async fn deliver_outbox(shared: &Shared) -> Vec<Value> {
    let waiting = provider(shared).take_outbox();
    let mut events = Vec::new();
    for delivery in waiting {
        let event: Value = serde_json::from_str(&delivery.body).unwrap_or_default();
        let status = deliver(shared, delivery).await.status();
        events.push(json!({ "type": event["type"], "status": status.as_u16() }));
    }
    events
}

fn refused(error: PlayError) -> ControlReply {
    let status = match error {
        PlayError::Unknown(_) => StatusCode::NOT_FOUND,
        PlayError::State(_) => StatusCode::CONFLICT,
        PlayError::Range(_) => StatusCode::BAD_REQUEST,
    };
    reply(message(status, &error.to_string()))
}

/// Locks the stand-in provider.
pub(crate) fn provider(shared: &Shared) -> MutexGuard<'_, StripeStandIn> {
    shared.provider.lock().unwrap_or_else(PoisonError::into_inner)
}
