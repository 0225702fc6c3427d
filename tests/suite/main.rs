//! Tests of the requirements M1 to M17, through the real functions, the real AWS SDK and a real endpoint.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test may use plain arithmetic and unwrap; the code under test may not"
)]

mod alerts;
mod audit;
mod auto_top_up;
mod bad_input;
mod batches;
mod busy;
mod call_top_up;
mod calls;
mod charging;
mod client;
mod client_calls;
mod closing;
mod commitments;
mod contention;
mod currencies;
mod debit_refunds;
mod due;
mod enterprise;
mod events;
mod expiry_notices;
mod fuzz;
mod grants;
mod hold_ends;
mod hold_keys;
mod holds;
mod invoices;
mod isolation;
mod items;
mod lanes;
mod ledger;
mod mails;
mod months;
mod openapi;
mod operations;
mod page;
mod payment_methods;
mod payment_refunds;
mod pricing;
mod refunds;
mod requests;
mod rollup;
mod runs;
mod spending;
mod spill;
mod streaming;
mod stripe_failures;
mod subscribing;
mod sweeping;
mod table;
mod thresholds;
mod topping_up;
mod unmatched;
mod upgrade;
mod usage;
mod usage_detail;
mod webhook;
mod world;
