//! The table: its keys and index, the values of attributes, expressions, reads and transactions.

pub(crate) mod attribute;
pub(crate) mod expression;
pub mod index;
pub mod keys;
pub(crate) mod reads;
pub(crate) mod transaction;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::known_refusals::KnownRefusals;
use crate::lanes::known::KnownLanes;
use crate::lanes::opening::LaneOpening;
use crate::sources::Sources;

/// The table, with the clock, randomness and deadline of the calls on it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) client: Client,
    /// The same client without retries and timeouts of the SDK, for writes.
    pub(crate) writer: Client,
    pub(crate) table: Arc<str>,
    pub(crate) sources: Sources,
    pub(crate) deadline: Option<Instant>,
    pub(crate) known_refusals: KnownRefusals,
    pub(crate) known_lanes: KnownLanes,
    pub(crate) lane_opening: LaneOpening,
}

impl Store {
    /// Creates a store on one table.
    #[must_use]
    pub fn new(client: Client, table: &str, sources: Sources) -> Self {
        let writer = transaction::writer(&client);
        Self {
            client,
            writer,
            table: table.into(),
            sources,
            deadline: None,
            known_refusals: KnownRefusals::default(),
            known_lanes: KnownLanes::default(),
            lane_opening: LaneOpening::default(),
        }
    }

    /// Returns the same store with another rule for the opening of lanes.
    #[must_use]
    pub fn opening_lanes(self, lane_opening: LaneOpening) -> Self {
        Self { lane_opening, ..self }
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
