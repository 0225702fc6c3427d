//! Why a request for a subscription is refused.

use credits_core::price::Price;
use credits_store::Fault;

use crate::billing::BillingFault;

/// The reason why a subscription request was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeRefusal {
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// Neither the catalogue nor the workspace's own terms have the tier.
    #[error("the tier does not exist")]
    UnknownTier,
    /// The workspace's plan allows no subscriptions (M7).
    #[error("the plan allows no subscriptions")]
    PlanForbids,
    /// The workspace has no subscription, and none is pending.
    #[error("the workspace has no subscription")]
    NoSubscription,
    /// The charge would exceed the caller's expected price or have another currency. Nothing was charged. Holds the
    /// price.
    #[error("the charge of {0} is above the expected price or in another currency")]
    PriceChanged(Price),
    /// The stored method was declined, and nothing has changed. Holds Stripe's reason.
    #[error("the payment method was declined")]
    Declined(String),
    #[error(transparent)]
    Fault(#[from] BillingFault),
}

impl From<Fault> for SubscribeRefusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.into())
    }
}
