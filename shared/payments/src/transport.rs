//! The transport of requests to Stripe. A simulation replaces it by one without a network.

use std::fmt::Debug;
use std::pin::Pin;

/// The future of Stripe's response.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<reqwest::Response, Unreachable>> + Send + 'a>>;

/// A transport of requests to Stripe and of its responses: the network, or a simulation of it.
pub trait Transport: Debug + Send + Sync {
    /// Sends a request and returns its response.
    fn send(&self, request: reqwest::Request) -> Answering<'_>;
}

impl Transport for reqwest::Client {
    fn send(&self, request: reqwest::Request) -> Answering<'_> {
        Box::pin(async { self.execute(request).await.map_err(Unreachable::from) })
    }
}

/// The reason why a request has no readable response.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The request could not be sent, or the response could not be read.
    #[error("the request failed")]
    Failed(#[source] reqwest::Error),
    /// No response arrived.
    #[error("no response came")]
    Unanswered,
}

impl From<reqwest::Error> for Unreachable {
    /// Removes the URL from the error: its query contains customer ids.
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error.without_url())
    }
}
