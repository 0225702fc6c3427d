//! Rollup: the stream's records of a balance become the breakdowns of its months, and each write counts exactly once.
//!
//! The stream redelivers, bisects and overlaps batches. So each item stores the version of the balance up to which it
//! counts. A balance's records arrive in the order of its versions, and an item skips what it has counted. So a batch
//! costs one write for each item that it touches, however many entries it has, and no transaction.
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

use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::ledger::Entry;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, Tally, Usage};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::error::{Corrupt, Fault};
use crate::items::entry_item;
use crate::items::usage_item::{COUNTED, GroupItem, Layout, MonthItem};
use crate::table::attribute::{number, text};
use crate::table::expression::Expression;
use crate::table::keys::{CHECKS, INDEX_PK, INDEX_SK, ItemKey, position};
use crate::usage::UsageStore;

/// Groups that are written concurrently.
const AT_A_TIME: usize = 16;

/// How long after its first count a month is checked for the first time.
const FIRST_CHECK_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A write of a balance that consumed credits, as the stream reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The version of the balance after the write.
    pub version: u64,
    /// Names the write's ledger entry, as a balance's `last` does.
    pub last: String,
    /// The month in which the consumption counts.
    pub month: Month,
    /// All that the balance has consumed in that month, this write included.
    pub consumed: Credits,
}

impl UsageStore<'_> {
    /// Counts what a workspace consumed, in the order of its versions, and skips what was counted before.
    pub async fn roll_up(self, workspace: &WorkspaceId, spendings: &[Spending]) -> Result<(), Fault> {
        let mut months: BTreeMap<Month, Vec<&Spending>> = BTreeMap::new();
        for spending in spendings {
            months.entry(spending.month).or_default().push(spending);
        }
        for (month, spendings) in months {
            let mut attempts = self.store.attempts();
            while !self.roll_up_month(workspace, month, &spendings).await? {
                // Another invocation counts the same records. The next attempt skips what it has counted.
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
        spendings: &[&Spending],
    ) -> Result<bool, Fault> {
        let key = ItemKey::usage(workspace, month);
        let item = self.store.get_recent(&key).await?;
        let mut read = item.as_ref().map(MonthItem::read).transpose()?.unwrap_or_default();
        let new: Vec<&Spending> =
            spendings.iter().copied().filter(|it| Some(it.version) > read.counted).collect();
        let Some(last) = new.iter().max_by_key(|spending| spending.version) else { return Ok(true) };
        let entries = self.entries_of(workspace, &new).await?;
        let mut next = read.with(&entries)?;
        if matches!(read.layout, Layout::New | Layout::Open) && !next.has_room(workspace)? {
            if !self.fill(&mut read, &key).await? {
                return Ok(false);
            }
            next = read.with(&entries)?;
        }
        if !self.count_groups(workspace, month, &read, &entries).await? {
            return Ok(false);
        }
        if next.summary.consumed.credits != last.consumed {
            // The check against the ledger reports by how much.
            tracing::error!(%workspace, %month, version = last.version, "the usage differs from the balance");
        }
        let write = read.if_placed_so(unchanged(next.counting(last.version)?, read.counted));
        let write = write
            .set_once(INDEX_PK, text(CHECKS))
            .set_once(INDEX_SK, text(check_position(self.store.now(), workspace, month)));
        self.store.update_if_unchanged(write, &key).await
    }

    /// Makes a month full. Returns `false` if it is no longer as it was read.
    pub(crate) async fn fill(self, read: &mut MonthItem, key: &ItemKey) -> Result<bool, Fault> {
        let full = MonthItem { layout: Layout::Full, ..read.clone() };
        let write = read.if_placed_so(unchanged(full.placing(Expression::new()), read.counted));
        *read = full;
        self.store.update_if_unchanged(write, key).await
    }

    /// Reads the ledger entries of some writes, with their versions.
    async fn entries_of(
        self,
        workspace: &WorkspaceId,
        spendings: &[&Spending],
    ) -> Result<Vec<(u64, Entry)>, Fault> {
        let keys: Vec<ItemKey> =
            spendings.iter().map(|spending| ItemKey::named(workspace, &spending.last)).collect();
        let items = self.store.get_many_final(&keys).await?;
        let entry = |(key, spending): (&ItemKey, &&Spending)| {
            let item = items.get(key).ok_or(Corrupt::Attribute("last"))?;
            Ok((spending.version, entry_item::read(item)?))
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
        entries: &[(u64, Entry)],
    ) -> Result<bool, Fault> {
        let groups = groups_beside(read, entries).map_err(Corrupt::from)?;
        let keys: Vec<ItemKey> =
            groups.keys().map(|(group_by, key)| ItemKey::group(workspace, month, *group_by, key)).collect();
        let items = self.store.get_many(&keys).await?;
        let mut writes = Vec::new();
        for (shares, item_key) in groups.into_values().zip(keys) {
            let read = items.get(&item_key).map(GroupItem::read).transpose()?;
            let counted = read.as_ref().map(|read| read.counted);
            let new = shares.iter().filter(|(version, _)| Some(*version) > counted);
            let before = read.map(|read| read.tally).unwrap_or_default();
            let Some((version, _)) = shares.iter().max_by_key(|(version, _)| *version) else { continue };
            let tally =
                new.clone().try_fold(before, |sum, (_, share)| sum.plus(*share)).map_err(Corrupt::from)?;
            if new.count() > 0 {
                writes.push((unchanged(GroupItem::counting(tally, *version), counted), item_key));
            }
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
    fn with(&self, entries: &[(u64, Entry)]) -> Result<Self, Corrupt> {
        let layout = if self.layout == Layout::New { Layout::Open } else { self.layout };
        let mut next = Self { layout, ..self.clone() };
        for (_, entry) in entries {
            let mut usage = Usage::default();
            usage.count(entry)?;
            next.summary.consumed = next.summary.consumed.plus(usage.total)?;
            for (group, tally) in usage.groups.into_iter().filter(|(group, _)| self.holds(group)) {
                let sum = next.groups.get(&group).copied().unwrap_or_default().plus(tally)?;
                next.groups.insert(group, sum);
            }
        }
        Ok(next)
    }
}

/// The shares of a batch in the groups that have their own items, each with its version.
type Shares = BTreeMap<(GroupBy, String), Vec<(u64, Tally)>>;

fn groups_beside(
    read: &MonthItem,
    entries: &[(u64, Entry)],
) -> Result<Shares, credits_core::credits::OutOfRange> {
    let mut shares = Shares::new();
    for (version, entry) in entries {
        let mut usage = Usage::default();
        usage.count(entry)?;
        for (group, tally) in usage.groups.into_iter().filter(|(group, _)| !read.holds(group)) {
            if let (group_by, Some(key)) = group {
                shares.entry((group_by, key)).or_default().push((*version, tally));
            }
        }
    }
    Ok(shares)
}

/// Adds the condition that the item still counts up to the version that was read.
fn unchanged(write: Expression, counted: Option<u64>) -> Expression {
    match counted {
        Some(version) => write.when(COUNTED, "=", number(version)),
        None => write.when_absent(COUNTED),
    }
}

/// Returns the position of a month in the index of months that await the check.
pub(crate) fn check_position(now: Timestamp, workspace: &WorkspaceId, month: Month) -> String {
    let at = now.checked_add(FIRST_CHECK_AFTER).unwrap_or(now);
    position(at, &format!("{workspace}#{month}"))
}
