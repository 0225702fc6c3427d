//! Examples of the requests that the application sends, for a comparison with Stripe's specification.

use std::collections::BTreeMap;

use serde::Serialize;

use super::form::pairs;

/// How many examples are kept at most.
const MAX_EXAMPLES: usize = 1_000;

/// A request as it was sent, and the status that it was answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderRequest {
    /// The method.
    pub method: String,
    /// The path, from `/v1` on.
    pub path: String,
    /// The parameters of the query, in order.
    pub query: Vec<(String, String)>,
    /// The parameters of the body, in order.
    pub form: Vec<(String, String)>,
    /// The `Stripe-Version` header.
    pub version: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// One example of each kind of request: the method, the path without ids, the names of the parameters, those values that
/// are words of Stripe's, the version and the status.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    examples: BTreeMap<String, ProviderRequest>,
}

impl Recorder {
    pub fn requests(&self) -> Vec<ProviderRequest> {
        self.examples.values().cloned().collect()
    }

    pub fn record(&mut self, asked: &super::Asked<'_>, status: u16) {
        let request = ProviderRequest {
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

fn kind(request: &ProviderRequest) -> String {
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
    let ProviderRequest { method, version, status, .. } = request;
    format!("{method} {path}?{query} {form} {version:?} {status}")
}

/// An id has digits; the words of Stripe's paths have none.
fn is_id(part: &str) -> bool {
    part != "v1" && part.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a value is a word of Stripe's, and not a text of the caller's.
fn is_word(name: &str, value: &str) -> bool {
    let is_free = ["metadata", "description", "client_reference_id", "name]", "customer_email"];
    let letters = value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
    letters && value.len() <= 40 && !is_free.iter().any(|free| name.contains(free))
}
