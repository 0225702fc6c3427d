//! An HTTP client for the SDK that counts requests and the capacity that they consume.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use credits_aws::intercept::intercepting_client;
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

impl Counted {
    /// Wraps a client.
    #[must_use]
    pub fn around(inner: SharedHttpClient) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// Returns the client.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        let counts = Arc::clone(&self.counts);
        intercepting_client(self.inner.clone(), move |request, inner| {
            count(request, inner, Arc::clone(&counts))
        })
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn count(
    mut request: HttpRequest,
    inner: SharedHttpConnector,
    counts: Arc<Mutex<Counts>>,
) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let writes = ["TransactWriteItems", "UpdateItem", "PutItem"].iter().any(|it| target.ends_with(it));
    let body = request.body().bytes().map(serde_json::from_slice::<Value>);
    if let Some(Ok(mut body)) = body {
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        let body = body.to_string();
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
    }
    let mut response = inner.call(request).await?;
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let bytes = ByteStream::new(body).collect().await.unwrap().into_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let capacity = match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.first().cloned().unwrap_or_default(),
        one => one.clone(),
    };
    let units = capacity["CapacityUnits"].as_f64().unwrap_or_default();
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.requests += 1;
    counts.write_units += if writes { units } else { 0.0 };
    counts.read_units += if writes { 0.0 } else { units };
    drop(counts);
    *response.body_mut() = SdkBody::from(bytes);
    Ok(response)
}
