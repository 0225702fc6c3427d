//! The simulation: the real functions and the real SDK on one thread and virtual time, every choice from one seed.
//!
//! [`world`] puts the parts together; [`actors`] call it; [`wire`], [`payments`] and [`services`] lead into the embedded
//! database, the stand-in provider, bus and mailbox, and fail as [`faults`] says; [`commits`], [`answers`] and [`rest`]
//! check what must hold at each write, of each answer, and when everything has come to rest.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is made for tests, which calculate and unwrap"
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
pub mod lots;
pub mod owed;
pub mod payments;
pub mod prices;
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
