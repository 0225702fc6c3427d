//! The state that the parts of a running stack share.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use crate::bus::Bus;
use crate::clock::LocalClock;
use crate::gateway::Gateway;
use crate::mailbox::Mailbox;
use crate::provider::StripeStandIn;
use crate::schedules::Schedule;
use crate::stream::Stream;
use crate::wire::Wire;

/// The stand-in provider's API key for the stack's operator and for tests.
pub(crate) const OPERATOR_KEY: &str = "sk_local";

/// The state that all handlers of a stack share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub gateway: Gateway,
    pub provider: std::sync::Mutex<StripeStandIn>,
    pub worker: Worker,
    pub bus: Bus,
    pub mailbox: Mailbox,
    pub stream: Stream,
    pub wire: Wire,
    pub clock: Arc<LocalClock>,
    /// The stack's own database client. Its requests are not counted.
    pub client: aws_sdk_dynamodb::Client,
    pub table: String,
    pub url: String,
}

/// Processes the waiting work, one piece at a time.
#[derive(Debug)]
pub(crate) struct Worker {
    pub schedules: Vec<Schedule>,
    /// Held while work is processed, which keeps it in order.
    pub turn: tokio::sync::Mutex<()>,
    /// The instant up to which schedules have fired or were skipped.
    fired_until: std::sync::Mutex<Timestamp>,
}

impl Worker {
    pub fn new(schedules: Vec<Schedule>, now: Timestamp) -> Self {
        Self { schedules, turn: tokio::sync::Mutex::new(()), fired_until: std::sync::Mutex::new(now) }
    }

    /// Skips the firings up to an instant. Returns the instant up to which firings had fired or were skipped before.
    pub fn skip_until(&self, instant: Timestamp) -> Timestamp {
        let mut fired_until = self.fired_until.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *fired_until;
        *fired_until = before.max(instant);
        before
    }
}
