//! Rollup: the stream's records of a balance become the breakdowns of its months, and each write counts exactly once.
//!
//! The stream redelivers, bisects and overlaps batches. So each item stores the version of the balance up to which it
//! counts. A balance's records arrive in the order of its versions, and an item skips what it has counted. So a batch
//! costs one write for each group that it touches, however many entries it has, and no transaction.

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
use crate::items::usage_item::{COUNTED, GroupItem, MonthItem, is_in_month_item};
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
        let read = self.store.get(&key).await?.as_ref().map(MonthItem::read).transpose()?.unwrap_or_default();
        let new: Vec<&Spending> =
            spendings.iter().copied().filter(|it| Some(it.version) > read.counted).collect();
        let Some(last) = new.iter().max_by_key(|spending| spending.version) else { return Ok(true) };
        let entries = self.entries_of(workspace, &new).await?;
        if !self.count_groups(workspace, month, &entries).await? {
            return Ok(false);
        }
        let mut next = read.clone();
        for (_, entry) in &entries {
            next.add(entry).map_err(Corrupt::from)?;
        }
        if next.summary.consumed.credits != last.consumed {
            // The check against the ledger reports by how much.
            tracing::error!(%workspace, %month, version = last.version, "the usage differs from the balance");
        }
        let write = unchanged(next.counting(last.version), read.counted)
            .set_once(INDEX_PK, text(CHECKS))
            .set_once(INDEX_SK, text(check_position(self.store.now(), workspace, month)));
        self.store.update_if_unchanged(write, &key).await
    }

    /// Reads the ledger entries of some writes, with their versions.
    async fn entries_of(
        self,
        workspace: &WorkspaceId,
        spendings: &[&Spending],
    ) -> Result<Vec<(u64, Entry)>, Fault> {
        let keys: Vec<ItemKey> =
            spendings.iter().map(|spending| ItemKey::named(workspace, &spending.last)).collect();
        let items = self.store.get_many(&keys).await?;
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
        entries: &[(u64, Entry)],
    ) -> Result<bool, Fault> {
        let groups = groups_of(entries).map_err(Corrupt::from)?;
        let keys: Vec<ItemKey> =
            groups.keys().map(|(group_by, key)| ItemKey::group(workspace, month, *group_by, key)).collect();
        let items = self.store.get_many(&keys).await?;
        let mut writes = Vec::new();
        for ((group, shares), item_key) in groups.into_iter().zip(keys) {
            let read = items.get(&item_key).map(GroupItem::read).transpose()?;
            let counted = read.as_ref().map(|read| read.counted);
            let new = shares.iter().filter(|(version, _)| Some(*version) > counted);
            let before = read.map(|read| read.tally).unwrap_or_default();
            let Some((version, _)) = shares.iter().max_by_key(|(version, _)| *version) else { continue };
            let tally =
                new.clone().try_fold(before, |sum, (_, share)| sum.plus(*share)).map_err(Corrupt::from)?;
            if new.count() > 0 {
                let named = (workspace, month, group.0, group.1.as_str());
                writes.push((unchanged(GroupItem::counting(named, tally, *version)?, counted), item_key));
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
    /// Counts an entry in the month, and in the groups that the month's item holds.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), credits_core::credits::OutOfRange> {
        let mut usage = Usage::default();
        usage.count(entry)?;
        self.summary.consumed = self.summary.consumed.plus(usage.total)?;
        for (group, tally) in usage.groups.into_iter().filter(|((by, key), _)| is_in_month_item(*by, key)) {
            let sum = self.groups.get(&group).copied().unwrap_or_default().plus(tally)?;
            self.groups.insert(group, sum);
        }
        Ok(())
    }
}

/// The shares of a batch in the groups that have their own items, each with its version.
type Shares = BTreeMap<(GroupBy, String), Vec<(u64, Tally)>>;

fn groups_of(entries: &[(u64, Entry)]) -> Result<Shares, credits_core::credits::OutOfRange> {
    let mut shares = Shares::new();
    for (version, entry) in entries {
        let mut usage = Usage::default();
        usage.count(entry)?;
        for ((group_by, key), tally) in usage.groups {
            if let Some(key) = key.filter(|_| group_by.is_open()) {
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
