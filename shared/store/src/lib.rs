//! All code that uses DynamoDB: items, keys, expressions, and one conditional write for each posting.
//!
//! No code here reads a balance to decide whether to spend: core states the condition, and DynamoDB enforces it. There
//! is no `Store` trait and no mocked store; tests replace the endpoint, not the type.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

pub mod agreements;
pub mod alerts;
mod areas;
pub mod auto_top_ups;
pub mod balances;
pub mod batches;
mod close;
pub mod debit_refunds;
pub mod debits;
pub mod digest;
pub mod due;
pub mod error;
pub mod failures;
pub mod grants;
pub mod holds;
pub mod idempotency;
pub mod invoices;
mod items;
mod known_refusals;
pub mod lanes;
pub mod ledger;
pub mod mails;
pub mod own_prices;
pub mod payments;
mod posting;
pub mod refused;
pub mod runs;
pub mod sources;
pub mod stream;
pub mod subscriptions;
pub mod table;
pub mod usage;
pub mod workspaces;

pub use error::Fault;
pub use idempotency::{Claim, Fingerprint, IdempotencyKey, KeyUse};
pub use sources::{Clock, Randomness, Sources};
pub use table::Store;
