//! DynamoDB as a model: the embedded database behind an HTTP connector of the SDK, without a socket, on virtual time.
//!
//! What runs on it is the store as it is deployed, request by request. Time passes only where something waits, so what
//! takes seconds of virtual time takes as long as its computing does, and the same seed gives the same run.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_arithmetic,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is made for tests and benches, which calculate and unwrap"
)]

pub mod busy;
pub mod counted;
mod embedded;
pub mod items;
pub mod ladder;
pub mod renewals;
pub mod report;
pub mod runtime_api;
mod sources;

pub use embedded::Embedded;
pub use sources::{Dice, Seeded, VirtualClock};
