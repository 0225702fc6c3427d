//! Lanes: the checks of each lane, and balances as if their lanes were settled, which all other checks read. Independent of
//! `core` and of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::item::{next_to_nothing, number};
use crate::table::{Commit, Stored, TableChange};

/// The attributes of a lane that a settlement adds to the balance's counters of the same months.
const MONTH: char = 'c';

/// The balances and lanes of all workspaces, up to a commit.
#[derive(Debug, Default)]
pub struct LanesSeen {
    workspaces: BTreeMap<String, Workspace>,
}

#[derive(Debug, Default, Clone)]
struct Workspace {
    balance: Option<Stored>,
    lanes: BTreeMap<u64, Stored>,
}

impl LanesSeen {
    /// Returns a commit in which each change of a balance or its lanes is one change of the balance with its lanes settled.
    /// Fails if a lane is wrong.
    pub fn join(&mut self, commit: &Commit) -> Result<Commit, String> {
        let mut joined = Commit { at: commit.at, by: commit.by, changes: Vec::new() };
        let mut before: BTreeMap<String, Workspace> = BTreeMap::new();
        for change in &commit.changes {
            let (kind, rest) = change.key.0.split_once('#').unwrap_or_default();
            let workspace = rest.split('#').next().unwrap_or_default().to_owned();
            if !["balance", "lane"].contains(&kind) || workspace.starts_with("poison") {
                joined.changes.push(change.clone());
                continue;
            }
            let seen = self.workspaces.entry(workspace.clone()).or_default();
            before.entry(workspace).or_insert_with(|| seen.clone());
            seen.take(kind, rest, change);
        }
        for (workspace, before) in before {
            let after = &self.workspaces[&workspace];
            let wrong = |wrong| format!("{workspace}: {wrong}");
            after.check().and_then(|()| after.check_new(&before)).map_err(wrong)?;
            let key = (format!("balance#{workspace}"), "balance".to_owned());
            let (before, after) = (before.joined()?, after.joined()?);
            if before != after {
                joined.changes.push(TableChange { key, before, after });
            }
        }
        Ok(joined)
    }
}

impl Workspace {
    fn take(&mut self, kind: &str, rest: &str, change: &TableChange) {
        if kind == "balance" {
            self.balance.clone_from(&change.after);
            return;
        }
        let number: u64 = rest.split('#').nth(1).unwrap().parse().unwrap();
        match &change.after {
            Some(lane) => drop(self.lanes.insert(number, Arc::clone(lane))),
            None => drop(self.lanes.remove(&number)),
        }
    }

    fn joined(&self) -> Result<Option<Stored>, String> {
        let Some(balance) = &self.balance else { return Ok(None) };
        if !are_open(balance) {
            return Ok(Some(Arc::clone(balance)));
        }
        let mut joined = with_lanes(balance, self.lanes.values().map(|lane| &**lane))?;
        // The sweep changes when it looks at the lanes again.
        for name in ["index_pk", "index_sk", "failures"] {
            joined.as_object_mut().unwrap().remove(name);
        }
        Ok(Some(Arc::new(joined)))
    }

    /// Checks that new lanes end before their balance is due.
    fn check_new(&self, before: &Self) -> Result<(), String> {
        let Some(balance) = &self.balance else { return Ok(()) };
        let mut new = self.lanes.iter().filter(|(lane, _)| !before.lanes.contains_key(lane));
        let late = new.find(|(_, item)| number(item, "ends_at") > number(balance, "expires_next"));
        late.map_or(Ok(()), |(lane, _)| Err(format!("lane {lane} ends after its balance is due")))
    }

    /// Checks that the balance lists exactly the lanes that exist, with what they were allotted, and that it keeps its
    /// reserve.
    fn check(&self) -> Result<(), String> {
        let Some(balance) = &self.balance else { return Ok(()) };
        let listed = listed(balance);
        if !listed.iter().eq(self.lanes.keys()) {
            return Err(format!("lanes {listed:?} are listed, but {:?} exist", self.lanes.keys()));
        }
        let mut allotted = Decimal::ZERO;
        for (lane, item) in &self.lanes {
            if number(item, "generation") != number(balance, "lane_generation") {
                return Err(format!("lane {lane} is of another generation"));
            }
            if number(item, "left") < Decimal::ZERO {
                return Err(format!("lane {lane} is below zero"));
            }
            let months: Decimal = months(item).map(|(_, consumed)| consumed).sum();
            if months != number(item, "spent") {
                return Err(format!("lane {lane} has spent {}, but counts {months}", number(item, "spent")));
            }
            allotted += number(item, "left") + number(item, "spent");
        }
        if allotted != number(balance, "lanes_allotted") {
            return Err(format!(
                "{} are allotted, but lanes have {allotted}",
                number(balance, "lanes_allotted")
            ));
        }
        let thresholds = number(balance, "low_at").max(number(balance, "top_up_at"));
        let least = thresholds.max(Decimal::ZERO) + number(balance, "credit_limit");
        if !listed.is_empty() && number(balance, "lanes_reserve") <= least {
            return Err(format!("the reserve is {}, not above {least}", number(balance, "lanes_reserve")));
        }
        Ok(())
    }
}

/// Returns whether a balance lists lanes.
#[must_use]
pub fn are_open(balance: &Value) -> bool {
    balance["lanes_first"].is_object()
}

/// Returns a balance as if its lanes were settled. It keeps the attributes that list the lanes.
pub fn with_lanes<'a>(balance: &Value, lanes: impl IntoIterator<Item = &'a Value>) -> Result<Value, String> {
    let mut joined = balance.clone();
    if !are_open(balance) {
        return Ok(joined);
    }
    let mut sums = BTreeMap::from([
        ("spendable".to_owned(), number(balance, "lanes_allotted") + number(balance, "lanes_reserve")),
        ("used".to_owned(), Decimal::ZERO),
        ("version".to_owned(), Decimal::ZERO),
    ]);
    for lane in lanes {
        *sums.get_mut("spendable").unwrap() -= number(lane, "spent");
        *sums.get_mut("used").unwrap() += number(lane, "spent");
        *sums.get_mut("version").unwrap() += number(lane, "writes");
        for (month, consumed) in months(lane) {
            *sums.entry(month.to_owned()).or_default() += consumed;
        }
    }
    for (name, sum) in sums {
        let value = (number(balance, &name) + sum).normalize();
        joined[&name] = json!({ "N": value.to_string() });
    }
    let below = next_to_nothing(&joined);
    if number(&joined, "spendable") < below && joined["exhausted"].is_null() {
        return Err(format!("lanes are open with less than {below} credits"));
    }
    Ok(joined)
}

fn listed(balance: &Value) -> Vec<u64> {
    let bound = |name: &str| u64::try_from(number(balance, name)).unwrap_or_default();
    if are_open(balance) { (bound("lanes_first")..bound("lanes_end")).collect() } else { Vec::new() }
}

fn months(item: &Value) -> impl Iterator<Item = (&str, Decimal)> {
    let names = item.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    names
        .filter(|name| {
            name.strip_prefix(MONTH).is_some_and(|month| month.starts_with(|it: char| it.is_ascii_digit()))
        })
        .map(|name| (name, number(item, name)))
}
