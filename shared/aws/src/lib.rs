//! What every function has from AWS and the machine: settings, secrets, the connection, the clock, randomness, logs,
//! metrics and traces.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod connection;
pub mod dynamodb;
pub mod intercept;
pub mod secrets;
pub mod settings;
pub mod sources;
mod start_error;
pub mod telemetry;
pub mod trace;

pub use settings::Settings;
pub use start_error::StartError;
