//! A model of DynamoDB for tests and benches: the embedded database behind an HTTP connector of the SDK, without a
//! socket, on virtual time.
//!
//! The deployed store runs on it, request by request. Virtual time passes only while something waits, so a run takes
//! only its computing time. The same seed gives the same run.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_arithmetic,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it serves tests and benches, which calculate and unwrap"
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
