//! The code that all functions share: settings, start-up, authorisation, request parsing and problem+json.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod answer;
pub mod authorisation;
pub mod call;
pub mod catalogue;
pub mod connection;
pub mod event;
pub mod fields;
mod json;
pub mod problem;
pub mod query;
pub mod return_url;
pub mod route;
mod secret_error;
pub mod secrets;
pub mod settings;
pub mod sources;
pub mod start;
mod start_error;
pub mod steps;
pub mod telemetry;
pub mod top_up_url;

pub use answer::Answer;
pub use authorisation::Scope;
pub use call::Call;
pub use problem::Problem;
pub use route::Route;
pub use settings::Settings;
pub use start::{EventFunction, Function, StartError, run, run_on_events};
pub use top_up_url::TopUpUrl;
