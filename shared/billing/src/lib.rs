//! Billing: subscriptions and automatic top-ups, from a person's request or the sweep to a charge and a grant (M5, M6).
//!
//! `credits_core` decides what is due, Stripe carries it out, and the store records the response. The store keeps a
//! purchase before Stripe is called, and the purchase's id is the idempotency key. After a crash in between, a retry
//! completes the purchase.

use std::sync::Arc;

use credits_core::catalogue::Catalogue;
use credits_payments::provider::{Provider, ProviderError, ReturnUrls};
use credits_payments::signature::Secret;
use credits_store::error::Corrupt;
use credits_store::{Fault, Store};
use tokio::sync::Mutex;

pub mod auto_top_up;
mod charge;
mod checkout;
mod method;
mod refund;
mod renew;
pub mod subscribe;
pub mod sweep;

pub use method::{MethodRefusal, SetupCheckout};
pub use refund::RefundAttempt;

/// The billing operations of one invocation.
#[derive(Debug, Clone)]
pub struct Billing {
    store: Store,
    provider: Provider,
    key: Secret,
    catalogue: Arc<Catalogue>,
    urls: ReturnUrls,
    numbering: Arc<Mutex<()>>,
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
