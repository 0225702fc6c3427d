//! How the pages are rendered and served, and how their forms are read.

use std::collections::BTreeMap;

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use minijinja::Environment;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::gateway::message;
use crate::reply::reply;

/// The templates: name and source.
const TEMPLATES: [(&str, &str); 6] = [
    ("layout.html", include_str!("layout.html")),
    ("index.html", include_str!("index.html")),
    ("payments.html", include_str!("payments.html")),
    ("payments_page.html", include_str!("payments_page.html")),
    ("checkout.html", include_str!("checkout.html")),
    ("checkout_end.html", include_str!("checkout_end.html")),
];

/// The pages' files: name, media type and content.
const FILES: [(&str, &str, &str); 2] = [
    ("local.css", "text/css; charset=utf-8", include_str!("local.css")),
    ("local.js", "text/javascript; charset=utf-8", include_str!("local.js")),
];

/// A page that can't be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// A bug in a template.
    #[error("a page's template can't be rendered: {0:#}")]
    Template(#[from] minijinja::Error),
    #[error("the form's field \"{0}\" is missing, or its value is unknown")]
    Field(&'static str),
    #[error("no such {0}")]
    Unknown(&'static str),
    /// A part of the stack failed.
    #[error("{0}")]
    Failed(String),
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Field(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Template(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        reply(message(status, &self.to_string()))
    }
}

/// Renders a page. Its forms may lead to these addresses besides the page's own origin: browsers check a form's
/// redirect too.
pub(super) fn page(
    template: &str,
    content: impl Serialize,
    form_targets: &[&str],
) -> Result<Response, PageError> {
    let mut templates = Environment::new();
    for (name, source) in TEMPLATES {
        templates.add_template(name, source)?;
    }
    let mut response = Html(templates.get_template(template)?.render(content)?).into_response();
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&content_security_policy(form_targets));
    let policy = policy.map_err(|error| PageError::Failed(error.to_string()))?;
    headers.insert("content-security-policy", policy);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn content_security_policy(form_targets: &[&str]) -> String {
    let origins = form_targets.iter().filter_map(|url| origin(url));
    let allowed: Vec<String> = std::iter::once("'self'".to_owned()).chain(origins).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; \
         frame-ancestors 'none'; form-action {}",
        allowed.join(" "),
    )
}

fn origin(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}

/// Serves a file of the pages.
pub(super) async fn file(Path(asked): Path<String>) -> Result<Response, PageError> {
    let file = FILES.into_iter().find(|(name, _, _)| *name == asked);
    let (_, media_type, body) = file.ok_or(PageError::Unknown("file"))?;
    Ok(([("content-type", media_type), ("cache-control", "no-cache")], body).into_response())
}

/// Refuses forms that another site's page has sent. A browser names the sending page's origin.
pub(super) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    if request.method() == Method::POST && !is_same_origin(request.headers()) {
        let refusal = "only the local stack's own pages may send this form; open / and use the form there";
        return reply(message(StatusCode::FORBIDDEN, refusal));
    }
    next.run(request).await
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin").and_then(|origin| origin.split_once("://"));
    origin.zip(text("host")).is_some_and(|((_, origin), host)| origin == host)
}

/// The fields of a form, or of a query.
#[derive(Debug)]
pub(super) struct FormFields(BTreeMap<String, String>);

impl FormFields {
    pub fn read(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Returns a field without surrounding spaces. A missing field is empty.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.trim())
    }

    /// Returns a field whose values are a closed set.
    pub fn choice<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, PageError> {
        let value = Value::from(self.text(name));
        serde_json::from_value(value).map_err(|_| PageError::Field(name))
    }
}

/// The message that a page shows after a form.
#[derive(Debug, Serialize)]
pub(super) struct PageNote {
    text: String,
    is_problem: bool,
}

impl PageNote {
    pub fn done(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_problem: false }
    }

    pub fn problem(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_problem: true }
    }

    /// Reads the message from a page's query.
    pub fn of(uri: &Uri) -> Option<Self> {
        let fields = FormFields::read(uri.query().unwrap_or_default().as_bytes());
        let (done, problem) = (fields.text("done"), fields.text("problem"));
        match (done, problem) {
            ("", "") => None,
            (done, "") => Some(Self::done(done)),
            (_, problem) => Some(Self::problem(problem)),
        }
    }

    /// Returns the redirect to a page that shows this message.
    pub fn on(&self, path: &str, fragment: &str) -> Response {
        let name = if self.is_problem { "problem" } else { "done" };
        let text = utf8_percent_encode(&self.text, NON_ALPHANUMERIC);
        redirect(&format!("{path}?{name}={text}{fragment}"))
    }
}

/// Returns a redirect after a form.
pub(super) fn redirect(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [("location", address)]).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::{content_security_policy, is_same_origin};

    fn headers(named: &[(&'static str, &'static str)]) -> HeaderMap {
        let headers = named.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        headers.collect()
    }

    #[test]
    fn only_the_pages_own_origin_may_send_forms() {
        let host = ("host", "127.0.0.1:8787");
        assert!(is_same_origin(&headers(&[host, ("origin", "http://127.0.0.1:8787")])));
        for origin in ["null", "http://evil.example", "http://127.0.0.1:8788", "http://evil.example:8787"] {
            assert!(!is_same_origin(&headers(&[host, ("origin", origin)])), "{origin}");
        }
        assert!(!is_same_origin(&headers(&[host])));
    }

    #[test]
    fn a_form_may_lead_to_the_origins_of_its_targets() {
        let policy = content_security_policy(&["https://hub.example/ok?a=1;script-src,b#top", "nonsense"]);
        assert!(policy.ends_with("form-action 'self' https://hub.example"), "{policy}");
    }
}
