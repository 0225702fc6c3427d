//! What the stand-in remembers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::charges::{Charge, ChargeOutcome};
use super::customers::Customer;
use super::disputes::Dispute;
use super::events::Waiting;
use super::idempotency::KeptAnswer;
use super::intents::Intent;
use super::legacy;
use super::methods::Method;
use super::refunds::Refund;
use super::sessions::Session;
use super::setups::Setup;

/// The format of the file; a file without one is of the first format.
const FORMAT: u32 = 2;

/// Everything that outlives a request, and a restart where the stack has a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    format: u32,
    pub sessions: BTreeMap<String, Session>,
    /// The open sessions by the second at which they expire.
    pub expiring: BTreeSet<(i64, String)>,
    pub intents: BTreeMap<String, Intent>,
    pub charges: BTreeMap<String, Charge>,
    pub setups: BTreeMap<String, Setup>,
    pub customers: BTreeMap<String, Customer>,
    pub methods: BTreeMap<String, Method>,
    pub refunds: BTreeMap<String, Refund>,
    pub disputes: BTreeMap<String, Dispute>,
    /// Answers by idempotency key.
    pub keys: BTreeMap<String, KeptAnswer>,
    /// How the next charges of a workspace's stored method end, where a control has said so.
    pub outcomes: BTreeMap<String, ChargeOutcome>,
    /// Events that wait to be delivered.
    pub outbox: Vec<Waiting>,
    /// Events whose delivery has begun and not ended: after a restart they wait again.
    #[serde(default)]
    pub delivering: Vec<Waiting>,
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

/// The one member that tells the formats apart.
#[derive(Deserialize)]
struct Header {
    format: Option<u32>,
}

impl Memory {
    /// Reads a file of this format or of the first.
    pub fn read(file: &[u8]) -> Result<Self, serde_json::Error> {
        let Header { format } = serde_json::from_slice(file)?;
        if format.is_some() {
            return serde_json::from_slice(file);
        }
        Ok(serde_json::from_slice::<legacy::Memory>(file)?.into())
    }
}
