//! HTTP clients whose requests a function answers or intercepts. Tests and the local stack put them in front of AWS.

use std::fmt;

use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::shared::IntoShared as _;

/// Creates a client whose requests `answer` answers. No request leaves the process.
pub fn answering_client<F, A>(answer: F) -> SharedHttpClient
where
    F: Fn(HttpRequest) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<HttpResponse, ConnectorError>> + Send + 'static,
{
    http_client_fn(move |_, _| SharedHttpConnector::new(Answering(answer.clone()))).into_shared()
}

/// Creates a client whose requests `answer` may change, pass on to `inner`, or answer itself.
pub fn intercepting_client<F, A>(inner: SharedHttpClient, answer: F) -> SharedHttpClient
where
    F: Fn(HttpRequest, SharedHttpConnector) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<HttpResponse, ConnectorError>> + Send + 'static,
{
    let client = http_client_fn(move |settings, components| {
        let (inner, answer) = (inner.http_connector(settings, components), answer.clone());
        SharedHttpConnector::new(Answering(move |request| answer(request, inner.clone())))
    });
    client.into_shared()
}

struct Answering<F>(F);

impl<F> fmt::Debug for Answering<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering")
    }
}

impl<F, A> HttpConnector for Answering<F>
where
    F: Fn(HttpRequest) -> A + Send + Sync + 'static,
    A: Future<Output = Result<HttpResponse, ConnectorError>> + Send + 'static,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new((self.0)(request))
    }
}
