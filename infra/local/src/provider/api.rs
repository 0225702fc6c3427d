//! The part of the provider's own HTTP API that we call.

use serde_json::json;

use super::{Answered, Provider, Refusal};

/// A request to the provider.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, from `/v1` on.
    pub path: &'a str,
    /// The query string.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `Idempotency-Key` header.
    pub key: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

impl Provider {
    /// Answers a request; a checkout's page is under `checkouts_url`.
    pub fn answer(&mut self, asked: &Asked<'_>, checkouts_url: &str) -> Answered {
        let Asked { method, path, query, authorization, key, body } = *asked;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let answered = match (method, parts.as_slice()) {
            ("POST", ["v1", "checkout", "sessions"]) => {
                self.create_session(authorization, key, body).map(|session| {
                    let mut object = session.object();
                    object["url"] = json!(format!("{checkouts_url}/{}", session.id));
                    Answered { status: 200, body: object }
                })
            }
            ("GET", ["v1", "checkout", "sessions", id]) => {
                let shown = self.shown_session(authorization, id);
                shown.map(|session| {
                    session.map_or_else(missing, |it| Answered { status: 200, body: it.object() })
                })
            }
            ("POST", ["v1", "payment_intents"]) => self.create_intent(authorization, key, body),
            ("GET", ["v1", "payment_intents"]) => self.intents(authorization, query),
            ("GET", ["v1", "customers", customer, "payment_methods"]) => {
                self.payment_methods(authorization, customer)
            }
            _ => Ok(missing()),
        };
        answered.unwrap_or_else(refused)
    }
}

fn missing() -> Answered {
    let error = json!({ "type": "invalid_request_error", "code": "resource_missing" });
    Answered { status: 404, body: json!({ "error": error }) }
}

fn refused(refusal: Refusal) -> Answered {
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
