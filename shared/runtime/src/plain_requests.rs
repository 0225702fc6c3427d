//! Plain requests: removes the headers in which the SDK describes itself to AWS.
//!
//! These headers name the SDK, the attempt and the invocation for AWS's own statistics. No response depends on them.
//! Building and signing them takes a tenth of an invocation (docs/benchmarks.md).

use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::user_agent::UserAgentInterceptor;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, disable_interceptor, dyn_dispatch_hint};
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer};

/// An interceptor that removes the headers in which the SDK describes itself.
#[derive(Debug)]
pub struct PlainRequests(FrozenLayer);

impl Default for PlainRequests {
    fn default() -> Self {
        const CAUSE: &str = "no response depends on this header";
        let mut layer = Layer::new("PlainRequests");
        layer.store_put(disable_interceptor::<UserAgentInterceptor>(CAUSE));
        layer.store_put(disable_interceptor::<InvocationIdInterceptor>(CAUSE));
        layer.store_put(disable_interceptor::<RequestInfoInterceptor>(CAUSE));
        Self(layer.freeze())
    }
}

#[dyn_dispatch_hint]
impl Intercept for PlainRequests {
    fn name(&self) -> &'static str {
        "PlainRequests"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.push_shared_layer(self.0.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_dynamodb::config::{Credentials, SharedInterceptor};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;

    use super::PlainRequests;
    use crate::start::dynamodb_config;

    /// An endpoint that records the header names of its latest request.
    #[derive(Debug, Clone, Default)]
    struct Endpoint(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Endpoint {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            *self.0.lock().unwrap() = request.headers().iter().map(|(name, _)| name.to_owned()).collect();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::from("{}"))))
        }
    }

    /// Sends a request with or without [`PlainRequests`], and returns the names of the headers in which the SDK
    /// describes itself.
    async fn told(plain: bool) -> Vec<String> {
        let endpoint = Endpoint::default();
        let connector = endpoint.clone();
        let http = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let config = dynamodb_config("eu-central-1", credentials, Some("http://table".to_owned()), http);
        let mut config = config.to_builder();
        if plain {
            config.push_interceptor(SharedInterceptor::permanent(PlainRequests::default()));
        }
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        client.describe_limits().send().await.unwrap();
        let mut sent = endpoint.0.lock().unwrap().clone();
        sent.retain(|name| name.contains("user-agent") || name.starts_with("amz-sdk"));
        sent.sort();
        sent
    }

    #[tokio::test]
    async fn requests_have_no_headers_that_describe_the_sdk() {
        let by_itself = ["amz-sdk-invocation-id", "amz-sdk-request", "user-agent", "x-amz-user-agent"];
        assert_eq!(told(false).await, by_itself);
        assert_eq!(told(true).await, [""; 0]);
    }
}
