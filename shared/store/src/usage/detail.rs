//! Details of usage: reads the ledger entries of some days, and counts their AI calls (M9).

use credits_core::id::WorkspaceId;
use credits_core::usage_detail::UsageDetail;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::table::keys::position;
use crate::usage::UsageStore;

/// The maximum number of entries that one detail reads.
pub const MAX_ENTRIES: usize = 10_000;

/// The maximum number of calls after which a detail reads no further entries. A batch has up to 500 calls.
const MAX_CALLS: u64 = 100_000;

/// Entries of each of the ledger's partitions that are read at once.
const ENTRIES_A_PAGE: usize = 1_000;

/// How far a detail has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailExtent {
    /// The number of entries that were read.
    pub entries: usize,
    /// When the last of them was posted, if there are others that were not read.
    pub cut_after: Option<Timestamp>,
}

impl UsageStore<'_> {
    /// Counts the calls of the entries from an instant until before another, oldest first.
    pub async fn count_detail(
        self,
        workspace: &WorkspaceId,
        from: Timestamp,
        until: Timestamp,
        detail: &mut UsageDetail,
    ) -> Result<DetailExtent, Fault> {
        let partitions = self.store.ledger().partitions(workspace).await?;
        let (mut after, end) = (position(from, ""), position(until, ""));
        let mut entries = 0_usize;
        loop {
            let left = MAX_ENTRIES.saturating_sub(entries).checked_div(partitions.len()).unwrap_or(1);
            let limit = i32::try_from(left.clamp(1, ENTRIES_A_PAGE)).ok();
            let slice = self.store.ledger().forwards(&partitions, &after, &end, limit).await?;
            for entry in &slice.entries {
                detail.count(entry).map_err(Corrupt::from)?;
            }
            entries = entries.saturating_add(slice.entries.len());
            let Some(next) = slice.next else { return Ok(DetailExtent { entries, cut_after: None }) };
            if entries >= MAX_ENTRIES || detail.calls_read >= MAX_CALLS {
                let cut_after = slice.entries.last().map(|entry| entry.at);
                return Ok(DetailExtent { entries, cut_after });
            }
            after = next;
        }
    }
}
