//! Queries of usage: a month's breakdowns, largest group first, and the totals of months (M9, M17).
//!
//! Groups are sorted when they are read. An index by size would cost two write units for each count.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::price::Price;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally};

use crate::error::{Corrupt, Fault};
use crate::items::usage_item::{BLOCKED, BLOCKED_CREDITS, GroupItem, MonthItem, PAID, REFUNDED};
use crate::table::Store;
use crate::table::attribute::{Reader, credits, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{CHECKS, INDEX_PK, INDEX_SK, ItemKey, PK, SK, read_size_position, size_position};
use crate::table::transaction::{Reason, TransactionOutcome};
use crate::usage::rollup::check_position;

pub mod audit;
pub mod detail;
pub mod marks;
pub mod recount;
pub mod repair;
pub mod rollup;

/// A fact that a month counts besides consumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Credits moved otherwise: bought, granted, expired and so on.
    Moved(Moved, Credits),
    /// A run failed because of insufficient credits, at a step that costs this much (M10).
    Blocked(Credits),
    /// Money was paid, or an invoice charged it.
    Paid(Price),
    /// Money was paid back, or an invoice that charged it is void.
    Refunded(Price),
}

/// A group of a breakdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `None` for usage that lacks the breakdown's attribute.
    pub key: GroupKey,
    pub tally: Tally,
}

/// Pages of 1 MB that one call reads at most: the groups of a breakdown that have their own items, some 150,000.
const MAX_PAGES: usize = 20;

/// What groups have consumed.
pub(crate) type GroupTallies = BTreeMap<(GroupBy, GroupKey), Tally>;

/// A month's usage, without the groups that have their own items.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonthUsage {
    pub summary: MonthSummary,
    /// Groups by operation, kind of consumer and day; and of each other breakdown the usage that lacks its attribute, and
    /// the groups for which the month's item has room.
    pub groups: BTreeMap<(GroupBy, GroupKey), Tally>,
}

/// The end of a page of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPosition(String);

/// Usage by month and group.
#[derive(Debug, Clone, Copy)]
pub struct UsageStore<'a> {
    pub(crate) store: &'a Store,
}

impl UsageStore<'_> {
    /// Counts facts in their month once, however often their event is redelivered.
    pub async fn note(
        self,
        fact_id: &str,
        workspace: &WorkspaceId,
        month: Month,
        noted: &[Noted],
    ) -> Result<(), Fault> {
        let fact = self.store.mails().fact_write(&format!("usage-{fact_id}"), "noted")?;
        let writes = vec![fact, self.note_write(workspace, month, noted)?];
        let mut attempts = self.store.attempts();
        loop {
            match self.store.transact(writes.clone()).await? {
                TransactionOutcome::Written => return Ok(()),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(_)) => return Ok(()),
                    _ => attempts.retry_after_conflict().await?,
                },
            }
        }
    }

    fn note_write(
        self,
        workspace: &WorkspaceId,
        month: Month,
        noted: &[Noted],
    ) -> Result<TransactWriteItem, Fault> {
        let listed = Expression::new()
            .set_once(INDEX_PK, text(CHECKS))
            .set_once(INDEX_SK, text(check_position(self.store.now(), workspace, month)));
        let write = noted.iter().fold(listed, |write, noted| match noted {
            Noted::Moved(moved, amount) => write.add(moved.name(), credits(*amount)),
            Noted::Blocked(required) => {
                write.add(BLOCKED, number(1)).add(BLOCKED_CREDITS, credits(*required))
            }
            Noted::Paid(price) => write.add(&format!("{PAID}{}", price.currency), number(price.amount_minor)),
            Noted::Refunded(price) => {
                write.add(&format!("{REFUNDED}{}", price.currency), number(price.amount_minor))
            }
        });
        Ok(write.update(&self.store.table, &ItemKey::usage(workspace, month))?)
    }

    /// Returns a month's usage.
    pub async fn month(self, workspace: &WorkspaceId, month: Month) -> Result<MonthUsage, Fault> {
        let item = self.store.get(&ItemKey::usage(workspace, month)).await?;
        let read = item.as_ref().map(MonthItem::read).transpose()?.unwrap_or_default();
        Ok(MonthUsage { summary: read.summary, groups: read.groups })
    }

    /// Returns the usage of all months between two, both included. Months without usage are absent.
    pub async fn between(
        self,
        workspace: &WorkspaceId,
        first: Month,
        last: Month,
    ) -> Result<BTreeMap<Month, MonthUsage>, Fault> {
        let query = self
            .store
            .query()
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :first AND :last")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(ItemKey::usage(workspace, first).pk))
            .expression_attribute_values(":first", text(first.to_string()))
            .expression_attribute_values(":last", text(last.to_string()))
            .consistent_read(true);
        let output = self.store.found(query).await?;
        let mut months = BTreeMap::new();
        for item in output.items.unwrap_or_default() {
            let month = Reader(&item).parsed(SK)?;
            let read = MonthItem::read(&item)?;
            months.insert(month, MonthUsage { summary: read.summary, groups: read.groups });
        }
        Ok(months)
    }

    /// Returns all groups of a breakdown, largest first.
    ///
    /// Reads at most 20 pages of 1 MB, some 150,000 groups that have their own items. The result lacks those beyond.
    pub async fn groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
        usage: &MonthUsage,
        group_by: GroupBy,
    ) -> Result<Vec<Group>, Fault> {
        let mut tallies: BTreeMap<GroupKey, Tally> = usage
            .groups
            .iter()
            .filter(|((by, _), _)| *by == group_by)
            .map(|((_, key), tally)| (key.clone(), *tally))
            .collect();
        if group_by.is_open() {
            let prefix = format!("{group_by}#");
            for ((_, key), tally) in self.own_groups(workspace, month, &prefix, MAX_PAGES).await? {
                let sum = tallies.entry(key).or_default();
                *sum = sum.plus(tally).map_err(Corrupt::from)?;
            }
        }
        let groups = tallies.into_iter().map(|(key, tally)| Group { key, tally });
        // The repair of a month may leave groups without usage.
        let mut groups: Vec<Group> = groups.filter(|group| group.tally.count > 0).collect();
        groups.sort_by(|a, b| (b.tally.credits, &b.key).cmp(&(a.tally.credits, &a.key)));
        Ok(groups)
    }

    /// Returns the groups that have their own items and whose sort key has a prefix, from at most `max_pages` pages.
    pub(crate) async fn own_groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
        prefix: &str,
        max_pages: usize,
    ) -> Result<GroupTallies, Fault> {
        let (mut groups, mut from) = (BTreeMap::new(), None);
        for _ in 0..max_pages {
            let query = self
                .store
                .query()
                .key_condition_expression("#pk = :pk AND begins_with(#sk, :prefix)")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#sk", SK)
                .expression_attribute_values(":pk", text(ItemKey::groups(workspace, month)))
                .expression_attribute_values(":prefix", text(prefix))
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
                break;
            }
        }
        Ok(groups)
    }
}

impl Group {
    /// Returns the group's position in its breakdown.
    pub fn position(&self) -> Result<GroupPosition, Fault> {
        let key = self.key.as_deref().unwrap_or_default();
        Ok(GroupPosition(size_position(self.tally.credits, key).map_err(Corrupt::from)?))
    }

    /// Returns whether the group comes after a position. Larger groups come first.
    #[must_use]
    pub fn is_after(&self, position: &GroupPosition) -> bool {
        self.position().is_ok_and(|own| own.0 < position.0)
    }
}

impl GroupPosition {
    /// Returns the position as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a position from its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read_size_position(text)?;
        Some(Self(text.to_owned()))
    }
}
