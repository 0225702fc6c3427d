//! The responses of the controls under `/_local`.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::gateway::message;

pub(crate) type ControlReply = Response<Body>;

/// Parses the body of a control.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<ControlReply>> {
    let refusal = |error: serde_json::Error| reply(message(StatusCode::BAD_REQUEST, &error.to_string()));
    serde_json::from_slice(body).map_err(|error| Box::new(refusal(error)))
}

pub(crate) fn reply(response: Response<Vec<u8>>) -> ControlReply {
    response.map(Body::from)
}
