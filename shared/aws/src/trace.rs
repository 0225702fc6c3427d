//! Traces: times each request of a function to AWS as a segment of the invocation's trace. A metric of each request would
//! cost more than the request.
//!
//! A segment is sent to X-Ray's daemon in one datagram. Lambda runs the daemon beside the function, so the function
//! does not wait (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>).

use std::net::{Ipv4Addr, UdpSocket};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use credits_store::{Clock, Randomness};
use jiff::Timestamp;
use serde_json::{Number, Value, json};

use crate::settings::Settings;
use crate::sources::{SystemClock, SystemRandomness};

/// The header that the daemon requires before each segment.
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\n";

/// An interceptor that times the requests of an AWS client.
#[derive(Debug)]
pub struct RequestTracer {
    settings: Settings,
    daemon: Option<UdpSocket>,
}

/// The start time of a request.
#[derive(Debug)]
struct Begun(Timestamp);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

/// The trace of an invocation, if it is sampled.
struct Trace<'a> {
    root: &'a str,
    parent: &'a str,
}

impl RequestTracer {
    /// Creates the interceptor of a deployed function. Without a daemon it sends no segments.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let daemon = settings.trace_daemon().and_then(|address| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect(address).ok()?;
            Some(socket)
        });
        Self { settings, daemon }
    }

    fn send(&self, segment: &Value) {
        if let Some(daemon) = &self.daemon {
            // A lost segment affects only the trace.
            let _ = daemon.send(format!("{HEADER}{segment}").as_bytes());
        }
    }
}

#[dyn_dispatch_hint]
impl Intercept for RequestTracer {
    fn name(&self) -> &'static str {
        "RequestTracer"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Begun(SystemClock.now()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(begun), Some(metadata)) = (bag.load::<Begun>(), bag.load::<Metadata>()) else {
            return Ok(());
        };
        let header = self.settings.trace_header().unwrap_or_default();
        if let Some(trace) = Trace::read(&header) {
            let status = context.response().map(|response| response.status().as_u16());
            self.send(&trace.segment(metadata, begun.0, SystemClock.now(), status));
        }
        Ok(())
    }
}

impl<'a> Trace<'a> {
    /// Parses `Root=…;Parent=…;Sampled=1`. Returns `None` if the trace is not sampled.
    fn read(header: &'a str) -> Option<Self> {
        let member = |name: &str| {
            header.split(';').find_map(|member| member.trim().strip_prefix(name)?.strip_prefix('='))
        };
        (member("Sampled") == Some("1")).then_some(())?;
        Some(Self { root: member("Root")?, parent: member("Parent")? })
    }

    fn segment(&self, metadata: &Metadata, begun: Timestamp, ended: Timestamp, status: Option<u16>) -> Value {
        let mut id = [0_u8; 8];
        SystemRandomness.fill(&mut id);
        json!({
            "name": metadata.service(),
            "id": format!("{:016x}", u64::from_be_bytes(id)),
            "trace_id": self.root,
            "parent_id": self.parent,
            "type": "subsegment",
            "namespace": "aws",
            "start_time": seconds(begun),
            "end_time": seconds(ended),
            "aws": { "operation": metadata.name() },
            "http": { "response": { "status": status } },
            "error": status.is_some_and(|status| (400..500).contains(&status)),
            "fault": status.is_none_or(|status| status >= 500),
        })
    }
}

/// Formats an instant in seconds with milliseconds, as X-Ray expects it.
fn seconds(at: Timestamp) -> Option<Number> {
    let millis = at.as_millisecond();
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000)).parse().ok()
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::Metadata;

    use super::Trace;

    #[test]
    fn segment_belongs_to_the_invocation() {
        let trace = Trace::read("Root=1-6b04c1d4-30fa227529eca5933a104a90;Parent=8f3d8ac787e6842b;Sampled=1");
        let metadata = Metadata::new("TransactWriteItems", "DynamoDB");
        let (begun, ended) =
            ("2026-11-23T22:00:00.007Z".parse().unwrap(), "2026-11-23T22:00:00.012Z".parse().unwrap());
        let mut segment = trace.unwrap().segment(&metadata, begun, ended, Some(400));
        assert_eq!(segment["id"].as_str().unwrap().len(), 16);
        segment["id"] = "…".into();
        insta::assert_json_snapshot!(segment, @r#"
        {
          "aws": {
            "operation": "TransactWriteItems"
          },
          "end_time": 1795471200.012,
          "error": true,
          "fault": false,
          "http": {
            "response": {
              "status": 400
            }
          },
          "id": "…",
          "name": "DynamoDB",
          "namespace": "aws",
          "parent_id": "8f3d8ac787e6842b",
          "start_time": 1795471200.007,
          "trace_id": "1-6b04c1d4-30fa227529eca5933a104a90",
          "type": "subsegment"
        }
        "#);
    }

    #[test]
    fn unsampled_invocation_has_no_segments() {
        assert!(
            Trace::read("Root=1-6b04c1d4-30fa227529eca5933a104a90;Parent=8f3d8ac787e6842b;Sampled=0")
                .is_none()
        );
        assert!(Trace::read("").is_none());
    }
}
