//! The repair of a month's usage: replaces what is counted by a recount of the ledger.

use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, Moved, Tally};

use crate::error::Fault;
use crate::items::usage_item::{GroupItem, Layout, MonthItem};
use crate::table::attribute::credits;
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;
use crate::usage::GroupTallies;
use crate::usage::audit::QUIET_AFTER;
use crate::usage::marks::Counted;
use crate::usage::recount::{Recount, Recounted, UsageAuditStore};

/// The result of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The usage is what the ledger says.
    Done,
    /// Credits moved, or another write of the usage was in the way. Retry later.
    Moving,
    /// A slice of the ledger was counted, and nothing was replaced. Another call goes on.
    Unfinished,
}

impl UsageAuditStore<'_> {
    /// Replaces a month's usage by a count from its ledger. Each group stays in the item that counts it.
    pub async fn repair(self, workspace: &WorkspaceId, month: Month) -> Result<Repair, Fault> {
        let recount = match self.recount(workspace, month, QUIET_AFTER).await? {
            Recounted::Whole(recount) => recount,
            Recounted::Moving => return Ok(Repair::Moving),
            Recounted::Unfinished => return Ok(Repair::Unfinished),
        };
        if !self.replace(workspace, month, &recount).await? {
            return Ok(Repair::Moving);
        }
        self.end_recount(workspace, month).await?;
        Ok(Repair::Done)
    }

    /// Writes the groups first, as the rollup does. Returns `false` if another write was in the way.
    async fn replace(self, workspace: &WorkspaceId, month: Month, recount: &Recount) -> Result<bool, Fault> {
        let stored = self.store.balances().read_stored(workspace).await?.unwrap_or_default();
        // The marks of open lanes are not known here. The sweep ends lanes before a workspace counts as quiet.
        if stored.lanes.is_some() {
            return Ok(false);
        }
        let generation = stored.lane_generation;
        let (key, usage) = (ItemKey::usage(workspace, month), self.store.usage());
        let item = self.store.get(&key).await?;
        let mut read = item.as_ref().map(MonthItem::read).transpose()?.unwrap_or_default();
        let mut next = recount.month_item(&read);
        if next.layout == Layout::Open && !next.has_room(workspace)? {
            if !usage.fill(&mut read, &key).await? {
                return Ok(false);
            }
            next = recount.month_item(&read);
        }
        let own = self.own_groups(workspace, month).await?;
        let counted = Counted::all_until(recount.version, generation);
        let writes = recount.groups_beside(&next, &own).map(|(group_by, name, tally)| {
            let write = GroupItem { counted: counted.clone(), tally }.counting();
            (counted.not_beyond(write), ItemKey::group(workspace, month, group_by, name))
        });
        let writes: Vec<(Expression, ItemKey)> = writes.collect();
        next.counted = counted.clone();
        let write = counted.not_beyond(next.counting()?);
        let write = Moved::ALL.into_iter().fold(read.if_placed_so(write), |write, moved| {
            write.set(moved.name(), credits(next.summary.moved(moved)))
        });
        Ok(usage.write_all(writes).await? && self.store.update_if_unchanged(write, &key).await?)
    }
}

impl Recount {
    /// Returns the month's item as it has to be.
    fn month_item(&self, read: &MonthItem) -> MonthItem {
        let layout = if read.layout == Layout::New { Layout::Open } else { read.layout };
        // A group without entries keeps its home.
        let mut groups: GroupTallies =
            read.groups.keys().map(|group| (group.clone(), Tally::default())).collect();
        let held = self.usage.groups.iter().filter(|(group, _)| read.holds(group));
        groups.extend(held.map(|(group, tally)| (group.clone(), *tally)));
        MonthItem { counted: read.counted.clone(), layout, summary: self.summary.clone(), groups }
    }

    /// Returns the groups that the month's item does not count. A group of `own` without entries has no usage.
    fn groups_beside<'a>(
        &'a self,
        month: &'a MonthItem,
        own: &'a GroupTallies,
    ) -> impl Iterator<Item = (GroupBy, &'a str, Tally)> {
        let counted = self.usage.groups.iter().filter(|(group, _)| !month.holds(group));
        let stale = own.keys().filter(|group| month.holds(group) || !self.usage.groups.contains_key(group));
        let all =
            counted.map(|(group, tally)| (group, *tally)).chain(stale.map(|group| (group, Tally::default())));
        all.filter_map(|((group_by, key), tally)| Some((*group_by, key.as_deref()?, tally)))
    }
}
