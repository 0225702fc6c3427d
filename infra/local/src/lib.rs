//! The local stack: the whole product on one machine, without AWS and without Stripe.
//!
//! It runs the deployed functions' code behind the routes of template.yaml. The embedded `DynamoDB` has the table of
//! template.yaml, and a stand-in plays Stripe.
//!
//! `cargo local` starts a stack, and the test suite starts one per test. A stack listens on 127.0.0.1 only.
#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

mod aws_api;
pub mod bus;
mod claims;
mod clock;
pub mod command;
pub mod conflicts;
mod controls;
pub mod database;
pub mod demo;
mod folder;
pub mod functions;
pub mod gateway;
pub mod mailbox;
mod pages;
pub mod permissions;
pub mod provider;
mod provider_api;
mod reply;
pub mod schedules;
mod stack;
mod stack_error;
mod state;
mod stream;
pub mod template;
mod template_error;
pub mod tokens;
mod verify;
mod wire;
mod worker;

pub use stack::{Options, OwnProvider, Stack};
pub use stack_error::StackError;
pub use tokens::TokenOrder;
