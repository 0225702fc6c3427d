//! Subscriptions and automatic top-ups at work: what a person asks for, and what the sweep finds due, becomes a charge and a
//! grant (M5, M6).
//!
//! Core says what is due, Stripe is asked, and the store records the answer. A purchase is stored before Stripe is asked, and
//! its id is the idempotency key: a crash in between is healed by asking again.

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

/// What billing works with, for one invocation.
#[derive(Debug, Clone)]
pub struct Billing {
    store: Store,
    provider: Provider,
    key: Secret,
    catalogue: Arc<Catalogue>,
    urls: ReturnUrls,
    numbering: Arc<Mutex<()>>,
}

/// Why something could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum BillingFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Fault),
    /// Stripe failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<Corrupt> for BillingFault {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
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
        Self { store, provider, key, catalogue, urls, numbering: Arc::default() }
    }
}
