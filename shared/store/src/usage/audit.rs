//! The usage audit: counts a month again from its ledger and compares the count with the stored usage, group by group.

use std::collections::{BTreeMap, BTreeSet};

use credits_core::id::WorkspaceId;
use credits_core::ledger::Entry;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally, Usage};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::items::usage_item::{COUNTED, GroupItem, MonthItem};
use crate::items::{batch_item, entry_item};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, credits, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{CHECKS, INDEX_PK, INDEX_SK, ItemKey, PK, SK, ledger, position, read_position};
use crate::table::reads::key_of;

/// The time after a month's end from which its ledger counts as complete.
pub(crate) const SETTLED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The time without movement of credits before an audit. By then the stream and the index have caught up.
pub const QUIET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The interval between two checks of a month.
const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// The maximum number of checks that one invocation reads.
const MAX_CHECKS: i32 = 1_000;

/// A check of one workspace's usage in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub workspace_id: WorkspaceId,
    pub month: Month,
    position: String,
}

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// Credits moved during the count or shortly before it, so nothing was compared.
    Moving,
    /// The usage was compared with the ledger; empty if they agree.
    Compared(Vec<Difference>),
}

/// A group or column that the usage counts differently from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A breakdown with its group, or a column of the history.
    pub of: String,
    pub ledger: Tally,
    pub usage: Tally,
}

/// A month's usage, counted from the ledger at one version of the balance.
struct Recount {
    version: u64,
    summary: MonthSummary,
    usage: Usage,
}

/// The audit of usage against the ledger.
#[derive(Debug, Clone, Copy)]
pub struct UsageAuditStore<'a> {
    pub(crate) store: &'a Store,
}

impl UsageAuditStore<'_> {
    /// Compares a month's usage with its ledger, unless credits have moved within `quiet_after`.
    ///
    /// Callers pass [`QUIET_AFTER`], or less if they know that the stream is drained.
    pub async fn check(
        self,
        workspace: &WorkspaceId,
        month: Month,
        quiet_after: SignedDuration,
    ) -> Result<Audit, Fault> {
        let counted = self.recount(workspace, month, quiet_after).await?;
        let Some(recount) = counted else { return Ok(Audit::Moving) };
        let mut kept = self.store.usage().month(workspace, month).await?;
        kept.groups.extend(self.open_groups(workspace, month).await?);
        if !self.is_still(workspace, month, recount.version).await? {
            return Ok(Audit::Moving);
        }
        let mut differences = Vec::new();
        let mut compare = |of: String, ledger: Tally, usage: Tally| {
            if ledger != usage {
                differences.push(Difference { of, ledger, usage });
            }
        };
        compare("consumed".to_owned(), recount.summary.consumed, kept.summary.consumed);
        for moved in Moved::ALL {
            let alone = |credits| Tally { credits, count: 0 };
            let (ledger, usage) = (recount.summary.moved(moved), kept.summary.moved(moved));
            compare(moved.name().to_owned(), alone(ledger), alone(usage));
        }
        let groups: BTreeSet<&(GroupBy, GroupKey)> =
            recount.usage.groups.keys().chain(kept.groups.keys()).collect();
        for group in groups {
            let of = |groups: &BTreeMap<_, Tally>| groups.get(group).copied().unwrap_or_default();
            let named = format!("{} {}", group.0, group.1.as_deref().unwrap_or("null"));
            compare(named, of(&recount.usage.groups), of(&kept.groups));
        }
        Ok(Audit::Compared(differences))
    }

    /// Replaces a month's usage by a count from its ledger.
    ///
    /// Returns `false` if credits moved or another write of the usage was in the way. The caller then retries later.
    pub async fn mend(self, workspace: &WorkspaceId, month: Month) -> Result<bool, Fault> {
        let counted = self.recount(workspace, month, QUIET_AFTER).await?;
        let Some(recount) = counted else { return Ok(false) };
        let mut next = MonthItem { summary: recount.summary.clone(), ..MonthItem::default() };
        let stale = self.open_groups(workspace, month).await?;
        let mut tallies: BTreeMap<_, _> = stale.into_keys().map(|group| (group, Tally::default())).collect();
        tallies.extend(recount.usage.groups);
        let mut writes = Vec::new();
        for ((group_by, key), tally) in tallies {
            match key {
                Some(key) if group_by.is_open() => {
                    let named = (workspace, month, group_by, key.as_str());
                    let write = GroupItem::counting(named, tally, recount.version)?;
                    let older = number(recount.version);
                    let item_key = ItemKey::group(workspace, month, group_by, &key);
                    writes.push((write.when_absent_or(COUNTED, "<=", older), item_key));
                }
                key => drop(next.groups.insert((group_by, key), tally)),
            }
        }
        let key = ItemKey::usage(workspace, month);
        let older = number(recount.version);
        let write = next.counting(recount.version).when_absent_or(COUNTED, "<=", older);
        let write = Moved::ALL
            .into_iter()
            .fold(write, |write, moved| write.set(moved.name(), credits(next.summary.moved(moved))));
        Ok(self.store.usage().write_all(writes).await? && self.store.update_if_unchanged(write, &key).await?)
    }

    /// Returns the checks that are due, at most `MAX_CHECKS`.
    pub async fn due_checks(self) -> Result<Vec<Check>, Fault> {
        let end =
            position(self.store.now().checked_add(SignedDuration::from_millis(1)).unwrap_or_default(), "");
        let found = self.store.dated(CHECKS, "", &end, MAX_CHECKS).await?;
        Ok(found.iter().map(read_check).collect::<Result<_, _>>()?)
    }

    /// Returns the time at which the next check is due.
    pub async fn next_check(self) -> Result<Option<Timestamp>, Fault> {
        self.store.first_date(CHECKS).await
    }

    /// Ends a check that found the month right. Schedules the next one, unless the month's ledger is complete.
    pub async fn end_check(self, check: &Check) -> Result<(), Fault> {
        if !self.is_settled(check.month) {
            return self.repeat_check(check).await;
        }
        let write = Expression::new().when(INDEX_SK, "=", text(&check.position));
        let write = write.remove(INDEX_PK).remove(INDEX_SK);
        self.store.update_unless_changed(write, &ItemKey::usage(&check.workspace_id, check.month)).await
    }

    /// Schedules the next check of a month.
    pub async fn repeat_check(self, check: &Check) -> Result<(), Fault> {
        let now = self.store.now();
        let named = format!("{}#{}", check.workspace_id, check.month);
        let next = text(position(now.checked_add(EVERY).unwrap_or(now), &named));
        let write = Expression::new().when(INDEX_SK, "=", text(&check.position)).set(INDEX_SK, next);
        self.store.update_unless_changed(write, &ItemKey::usage(&check.workspace_id, check.month)).await
    }

    /// Counts a month from its ledger.
    ///
    /// Returns `None` if credits moved during the count or within `quiet_after` before it, or if there is no workspace.
    async fn recount(
        self,
        workspace: &WorkspaceId,
        month: Month,
        quiet_after: SignedDuration,
    ) -> Result<Option<Recount>, Fault> {
        let Some(version) = self.store.balances().version(workspace).await? else { return Ok(None) };
        let (mut summary, mut usage) = (MonthSummary::default(), Usage::default());
        let (start, end) = (position(month.start(), ""), position(month.end(), ""));
        let (mut from, mut latest) = (start, Timestamp::UNIX_EPOCH);
        loop {
            let (items, more) = self.store.forwards(&ledger(workspace), &from, &end, None).await?;
            for entry in self.with_lines(&items).await? {
                latest = latest.max(entry.at);
                summary.count(&entry).and_then(|()| usage.count(&entry)).map_err(Corrupt::from)?;
            }
            match items.last().filter(|_| more) {
                Some(last) => Reader(last).text(INDEX_SK)?.clone_into(&mut from),
                None => break,
            }
        }
        let quiet = self.store.now().duration_since(latest) >= quiet_after;
        let still = quiet && self.is_still(workspace, month, version).await?;
        Ok(still.then_some(Recount { version, summary, usage }))
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

    /// Returns whether no credits can have moved in the month since a version of the balance.
    ///
    /// A busy balance goes on to new versions, but none of them moves credits in a month whose ledger is complete.
    async fn is_still(self, workspace: &WorkspaceId, month: Month, version: u64) -> Result<bool, Fault> {
        Ok(self.is_settled(month) || self.store.balances().version(workspace).await? == Some(version))
    }

    fn is_settled(self, month: Month) -> bool {
        month.end().checked_add(SETTLED_AFTER).is_ok_and(|settled| self.store.now() > settled)
    }

    /// Returns the groups of a month that have their own items.
    async fn open_groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
    ) -> Result<BTreeMap<(GroupBy, GroupKey), Tally>, Fault> {
        let mut groups = BTreeMap::new();
        let mut from = None;
        loop {
            let query = self
                .store
                .query()
                .key_condition_expression("#pk = :pk")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":pk", text(format!("usage#{workspace}#{month}")))
                .consistent_read(true)
                .set_exclusive_start_key(from);
            let output = self.store.found(query).await?;
            for item in output.items.unwrap_or_default() {
                let (group_by, key) =
                    Reader(&item).text(SK)?.split_once('#').ok_or(Corrupt::Attribute(SK))?;
                let group_by = group_by.parse().map_err(|_| Corrupt::Attribute(SK))?;
                groups.insert((group_by, Some(key.to_owned())), GroupItem::read(&item)?.tally);
            }
            from = output.last_evaluated_key;
            if from.is_none() {
                return Ok(groups);
            }
        }
    }
}

fn read_check(item: &Item) -> Result<Check, Corrupt> {
    let found = Reader(item).text(INDEX_SK)?;
    let (_, named) = read_position(found).ok_or(Corrupt::Attribute(INDEX_SK))?;
    let (workspace, month) = named.split_once('#').ok_or(Corrupt::Attribute(INDEX_SK))?;
    Ok(Check {
        workspace_id: workspace.parse().map_err(|_| Corrupt::Attribute(INDEX_SK))?,
        month: month.parse().map_err(|_| Corrupt::Attribute(INDEX_SK))?,
        position: found.to_owned(),
    })
}
