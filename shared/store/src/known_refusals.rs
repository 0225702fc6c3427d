//! What an instance remembers of refusals, so that a storm of them costs reads and no writes.
//!
//! A refusal without a write reads the balance and the entry of the caller's key. It is exact if the balance still has
//! the version that refused an earlier call. Each posting raises the version, and versions never fall. So no posting came
//! between that refusal and this read, whichever of the two items was read first: an entry that is absent was not written
//! by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;

use crate::refused::RefusedBalance;

/// The maximum number of workspaces that an instance remembers.
const MAX_WORKSPACES: usize = 1_000;

/// The balances that have refused calls of this instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownRefusals(Arc<Mutex<HashMap<WorkspaceId, KnownRefusal>>>);

/// A balance that has refused a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownRefusal {
    pub version: u64,
    /// What the balance covers at this version.
    pub spendable: Credits,
}

impl KnownRefusals {
    /// Returns what is known of a workspace.
    pub fn of(&self, workspace: &WorkspaceId) -> Option<KnownRefusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(workspace).copied()
    }

    /// Remembers a refusal. A full memory is emptied first: refusals of that many workspaces are no storm of one.
    pub fn remember(&self, workspace: &WorkspaceId, balance: &RefusedBalance) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_WORKSPACES {
            known.clear();
        }
        let refusal = KnownRefusal { version: balance.version, spendable: balance.spendable };
        known.insert(workspace.clone(), refusal);
    }

    /// Forgets a workspace whose balance has changed.
    pub fn forget(&self, workspace: &WorkspaceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(workspace);
    }
}
