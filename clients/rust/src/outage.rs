//! The hook for calls that had no final response.

use std::pin::Pin;
use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use crate::error::{BoxError, Unavailable};
use crate::key::IdempotencyKey;

/// A POST under a workspace that had no final response. The application may repeat it later.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outage {
    pub method: Method,
    /// The path without the base URL, as [`Client::request`](crate::Client::request) takes it.
    pub path: String,
    /// The body of the request.
    pub order: Value,
    /// The key with which the call charges nothing twice.
    pub idempotency_key: IdempotencyKey,
    pub error: Unavailable,
}

type Done = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The hook of a client, if it has one.
#[derive(Clone, Default)]
pub(crate) struct OutageHook(Option<Arc<dyn Fn(Outage) -> Done + Send + Sync>>);

impl OutageHook {
    pub(crate) fn new<F, D>(hook: F) -> Self
    where
        F: Fn(Outage) -> D + Send + Sync + 'static,
        D: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self(Some(Arc::new(move |outage| Box::pin(hook(outage)))))
    }

    pub(crate) async fn call(&self, outage: Outage) -> Result<(), BoxError> {
        match &self.0 {
            Some(hook) => hook(outage).await,
            None => Ok(()),
        }
    }
}
