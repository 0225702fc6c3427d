//! Billing: subscriptions and automatic top-ups, from a person's request or the sweep to a charge and a grant (M5, M6).
//!
//! `credits_core` decides what is due, Stripe carries it out, and the store records the response. The store keeps a
//! purchase before Stripe is called, and the purchase's id is the idempotency key. After a crash in between, a retry
//! completes the purchase.

pub mod auto_top_up;
mod billing;
mod charge;
mod checkout;
mod method;
pub mod preview;
mod refund;
mod renew;
pub mod subscribe;
mod subscribe_refusal;
pub mod subscription_view;
pub mod sweep;

pub use billing::{Billing, BillingFault};
pub use method::{MethodRefusal, SetupCheckout};
pub use refund::RefundAttempt;
