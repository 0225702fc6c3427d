//! The check of warnings: which writes of a balance must warn about low balances and exhausted credits, and when expiry
//! notices may be recorded. It reads the items, independently of `core` (M10, M15).

use std::collections::BTreeSet;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::item::{credits_owned, has_run_out, list, number, plain, text};
use crate::lanes::LanesSeen;
use crate::table::{Commit, TableChange};
use crate::world::World;

const DAY_SECONDS: i64 = 24 * 3_600;

/// How much the clocks of a function and the table may differ, in seconds.
const CLOCKS_DIFFER: i64 = 600;

/// Checks that each crossing of a limit has one event, and each event a crossing. Checks that a paid pack is recorded
/// as the last addition and ends an exhaustion.
pub fn check(world: &World) -> Option<String> {
    let mut lanes = LanesSeen::default();
    let commits = world.ground.table.commits_from(0);
    let commits: Result<Vec<Commit>, String> = commits.iter().map(|commit| lanes.join(commit)).collect();
    let commits = match commits {
        Ok(commits) => commits,
        Err(wrong) => return Some(wrong),
    };
    if let Some(wrong) = commits.iter().find_map(added) {
        return Some(wrong);
    }
    let mut recorded = BTreeSet::new();
    if let Some(wrong) = commits.iter().find_map(|commit| notices(commit, &mut recorded)) {
        return Some(wrong);
    }
    let balances = commits.iter().flat_map(|commit| &commit.changes);
    let wanted: BTreeSet<String> = balances.flat_map(crossings).collect();
    let shown = world.services.bus.shown();
    let kinds = ["CreditsLow", "CreditsExhausted"];
    let warned = shown
        .iter()
        .filter(|event| kinds.contains(&event["detail-type"].as_str().unwrap_or_default()))
        .filter_map(|event| event["detail"]["event_id"].as_str().map(str::to_owned));
    let warned: BTreeSet<String> = warned.collect();
    let differs = wanted.symmetric_difference(&warned).next()?;
    let what = if warned.contains(differs) { "has no crossing" } else { "was never published" };
    Some(format!("{differs} {what}"))
}

/// Returns the ids of the events that a write of a balance must cause.
fn crossings(change: &TableChange) -> Vec<String> {
    let Some(workspace) = change.key.0.strip_prefix("balance#") else { return Vec::new() };
    let (Some(before), Some(after)) = (change.before.as_deref(), change.after.as_deref()) else {
        return Vec::new();
    };
    let is_new = after["added"].is_null() && credits_owned(after).is_zero();
    let mut events = Vec::new();
    let (known, was_low) =
        (thresholds(before), thresholds(before).iter().any(|low_at| is_low(before, *low_at)));
    for low_at in thresholds(after) {
        let before_it = if known.contains(&low_at) { is_low(before, low_at) } else { was_low };
        if is_low(after, low_at) && !before_it && !is_new {
            let threshold = low_at.normalize().to_string().replace('.', "_");
            events.push(format!("low-{workspace}-{}-{threshold}", number(after, "version")));
        }
    }
    if has_run_out(after) && !has_run_out(before) {
        events.push(format!("exhausted-{workspace}-{}", number(after, "version")));
    }
    events
}

/// Returns the thresholds of the alert.
fn thresholds(balance: &Value) -> BTreeSet<Decimal> {
    let further = balance["low_further"]["L"].as_array().into_iter().flatten();
    let each = further.chain(std::iter::once(&balance["low_at"]));
    each.filter_map(|value| value["N"].as_str()).map(|text| text.parse().unwrap()).collect()
}

fn is_low(balance: &Value, low_at: Decimal) -> bool {
    credits_owned(balance) <= low_at
}

/// Checks that a write records each expiry notice for the first time, and within a day of its time.
fn notices(commit: &Commit, recorded: &mut BTreeSet<String>) -> Option<String> {
    let change = commit.changes.iter().find(|change| change.key.0.starts_with("alerts#"))?;
    let listed =
        |item: Option<&Value>| item.map_or(Vec::new(), |item| list(item, "notices").cloned().collect());
    let before = listed(change.before.as_deref());
    for notice in listed(change.after.as_deref()).iter().filter(|notice| !before.contains(notice)) {
        let (end, days) = (text(notice, "expires_at"), number(notice, "days"));
        let named = format!("the notice of {} about {end}, {days} days ahead,", change.key.0);
        let late = commit.at.duration_since(end.parse::<Timestamp>().unwrap()).as_secs();
        let late = late + i64::try_from(days).unwrap() * DAY_SECONDS;
        if !(-CLOCKS_DIFFER..DAY_SECONDS + CLOCKS_DIFFER).contains(&late) {
            return Some(format!("{named} was {late} seconds late"));
        }
        if !recorded.insert(named.clone()) {
            return Some(format!("{named} was recorded twice"));
        }
    }
    None
}

fn added(commit: &Commit) -> Option<String> {
    let (entry_key, credits) = commit.changes.iter().find_map(top_up)?;
    let balance = commit.changes.iter().find(|change| change.key.0.starts_with("balance#"))?;
    let after = balance.after.as_deref()?;
    (number(after, "added") != credits || after["exhausted"].is_object())
        .then(|| format!("{entry_key} added {credits}, but its balance records {}", plain(&after["added"])))
}

/// Returns the key and the credits of a top-up's entry that a write adds.
fn top_up(change: &TableChange) -> Option<(&str, Decimal)> {
    let entry = change.after.as_deref().filter(|_| change.key.0.starts_with("entry#"))?;
    let is_top_up = change.before.is_none() && text(&entry["detail"]["M"], "kind") == "top_up";
    is_top_up.then(|| (change.key.0.as_str(), number(entry, "credits")))
}
