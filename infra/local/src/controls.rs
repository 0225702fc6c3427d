//! The calls under `/_local`, and the pages. Every other path goes to the gateway.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::routing::{delete, get, post};
use credits_store::Clock;
use credits_store::error::Chain;
use serde::Deserialize;
use serde_json::json;

use crate::gateway::{Request, json_response, message};
use crate::provider_api;
use crate::reply::{ControlReply, read, reply};
use crate::state::Shared;
use crate::tokens::TokenOrder;
use crate::{aws_api, pages, verify};

/// The largest body that API Gateway accepts.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

/// Returns the router of the whole stack.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/_local/health",
            get(|| async { reply(json_response(StatusCode::OK, &json!({ "status": "ok" }))) }),
        )
        .route("/_local/tokens", post(issue_token))
        .route("/_local/drain", post(drain))
        .route("/_local/verify", post(verify_all))
        .route("/_local/clock", post(advance_clock))
        .route("/_local/requests", get(requests))
        .route("/_local/requests", delete(clear_requests))
        .merge(pages::routes())
        .merge(provider_api::routes())
        .merge(aws_api::routes())
        .fallback(gateway)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(read_body_first))
        .with_state(shared)
}

/// Reads the whole body before any handler runs.
///
/// A handler that takes no body would answer while the body still arrives. hyper then closes the connection, and the
/// caller's next request on it fails.
async fn read_body_first(request: HttpRequest, next: Next) -> ControlReply {
    let (head, body) = request.into_parts();
    match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => next.run(HttpRequest::from_parts(head, Body::from(body))).await,
        Err(_) => reply(message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")),
    }
}

async fn gateway(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> ControlReply {
    reply(shared.gateway.answer(Request { method, uri, headers, body: body.into() }).await)
}

async fn issue_token(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let order: TokenOrder = match read(&body) {
        Ok(order) => order,
        Err(refusal) => return *refusal,
    };
    match shared.gateway.issuer.issue(&order, shared.gateway.sources.now()) {
        Some(token) => reply(json_response(StatusCode::OK, &json!({ "token": token }))),
        None => reply(message(StatusCode::BAD_REQUEST, "ttl_seconds is out of range")),
    }
}

async fn advance_clock(State(shared): State<Arc<Shared>>, body: Bytes) -> ControlReply {
    let Advance { advance_seconds } = match read(&body) {
        Ok(advance) => advance,
        Err(refusal) => return *refusal,
    };
    let Some(target) = shared.clock.ahead(advance_seconds) else {
        let refusal = "advance_seconds is negative, or moves the clock more than a hundred years ahead";
        return reply(message(StatusCode::BAD_REQUEST, refusal));
    };
    match shared.worker.advance(&shared, target).await {
        Ok(()) => reply(json_response(StatusCode::OK, &json!({ "now": shared.clock.now() }))),
        Err(error) => reply(message(StatusCode::INTERNAL_SERVER_ERROR, &Chain(&error).to_string())),
    }
}

async fn drain(State(shared): State<Arc<Shared>>) -> ControlReply {
    let drained = shared.worker.drain(&shared).await;
    reply(json_response(StatusCode::OK, &json!({ "drained": drained })))
}

async fn verify_all(State(shared): State<Arc<Shared>>) -> ControlReply {
    match verify::verify(&shared).await {
        Ok(verified) => reply(json_response(StatusCode::OK, &json!(verified))),
        Err(error) => reply(message(StatusCode::INTERNAL_SERVER_ERROR, &Chain(&error).to_string())),
    }
}

async fn requests(State(shared): State<Arc<Shared>>) -> ControlReply {
    reply(json_response(StatusCode::OK, &json!(shared.wire.recorded())))
}

async fn clear_requests(State(shared): State<Arc<Shared>>) -> ControlReply {
    shared.wire.clear();
    reply(json_response(StatusCode::OK, &json!({ "cleared": true })))
}
