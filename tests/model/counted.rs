//! An HTTP client for the SDK that counts requests and the capacity that they consume.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::{Value, json};

/// Counters of requests and consumed capacity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    pub requests: u64,
    /// Consumed write units, including those of the index.
    pub write_units: f64,
    /// Consumed read units.
    pub read_units: f64,
}

/// A client whose requests are counted.
#[derive(Debug, Clone)]
pub struct Counted {
    inner: SharedHttpClient,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug)]
struct CountedConnector {
    inner: SharedHttpConnector,
    counts: Arc<Mutex<Counts>>,
}

impl Counted {
    /// Wraps a client.
    #[must_use]
    pub fn around(inner: SharedHttpClient) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpClient for Counted {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(CountedConnector { inner, counts: Arc::clone(&self.counts) })
    }
}

impl HttpConnector for CountedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let writes = ["TransactWriteItems", "UpdateItem", "PutItem"].iter().any(|it| target.ends_with(it));
        let body = request.body().bytes().map(serde_json::from_slice::<Value>);
        if let Some(Ok(mut asked)) = body {
            asked["ReturnConsumedCapacity"] = json!("TOTAL");
            let asked = asked.to_string();
            request.headers_mut().insert("content-length", asked.len().to_string());
            *request.body_mut() = SdkBody::from(asked);
        }
        let (counts, answer) = (Arc::clone(&self.counts), self.inner.call(request));
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            let bytes = ByteStream::new(body).collect().await.unwrap().into_bytes();
            let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let capacity = match &told["ConsumedCapacity"] {
                Value::Array(tables) => tables.first().cloned().unwrap_or_default(),
                one => one.clone(),
            };
            let units = capacity["CapacityUnits"].as_f64().unwrap_or_default();
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.requests += 1;
            counts.write_units += if writes { units } else { 0.0 };
            counts.read_units += if writes { 0.0 } else { units };
            drop(counts);
            let mut with_body = HttpResponse::new(answer.status(), SdkBody::from(bytes));
            std::mem::swap(with_body.headers_mut(), answer.headers_mut());
            Ok(with_body)
        })
    }
}
