//! Reading the ledger.

use credits_core::id::WorkspaceId;
use credits_core::ledger::Entry;

use crate::error::Fault;
use crate::index::{Cursor, Listing, Page};
use crate::{Store, entry_item, keys};

/// What to read.
#[derive(Debug, Clone)]
pub struct LedgerQuery<'a> {
    /// At most so many entries.
    pub limit: u16,
    /// From where an earlier page ended.
    pub after: Option<&'a Cursor>,
    /// Entries of one kind only.
    pub kind: Option<&'a str>,
}

impl Store {
    /// A page of the workspace's ledger, newest first.
    pub async fn ledger(
        &self,
        workspace: &WorkspaceId,
        query: &LedgerQuery<'_>,
    ) -> Result<Page<Entry>, Fault> {
        let listing = Listing {
            partition: &keys::ledger(workspace),
            limit: query.limit.into(),
            after: query.after,
            filter: query.kind.map(|kind| ("kind", kind)),
        };
        self.page(listing, entry_item::read).await
    }
}
