//! The scheduled events: deliveries, invocations, duplicates. They are ordered by time, and then by their creation.

use std::collections::BTreeMap;
use std::sync::Mutex;

use credits_local::provider::{StripeDisputeStatus, StripeRefundStatus};
use jiff::Timestamp;
use serde_json::Value;

use crate::call::Order;

/// A scheduled event.
#[derive(Debug, Clone)]
pub enum TimelineEvent {
    /// Stripe delivers an event to the webhook.
    Webhook {
        /// The event's body.
        body: String,
        /// The number of failed attempts.
        tries: u32,
    },
    /// The bus delivers an event to a function.
    Handed {
        /// The name of the function's binary.
        function: String,
        event: Value,
        /// The number of failed attempts.
        tries: u32,
    },
    /// Lambda reads a shard of the stream.
    Read {
        /// The shard's number.
        shard: usize,
    },
    /// A request arrives at the table again.
    Request { operation: String, body: Value },
    /// A payment that is processing is settled.
    Settle {
        /// The id of the payment intent.
        payment: String,
    },
    /// A refund ends.
    EndRefund {
        /// Stripe's id of the refund.
        refund: String,
        status: StripeRefundStatus,
    },
    /// A dispute moves to another status.
    MoveDispute {
        /// Stripe's id of the dispute.
        dispute: String,
        /// The statuses to move to; the next one is the last.
        moves: Vec<StripeDisputeStatus>,
    },
    /// A call is made again.
    Call(Order),
}

/// The scheduled events, by time.
#[derive(Debug, Default)]
pub struct Timeline(Mutex<Ordered>);

#[derive(Debug, Default)]
struct Ordered {
    made: u64,
    events: BTreeMap<(Timestamp, u64), TimelineEvent>,
}

impl Timeline {
    /// Schedules an event.
    pub fn put(&self, at: Timestamp, event: TimelineEvent) {
        let mut ordered = self.0.lock().unwrap();
        ordered.made += 1;
        let made = ordered.made;
        ordered.events.insert((at, made), event);
    }

    /// Returns the time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.0.lock().unwrap().events.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event.
    #[must_use]
    pub fn take(&self) -> Option<(Timestamp, TimelineEvent)> {
        self.0.lock().unwrap().events.pop_first().map(|((at, _), event)| (at, event))
    }
}
