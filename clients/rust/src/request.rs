//! Calls that can be adjusted before they are sent.

use std::fmt::Display;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use reqwest::Method;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::key::IdempotencyKey;
use crate::pages::{Items, Paged};
use crate::schema::{Batch, Capture, Catalogue, DebitRefund, History, Ledger, Runs, TopUp, Usage};
use crate::send::Outbound;

/// A call of the API. It is sent when it is awaited, and retried until it has a final response or its deadline is over.
#[must_use = "a request is sent when it is awaited"]
#[derive(Debug)]
pub struct ApiRequest<T> {
    outbound: Outbound,
    response: PhantomData<fn() -> T>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<T> {
    pub body: T,
    /// Whether an earlier attempt or call under the same key has done the work.
    pub replayed: bool,
}

impl<T> ApiRequest<T> {
    pub(crate) fn new(client: Client, method: Method, path: String) -> Self {
        let outbound =
            Outbound { client, method, path, query: Vec::new(), body: None, key: None, deadline: None };
        Self { outbound, response: PhantomData }
    }

    /// Sets the idempotency key of a POST. By default it is a UUID, which all attempts share.
    ///
    /// Derive the key from the purpose of the call, such as a message or a step of a run. Then a retry after a crash
    /// charges nothing twice either.
    pub fn idempotency_key(mut self, key: impl Into<IdempotencyKey>) -> Self {
        self.outbound.key = Some(key.into());
        self
    }

    /// Sets the time for this call with its retries, in place of the client's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.outbound.deadline = Some(deadline);
        self
    }

    /// Adds a parameter of the query.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        self.outbound.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Value) -> Self {
        self.outbound.body = Some(body);
        self
    }

    /// Sets a field of the body, which is an object.
    fn field(mut self, name: &str, value: Value) -> Self {
        self.outbound.body.get_or_insert_with(|| json!({}))[name] = value;
        self
    }
}

impl<T: DeserializeOwned> ApiRequest<T> {
    /// Sends the call, and returns the response with whether it is a replay.
    pub async fn answered(self) -> Result<Answered<T>, Error> {
        self.outbound.send().await?.typed()
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for ApiRequest<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.answered().await?.body) })
    }
}

impl<P: Paged> ApiRequest<P> {
    /// Starts after the page whose `next_cursor` this is.
    pub fn cursor(self, cursor: &str) -> Self {
        self.query("cursor", cursor)
    }

    /// Returns the items of all pages, which are fetched one after another.
    #[must_use]
    pub fn items(self) -> Items<P> {
        Items::new(self.outbound)
    }
}

impl ApiRequest<Ledger> {
    /// Lists only entries of a kind, such as `top_up`.
    pub fn kind(self, kind: &str) -> Self {
        self.query("kind", kind)
    }

    /// Sets the size of a page, 1 to 1,000.
    pub fn limit(self, limit: u32) -> Self {
        self.query("limit", limit)
    }
}

impl ApiRequest<Runs> {
    /// Lists only runs with a status, such as `failed`.
    pub fn status(self, status: &str) -> Self {
        self.query("status", status)
    }
}

impl ApiRequest<Usage> {
    /// Sets the month, such as `2026-11`. By default it is the current one.
    pub fn month(self, month: &str) -> Self {
        self.query("month", month)
    }

    /// Sets the attribute to group by, such as `feature`. By default it is `workflow`.
    pub fn group_by(self, attribute: &str) -> Self {
        self.query("group_by", attribute)
    }

    /// Sets the size of a page, 1 to 1,000.
    pub fn limit(self, limit: u32) -> Self {
        self.query("limit", limit)
    }
}

impl ApiRequest<History> {
    /// Sets the number of months, 1 to 24, the current one included. By default there are 12.
    pub fn months(self, months: u8) -> Self {
        self.query("months", months)
    }
}

impl ApiRequest<Catalogue> {
    /// Returns the prices that a workspace pays, which may be its own.
    pub fn workspace(self, id: &str) -> Self {
        self.query("workspace", id)
    }
}

impl ApiRequest<Batch> {
    /// Debits as many lines from the start as the balance covers, in place of all or none.
    pub fn partial(self) -> Self {
        self.field("partial", json!(true))
    }
}

impl ApiRequest<Capture> {
    /// Lets the balance pay what exceeds the hold.
    pub fn extend(self) -> Self {
        self.field("extend", json!(true))
    }
}

impl ApiRequest<DebitRefund> {
    /// Refunds only a part. By default, all that can still be refunded is.
    pub fn credits(self, credits: Decimal) -> Self {
        self.field("credits", json!(credits.normalize().to_string()))
    }

    /// Refunds one call of a batch, by its index.
    pub fn line(self, line: u32) -> Self {
        self.field("line", json!(line))
    }

    /// Refunds one capture of a settled hold.
    pub fn capture_id(self, capture_id: &str) -> Self {
        self.field("capture_id", json!(capture_id))
    }

    /// Adds a note, which the ledger shows.
    pub fn note(self, note: &str) -> Self {
        self.field("note", json!(note))
    }
}

impl ApiRequest<TopUp> {
    /// Sets where the browser returns to: an absolute URL on an allowed origin.
    pub fn return_url(self, url: &str) -> Self {
        self.field("return_url", json!(url))
    }
}

impl Answered<Value> {
    pub(crate) fn typed<T: DeserializeOwned>(self) -> Result<Answered<T>, Error> {
        Ok(Answered {
            body: serde_json::from_value(self.body).map_err(Error::Unread)?,
            replayed: self.replayed,
        })
    }
}
