//! The stand-in provider's own HTTP API, served under `/_local/provider`.

use std::sync::{Arc, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::{any, post};
use serde::Deserialize;
use serde_json::json;

use crate::controls::{Reply, read, reply};
use crate::gateway::json_response;
use crate::provider::{Asked, Provider};
use crate::stack::Shared;

/// Where it is.
const BASE: &str = "/_local/provider";

/// The provider's own paths, and how to play an outage.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_local/provider/outage", post(outage))
        .route("/_local/provider/v1/{*path}", any(answer))
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

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        method: method.as_str(),
        path: uri.path().strip_prefix(BASE).unwrap_or_default(),
        query: uri.query().unwrap_or_default(),
        authorization: header("authorization"),
        key: header("idempotency-key"),
        body: &body,
    };
    let answered = provider(&shared).answer(&asked, &format!("{}/_local/checkouts", shared.url));
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(json_response(status, &answered.body))
}

fn provider(shared: &Shared) -> MutexGuard<'_, Provider> {
    shared.provider.lock().unwrap_or_else(PoisonError::into_inner)
}
