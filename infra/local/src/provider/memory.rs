//! The state of the stand-in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::charges::{Charge, PlayedOutcome};
use super::customers::Customer;
use super::disputes::StripeDispute;
use super::events::OutboxEvent;
use super::idempotency::KeptAnswer;
use super::intents::StripeIntent;
use super::methods::Method;
use super::refunds::StripeRefund;
use super::sessions::Session;
use super::setups::Setup;

/// The format of the file. A file without a format has the first one.
const FORMAT: u32 = 2;

/// The state that outlives a request. A stack with a folder keeps it across restarts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    format: u32,
    pub sessions: BTreeMap<String, Session>,
    /// The open sessions, by the second at which they expire.
    pub expiring: BTreeSet<(i64, String)>,
    pub intents: BTreeMap<String, StripeIntent>,
    pub charges: BTreeMap<String, Charge>,
    pub setups: BTreeMap<String, Setup>,
    pub customers: BTreeMap<String, Customer>,
    pub methods: BTreeMap<String, Method>,
    pub refunds: BTreeMap<String, StripeRefund>,
    pub disputes: BTreeMap<String, StripeDispute>,
    /// The kept answers, by idempotency key.
    pub keys: BTreeMap<String, KeptAnswer>,
    /// The outcome of the next charges, by workspace. Set by a control.
    pub outcomes: BTreeMap<String, PlayedOutcome>,
    /// The events that wait for delivery.
    pub outbox: Vec<OutboxEvent>,
    /// The events in delivery. After a restart they wait again.
    #[serde(default)]
    pub delivering: Vec<OutboxEvent>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            format: FORMAT,
            sessions: BTreeMap::new(),
            expiring: BTreeSet::new(),
            intents: BTreeMap::new(),
            charges: BTreeMap::new(),
            setups: BTreeMap::new(),
            customers: BTreeMap::new(),
            methods: BTreeMap::new(),
            refunds: BTreeMap::new(),
            disputes: BTreeMap::new(),
            keys: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            outbox: Vec::new(),
            delivering: Vec::new(),
        }
    }
}
