//! The simulation: the real functions and the real SDK on one thread and virtual time. One seed decides every choice.
//!
//! [`world`] assembles the parts, and [`actors`] call it. [`wire`], [`payments`] and [`services`] connect the functions
//! to the embedded database and to the stand-ins for Stripe, the bus and SES. They inject the faults of [`faults`].
//! [`commits`], [`answers`] and [`rest`] check the invariants at each commit, for each response, and when no work is
//! left.
#![recursion_limit = "256"]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it serves tests, which calculate and unwrap"
)]

pub mod actors;
pub mod answers;
pub mod bugs;
pub mod calendar;
pub mod call;
pub mod command;
pub mod commits;
pub mod faults;
pub mod item;
pub mod lanes;
pub mod lots;
pub mod owed;
pub mod payments;
pub mod prices;
pub mod refunds;
pub mod rest;
pub mod run;
pub mod services;
pub mod shrink;
pub mod stream;
pub mod table;
pub mod timeline;
pub mod trace;
pub mod warnings;
pub mod wire;
pub mod world;
