//! What must hold at every commit, read from the items themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::item::{dead, has_changes, held, list, millis, number, plain, text, with_grants};
use crate::lots::{Listed, Lots, Waiting};
use crate::table::{Change, Commit, Stored};

/// How far clocks may be off, and a write late.
const MOST_OFF: SignedDuration = SignedDuration::from_mins(12);

/// How many closes in a row, within moments, are one that never ends.
const MOST_CLOSES: usize = 40;

/// How late a write may be after its instant.
const LATE: SignedDuration = SignedDuration::from_secs(15);

/// A balance between two commits.
#[derive(Debug, Clone)]
pub struct Stood {
    /// From which commit on.
    pub from: usize,
    /// Since when.
    pub at: Timestamp,
    /// The item.
    pub item: Stored,
}

/// What was checked so far, and how each balance has been.
#[derive(Debug, Default)]
pub struct Commits {
    /// How slow the slowest clock is.
    pub slowest: SignedDuration,
    seen: usize,
    /// Each workspace's balances, oldest first.
    pub balances: BTreeMap<String, Vec<Stood>>,
    /// At which commit each entry was written.
    pub entries: BTreeMap<String, usize>,
    /// Each workspace's grants that run.
    grants: BTreeMap<String, Stored>,
    lots: BTreeMap<String, Lots>,
    /// When each grant ends.
    ends: BTreeMap<String, Timestamp>,
    /// What open holds keep, by workspace and epoch.
    kept: BTreeMap<(String, String), Decimal>,
}

impl Commits {
    /// Checks the commits since the last time; what is wrong.
    pub fn check(&mut self, commits: &[Commit]) -> Option<String> {
        for commit in commits {
            self.seen += 1;
            if let Some(wrong) = self.check_one(commit) {
                return Some(format!("commit {} at {}: {wrong}", self.seen, commit.at));
            }
        }
        None
    }

    /// How many were checked.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    fn check_one(&mut self, commit: &Commit) -> Option<String> {
        let latest = commit.at - self.slowest - LATE;
        let mut posted: BTreeMap<&str, Decimal> = BTreeMap::new();
        let mut spent: BTreeMap<&str, Decimal> = BTreeMap::new();
        for change in commit.changes.iter().filter(|change| change.key.0.starts_with("entry#")) {
            let workspace = change.key.0.split('#').nth(1).unwrap();
            if let Some(wrong) = entry(change) {
                return Some(wrong);
            }
            self.entries.entry(change.key.0.clone()).or_insert(self.seen);
            let credits = listed(change.after.as_deref()) - listed(change.before.as_deref());
            *posted.entry(workspace).or_default() += credits;
            if change.after.as_deref().is_some_and(is_spent) {
                *spent.entry(workspace).or_default() -= credits;
            }
        }
        if let Some(wrong) = commit.changes.iter().find_map(|change| self.too_early(change, commit.at)) {
            return Some(wrong);
        }
        if let Some(wrong) = commit.changes.iter().find_map(|change| lasting(change, latest)) {
            return Some(wrong);
        }
        for change in commit.changes.iter().filter(|change| change.key.0.starts_with("hold#")) {
            let (before, after) = (kept(change.before.as_deref()), kept(change.after.as_deref()));
            let item = change.after.as_deref().or(change.before.as_deref()).unwrap();
            let workspace = change.key.0.split('#').nth(1).unwrap().to_owned();
            *self.kept.entry((workspace, number(item, "epoch").to_string())).or_default() += after - before;
        }
        for change in commit.changes.iter().filter(|change| change.key.0.starts_with("balance#")) {
            let workspace = change.key.0.strip_prefix("balance#").unwrap();
            let Some(after) = &change.after else { return Some(format!("{workspace}'s balance is gone")) };
            let joined = self.joined(workspace, (change.before.as_deref(), after), commit);
            let (before, after) = match &joined {
                Ok((before, after)) => (before, after),
                Err(wrong) => return Some(format!("{workspace}: {wrong}")),
            };
            let moved = owned(after) - owned(before);
            let entries = posted.remove(workspace).unwrap_or_default();
            if moved != entries {
                return Some(format!("{workspace} moved by {moved}, and its ledger by {entries}"));
            }
            let spent = spent.get(workspace).copied().unwrap_or_default();
            if let Some(wrong) =
                balance(before, after, latest).or_else(|| counted(before, after, spent, commit.at))
            {
                return Some(format!("{workspace}: {wrong}"));
            }
            if let Some(wrong) =
                self.holds_agree(workspace, after).or_else(|| self.closes(workspace, after, commit.at))
            {
                return Some(wrong);
            }
            let stood = Stood { from: self.seen, at: commit.at, item: Arc::new(after.clone()) };
            self.balances.entry(workspace.to_owned()).or_default().push(stood);
        }
        if let Some((workspace, entries)) = posted.iter().find(|(_, entries)| !entries.is_zero()) {
            return Some(format!("{workspace}'s ledger moved by {entries}, and its balance did not"));
        }
        self.replay(commit)
    }

    /// A balance before and after a commit, with the grants that run.
    fn joined(
        &mut self,
        workspace: &str,
        (before, after): (Option<&Value>, &Value),
        commit: &Commit,
    ) -> Result<(Value, Value), String> {
        let running = self.grants.get(workspace).cloned();
        let before = before.map(|before| with_grants(before, running.as_deref())).transpose()?;
        let key = (format!("grant#{workspace}"), "running".to_owned());
        let written = commit.changes.iter().find(|change| change.key == key);
        let running = written.and_then(|change| change.after.clone()).or(running);
        let after = with_grants(after, running.as_deref())?;
        self.grants.extend(running.map(|running| (workspace.to_owned(), running)));
        Ok((before.unwrap_or(Value::Null), after))
    }

    /// Nothing expires before its end, whosever clock is fast.
    fn too_early(&mut self, change: &Change, at: Timestamp) -> Option<String> {
        let detail = plain(&change.after.as_deref()?["detail"]);
        if let (Some(id), Some(end)) = (detail["grant_id"].as_str(), detail["expires_at"].as_str()) {
            self.ends.insert(id.to_owned(), end.parse().ok()?);
        }
        let ids = detail["grant_ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut early = ids.filter(|id| self.ends.get(*id).is_some_and(|end| *end > at));
        early.next().map(|id| format!("{id} expires before {}", self.ends[id]))
    }

    /// A close leaves nothing that is due.
    fn closes(&self, workspace: &str, balance: &Value, at: Timestamp) -> Option<String> {
        let stood = self.balances.get(workspace)?;
        let before = stood.len().checked_sub(MOST_CLOSES).and_then(|place| stood.get(place))?;
        let closed = number(balance, "epoch") - number(&before.item, "epoch") == Decimal::from(MOST_CLOSES);
        let at_once = at.duration_since(before.at) < SignedDuration::from_secs(2);
        (closed && at_once).then(|| format!("{workspace} is closed again and again"))
    }

    /// A balance keeps for each epoch what its open holds do.
    fn holds_agree(&self, workspace: &str, balance: &Value) -> Option<String> {
        let epoch = number(balance, "epoch").to_string();
        let of_workspace = self.kept.iter().filter(|((of, _), _)| of == workspace);
        of_workspace.into_iter().find_map(|((_, of), kept)| {
            let closed = &balance["closed"]["M"][of]["M"];
            let is = if *of == epoch { number(balance, "held") } else { number(closed, "held") };
            (is != *kept)
                .then(|| format!("{workspace}'s holds of epoch {of} keep {kept}, and its balance {is}"))
        })
    }

    /// The model of a workspace without holds says what expires, is taken back, and is left.
    fn replay(&mut self, commit: &Commit) -> Option<String> {
        let lots = self.lots.entry(HOLD_FREE.to_owned()).or_default();
        for change in commit.changes.iter().filter(|change| change.key.0.starts_with("payment#")) {
            let after = change.after.as_deref()?;
            if text(after, "workspace_id") == HOLD_FREE && after["grant_id"].is_object() {
                lots.buy(text(after, "payment_id"), text(after, "grant_id"), number(after, "credits"));
            }
        }
        let balance = commit.changes.iter().find(|change| change.key.0 == "balance#hold-free");
        let waiting = |item: Option<&Value>| item.map_or(0, |item| list(item, "changes").count());
        let waited = balance.map_or(0, |change| waiting(change.before.as_deref()));
        let waits = balance.map_or(0, |change| waiting(change.after.as_deref()));
        let of_ledger = |change: &&Change| change.key.0.starts_with("entry#hold-free#");
        let closes = balance
            .is_some_and(|change| epoch_of(change.before.as_deref()) != epoch_of(change.after.as_deref()));
        if waits > waited {
            let written = commit.changes.iter().find(of_ledger);
            lots.put_behind_the_fence(waiting_of(balance?.after.as_deref()?, written)?);
        } else {
            let mut listed: Vec<Listed> =
                commit.changes.iter().filter(of_ledger).filter_map(listed_by).collect();
            listed.sort_by(|one, other| one.place.cmp(&other.place));
            let wrong = if closes {
                lots.close(waited - waits, listed)
            } else {
                listed.iter().find_map(|entry| lots.carry_out(&entry.detail, entry.credits, entry.at))
            };
            if let Some(wrong) = wrong {
                return Some(format!("hold-free: {wrong}"));
            }
        }
        let (is, by_model) = (owned(balance?.after.as_deref()?), lots.total());
        (is != by_model).then(|| format!("hold-free has {is}, and by the model {by_model}"))
    }
}

/// The workspace that never has a hold.
const HOLD_FREE: &str = "hold-free";

fn epoch_of(balance: Option<&Value>) -> Decimal {
    balance.map_or(Decimal::ZERO, |balance| number(balance, "epoch"))
}

/// The change that has just been queued, with the entry that was written with it.
fn waiting_of(balance: &Value, written: Option<&Change>) -> Option<Waiting> {
    let at = Timestamp::from_millisecond(millis(list(balance, "changes").last()?, "at")).ok()?;
    let entry = written.and_then(|change| change.after.as_deref()).filter(|entry| is_listed(Some(entry)));
    let known = entry.map(|entry| (plain(&entry["detail"]), number(entry, "credits")));
    Some(Waiting { key: written.map(|change| change.key.0.clone()).unwrap_or_default(), at, known })
}

/// An entry that a commit lists.
fn listed_by(change: &Change) -> Option<Listed> {
    if is_listed(change.before.as_deref()) || !is_listed(change.after.as_deref()) {
        return None;
    }
    let after = change.after.as_deref()?;
    let place = text(after, "index_sk").to_owned();
    let millis = place.split('#').next()?.parse().ok()?;
    Some(Listed {
        key: change.key.0.clone(),
        at: Timestamp::from_millisecond(millis).ok()?,
        place,
        detail: plain(&after["detail"]),
        credits: number(after, "credits"),
    })
}

/// What a workspace owns, held credits included, and what waits behind the fence: what its ledger sums to.
fn owned(balance: &Value) -> Decimal {
    let waiting = list(balance, "changes");
    let waiting: Decimal =
        waiting.map(|it| number(&it["grant"]["M"], "amount") - number(it, "claw_back")).sum();
    number(balance, "spendable") - number(balance, "credit_limit") + held(balance) + waiting
}

fn is_listed(entry: Option<&Value>) -> bool {
    entry.is_some_and(|entry| entry["index_pk"].is_object())
}

fn listed(entry: Option<&Value>) -> Decimal {
    entry.filter(|entry| is_listed(Some(entry))).map_or(Decimal::ZERO, |entry| number(entry, "credits"))
}

/// An entry stands for good: all that may come is its place in the ledger.
fn entry(change: &Change) -> Option<String> {
    let before = change.before.as_deref()?;
    let Some(after) = change.after.as_deref() else { return Some(format!("{} is gone", change.key.0)) };
    let changed = if is_listed(Some(before)) { before != after } else { before["detail"] != after["detail"] };
    changed.then(|| format!("{} was changed", change.key.0))
}

fn balance(before: &Value, after: &Value, latest: Timestamp) -> Option<String> {
    let grants: Decimal = list(after, "grants").map(|grant| number(grant, "amount")).sum();
    let owned = grants + number(after, "prepaid") + number(after, "credit_limit");
    let taken = number(after, "used") + held(after) - dead(after);
    let spendable = number(after, "spendable");
    if spendable != owned - taken {
        return Some(format!("{spendable} may be spent, of {owned} less {taken}"));
    }
    if number(after, "used").is_zero() && number(after, "prepaid") < Decimal::ZERO && grants > Decimal::ZERO {
        return Some(format!("{grants} are granted beside a debt of {}", -number(after, "prepaid")));
    }
    let negative = ["used", "held"].iter().find(|name| number(after, name) < Decimal::ZERO);
    if let Some(name) = negative {
        return Some(format!("{name} is {}", number(after, name)));
    }
    let closed = after["closed"]["M"].as_object().into_iter().flatten();
    for (epoch, holds) in closed.map(|(epoch, holds)| (epoch, &holds["M"])) {
        let (held, dead) = (number(holds, "held"), number(holds, "dead"));
        if dead < Decimal::ZERO || dead > held {
            return Some(format!("of {held} in holds of epoch {epoch} {dead} are dead"));
        }
    }
    if before.is_null() {
        return None;
    }
    let step = |name: &str| number(after, name) - number(before, name);
    if step("version") != Decimal::ONE {
        return Some(format!("the version goes up by {}", step("version")));
    }
    let same_epoch = step("epoch").is_zero();
    if !same_epoch && step("epoch") != Decimal::ONE {
        return Some(format!("the epoch goes up by {}", step("epoch")));
    }
    let taken = step("spendable") < step("credit_limit");
    if same_epoch && taken {
        if spendable < Decimal::ZERO && step("credit_limit").is_zero() {
            return Some(format!("it falls below zero, to {spendable}"));
        }
        if millis(before, "expires_next") == 0 || has_changes(before) {
            return Some("it is spent behind the fence".to_owned());
        }
        let ends = list(before, "grants").map(|grant| millis(grant, "expires"));
        let starts = list(before, "next").map(|next| millis(next, "starts"));
        let due = ends.chain(starts).min().unwrap_or(i64::MAX);
        if due <= latest.as_millisecond() {
            return Some("it is spent long after something was due".to_owned());
        }
    }
    None
}

/// What is spent is counted in its month.
fn counted(before: &Value, after: &Value, spent: Decimal, at: Timestamp) -> Option<String> {
    let months = after.as_object().unwrap().keys().filter(|name| {
        name.len() == 8 && name.starts_with('c') && name[1..5].bytes().all(|it| it.is_ascii_digit())
    });
    let mut grown = Decimal::ZERO;
    for month in months {
        let step = number(after, month) - number(before, month);
        if step < Decimal::ZERO {
            return Some(format!("{month} shrinks by {}", -step));
        }
        let near =
            [at - MOST_OFF, at + MOST_OFF].map(|at| format!("c{:.7}", at.to_string()).replace('-', "_"));
        if !step.is_zero() && !near.contains(month) {
            return Some(format!("{step} is counted in {month}"));
        }
        grown += step;
    }
    (spent != grown).then(|| format!("{spent} is spent, and {grown} counted"))
}

/// What a hold keeps, while it is open.
fn kept(hold: Option<&Value>) -> Decimal {
    hold.filter(|hold| !hold["end"].is_object()).map_or(Decimal::ZERO, |hold| number(hold, "credits"))
}

/// An entry's kind.
fn kind(entry: &Value) -> &str {
    text(&entry["detail"]["M"], "kind")
}

/// Whether an entry is of what was spent.
fn is_spent(entry: &Value) -> bool {
    ["debit", "hold_settled"].contains(&kind(entry))
}

/// What must hold of holds and runs: they end once, and take no more after.
fn lasting(change: &Change, latest: Timestamp) -> Option<String> {
    let (pk, before, after) = (&change.key.0, change.before.as_deref()?, change.after.as_deref()?);
    if pk.starts_with("hold#") {
        let captures = after["captures"]["L"].as_array().map(Vec::len).unwrap_or_default();
        let grown = captures > before["captures"]["L"].as_array().map(Vec::len).unwrap_or_default();
        if number(after, "remaining") < Decimal::ZERO {
            return Some(format!("{pk} keeps {}", number(after, "remaining")));
        }
        if grown && before["end"].is_object() {
            return Some(format!("{pk} has ended, and is captured"));
        }
        if grown && millis(before, "expires_at") <= latest.as_millisecond() {
            return Some(format!("{pk} is captured long after its time"));
        }
        let keys: Vec<&Value> = after["captures"]["L"].as_array().into_iter().flatten().step_by(2).collect();
        if keys.iter().enumerate().any(|(place, key)| keys[..place].contains(key)) {
            return Some(format!("{pk} is captured twice under a key"));
        }
        if before["end"].is_object() && before["end"] != after["end"] {
            return Some(format!("{pk} ends twice"));
        }
    }
    if pk.starts_with("run#") {
        let status = |run: &Value| text(&run["detail"]["M"], "status").to_owned();
        if !["running", "succeeded", "failed"].contains(&status(after).as_str()) {
            return Some(format!("{pk} has no status"));
        }
        if status(before) != "running" && status(before) != status(after) {
            return Some(format!("{pk} was {}, and is {}", status(before), status(after)));
        }
    }
    None
}
