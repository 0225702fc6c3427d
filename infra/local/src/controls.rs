//! The calls under `/_local`, and everything else to the gateway.

use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::checkout_page;
use crate::gateway::{Request, json_response, message};
use crate::provider::{Outcome, Refusal};
use crate::stack::Shared;
use crate::tokens::TokenOrder;

/// What API Gateway takes at most.
const MOST_BODY_BYTES: usize = 10 * 1024 * 1024;

type Reply = Response<axum::body::Body>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

/// Every path of the stack.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/_local/health",
            get(|| async { reply(json_response(StatusCode::OK, &json!({ "status": "ok" }))) }),
        )
        .route("/_local/tokens", post(issue_token))
        // Nothing runs behind a call yet, so all is worked off when it is answered.
        .route(
            "/_local/drain",
            post(|| async { reply(json_response(StatusCode::OK, &json!({ "drained": true }))) }),
        )
        .route("/_local/clock", post(advance_clock))
        .route("/_local/requests", get(requests))
        .route("/_local/requests", delete(clear_requests))
        .route("/_local/checkouts/{checkout_id}", get(checkout))
        .route("/_local/checkouts/{checkout_id}/pay", post(pay))
        .route("/_local/provider/v1/checkout/sessions", post(create_session))
        .fallback(gateway)
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .with_state(shared)
}

async fn gateway(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    reply(shared.gateway.answer(Request { method, uri, headers, body: body.into() }).await)
}

async fn issue_token(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply {
    let order: TokenOrder = match read(&body) {
        Ok(order) => order,
        Err(refusal) => return *refusal,
    };
    match shared.gateway.issuer.issue(&order, shared.gateway.sources.now()) {
        Some(token) => reply(json_response(StatusCode::OK, &json!({ "token": token }))),
        None => reply(message(StatusCode::BAD_REQUEST, "ttl_seconds is out of range")),
    }
}

async fn advance_clock(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply {
    let Advance { advance_seconds } = match read(&body) {
        Ok(advance) => advance,
        Err(refusal) => return *refusal,
    };
    match shared.clock.advance(advance_seconds) {
        Ok(Some(now)) => reply(json_response(StatusCode::OK, &json!({ "now": now }))),
        Ok(None) => reply(message(
            StatusCode::BAD_REQUEST,
            "the clock moves ahead, by at most a hundred years in all",
        )),
        Err(error) => reply(message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    }
}

async fn requests(State(shared): State<Arc<Shared>>) -> Reply {
    reply(json_response(StatusCode::OK, &json!(shared.wire.recorded())))
}

async fn clear_requests(State(shared): State<Arc<Shared>>) -> Reply {
    shared.wire.clear();
    reply(json_response(StatusCode::OK, &json!({ "cleared": true })))
}

async fn checkout(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Reply {
    let provider = shared.provider.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(session) = provider.session(&id) else {
        return reply(message(StatusCode::NOT_FOUND, "no such checkout"));
    };
    axum::response::Html(checkout_page::page(session)).into_response()
}

async fn pay(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Reply {
    let Pay { outcome } = match read(&body) {
        Ok(pay) => pay,
        Err(refusal) => return *refusal,
    };
    let delivery = shared.provider.lock().unwrap_or_else(PoisonError::into_inner).play(&id, outcome);
    let Some(delivery) = delivery else { return reply(message(StatusCode::NOT_FOUND, "no such checkout")) };
    let Ok(signature) = HeaderValue::from_str(&delivery.signature) else {
        return reply(message(StatusCode::INTERNAL_SERVER_ERROR, "no signature"));
    };
    let mut headers = HeaderMap::new();
    headers.insert("stripe-signature", signature);
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    let uri = Uri::from_static("/v1/webhooks/stripe");
    let request = Request { method: Method::POST, uri, headers, body: delivery.body.into_bytes() };
    let answer = shared.gateway.answer(request).await;
    let told: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let status = answer.status();
    // The webhook's members stand at the top as well, so that the answer reads as the webhook's own.
    let mut body = told.clone();
    if !body.is_object() {
        body = json!({});
    }
    body["status"] = json!(status.as_u16());
    body["body"] = told;
    body["payment_id"] = json!(delivery.payment_id);
    reply(json_response(status, &body))
}

async fn create_session(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Reply {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut provider = shared.provider.lock().unwrap_or_else(PoisonError::into_inner);
    match provider.create_session(header("authorization"), header("idempotency-key"), &body) {
        Ok(session) => {
            let mut object = session.object();
            object["url"] = json!(format!("{}/_local/checkouts/{}", shared.url, session.id));
            reply(json_response(StatusCode::OK, &object))
        }
        Err(refusal) => reply(provider_error(refusal)),
    }
}

fn provider_error(refusal: Refusal) -> Response<Vec<u8>> {
    let (status, kind, text) = match refusal {
        Refusal::WrongKey => {
            (StatusCode::UNAUTHORIZED, "invalid_request_error", "Invalid API Key provided".to_owned())
        }
        Refusal::Incomplete(field) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", format!("Missing or invalid: {field}"))
        }
        Refusal::KeyReused => (
            StatusCode::BAD_REQUEST,
            "idempotency_error",
            "Keys can only be used with the same parameters".to_owned(),
        ),
    };
    json_response(status, &json!({ "error": { "type": kind, "message": text } }))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Reply>> {
    let refusal = |error: serde_json::Error| reply(message(StatusCode::BAD_REQUEST, &error.to_string()));
    serde_json::from_slice(body).map_err(|error| Box::new(refusal(error)))
}

fn reply(response: Response<Vec<u8>>) -> Reply {
    response.map(axum::body::Body::from)
}
