//! Rollup: the stream's records of a balance and its lanes become the breakdowns of its months, and each write counts
//! exactly once.
//!
//! The stream redelivers, bisects and overlaps batches. So each item stores up to which write of the balance and of each lane
//! it counts (`usage/marks.rs`). The records of each arrive in the order of its writes, and an item skips what it has
//! counted. So a batch costs one write for each item that it touches, however many entries it has, and no transaction.
//!
//! The month's item counts all groups while it is small enough for one write unit. Then it is full, and new groups get
//! items of their own. The invariant that keeps this exact: at each moment, each group has one home, the item that counts
//! it, and a write changes homes only by making the month full.
//!
//! - A month's item that is open is the home of all groups.
//! - The write that makes it full counts nothing. The groups that it holds by then stay, and it never takes others.
//! - Each write of the month's item requires the version and the layout that were read. So no invocation that read an
//!   open month can count a new group there once it is full.
//! - A group's own item is written only by an invocation that read a full month, or made it full.
//!
//! So a group can't be counted in both, whichever batches are redelivered, overlap, or end halfway.

use std::collections::BTreeMap;

use credits_core::id::WorkspaceId;
use credits_core::ledger::Entry;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, Tally, Usage};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::error::{Corrupt, Fault};
use crate::items::entry_item;
use crate::items::usage_item::{GroupItem, Layout, MonthItem};
use crate::table::attribute::text;
use crate::table::expression::Expression;
use crate::table::keys::{CHECKS, INDEX_PK, INDEX_SK, ItemKey, position};
use crate::usage::UsageStore;
use crate::usage::marks::Mark;

/// Groups that are written concurrently.
const AT_A_TIME: usize = 16;

/// How long after its first count a month is checked for the first time.
const FIRST_CHECK_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A write of a balance or a lane that consumed credits, as the stream reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    pub mark: Mark,
    /// Names the write's ledger entry, as a balance's `last` does.
    pub last: String,
}

/// A spending with its ledger entry.
struct Spent {
    mark: Mark,
    entry: Entry,
}

impl UsageStore<'_> {
    /// Counts what a workspace consumed, and skips what was counted before. The writes of one item are in their order.
    pub async fn roll_up(self, workspace: &WorkspaceId, spendings: &[Spending]) -> Result<(), Fault> {
        let mut months: BTreeMap<Month, Vec<Spent>> = BTreeMap::new();
        for spent in self.entries_of(workspace, spendings).await? {
            months.entry(spent.entry.usage_month()).or_default().push(spent);
        }
        for (month, spent) in months {
            let mut attempts = self.store.attempts();
            while !self.roll_up_month(workspace, month, &spent).await? {
                // Another invocation counts the same month. The next attempt skips what it has counted.
                attempts.retry_after_conflict().await?;
            }
        }
        Ok(())
    }

    /// Counts what a month's item has not counted yet. Returns `false` if another invocation wrote an item meanwhile.
    async fn roll_up_month(
        self,
        workspace: &WorkspaceId,
        month: Month,
        spent: &[Spent],
    ) -> Result<bool, Fault> {
        let key = ItemKey::usage(workspace, month);
        let item = self.store.get_recent(&key).await?;
        let mut read = item.as_ref().map(MonthItem::read).transpose()?.unwrap_or_default();
        let new: Vec<&Spent> = spent.iter().filter(|it| !read.counted.has(it.mark)).collect();
        if new.is_empty() {
            return Ok(true);
        }
        let mut next = read.with(&new)?;
        if matches!(read.layout, Layout::New | Layout::Open) && !next.has_room(workspace)? {
            if !self.fill(&mut read, &key).await? {
                return Ok(false);
            }
            next = read.with(&new)?;
        }
        if !self.count_groups(workspace, month, &read, &new).await? {
            return Ok(false);
        }
        let write = read.if_placed_so(read.counted.unchanged(next.counting()?));
        let write = write
            .set_once(INDEX_PK, text(CHECKS))
            .set_once(INDEX_SK, text(check_position(self.store.now(), workspace, month)));
        self.store.update_if_unchanged(write, &key).await
    }

    /// Makes a month full. Returns `false` if it is no longer as it was read.
    pub(crate) async fn fill(self, read: &mut MonthItem, key: &ItemKey) -> Result<bool, Fault> {
        let full = MonthItem { layout: Layout::Full, ..read.clone() };
        let write = read.if_placed_so(read.counted.unchanged(full.placing(Expression::new())));
        *read = full;
        self.store.update_if_unchanged(write, key).await
    }

    /// Reads the ledger entries of some writes.
    async fn entries_of(self, workspace: &WorkspaceId, spendings: &[Spending]) -> Result<Vec<Spent>, Fault> {
        let keys: Vec<ItemKey> =
            spendings.iter().map(|spending| ItemKey::named(workspace, &spending.last)).collect();
        let items = self.store.get_many_final(&keys).await?;
        let entry = |(key, spending): (&ItemKey, &Spending)| {
            let item = items.get(key).ok_or(Corrupt::Attribute("last"))?;
            Ok(Spent { mark: spending.mark, entry: entry_item::read(item)? })
        };
        keys.iter().zip(spendings).map(entry).collect()
    }

    /// Counts entries in the groups that have their own items. Returns `false` if another invocation wrote one
    /// meanwhile.
    async fn count_groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
        read: &MonthItem,
        spent: &[&Spent],
    ) -> Result<bool, Fault> {
        let groups = groups_beside(read, spent).map_err(Corrupt::from)?;
        let keys: Vec<ItemKey> =
            groups.keys().map(|(group_by, key)| ItemKey::group(workspace, month, *group_by, key)).collect();
        let items = self.store.get_many(&keys).await?;
        let mut writes = Vec::new();
        for (shares, item_key) in groups.into_values().zip(keys) {
            let read = items.get(&item_key).map(GroupItem::read).transpose()?.unwrap_or_default();
            let new: Vec<_> = shares.into_iter().filter(|(mark, _)| !read.counted.has(*mark)).collect();
            if new.is_empty() {
                continue;
            }
            let mut next = read.clone();
            for (mark, share) in new {
                next.tally = next.tally.plus(share).map_err(Corrupt::from)?;
                next.counted = next.counted.and(mark);
            }
            writes.push((read.counted.unchanged(next.counting()), item_key));
        }
        self.write_all(writes).await
    }

    /// Writes groups concurrently. Returns `false` if another invocation wrote one meanwhile.
    pub(crate) async fn write_all(self, mut writes: Vec<(Expression, ItemKey)>) -> Result<bool, Fault> {
        let mut all = true;
        while !writes.is_empty() {
            let mut running = JoinSet::new();
            for (write, key) in writes.drain(..writes.len().min(AT_A_TIME)) {
                let store = self.store.clone();
                running.spawn(async move { store.update_if_unchanged(write, &key).await });
            }
            for written in running.join_all().await {
                all &= written?;
            }
        }
        Ok(all)
    }
}

impl MonthItem {
    /// Returns the item with more entries counted, as far as it is the home of their groups.
    fn with(&self, spent: &[&Spent]) -> Result<Self, Corrupt> {
        let layout = if self.layout == Layout::New { Layout::Open } else { self.layout };
        let mut next = Self { layout, ..self.clone() };
        for Spent { mark, entry } in spent {
            let mut usage = Usage::default();
            usage.count_change(entry)?;
            next.summary.consumed = next.summary.consumed.plus(usage.total)?;
            for (group, tally) in usage.groups.into_iter().filter(|(group, _)| self.holds(group)) {
                let sum = next.groups.get(&group).copied().unwrap_or_default().plus(tally)?;
                next.groups.insert(group, sum);
            }
            next.counted = next.counted.and(*mark);
        }
        Ok(next)
    }
}

/// The shares of a batch in the groups that have their own items, each with its mark.
type Shares = BTreeMap<(GroupBy, String), Vec<(Mark, Tally)>>;

fn groups_beside(read: &MonthItem, spent: &[&Spent]) -> Result<Shares, credits_core::credits::OutOfRange> {
    let mut shares = Shares::new();
    for Spent { mark, entry } in spent {
        let mut usage = Usage::default();
        usage.count_change(entry)?;
        for (group, tally) in usage.groups.into_iter().filter(|(group, _)| !read.holds(group)) {
            if let (group_by, Some(key)) = group {
                shares.entry((group_by, key)).or_default().push((*mark, tally));
            }
        }
    }
    Ok(shares)
}

/// Returns the position of a month in the index of months that await the check.
pub(crate) fn check_position(now: Timestamp, workspace: &WorkspaceId, month: Month) -> String {
    let at = now.checked_add(FIRST_CHECK_AFTER).unwrap_or(now);
    position(at, &format!("{workspace}#{month}"))
}
