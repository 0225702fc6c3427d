//! Examples of the application's requests. `tests/stripe` compares them with Stripe's types.

use std::collections::BTreeMap;

use serde::Serialize;

use super::form::pairs;

/// The largest number of examples.
const MAX_EXAMPLES: usize = 1_000;

/// A request, and the status of its response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedRequest {
    pub method: String,
    /// The path, beginning with `/v1`.
    pub path: String,
    /// The parameters of the query, in order.
    pub query: Vec<(String, String)>,
    /// The parameters of the body, in order.
    pub form: Vec<(String, String)>,
    /// The `Stripe-Version` header.
    pub version: Option<String>,
    pub status: u16,
}

/// The recorder, which keeps one example of each kind of request. A kind is the method, the path without ids, the
/// parameters' names, the values that are Stripe's words, the version and the status.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    examples: BTreeMap<String, RecordedRequest>,
}

impl Recorder {
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.examples.values().cloned().collect()
    }

    pub fn record(&mut self, asked: &super::ProviderRequest<'_>, status: u16) {
        let request = RecordedRequest {
            method: asked.method.to_owned(),
            path: asked.path.to_owned(),
            query: pairs(asked.query.as_bytes()),
            form: pairs(asked.body),
            version: asked.version.map(str::to_owned),
            status,
        };
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.entry(kind(&request)).or_insert(request);
        }
    }
}

fn kind(request: &RecordedRequest) -> String {
    let path = request.path.split('/').map(|part| if is_id(part) { "{id}" } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let shown = |(name, value): &(String, String)| {
        if is_word(name, value) { format!("{name}={value}") } else { name.clone() }
    };
    let sorted = |pairs: &[(String, String)]| {
        let mut shown: Vec<String> = pairs.iter().map(shown).collect();
        shown.sort();
        shown.join("&")
    };
    let (query, form) = (sorted(&request.query), sorted(&request.form));
    let RecordedRequest { method, version, status, .. } = request;
    format!("{method} {path}?{query} {form} {version:?} {status}")
}

/// Returns whether a part of a path is an id. An id contains a digit; Stripe's words don't.
fn is_id(part: &str) -> bool {
    part != "v1" && part.bytes().any(|byte| byte.is_ascii_digit())
}

/// Returns whether a value is one of Stripe's words and not the caller's text.
fn is_word(name: &str, value: &str) -> bool {
    let is_free = ["metadata", "description", "client_reference_id", "name]", "customer_email"];
    let letters = value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
    letters && value.len() <= 40 && !is_free.iter().any(|free| name.contains(free))
}
