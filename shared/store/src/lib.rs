//! All code that uses DynamoDB: items, keys, expressions, and one conditional write for each posting.
//!
//! No code here reads a balance to decide whether to spend: core states the condition, and DynamoDB enforces it. There
//! is no `Store` trait and no mocked store; tests replace the endpoint, not the type.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use tokio::time::Instant;

pub mod agreements;
pub mod alerts;
mod attribute;
pub mod audit;
pub mod auto_top_ups;
mod balance_item;
pub mod balances;
mod batch_item;
pub mod batches;
pub mod captures;
mod claw_backs;
mod close;
mod consumer_code;
pub mod debits;
pub mod digest;
pub mod due;
mod ended_grants;
pub mod enrolments;
mod entry_item;
pub mod error;
mod expired_holds;
mod expression;
pub mod failures;
pub mod grants;
mod hold_item;
pub mod holds;
pub mod idempotency;
pub mod index;
pub mod invoices;
pub mod keys;
pub mod ledger;
pub mod mails;
pub mod methods;
mod payment_item;
pub mod payments;
mod posting;
pub mod purchases;
mod reads;
pub mod refunds;
pub mod refused;
pub mod rollup;
mod running_grants;
pub mod runs;
pub mod settlements;
pub mod sources;
pub mod stream;
mod transaction;
pub mod unmatched;
pub mod usage;
mod usage_item;
mod versioned;
pub mod workspaces;

pub use error::Fault;
pub use idempotency::{Claim, Fingerprint, IdempotencyKey};
pub use sources::{Clock, Randomness, Sources};

/// The table, with the clock, randomness and deadline of the calls on it.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    /// The same client without retries and timeouts of the SDK, for writes.
    writer: Client,
    table: Arc<str>,
    sources: Sources,
    deadline: Option<Instant>,
}

impl Store {
    /// Creates a store on one table.
    #[must_use]
    pub fn new(client: Client, table: &str, sources: Sources) -> Self {
        let writer = transaction::writer(&client);
        Self { client, writer, table: table.into(), sources, deadline: None }
    }

    /// Returns the same store for one invocation, whose retries end before `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Returns the clock and randomness that were passed in.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns the present instant, truncated to the millisecond as in items.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.sources.now()
    }
}
