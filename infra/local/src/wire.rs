//! The connection between the functions and the database. It counts every request (`GET /_local/requests`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use credits_aws::intercept::intercepting_client;
use credits_store::Clock;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::Serialize;
use serde_json::{Number, Value, json};

use crate::clock::LocalClock;
use crate::conflicts::{Conflicts, HeldItems};
use crate::permissions::{self, Permission};

/// One request to the database, with the capacity that it consumed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Recorded {
    function: &'static str,
    operation: String,
    write_units: Number,
    read_units: Number,
}

/// All requests since the last clear, and the clock that dates the responses.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    recorded: Arc<Mutex<Vec<Recorded>>>,
    used: Arc<Mutex<BTreeSet<Permission>>>,
    clock: Arc<LocalClock>,
    /// The items that transactions hold; `None` if transactions don't conflict.
    held: Option<HeldItems>,
}

impl Wire {
    pub fn new(clock: Arc<LocalClock>, conflicts: Conflicts) -> Self {
        let held = (conflicts == Conflicts::On).then(HeldItems::default);
        Self { recorded: Arc::default(), used: Arc::default(), clock, held }
    }

    /// Returns a client for one function. Its requests are counted.
    pub fn client(&self, function: &'static str, inner: SharedHttpClient) -> SharedHttpClient {
        let wire = self.clone();
        intercepting_client(inner, move |request, inner| wire.clone().count(function, request, inner))
    }

    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn clear(&self) {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the permissions that requests have needed since the start.
    pub fn used(&self) -> BTreeSet<Permission> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that requests needed these permissions.
    pub fn note(&self, permissions: impl IntoIterator<Item = Permission>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(permissions);
    }

    async fn count(
        self,
        function: &'static str,
        mut request: HttpRequest,
        inner: SharedHttpConnector,
    ) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let asked: Value =
            serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        self.note(permissions::of_request(function, &operation, &asked));
        if let Some(held) = &self.held
            && let Some(mut conflict) = held.pass(&operation, &asked, &self.clock.sources()).await
        {
            date(&mut conflict, &self.clock);
            return Ok(conflict);
        }
        ask_for_capacity(&mut request);
        let mut response = inner.call(request).await?;
        date(&mut response, &self.clock);
        let (response, body) = read(response).await?;
        self.record(recorded(function, operation, &body));
        Ok(response)
    }

    fn record(&self, recorded: Recorded) {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
    }
}

/// Sets a response's date to the stack's clock. The store trusts that date when it closes what has expired.
fn date(response: &mut HttpResponse, clock: &LocalClock) {
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&clock.now()) {
        response.headers_mut().insert("date", date);
    }
}

/// Makes the database report the consumed capacity, whether or not the function requested it.
fn ask_for_capacity(request: &mut HttpRequest) {
    let Some(Ok(mut body)) = request.body().bytes().map(serde_json::from_slice::<Value>) else { return };
    body["ReturnConsumedCapacity"] = json!("TOTAL");
    let body = body.to_string();
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

async fn read(mut response: HttpResponse) -> Result<(HttpResponse, Value), ConnectorError> {
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let bytes = ByteStream::new(body).collect().await;
    let bytes = bytes.map_err(|error| ConnectorError::io(Box::new(error)))?.into_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_default();
    *response.body_mut() = SdkBody::from(bytes);
    Ok((response, value))
}

fn recorded(function: &'static str, operation: String, body: &Value) -> Recorded {
    // A transaction reports the capacity per table. Our transactions touch one table.
    let consumed = &body["ConsumedCapacity"];
    let consumed = consumed.get(0).unwrap_or(consumed);
    let units = consumed["CapacityUnits"].as_number().cloned().unwrap_or_else(|| Number::from(0));
    let writes = ["TransactWriteItems", "PutItem", "UpdateItem", "DeleteItem"].contains(&operation.as_str());
    let (write_units, read_units) = if writes { (units, Number::from(0)) } else { (Number::from(0), units) };
    Recorded { function, operation, write_units, read_units }
}
