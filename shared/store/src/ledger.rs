//! Queries of the ledger.

use credits_core::id::WorkspaceId;
use credits_core::ledger::{Entry, EntryKind};

use crate::error::Fault;
use crate::items::balance_item::LANE_GENERATION;
use crate::items::entry_item;
use crate::table::Store;
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys::{self, ItemKey};

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
    /// Returns the index partitions of a workspace's ledger. Only a workspace that has had lanes has several.
    pub(crate) async fn partitions(self, workspace: &WorkspaceId) -> Result<Vec<String>, Fault> {
        let balance = self.store.get_recent(&ItemKey::balance(workspace)).await?;
        let has_had_lanes = balance.is_some_and(|balance| balance.contains_key(LANE_GENERATION));
        let shards = has_had_lanes.then(|| keys::ledger_shards(workspace)).into_iter().flatten();
        Ok(std::iter::once(keys::ledger(workspace)).chain(shards).collect())
    }

    /// Returns a page of the workspace's ledger, newest first.
    pub async fn page(self, workspace: &WorkspaceId, query: &LedgerQuery<'_>) -> Result<Page<Entry>, Fault> {
        let listing = IndexQuery {
            partitions: &self.partitions(workspace).await?,
            limit: query.limit.into(),
            after: query.after,
            filter: query.kind.map(|kind| ("kind", kind.name())),
        };
        self.store.page(listing, entry_item::read).await
    }
}
