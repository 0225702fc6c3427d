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
pub mod auto_top_ups;
pub mod balances;
pub mod batches;
mod close;
pub mod debits;
pub mod digest;
pub mod due;
pub mod enrolments;
pub mod error;
pub mod failures;
pub mod grants;
pub mod holds;
pub mod idempotency;
pub mod invoices;
mod items;
pub mod ledger;
pub mod mails;
pub mod payments;
mod posting;
pub mod refused;
pub mod runs;
pub mod sources;
pub mod stream;
pub mod table;
pub mod usage;
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
        let writer = table::transaction::writer(&client);
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
