//! The client of Stripe, the payment provider: signed webhook events and requests to its API.
//!
//! A signed event is trusted as received, without a request back to Stripe.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod event;
pub mod object;
#[cfg(feature = "client")]
pub mod provider;
pub mod signature;
#[cfg(feature = "client")]
pub mod transport;
