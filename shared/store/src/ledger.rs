//! Queries of the ledger.

use credits_core::id::WorkspaceId;
use credits_core::ledger::{Entry, EntryKind};

use crate::error::Fault;
use crate::items::entry_item;
use crate::table::Store;
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys;

/// A query of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerQuery<'a> {
    /// Maximum number of entries on the page.
    pub limit: u16,
    /// The end of the previous page.
    pub after: Option<&'a Cursor>,
    /// If set, only entries of this kind.
    pub kind: Option<EntryKind>,
}

/// Ledger entries.
#[derive(Debug, Clone, Copy)]
pub struct LedgerStore<'a> {
    pub(crate) store: &'a Store,
}

impl LedgerStore<'_> {
    /// Returns a page of the workspace's ledger, newest first.
    pub async fn page(self, workspace: &WorkspaceId, query: &LedgerQuery<'_>) -> Result<Page<Entry>, Fault> {
        let listing = IndexQuery {
            partition: &keys::ledger(workspace),
            limit: query.limit.into(),
            after: query.after,
            filter: query.kind.map(|kind| ("kind", kind.name())),
        };
        self.store.page(listing, entry_item::read).await
    }
}
