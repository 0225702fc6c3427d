//! The domain of AI Credits: what a workspace owns, what a call costs, and what a posting changes.
//!
//! This crate has no I/O, no async code and no clock. Callers pass in instants, ids and randomness, so a property test
//! can run each rule a million times a second. The store turns a [`posting::Posting`] into one conditional write; the
//! functions turn requests into postings.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod agreement;
pub mod alert;
pub mod auto_top_up;
pub mod balance;
pub mod batch;
pub mod call_top_up;
pub mod catalogue;
pub mod change;
pub mod claw_back;
pub mod close;
pub mod consumer;
pub mod credit_rate;
pub mod credits;
pub mod currency;
pub mod debit_refund;
pub mod dispute;
pub mod event;
pub mod expiry;
pub mod forecast;
pub mod grant;
pub mod hold;
pub mod hold_posting;
pub mod id;
pub mod invoice;
pub mod lane;
pub mod ledger;
pub mod metadata;
pub mod month;
mod open_charge;
pub mod own_prices;
pub mod payment;
mod payment_news;
pub mod portion;
pub mod posting;
pub mod price;
pub mod price_list;
pub mod purchase;
pub mod rate_card;
pub mod rate_cards;
pub mod refund;
mod renewal;
pub mod right_sizing;
pub mod run;
pub mod seller;
pub mod subscription;
pub mod subscription_account;
pub mod tier_change;
pub mod top_up_page;
pub mod units;
pub mod usage;
pub mod usage_detail;
pub mod waterfall;
pub mod workspace;
