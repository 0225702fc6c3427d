//! What an HTTP call is for every function: its route, claims and fields, its answer or problem, and the start.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod answer;
pub mod authorisation;
pub mod call;
pub mod catalogue;
pub mod event;
pub mod fields;
mod json;
pub mod problem;
pub mod query;
pub mod return_url;
pub mod route;
pub mod start;
pub mod top_up_url;

pub use answer::Answer;
pub use authorisation::Scope;
pub use call::Call;
pub use problem::Problem;
pub use route::Route;
pub use start::{EventFunction, Function, run, run_on_events};
pub use top_up_url::TopUpUrl;
