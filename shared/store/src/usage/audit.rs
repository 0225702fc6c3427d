//! The usage audit: counts a month again from its ledger and compares the count with the stored usage, group by group.

use std::collections::BTreeSet;

use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, GroupKey, Moved, Tally};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::table::attribute::{Item, Reader, text};
use crate::table::expression::Expression;
use crate::table::keys::{CHECKS, INDEX_PK, INDEX_SK, ItemKey, position, read_position};
use crate::usage::recount::{Recount, RecountSlice, Recounted, UsageAuditStore, is_settled};
use crate::usage::{GroupTallies, MonthUsage};

/// The time without movement of credits before an audit. By then the stream and the index have caught up.
pub const QUIET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The interval between two checks of a month.
const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// The pause after a check's first failure. It doubles with each further one, up to the interval between two checks.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

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
    /// A slice of the ledger was counted. Another call goes on.
    Unfinished,
}

/// A group or column that the usage counts differently from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A breakdown with its group, or a column of the history.
    pub of: String,
    pub ledger: Tally,
    pub usage: Tally,
}

impl UsageAuditStore<'_> {
    /// Returns the same audit, which counts one slice of a month a call.
    #[must_use]
    pub fn in_slices(self, slice: RecountSlice) -> Self {
        Self { slice, ..self }
    }

    /// Compares a month's usage with its ledger, unless credits have moved within `quiet_after`.
    ///
    /// Callers pass [`QUIET_AFTER`], or less if they know that the stream is drained.
    pub async fn check(
        self,
        workspace: &WorkspaceId,
        month: Month,
        quiet_after: SignedDuration,
    ) -> Result<Audit, Fault> {
        let recount = match self.recount(workspace, month, quiet_after).await? {
            Recounted::Whole(recount) => recount,
            Recounted::Moving => return Ok(Audit::Moving),
            Recounted::Unfinished => return Ok(Audit::Unfinished),
        };
        let mut kept = self.store.usage().month(workspace, month).await?;
        for (group, tally) in self.own_groups(workspace, month).await? {
            let sum = kept.groups.entry(group).or_default();
            *sum = sum.plus(tally).map_err(Corrupt::from)?;
        }
        if !self.is_still(workspace, month, recount.version).await? {
            return Ok(Audit::Moving);
        }
        self.end_recount(workspace, month).await?;
        Ok(Audit::Compared(differences(&recount, &kept)))
    }

    pub(crate) async fn own_groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
    ) -> Result<GroupTallies, Fault> {
        self.store.usage().own_groups(workspace, month, "", usize::MAX).await
    }

    /// Returns the checks that are due, at most `MAX_CHECKS`.
    pub async fn due_checks(self) -> Result<Vec<Check>, Fault> {
        let end =
            position(self.store.now().checked_add(SignedDuration::from_millis(1)).unwrap_or_default(), "");
        let found = self.store.dated(CHECKS, "", &end, MAX_CHECKS).await?;
        let read = found.iter().map(read_check);
        Ok(read
            .filter_map(|check| {
                check.inspect_err(|error| tracing::error!(%error, "a check is unreadable")).ok()
            })
            .collect())
    }

    /// Returns the time at which the next check is due.
    pub async fn next_check(self) -> Result<Option<Timestamp>, Fault> {
        self.store.first_date(CHECKS).await
    }

    /// Ends a check that found the month right. Schedules the next one, unless the month's ledger is complete.
    pub async fn end_check(self, check: &Check) -> Result<(), Fault> {
        if !is_settled(check.month, self.store.now()) {
            return self.repeat_check(check).await;
        }
        let write = Expression::new().when(INDEX_SK, "=", text(&check.position));
        let write = write.remove(INDEX_PK).remove(INDEX_SK);
        self.store.update_unless_changed(write, &ItemKey::usage(&check.workspace_id, check.month)).await
    }

    /// Schedules the next check of a month.
    pub async fn repeat_check(self, check: &Check) -> Result<(), Fault> {
        self.redate(check, EVERY).await.map(drop)
    }

    /// Puts a check behind those that are due, and returns it with its new date.
    pub async fn put_behind(self, check: &Check) -> Result<Check, Fault> {
        self.redate(check, SignedDuration::ZERO).await
    }

    /// Postpones a check that failed.
    pub async fn postpone_check(self, check: &Check) -> Result<(), Fault> {
        let failures = self.count_failure(&check.workspace_id, check.month).await?;
        let pauses = 2_i32.checked_pow(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let pause = FIRST_PAUSE.checked_mul(pauses).map_or(EVERY, |pause| pause.min(EVERY));
        self.redate(check, pause).await.map(drop)
    }

    async fn redate(self, check: &Check, pause: SignedDuration) -> Result<Check, Fault> {
        let now = self.store.now();
        let named = format!("{}#{}", check.workspace_id, check.month);
        let next =
            Check { position: position(now.checked_add(pause).unwrap_or(now), &named), ..check.clone() };
        let write = Expression::new().when(INDEX_SK, "=", text(&check.position));
        let write = write.set(INDEX_SK, text(&next.position));
        self.store.update_unless_changed(write, &ItemKey::usage(&check.workspace_id, check.month)).await?;
        Ok(next)
    }

    /// Returns whether no credits can have moved in the month since a version of the balance.
    ///
    /// A busy balance goes on to new versions, but none of them moves credits in a month whose ledger is complete.
    pub(crate) async fn is_still(
        self,
        workspace: &WorkspaceId,
        month: Month,
        version: u64,
    ) -> Result<bool, Fault> {
        Ok(is_settled(month, self.store.now())
            || self.store.balances().version(workspace).await? == Some(version))
    }
}

fn differences(recount: &Recount, kept: &MonthUsage) -> Vec<Difference> {
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
        let of = |groups: &GroupTallies| groups.get(group).copied().unwrap_or_default();
        let named = format!("{} {}", group.0, group.1.as_deref().unwrap_or("null"));
        compare(named, of(&recount.usage.groups), of(&kept.groups));
    }
    differences
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
