//! A check of billing days, computed independently of `core`: a period ends on the day of the month on which the first
//! period began, or on the last day of a shorter month (M6).

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::call::instant;

/// The largest difference between the clocks that dated a first period and an upgrade in it.
const SLACK: SignedDuration = SignedDuration::from_mins(21);

/// Checks that each allocation in a ledger ends when its period does. Returns the first violation.
#[must_use]
pub fn check(entries: &[Value]) -> Option<String> {
    let allocations = entries.iter().filter(|entry| entry["kind"] == "allocation");
    let period = |entry: &Value| entry["period"].as_u64().unwrap_or_default();
    // An upgrade in the first period adds another allocation of period 1.
    let mut began: BTreeMap<String, Timestamp> = BTreeMap::new();
    for entry in allocations.clone().filter(|entry| period(entry) == 1) {
        let at = instant(&entry["at"]);
        began
            .entry(entry["subscription_id"].to_string())
            .and_modify(|first| *first = at.min(*first))
            .or_insert(at);
    }
    for entry in allocations {
        let Some(began) = began.get(&entry["subscription_id"].to_string()) else { continue };
        let (ends, is) = (months_after(*began, period(entry)), instant(&entry["expires_at"]));
        if is.duration_since(ends).abs() > SLACK {
            return Some(format!("a subscription from {began} has a period that ends at {is}: {entry}"));
        }
    }
    None
}

/// Checks that the subscription shown is the one paid last, or waits for its first payment. Returns the violation.
#[must_use]
pub fn is_last_paid(subscription: &Value, entries: &[Value]) -> Option<String> {
    if subscription["status"] == "pending" {
        return None;
    }
    let allocations = entries.iter().filter(|entry| entry["kind"] == "allocation");
    let last = allocations.clone().map(|entry| instant(&entry["at"])).max()?;
    let mut latest = allocations.filter(|entry| last.duration_since(instant(&entry["at"])) <= SLACK);
    let is_shown = latest.any(|entry| entry["subscription_id"] == subscription["subscription_id"]);
    (!is_shown).then(|| format!("a subscription was paid at {last}, but {subscription} is shown"))
}

fn months_after(began: Timestamp, months: u64) -> Timestamp {
    let began: DateTime = began.to_zoned(TimeZone::UTC).datetime();
    let month = i64::from(began.year()) * 12 + i64::from(began.month()) - 1 + months as i64;
    let (year, month) = ((month / 12) as i16, (month % 12 + 1) as i8);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let date = Date::new(year, month, began.day().min(last)).unwrap();
    date.to_datetime(began.time()).to_zoned(TimeZone::UTC).unwrap().timestamp()
}
