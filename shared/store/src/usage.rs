//! Queries of usage: a month's breakdowns, largest group first, and the totals of months (M9, M17).

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::price::Price;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally};

use crate::error::{Corrupt, Fault};
use crate::items::usage_item::{BLOCKED, BLOCKED_CREDITS, MonthItem, PAID, REFUNDED, read_group_tally};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, credits, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{
    CHECKS, INDEX_PK, INDEX_SK, ItemKey, PK, SK, groups, read_size_position, size_position,
};
use crate::table::transaction::{Reason, TransactionOutcome};
use crate::usage::rollup::check_position;

pub mod audit;
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

/// A month's usage, without the breakdowns that may have any number of groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonthUsage {
    pub summary: MonthSummary,
    /// Groups by operation, kind of consumer and day; and of each other breakdown the usage that lacks its attribute.
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

    /// Returns the largest groups of an open breakdown after a position, at most `limit`, in one query.
    pub async fn largest_groups(
        self,
        workspace: &WorkspaceId,
        month: Month,
        group_by: GroupBy,
        after: Option<&GroupPosition>,
        limit: u16,
    ) -> Result<Vec<Group>, Fault> {
        let before = after.map(GroupPosition::as_str);
        let request = self.store.backwards(&groups(workspace, month, group_by), before, limit.into());
        let output = request.customize().config_override(self.store.read_config()).send().await;
        let items = output.map_err(Fault::unavailable)?.items.unwrap_or_default();
        let groups: Vec<Group> = items.iter().map(read_group).collect::<Result<_, _>>()?;
        // The repair of a month may leave groups without usage.
        Ok(groups.into_iter().filter(|group| group.tally.count > 0).collect())
    }
}

fn read_group(item: &Item) -> Result<Group, Corrupt> {
    let (_, key) = read_size_position(Reader(item).text(INDEX_SK)?).ok_or(Corrupt::Attribute(INDEX_SK))?;
    Ok(Group { key: Some(key.to_owned()), tally: read_group_tally(item)? })
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
