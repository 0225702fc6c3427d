//! What is to happen later: deliveries, invocations, duplicates; in order, and in the order of their making at one instant.

use std::collections::BTreeMap;
use std::sync::Mutex;

use credits_local::provider::{DisputeStatus, RefundStatus};
use jiff::Timestamp;
use serde_json::Value;

use crate::call::Order;

/// Something that is to happen.
#[derive(Debug, Clone)]
pub enum Event {
    /// The provider tells of something.
    Webhook {
        /// The event's body.
        body: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The bus hands an event to a function.
    Handed {
        /// The function's binary.
        function: String,
        /// The event.
        event: Value,
        /// How often it was tried.
        tries: u32,
    },
    /// A shard of the stream is read.
    Read {
        /// Which.
        shard: usize,
    },
    /// A request to the table arrives once more.
    Request {
        /// The operation.
        operation: String,
        /// Its body.
        body: Value,
    },
    /// A payment that is processing is settled.
    Settle {
        /// Stripe's id of the payment.
        payment: String,
    },
    /// A refund ends.
    EndRefund {
        /// Stripe's id of the refund.
        refund: String,
        /// How it ends.
        status: RefundStatus,
    },
    /// A dispute moves on.
    MoveDispute {
        /// Stripe's id of the dispute.
        dispute: String,
        /// Where to, the last first.
        moves: Vec<DisputeStatus>,
    },
    /// A call is made again.
    Call(Order),
}

/// What is to happen, by when.
#[derive(Debug, Default)]
pub struct Timeline(Mutex<Ordered>);

#[derive(Debug, Default)]
struct Ordered {
    made: u64,
    events: BTreeMap<(Timestamp, u64), Event>,
}

impl Timeline {
    /// Puts something down for an instant.
    pub fn put(&self, at: Timestamp, event: Event) {
        let mut ordered = self.0.lock().unwrap();
        ordered.made += 1;
        let made = ordered.made;
        ordered.events.insert((at, made), event);
    }

    /// When the next is.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.0.lock().unwrap().events.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next.
    #[must_use]
    pub fn take(&self) -> Option<(Timestamp, Event)> {
        self.0.lock().unwrap().events.pop_first().map(|((at, _), event)| (at, event))
    }
}
