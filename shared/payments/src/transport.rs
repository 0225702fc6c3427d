//! The way to the provider, which a simulation replaces by one without a network.

use std::fmt::Debug;
use std::pin::Pin;

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<reqwest::Response, Unreachable>> + Send + 'a>>;

/// Carries a request to the provider and its answer back: over the network, or in a simulation without one.
pub trait Transport: Debug + Send + Sync {
    /// Sends a request.
    fn send(&self, request: reqwest::Request) -> Answering<'_>;
}

impl Transport for reqwest::Client {
    fn send(&self, request: reqwest::Request) -> Answering<'_> {
        Box::pin(async { self.execute(request).await.map_err(Unreachable::from) })
    }
}

/// Why no answer came that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The request could not be sent, or its answer not be read.
    #[error("the request failed")]
    Failed(#[source] reqwest::Error),
    /// Nobody answered.
    #[error("no answer came")]
    Unanswered,
}

impl From<reqwest::Error> for Unreachable {
    /// The error without its address, in whose query there are customers.
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error.without_url())
    }
}
