//! `GET /v1/workspaces/{workspace_id}/usage`: breaks down a month's consumption, for example by workflow (M3, M9).

use std::collections::BTreeMap;

use credits_core::credits::Credits;
use credits_core::month::Month;
use credits_core::usage::{GroupBy, GroupKey, Moved, Tally};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::usage::{Group, GroupPosition, MonthUsage};
use credits_store::{Fault, Store};
use serde::Serialize;

use crate::cursor::CursorScope;
use crate::{Account, query};

const MAX_GROUPS: u16 = 1_000;
const USUAL_GROUPS: u16 = 100;

#[derive(Debug, Serialize)]
struct UsageBody {
    month: Month,
    group_by: &'static str,
    total: Credits,
    count: u64,
    /// What settlements with `take_available` left unpaid.
    uncollected: Credits,
    groups: Vec<GroupBody>,
    /// The sum of the groups after this page; absent on the last page.
    other: Option<OtherBody>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct GroupBody {
    pub key: GroupKey,
    pub credits: Credits,
    pub count: u64,
}

/// The sum of the groups that are not listed.
#[derive(Debug, Serialize)]
pub(crate) struct OtherBody {
    pub credits: Credits,
    pub count: u64,
}

/// The parameters of the query string.
struct UsageParameters {
    month: Month,
    group_by: GroupBy,
    limit: u16,
    after: Option<BreakdownCursor>,
}

/// The end of an earlier page, and the sum of all groups up to it.
#[derive(Clone)]
struct BreakdownCursor {
    position: GroupPosition,
    shown: Tally,
}

/// A page of a breakdown.
struct GroupPage {
    groups: Vec<Group>,
    next: Option<BreakdownCursor>,
    other: Option<Tally>,
}

impl Account {
    pub(crate) async fn usage(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let asked = UsageParameters::read(call, Month::of(store.now()))?;
        let (balance, month) =
            tokio::try_join!(store.balances().get(&workspace), store.usage().month(&workspace, asked.month))?;
        let balance = balance.ok_or_else(Problem::workspace_not_found)?;
        let mut groups = store.usage().groups(&workspace, asked.month, &month, asked.group_by).await?;
        if asked.group_by == GroupBy::Day {
            groups.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let page = if asked.group_by.is_open() {
            GroupPage::of(groups, &asked, &month)?
        } else {
            GroupPage { groups, next: None, other: None }
        };
        let listing = asked.listing(call);
        let summed = month.summary.consumed;
        // The balance's own counter never lags, but it covers only this month and the month before.
        let total = balance.consumed.get(&asked.month).copied().unwrap_or(summed.credits);
        Ok(Answer::ok(&UsageBody {
            month: asked.month,
            group_by: asked.group_by.name(),
            total,
            count: summed.count,
            uncollected: month.summary.moved(Moved::Uncollected),
            groups: page.groups.into_iter().map(GroupBody::from).collect(),
            other: page.other.map(|rest| OtherBody { credits: rest.credits, count: rest.count }),
            next_cursor: page.next.map(|place| listing.write(&place.write())),
        }))
    }
}

impl GroupPage {
    /// Returns the page of an open breakdown that the call requests.
    fn of(mut groups: Vec<Group>, asked: &UsageParameters, month: &MonthUsage) -> Result<Self, Fault> {
        let after = asked.after.as_ref().map(|place| &place.position);
        groups.retain(|group| after.is_none_or(|position| group.is_after(position)));
        let more = groups.len() > usize::from(asked.limit);
        groups.truncate(asked.limit.into());
        let before = asked.after.as_ref().map(|place| place.shown).unwrap_or_default();
        let shown =
            groups.iter().try_fold(before, |sum, group| sum.plus(group.tally)).map_err(out_of_range)?;
        let last = groups.last().filter(|_| more).map(Group::position).transpose()?;
        let next = last.map(|position| BreakdownCursor { position, shown });
        let rest = month.summary.consumed.minus(shown).map_err(out_of_range)?;
        Ok(Self { groups, other: next.is_some().then_some(rest), next })
    }
}

fn out_of_range(error: credits_core::credits::OutOfRange) -> Fault {
    Fault::Corrupt(error.into())
}

impl UsageParameters {
    fn read(call: &Call, this_month: Month) -> Result<Self, Problem> {
        let mut asked =
            Self { month: this_month, group_by: GroupBy::Workflow, limit: USUAL_GROUPS, after: None };
        let mut cursor = None;
        query::read(call.query(), |name, value| {
            match name {
                "month" => asked.month = month_until(value, this_month)?,
                "group_by" => asked.group_by = query::parsed(value)?,
                "limit" => asked.limit = query::whole_number(value, 1..=MAX_GROUPS)?,
                "cursor" => cursor = Some(value.to_owned()),
                _ => return query::unknown(),
            }
            Ok(())
        })?;
        // The other parameters decide which listing a cursor belongs to, so it is read after them.
        let place = cursor.map(|cursor| {
            asked.listing(call).read(&cursor).ok().and_then(|place| BreakdownCursor::read(&place))
        });
        query::read(call.query(), |name, _| match (name, &place) {
            ("cursor", Some(None)) => Err(credits_store::table::index::InvalidCursor.to_string()),
            _ => Ok(()),
        })?;
        asked.after = place.flatten();
        Ok(asked)
    }

    /// Returns the listing that a cursor must belong to.
    fn listing<'a>(&self, call: &'a Call) -> UsageListing<'a> {
        UsageListing {
            workspace: call.unchecked_workspace_id(),
            scope: format!("{} {}", self.month, self.group_by),
        }
    }
}

/// The listing of one month's breakdown, to which a cursor is bound.
struct UsageListing<'a> {
    workspace: &'a str,
    scope: String,
}

impl UsageListing<'_> {
    fn write(&self, place: &str) -> String {
        CursorScope { name: "usage", workspace: self.workspace }.write(&format!("{} {place}", self.scope))
    }

    fn read(&self, cursor: &str) -> Result<String, credits_store::table::index::InvalidCursor> {
        let text = CursorScope { name: "usage", workspace: self.workspace }.read(cursor)?;
        let place = text.strip_prefix(&self.scope).and_then(|rest| rest.strip_prefix(' '));
        place.map(str::to_owned).ok_or(credits_store::table::index::InvalidCursor)
    }
}

impl BreakdownCursor {
    fn write(&self) -> String {
        format!("{} {} {}", self.shown.credits, self.shown.count, self.position.as_str())
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let shown = Tally { credits: parts.next()?.parse().ok()?, count: parts.next()?.parse().ok()? };
        Some(Self { shown, position: GroupPosition::parse(parts.next()?)? })
    }
}

impl From<Group> for GroupBody {
    fn from(group: Group) -> Self {
        Self { key: group.key, credits: group.tally.credits, count: group.tally.count }
    }
}

/// Reads a month that is not in the future.
fn month_until(value: &str, this_month: Month) -> Result<Month, String> {
    let month: Month = query::parsed(value)?;
    if month > this_month { Err("must not be in the future".to_owned()) } else { Ok(month) }
}

/// Returns the credits consumed on each day of a month.
pub(crate) fn days_of(month: &MonthUsage) -> BTreeMap<jiff::civil::Date, Credits> {
    let days = month.groups.iter().filter(|((by, _), _)| *by == GroupBy::Day);
    days.filter_map(|((_, key), tally)| Some((key.as_deref()?.parse().ok()?, tally.credits))).collect()
}
