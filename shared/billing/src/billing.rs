//! What each billing operation works with, and why one fails.

use std::sync::Arc;

use credits_core::catalogue::Catalogue;
use credits_payments::provider::{Provider, ProviderError, ReturnUrls};
use credits_payments::signature::Secret;
use credits_store::error::Corrupt;
use credits_store::{Fault, Store};
use tokio::sync::Mutex;

/// The billing operations of one invocation.
#[derive(Debug, Clone)]
pub struct Billing {
    pub(crate) store: Store,
    pub(crate) provider: Provider,
    pub(crate) key: Secret,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) urls: ReturnUrls,
    pub(crate) numbering: Arc<Mutex<()>>,
}

/// The reason why a billing operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BillingFault {
    #[error(transparent)]
    Store(#[from] Fault),
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<Corrupt> for BillingFault {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

impl BillingFault {
    /// Returns whether a later retry may succeed, whatever the operation: the store or Stripe is down or busy.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Store(fault) => !matches!(fault, Fault::Corrupt(_)),
            Self::Provider(error) => error.is_passing(),
        }
    }
}

impl Billing {
    /// Creates the billing operations. The store must end its retries before the invocation's deadline.
    #[must_use]
    pub fn new(
        store: Store,
        provider: Provider,
        key: Secret,
        catalogue: Arc<Catalogue>,
        urls: ReturnUrls,
    ) -> Self {
        Self { store, provider, key, catalogue, urls, numbering: Arc::default() }
    }
}
