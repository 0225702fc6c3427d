//! Queries of the ledger.

use credits_core::id::WorkspaceId;
use credits_core::ledger::{Entry, EntryKind};

use crate::error::{Corrupt, Fault};
use crate::items::balance_item::LANE_GENERATION;
use crate::items::{batch_item, entry_item};
use crate::table::Store;
use crate::table::attribute::{Item, Reader};
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys::{self, INDEX_SK, ItemKey};
use crate::table::reads::key_of;

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

    /// Returns the entries between two index positions, oldest first, each with its lines.
    pub(crate) async fn forwards(
        self,
        partitions: &[String],
        after: &str,
        before: &str,
        limit: Option<i32>,
    ) -> Result<LedgerSlice, Fault> {
        let (items, more) = self.store.forwards(partitions, after, before, limit).await?;
        let entries = self.with_lines(&items).await?;
        let last = items.last().filter(|_| more);
        let next = last.map(|last| Reader(last).text(INDEX_SK).map(str::to_owned)).transpose()?;
        Ok(LedgerSlice { entries, next })
    }

    /// Returns the ledger entries of an index page.
    ///
    /// Reads entries with lines from the table, because the index does not hold lines.
    async fn with_lines(self, items: &[Item]) -> Result<Vec<Entry>, Fault> {
        let batches = items.iter().filter(|item| batch_item::has_lines(item));
        let keys: Vec<ItemKey> = batches.map(key_of).collect::<Result<_, _>>()?;
        let whole = self.store.get_many(&keys).await?;
        let read = |item: &Item| entry_item::read(whole.get(&key_of(item)?).unwrap_or(item));
        Ok(items.iter().map(read).collect::<Result<_, Corrupt>>()?)
    }
}

/// Entries between two index positions.
pub(crate) struct LedgerSlice {
    pub entries: Vec<Entry>,
    /// The position of the last entry if others follow it.
    pub next: Option<String>,
}
