//! `GET /v1/workspaces/{workspace_id}/usage/detail`: groups the AI calls of some days by one attribute, and filters them by
//! another (M9).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use credits_core::credits::{Credits, OutOfRange};
use credits_core::month::Month;
use credits_core::usage::{GroupKey, Tally, day_of};
use credits_core::usage_detail::{CallAttribute, CallFilter, UsageDetail};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::error::Corrupt;
use credits_store::{Fault, Store};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::Serialize;

use crate::usage::{GroupBody, OtherBody};
use crate::{Account, query};

/// The maximum number of groups in an answer. The rest is summed up.
const MAX_GROUPS: usize = 1_000;
/// The number of months, with the present one, in which a detail may begin.
const MONTHS: i64 = 24;

#[derive(Debug, Serialize)]
struct DetailBody {
    first_day: Date,
    last_day: Date,
    group_by: &'static str,
    filter: Option<FilterBody>,
    total: Credits,
    count: u64,
    groups: Vec<GroupBody>,
    /// The sum of the groups beyond the largest ones.
    other: Option<OtherBody>,
    days: Vec<DayBody>,
    /// The number of ledger entries that were read.
    entries: usize,
    /// Whether these are all entries of the days. Otherwise later ones are missing.
    complete: bool,
    /// When the last entry was posted that was counted; absent if all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_until: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct FilterBody {
    by: &'static str,
    key: String,
}

#[derive(Debug, Serialize)]
struct DayBody {
    day: Date,
    credits: Credits,
    count: u64,
}

/// The parameters of the query string.
#[derive(Debug)]
struct DetailParameters {
    from: Date,
    to: Date,
    group_by: CallAttribute,
    filter: Option<CallFilter>,
}

impl Account {
    pub(crate) async fn usage_detail(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let DetailParameters { from, to, group_by, filter } = DetailParameters::read(call, store.now())?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let (start, end) = (start_of(from)?, start_of(to.saturating_add(Span::new().days(1)))?);
        let mut detail = UsageDetail::new(group_by, filter.clone());
        let extent = store.usage().count_detail(&workspace, start, end, &mut detail).await?;
        let (groups, other) = largest(detail.groups).map_err(Corrupt::from).map_err(Fault::from)?;
        Ok(Answer::ok(&DetailBody {
            first_day: from,
            last_day: to,
            group_by: group_by.name(),
            filter: filter.map(|CallFilter { by, key }| FilterBody { by: by.name(), key }),
            total: detail.total.credits,
            count: detail.total.count,
            groups,
            other,
            days: detail.days.into_iter().map(day_body).collect(),
            entries: extent.entries,
            complete: extent.cut_after.is_none(),
            counted_until: extent.cut_after,
        }))
    }
}

impl DetailParameters {
    fn read(call: &Call, now: Timestamp) -> Result<Self, Problem> {
        let (this_month, today) = (Month::of(now), day_of(now));
        let first = day_of(this_month.start());
        let mut asked = Self { from: first, to: today, group_by: CallAttribute::Workflow, filter: None };
        let earliest = first.saturating_sub(Span::new().months(MONTHS.saturating_sub(1)));
        let attribute = |name: &str| name.parse::<CallAttribute>().ok();
        let filters = call.query().keys().filter(|name| attribute(name).is_some()).count();
        query::read(call.query(), |name, value| {
            match name {
                "from" => asked.from = day_in(value, earliest, today)?,
                "to" => asked.to = day_in(value, earliest, today)?,
                "group_by" => asked.group_by = query::parsed(value)?,
                _ => {
                    let Some(by) = attribute(name) else { return query::unknown() };
                    if filters > 1 {
                        return Err("must be the only filter".to_owned());
                    }
                    asked.filter = Some(CallFilter { by, key: value.to_owned() });
                }
            }
            Ok(())
        })?;
        let (from, to) = (asked.from, asked.to);
        query::read(call.query(), |name, _| match name {
            "to" if to < from => Err("must not be before from".to_owned()),
            "from" if to < from => Err("must not be after to".to_owned()),
            _ => Ok(()),
        })?;
        Ok(asked)
    }
}

fn day_in(value: &str, earliest: Date, today: Date) -> Result<Date, String> {
    let said = || format!("must be a date from {earliest} to {today}");
    let day = value.parse::<Date>().ok().filter(|day| day.to_string() == value);
    day.filter(|day| (earliest..=today).contains(day)).ok_or_else(said)
}

fn start_of(day: Date) -> Result<Timestamp, Problem> {
    let start = day.to_zoned(TimeZone::UTC).map_err(|_| Problem::unavailable())?;
    Ok(start.timestamp())
}

/// Returns the largest groups, and the sum of all others.
fn largest(groups: BTreeMap<GroupKey, Tally>) -> Result<(Vec<GroupBody>, Option<OtherBody>), OutOfRange> {
    let mut groups: Vec<(GroupKey, Tally)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, tally)| Reverse(tally.credits));
    let rest = groups.split_off(MAX_GROUPS.min(groups.len()));
    let sum = rest.iter().try_fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))?;
    let other = (!rest.is_empty()).then_some(OtherBody { credits: sum.credits, count: sum.count });
    let body = |(key, Tally { credits, count })| GroupBody { key, credits, count };
    Ok((groups.into_iter().map(body).collect(), other))
}

fn day_body((day, Tally { credits, count }): (Date, Tally)) -> DayBody {
    DayBody { day, credits, count }
}
