//! The stand-in provider's own HTTP API, under `/_local/provider`: the part of Stripe's that we call.

use std::sync::{Arc, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::controls::{Reply, read, reply};
use crate::gateway::json_response;
use crate::provider::{Answered, Provider, Refusal};
use crate::stack::Shared;

/// Every path of the provider's that we call.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_local/provider/outage", post(outage))
        .route("/_local/provider/v1/checkout/sessions", post(create_session))
        .route("/_local/provider/v1/checkout/sessions/{session_id}", get(session))
        .route("/_local/provider/v1/payment_intents", post(create_intent).get(intents))
        .route("/_local/provider/v1/customers/{customer}/payment_methods", get(payment_methods))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    down: bool,
}

/// Plays a provider that is down, or is back.
async fn outage(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply {
    let Outage { down } = match read(&body) {
        Ok(outage) => outage,
        Err(refusal) => return *refusal,
    };
    provider(&shared).down = down;
    reply(json_response(StatusCode::OK, &json!({ "down": down })))
}

async fn create_session(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Reply {
    let session =
        provider(&shared).create_session(key_of(&headers), header(&headers, "idempotency-key"), &body);
    let answered = session.map(|session| {
        let mut object = session.object();
        object["url"] = json!(format!("{}/_local/checkouts/{}", shared.url, session.id));
        Answered { status: 200, body: object }
    });
    answer(answered)
}

async fn session(State(shared): State<Arc<Shared>>, headers: HeaderMap, Path(id): Path<String>) -> Reply {
    let (status, body) = match provider(&shared).shown_session(key_of(&headers), &id) {
        Ok(Some(session)) => (200, session.object()),
        Ok(None) => {
            (404, json!({ "error": { "type": "invalid_request_error", "message": "No such session" } }))
        }
        Err(refusal) => return answer(Err(refusal)),
    };
    answer(Ok(Answered { status, body }))
}

async fn create_intent(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Reply {
    answer(provider(&shared).create_intent(key_of(&headers), header(&headers, "idempotency-key"), &body))
}

async fn intents(State(shared): State<Arc<Shared>>, headers: HeaderMap, uri: Uri) -> Reply {
    answer(provider(&shared).intents(key_of(&headers), uri.query().unwrap_or_default()))
}

async fn payment_methods(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(customer): Path<String>,
) -> Reply {
    answer(provider(&shared).payment_methods(key_of(&headers), &customer))
}

fn provider(shared: &Shared) -> MutexGuard<'_, Provider> {
    shared.provider.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    header(headers, "authorization")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn answer(answered: Result<Answered, Refusal>) -> Reply {
    let Answered { status, body } = answered.unwrap_or_else(provider_error);
    reply(json_response(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body))
}

fn provider_error(refusal: Refusal) -> Answered {
    let (status, kind, text) = match refusal {
        Refusal::WrongKey => (401, "invalid_request_error", "Invalid API Key provided".to_owned()),
        Refusal::Incomplete(field) => (400, "invalid_request_error", format!("Missing or invalid: {field}")),
        Refusal::Down => (503, "api_error", "Service unavailable".to_owned()),
        Refusal::KeyReused => {
            (400, "idempotency_error", "Keys can only be used with the same parameters".to_owned())
        }
    };
    Answered { status, body: json!({ "error": { "type": kind, "message": text } }) }
}
