//! The items of a month's usage: one of the month, and one of each group that the month's item has no room for.
//!
//! Operations, kinds of consumer and days are few, so the month's item always holds them. Workflows, features and people
//! may be any number. `usage/rollup.rs` says when the month's item holds them.
//!
//! A write of the month's item costs a write unit for each KB, so its tallies are packed: one byte with the length of the
//! credits, the credits in millionths, and the count, both without leading zeros. A day's name is its day of the month.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::usage::{GroupBy, GroupKey, MonthSummary, Moved, Tally};

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, credits, number, read_credits, text};
use crate::table::expression::Expression;
use crate::table::keys::{DETAIL, SK};
use crate::usage::marks::Counted;

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

/// Where the groups of a month's open breakdowns are.
const LAYOUT: &str = "layout";
const OPEN: &str = "open";
const FULL: &str = "full";

/// The size up to which the month's item takes groups. A write of 1,024 bytes costs one write unit.
const MAX_BYTES: usize = 1_024;
/// An upper bound of the attributes besides the breakdowns, with three kinds of movement, payments in one currency, and
/// without the workspace's id.
const OTHER_BYTES: usize = 220;
/// How often the item contains the workspace's id: in its key, and in the index.
const NAMES_OF_WORKSPACE: usize = 2;
/// The breakdown of one more day.
const DAY_BYTES: usize = 10;
/// The days of the longest month. The item reserves room for all.
const MAX_DAYS: usize = 31;

/// Where the groups of a month's open breakdowns are, such as those of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Layout {
    /// Nothing is counted yet.
    #[default]
    New,
    /// All groups are in the month's item.
    Open,
    /// The groups that were in the month's item stay there. Every other group has its own item.
    Full,
    /// All groups have their own items, and the month's item holds lists instead of packed tallies. Before the version
    /// that packs tallies, all months were so.
    Older,
}

/// A month's item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MonthItem {
    /// What it counts; empty while it counts no consumption.
    pub counted: Counted,
    pub layout: Layout,
    pub summary: MonthSummary,
    /// The groups of the breakdowns that are not open, the usage that lacks an attribute, and the groups of open breakdowns
    /// that `layout` places here.
    pub groups: BTreeMap<(GroupBy, GroupKey), Tally>,
}

/// A group that has its own item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GroupItem {
    pub counted: Counted,
    pub tally: Tally,
}

impl MonthItem {
    pub fn read(item: &Item) -> Result<Self, Corrupt> {
        let reader = Reader(item);
        let counted = Counted::read(item)?;
        let layout = match reader.optional_text(LAYOUT) {
            Some(OPEN) => Layout::Open,
            Some(FULL) => Layout::Full,
            Some(_) => return Err(Corrupt::Attribute(LAYOUT)),
            None if counted.is_empty() => Layout::New,
            None => Layout::Older,
        };
        let mut summary = MonthSummary::default();
        let mut groups = BTreeMap::new();
        if !counted.is_empty() {
            summary.consumed =
                Tally { credits: reader.credits("consumed")?, count: reader.number("entries")? };
            groups = read_breakdowns(reader.text(SK)?, reader.map(BREAKDOWNS)?)?;
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
        Ok(Self { counted, layout, summary, groups })
    }

    /// Returns whether the item is the home of a group: the one item that counts it.
    pub fn holds(&self, group: &(GroupBy, GroupKey)) -> bool {
        let (group_by, key) = group;
        !group_by.is_open()
            || key.is_none()
            || matches!(self.layout, Layout::New | Layout::Open)
            || self.groups.contains_key(group)
    }

    /// Returns whether a write of the item costs one write unit until the month's end.
    pub fn has_room(&self, workspace: &WorkspaceId) -> Result<bool, Corrupt> {
        let mut bytes =
            OTHER_BYTES.saturating_add(workspace.as_str().len().saturating_mul(NAMES_OF_WORKSPACE));
        for (name, map) in self.breakdowns()? {
            let entries = map.iter().fold(0_usize, |sum, (member, value)| {
                let value = value.as_b().map_or(0, |packed| packed.as_ref().len());
                sum.saturating_add(member.len()).saturating_add(value).saturating_add(1)
            });
            bytes = bytes.saturating_add(name.len()).saturating_add(4).saturating_add(entries);
        }
        let days = self.groups.keys().filter(|(group_by, _)| *group_by == GroupBy::Day).count();
        let to_come = MAX_DAYS.saturating_sub(days).saturating_mul(DAY_BYTES);
        Ok(bytes.saturating_add(to_come) <= MAX_BYTES)
    }

    /// Builds the update of its consumption. The item's other counters stay, since other writes add to them.
    pub fn counting(&self) -> Result<Expression, Corrupt> {
        let maps = self.breakdowns()?;
        let maps = maps.into_iter().map(|(name, map)| (name.to_owned(), AttributeValue::M(map))).collect();
        let write = self
            .placing(Expression::new())
            .set("consumed", credits(self.summary.consumed.credits))
            .set("entries", number(self.summary.consumed.count))
            .set(BREAKDOWNS, AttributeValue::M(maps));
        Ok(self.counted.set(write))
    }

    /// Adds the layout to an update. A month of an older release keeps its own, which that release can read.
    pub fn placing(&self, write: Expression) -> Expression {
        match self.layout {
            Layout::New | Layout::Older => write,
            Layout::Open => write.set(LAYOUT, text(OPEN)),
            Layout::Full => write.set(LAYOUT, text(FULL)),
        }
    }

    /// Adds the condition that the item places its groups as this one does.
    pub fn if_placed_so(&self, write: Expression) -> Expression {
        match self.layout {
            Layout::New | Layout::Older => write.when_absent(LAYOUT),
            Layout::Open => write.when(LAYOUT, "=", text(OPEN)),
            Layout::Full => write.when(LAYOUT, "=", text(FULL)),
        }
    }

    fn breakdowns(&self) -> Result<BTreeMap<&'static str, HashMap<String, AttributeValue>>, Corrupt> {
        let named = |group_by: &GroupBy| (group_by.name(), HashMap::new());
        let mut maps: BTreeMap<_, HashMap<_, _>> =
            GroupBy::ALL.iter().filter(|group_by| !group_by.is_open()).map(named).collect();
        for ((group_by, key), tally) in &self.groups {
            let (map, member) = match key {
                None => (NONE, group_by.name()),
                Some(key) if *group_by == GroupBy::Day && self.layout != Layout::Older => {
                    (group_by.name(), key.rsplit('-').next().unwrap_or(key))
                }
                Some(key) => (group_by.name(), key.as_str()),
            };
            let tally = if self.layout == Layout::Older { listed(*tally) } else { packed(*tally)? };
            maps.entry(map).or_default().insert(member.to_owned(), tally);
        }
        Ok(maps)
    }
}

impl GroupItem {
    pub fn read(item: &Item) -> Result<Self, Corrupt> {
        Ok(Self { counted: Counted::read(item)?, tally: read_group_tally(item)? })
    }

    /// Builds the update of its counts.
    pub fn counting(&self) -> Expression {
        let count = HashMap::from([("count".to_owned(), number(self.tally.count))]);
        let write = Expression::new()
            .set("credits", credits(self.tally.credits))
            .set(DETAIL, AttributeValue::M(count));
        self.counted.set(write)
    }
}

/// Reads the tally of a group's item.
pub(crate) fn read_group_tally(item: &Item) -> Result<Tally, Corrupt> {
    let reader = Reader(item);
    Ok(Tally { credits: reader.credits("credits")?, count: Reader(reader.map(DETAIL)?).number("count")? })
}

fn listed(tally: Tally) -> AttributeValue {
    AttributeValue::L(vec![credits(tally.credits), number(tally.count)])
}

fn read_listed(value: &AttributeValue) -> Option<Tally> {
    let [credits, count] = value.as_l().ok()?.as_slice() else { return None };
    Some(Tally { credits: read_credits(credits)?, count: count.as_n().ok()?.parse().ok()? })
}

/// Packs a tally. One below zero stays a list: a refund may be counted before its debit on a lane.
fn packed(tally: Tally) -> Result<AttributeValue, Corrupt> {
    let malformed = || Corrupt::Attribute(BREAKDOWNS);
    if tally.credits < Credits::ZERO {
        return Ok(listed(tally));
    }
    let micros = u64::try_from(tally.credits.micros()?).map_err(|_| malformed())?;
    let digits = |number: u64| number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0);
    let length = u8::try_from(digits(micros).count()).map_err(|_| malformed())?;
    let bytes: Vec<u8> = std::iter::once(length).chain(digits(micros)).chain(digits(tally.count)).collect();
    Ok(AttributeValue::B(Blob::new(bytes)))
}

fn read_packed(value: &AttributeValue) -> Option<Tally> {
    let number = |bytes: &[u8]| {
        bytes.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)))
    };
    let (length, rest) = value.as_b().ok()?.as_ref().split_first()?;
    let (micros, count) = rest.split_at_checked(usize::from(*length))?;
    Some(Tally { credits: Credits::from_micros(number(micros)?.into()).ok()?, count: number(count)? })
}

/// Reads the breakdowns of a month, such as `2026-11`.
fn read_breakdowns(month: &str, maps: &Item) -> Result<BTreeMap<(GroupBy, GroupKey), Tally>, Corrupt> {
    let malformed = || Corrupt::Attribute(BREAKDOWNS);
    let mut groups = BTreeMap::new();
    for (name, map) in maps {
        for (member, value) in map.as_m().map_err(|_| malformed())? {
            let (group_by, key) = if name == NONE { (member, None) } else { (name, Some(member.clone())) };
            let group_by = group_by.parse().map_err(|_| malformed())?;
            let day = group_by == GroupBy::Day && member.len() == 2;
            let key = if day { Some(format!("{month}-{member}")) } else { key };
            let tally = read_packed(value).or_else(|| read_listed(value)).ok_or_else(malformed)?;
            groups.insert((group_by, key), tally);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use credits_core::usage::Tally;

    use super::{packed, read_listed, read_packed};

    #[test]
    fn packed_tallies_are_read_as_they_were() {
        for (credits, count, bytes) in
            [("0", 0, 1), ("0.000001", 1, 3), ("123.45", 300, 7), ("999999999999.999999", u64::MAX, 17)]
        {
            let tally = Tally { credits: credits.parse().unwrap(), count };
            let value = packed(tally).unwrap();
            assert_eq!((read_packed(&value), value.as_b().unwrap().as_ref().len()), (Some(tally), bytes));
        }
        let below_zero = Tally { credits: "-1".parse().unwrap(), count: 1 };
        let value = packed(below_zero).unwrap();
        assert_eq!(read_packed(&value).or_else(|| read_listed(&value)), Some(below_zero));
    }
}
