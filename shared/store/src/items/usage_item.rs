//! The items of a month's usage: one of the month, and one of each workflow, feature and person.
//!
//! Operations, kinds of consumer and days are few, so the month's item holds them. Workflows, features and people may
//! be any number, so each has its own item, which the index sorts by size.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally};

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, credits, number, read_credits, text};
use crate::table::expression::Expression;
use crate::table::keys::{self, DETAIL, INDEX_PK, INDEX_SK};

/// The version of the balance up to which an item counts.
pub(crate) const COUNTED: &str = "counted";
/// Number of runs that failed because of insufficient credits.
pub(crate) const BLOCKED: &str = "blocked";
/// Cost of the steps at which these runs failed.
pub(crate) const BLOCKED_CREDITS: &str = "blocked_credits";
/// Prefix of the sums that were paid or invoiced, in minor units by currency: `paid_USD`.
pub(crate) const PAID: &str = "paid_";
/// Prefix of the sums that were paid back, in minor units by currency.
pub(crate) const REFUNDED: &str = "refunded_";
/// The breakdowns that the month's item holds.
const BREAKDOWNS: &str = "breakdowns";
/// The member of the breakdowns for usage that lacks an attribute.
const NONE: &str = "none";

/// A month's item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MonthItem {
    /// The version of the balance up to which it counts; `None` while it counts no consumption.
    pub counted: Option<u64>,
    pub summary: MonthSummary,
    /// The groups of the breakdowns that are not open, and the usage that lacks an attribute.
    pub groups: BTreeMap<(GroupBy, GroupKey), Tally>,
}

/// A group that has its own item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupItem {
    pub counted: u64,
    pub tally: Tally,
}

/// Returns whether the month's item holds a group.
pub(crate) fn is_in_month_item(group_by: GroupBy, key: &GroupKey) -> bool {
    !group_by.is_open() || key.is_none()
}

impl MonthItem {
    pub fn read(item: &Item) -> Result<Self, Corrupt> {
        let reader = Reader(item);
        let counted = item.contains_key(COUNTED).then(|| reader.number(COUNTED)).transpose()?;
        let mut summary = MonthSummary::default();
        let mut groups = BTreeMap::new();
        if counted.is_some() {
            summary.consumed =
                Tally { credits: reader.credits("consumed")?, count: reader.number("entries")? };
            groups = read_breakdowns(reader.map(BREAKDOWNS)?)?;
        }
        for moved in Moved::ALL.into_iter().filter(|moved| item.contains_key(moved.name())) {
            summary.moved.insert(moved, reader.credits(moved.name())?);
        }
        if item.contains_key(BLOCKED) {
            summary.blocked = reader.number(BLOCKED)?;
            summary.blocked_credits = reader.credits(BLOCKED_CREDITS)?;
        }
        for (name, value) in item {
            let sums = [(PAID, &mut summary.paid_minor), (REFUNDED, &mut summary.refunded_minor)];
            for (prefix, sums) in sums {
                let Some(currency) = name.strip_prefix(prefix) else { continue };
                let currency = currency.parse().map_err(|_| Corrupt::Attribute(PAID))?;
                let sum = value.as_n().ok().and_then(|digits| digits.parse().ok());
                sums.insert(currency, sum.ok_or(Corrupt::Attribute(PAID))?);
            }
        }
        Ok(Self { counted, summary, groups })
    }

    /// Builds the update of its consumption. The item's other counters stay, since other writes add to them.
    pub fn counting(&self, version: u64) -> Expression {
        let mut maps: HashMap<String, HashMap<String, AttributeValue>> = HashMap::new();
        for name in GroupBy::ALL.iter().filter(|group_by| !group_by.is_open()).map(|it| it.name()) {
            maps.insert(name.to_owned(), HashMap::new());
        }
        for ((group_by, key), tally) in &self.groups {
            let (map, member) = match key {
                Some(key) => (group_by.name(), key.as_str()),
                None => (NONE, group_by.name()),
            };
            maps.entry(map.to_owned()).or_default().insert(member.to_owned(), tally_value(*tally));
        }
        let maps = maps.into_iter().map(|(name, map)| (name, AttributeValue::M(map))).collect();
        Expression::new()
            .set("consumed", credits(self.summary.consumed.credits))
            .set("entries", number(self.summary.consumed.count))
            .set(BREAKDOWNS, AttributeValue::M(maps))
            .set(COUNTED, number(version))
    }
}

impl GroupItem {
    pub fn read(item: &Item) -> Result<Self, Corrupt> {
        Ok(Self { counted: Reader(item).number(COUNTED)?, tally: read_group_tally(item)? })
    }

    /// Builds the update of its counts, with its position in its breakdown.
    pub fn counting(
        (workspace, month, group_by, key): (&WorkspaceId, Month, GroupBy, &str),
        tally: Tally,
        version: u64,
    ) -> Result<Expression, Corrupt> {
        Ok(Expression::new()
            .set(INDEX_PK, text(keys::groups(workspace, month, group_by)))
            .set(INDEX_SK, text(keys::size_position(tally.credits, key)?))
            .set("credits", credits(tally.credits))
            .set(DETAIL, AttributeValue::M(HashMap::from([("count".to_owned(), number(tally.count))])))
            .set(COUNTED, number(version)))
    }
}

/// Reads the tally of a group's item, from the table or from the index.
pub(crate) fn read_group_tally(item: &Item) -> Result<Tally, Corrupt> {
    let reader = Reader(item);
    Ok(Tally { credits: reader.credits("credits")?, count: Reader(reader.map(DETAIL)?).number("count")? })
}

fn tally_value(tally: Tally) -> AttributeValue {
    AttributeValue::L(vec![credits(tally.credits), number(tally.count)])
}

fn read_tally(value: &AttributeValue) -> Option<Tally> {
    let [credits, count] = value.as_l().ok()?.as_slice() else { return None };
    Some(Tally { credits: read_credits(credits)?, count: count.as_n().ok()?.parse().ok()? })
}

fn read_breakdowns(maps: &Item) -> Result<BTreeMap<(GroupBy, GroupKey), Tally>, Corrupt> {
    let malformed = || Corrupt::Attribute(BREAKDOWNS);
    let mut groups = BTreeMap::new();
    for (name, map) in maps {
        for (member, value) in map.as_m().map_err(|_| malformed())? {
            let group = if name == NONE { (member, None) } else { (name, Some(member.clone())) };
            let group_by = group.0.parse().map_err(|_| malformed())?;
            groups.insert((group_by, group.1), read_tally(value).ok_or_else(malformed)?);
        }
    }
    Ok(groups)
}
