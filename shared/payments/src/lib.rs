//! The payment provider, which speaks Stripe's API: what it signs and tells, and what we ask of it.
//!
//! A signed event is believed as it stands, with no call back to the provider (API.md, Payments).

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod event;
pub mod object;
#[cfg(feature = "client")]
pub mod provider;
pub mod signature;
#[cfg(feature = "client")]
pub mod transport;
