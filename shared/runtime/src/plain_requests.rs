//! Plain requests: the SDK's clients without the headers in which it tells AWS of itself.
//!
//! Who calls, which attempt it is and of which call are for AWS's own statistics; no answer depends on them. The header
//! against functions that call each other without end is for services that invoke functions, which `DynamoDB` does not do
//! within a call. To put them together and to sign them is a tenth of an invocation (docs/benchmarks.md).

use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::recursion_detection::RecursionDetectionInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::user_agent::UserAgentInterceptor;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, disable_interceptor, dyn_dispatch_hint};
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer};

/// Leaves the headers out that the SDK tells of itself by.
#[derive(Debug)]
pub struct PlainRequests(FrozenLayer);

impl Default for PlainRequests {
    fn default() -> Self {
        const CAUSE: &str = "nothing depends on it";
        let mut layer = Layer::new("PlainRequests");
        layer.store_put(disable_interceptor::<UserAgentInterceptor>(CAUSE));
        layer.store_put(disable_interceptor::<InvocationIdInterceptor>(CAUSE));
        layer.store_put(disable_interceptor::<RequestInfoInterceptor>(CAUSE));
        layer.store_put(disable_interceptor::<RecursionDetectionInterceptor>(CAUSE));
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
