//! Subscriptions at work: what a person asks for, and what a sweep finds due, becomes a charge and a grant (M6).
//!
//! Core says what is due, the provider is asked, and the store keeps the answer. A purchase is kept before the provider
//! is asked, and its id is the provider's idempotency key: a crash in between is healed by asking again.

use std::sync::Arc;

use credits_core::catalogue::Catalogue;
use credits_payments::provider::{Provider, ProviderError, ReturnUrls};
use credits_payments::signature::Secret;
use credits_store::{Fault, Store};

pub mod auto_top_up;
mod charge;
mod checkout;
mod renew;
pub mod subscribe;
pub mod sweep;

/// What billing works with, for one invocation.
#[derive(Debug, Clone)]
pub struct Billing {
    store: Store,
    provider: Provider,
    key: Secret,
    catalogue: Arc<Catalogue>,
    urls: ReturnUrls,
}

/// Why something could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum BillingFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Fault),
    /// The provider failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl BillingFault {
    /// Whether trying again later may help, whatever was asked for: something that we stand on is down or busy.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Store(fault) => !matches!(fault, Fault::Corrupt(_)),
            Self::Provider(error) => error.is_passing(),
        }
    }
}

impl Billing {
    /// Puts it together. The store ends its retries before the invocation's time does.
    #[must_use]
    pub fn new(
        store: Store,
        provider: Provider,
        key: Secret,
        catalogue: Arc<Catalogue>,
        urls: ReturnUrls,
    ) -> Self {
        Self { store, provider, key, catalogue, urls }
    }
}
