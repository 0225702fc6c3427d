//! The client of Stripe's API: checkouts, charges of stored payment methods, refunds.
//!
//! Each request names the API version that it was written for. A POST that must not run twice has an idempotency key.
//! [`ProviderError`] says what a failure means. Each module below has the requests and forms of one Stripe object.

mod charge;
mod checkout;
mod client;
mod method;
mod refund;

pub use charge::{ChargeOutcome, is_forgotten};
pub use checkout::{CheckoutStatus, ReturnUrls, SetupOrder};
pub use client::{Provider, ProviderError, ProviderRefusal, STRIPE_VERSION};
pub use method::PaymentMethod;
pub use refund::{PartialRefund, RefundRefusal, RefundedBy};
