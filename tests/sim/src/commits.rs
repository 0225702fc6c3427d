//! The invariants of each commit, checked on the items themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::item::{dead, has_changes, held, list, millis, number, plain, text, with_grants};
use crate::lanes::{LanesSeen, are_open};
use crate::lots::{Listed, Lots, Waiting};
use crate::refunds::{RefundsSeen, is_refund, month_refunded, notes_refund, read_paid};
use crate::table::{Commit, Stored, TableChange};

/// The largest deviation of a clock, plus the delay of a write.
pub const MAX_OFF: SignedDuration = SignedDuration::from_mins(12);

/// The number of closes within two seconds that counts as endless closing.
const MAX_CLOSES: usize = 40;

/// The largest delay of a write after the instant it was computed for.
const LATE: SignedDuration = SignedDuration::from_secs(15);

/// A balance between two commits.
#[derive(Debug, Clone)]
pub struct Stood {
    /// The commit that wrote it.
    pub from: usize,
    /// When it was written.
    pub at: Timestamp,
    pub item: Stored,
}

/// The state of the checks, and the history of each balance.
#[derive(Debug, Default)]
pub struct Commits {
    /// By how much the slowest clock is slow.
    pub slowest: SignedDuration,
    seen: usize,
    lanes: LanesSeen,
    /// The history of each workspace's balance, oldest first.
    pub balances: BTreeMap<String, Vec<Stood>>,
    /// The commit that wrote each entry.
    pub entries: BTreeMap<String, usize>,
    /// The item with the running grants of each workspace.
    grants: BTreeMap<String, Stored>,
    lots: BTreeMap<String, Lots>,
    refunds: RefundsSeen,
    /// The end of each grant.
    ends: BTreeMap<String, Timestamp>,
    /// The credits that open holds keep, by workspace and epoch.
    kept: BTreeMap<(String, String), Decimal>,
}

impl Commits {
    /// Checks commits. Returns the first violation.
    pub fn check(&mut self, commits: &[Commit]) -> Option<String> {
        for commit in commits {
            self.seen += 1;
            let wrong = match self.lanes.join(commit) {
                Ok(joined) => self.check_one(&joined),
                Err(wrong) => Some(wrong),
            };
            if let Some(wrong) = wrong {
                return Some(format!("commit {} at {}: {wrong}", self.seen, commit.at));
            }
        }
        None
    }

    /// Returns the number of checked commits.
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
                return Some(format!("{workspace} moved by {moved}, but its ledger by {entries}"));
            }
            let spent = spent.get(workspace).copied().unwrap_or_default();
            let refunded = refunded_in(workspace, commit);
            if let Some(wrong) = balance(before, after, latest)
                .or_else(|| counted((before, after), (spent, refunded), commit.at))
                .or_else(|| self.refunds.check(workspace, (before, after), commit).err())
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
            return Some(format!("{workspace}'s ledger moved by {entries}, but its balance did not"));
        }
        self.replay(commit)
    }

    /// Returns a balance before and after a commit, with its running grants.
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

    /// Checks that no grant expires before its end, even by a fast clock.
    fn too_early(&mut self, change: &TableChange, at: Timestamp) -> Option<String> {
        let detail = plain(&change.after.as_deref()?["detail"]);
        if let (Some(id), Some(end)) = (detail["grant_id"].as_str(), detail["expires_at"].as_str()) {
            self.ends.insert(id.to_owned(), end.parse().ok()?);
        }
        let ids = detail["grant_ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut early = ids.filter(|id| self.ends.get(*id).is_some_and(|end| *end > at));
        early.next().map(|id| format!("{id} expires before {}", self.ends[id]))
    }

    /// Checks that a workspace is not closed endlessly: each close must leave nothing due.
    fn closes(&self, workspace: &str, balance: &Value, at: Timestamp) -> Option<String> {
        let stood = self.balances.get(workspace)?;
        let before = stood.len().checked_sub(MAX_CLOSES).and_then(|place| stood.get(place))?;
        let closed = number(balance, "epoch") - number(&before.item, "epoch") == Decimal::from(MAX_CLOSES);
        let at_once = at.duration_since(before.at) < SignedDuration::from_secs(2);
        (closed && at_once).then(|| format!("{workspace} is closed endlessly"))
    }

    /// Checks that a balance holds for each epoch the sum that its open holds keep.
    fn holds_agree(&self, workspace: &str, balance: &Value) -> Option<String> {
        let epoch = number(balance, "epoch").to_string();
        let of_workspace = self.kept.iter().filter(|((of, _), _)| of == workspace);
        of_workspace.into_iter().find_map(|((_, of), kept)| {
            let closed = &balance["closed"]["M"][of]["M"];
            let is = if *of == epoch { number(balance, "held") } else { number(closed, "held") };
            (is != *kept)
                .then(|| format!("{workspace}'s holds of epoch {of} keep {kept}, but its balance {is}"))
        })
    }

    /// Replays a commit of the workspace without holds in the sequential model, and compares expiries, claw-backs and
    /// the total.
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
        let of_ledger = |change: &&TableChange| change.key.0.starts_with("entry#hold-free#");
        let closes = balance
            .is_some_and(|change| epoch_of(change.before.as_deref()) != epoch_of(change.after.as_deref()));
        if let Some(change) =
            balance.filter(|_| commit.changes.iter().any(|it| is_refund(it) && of_ledger(&it)))
        {
            let item =
                |item: &Option<Stored>, name| item.as_deref().map_or(Decimal::ZERO, |it| number(it, name));
            let step = |name| item(&change.after, name) - item(&change.before, name);
            if let Some(wrong) = lots.give_back(-step("used"), step("prepaid")) {
                return Some(format!("hold-free: {wrong}"));
            }
            if waits > waited {
                lots.put_behind_the_fence(returning_of(change.after.as_deref()?)?);
            }
        } else if waits > waited {
            let written = commit.changes.iter().find(of_ledger);
            lots.put_behind_the_fence(waiting_of(balance?.after.as_deref()?, written)?);
        } else {
            let mut listed: Vec<Listed> =
                commit.changes.iter().filter(of_ledger).filter_map(listed_by).collect();
            listed.sort_by(|one, other| one.place.cmp(&other.place));
            let wrong = if closes {
                let paid = commit.changes.iter().find(|change| change.key.0 == "paid#hold-free");
                lots.check_paid(paid.and_then(read_paid).as_ref())
                    .or_else(|| lots.close(waited - waits, listed))
            } else {
                listed.iter().find_map(|entry| lots.carry_out(&entry.detail, entry.credits, entry.at))
            };
            if let Some(wrong) = wrong {
                return Some(format!("hold-free: {wrong}"));
            }
        }
        let (is, by_model) = (owned(balance?.after.as_deref()?), lots.total());
        (is != by_model).then(|| format!("hold-free has {is}, but {by_model} in the model"))
    }
}

/// The workspace that never has a hold.
const HOLD_FREE: &str = "hold-free";

fn epoch_of(balance: Option<&Value>) -> Decimal {
    balance.map_or(Decimal::ZERO, |balance| number(balance, "epoch"))
}

/// Returns the change that a commit has queued behind the fence, with the entry written beside it.
fn waiting_of(balance: &Value, written: Option<&TableChange>) -> Option<Waiting> {
    let at = Timestamp::from_millisecond(millis(list(balance, "changes").last()?, "at")).ok()?;
    let entry = written.and_then(|change| change.after.as_deref()).filter(|entry| is_listed(Some(entry)));
    let known = entry.map(|entry| (plain(&entry["detail"]), number(entry, "credits")));
    Some(Waiting { key: written.map(|change| change.key.0.clone()).unwrap_or_default(), at, known })
}

/// Returns the return of credits that a refund has queued behind the fence.
fn returning_of(balance: &Value) -> Option<Waiting> {
    let queued = list(balance, "changes").last()?;
    let at = Timestamp::from_millisecond(millis(queued, "at")).ok()?;
    let mut detail = plain(&serde_json::json!({ "M": queued }));
    detail["kind"] = "return".into();
    Some(Waiting { key: text(queued, "return_of").to_owned(), at, known: Some((detail, returning(queued))) })
}

/// Returns the month and the credits of the refund that a commit writes.
fn refunded_in(workspace: &str, commit: &Commit) -> Option<(String, Decimal)> {
    let prefix = format!("entry#{workspace}#");
    let refund = commit.changes.iter().find(|it| it.key.0.starts_with(&prefix) && is_refund(it))?;
    Some(month_refunded(refund.after.as_deref()?))
}

/// Returns the entry that a change lists in the ledger.
fn listed_by(change: &TableChange) -> Option<Listed> {
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

/// Returns the sum that the ledger must have: the credits of a workspace, including held ones and changes behind the
/// fence.
fn owned(balance: &Value) -> Decimal {
    let waiting = list(balance, "changes");
    let waiting: Decimal =
        waiting.map(|it| number(&it["grant"]["M"], "amount") - number(it, "claw_back") + returning(it)).sum();
    number(balance, "spendable") - number(balance, "credit_limit") + held(balance) + waiting
}

/// Returns the credits that a waiting refund returns.
fn returning(change: &Value) -> Decimal {
    let to_grants: Decimal = list(change, "to_grants").map(|grant| number(grant, "amount")).sum();
    to_grants + number(change, "to_prepaid") + number(change, "expired")
}

fn is_listed(entry: Option<&Value>) -> bool {
    entry.is_some_and(|entry| entry["index_pk"].is_object())
}

fn listed(entry: Option<&Value>) -> Decimal {
    entry.filter(|entry| is_listed(Some(entry))).map_or(Decimal::ZERO, |entry| number(entry, "credits"))
}

/// Checks that an entry never changes, except that it may be listed in the ledger later, and that refunds of a debit are
/// noted in it.
fn entry(change: &TableChange) -> Option<String> {
    let before = change.before.as_deref()?;
    let Some(after) = change.after.as_deref() else { return Some(format!("{} was deleted", change.key.0)) };
    let changed = if is_listed(Some(before)) {
        before != after && !(is_spent(before) && notes_refund(before, after))
    } else {
        before["detail"] != after["detail"]
    };
    changed.then(|| format!("{} was changed", change.key.0))
}

fn balance(before: &Value, after: &Value, latest: Timestamp) -> Option<String> {
    let grants: Decimal = list(after, "grants").map(|grant| number(grant, "amount")).sum();
    let owned = grants + number(after, "prepaid") + number(after, "credit_limit");
    let taken = number(after, "used") + held(after) - dead(after);
    let spendable = number(after, "spendable");
    if spendable != owned - taken {
        return Some(format!("{spendable} may be spent, but {owned} - {taken} are there"));
    }
    if number(after, "used").is_zero() && number(after, "prepaid") < Decimal::ZERO && grants > Decimal::ZERO {
        return Some(format!("{grants} in grants stand beside a debt of {}", -number(after, "prepaid")));
    }
    let negative = ["used", "held"].iter().find(|name| number(after, name) < Decimal::ZERO);
    if let Some(name) = negative {
        return Some(format!("{name} is {}", number(after, name)));
    }
    let closed = after["closed"]["M"].as_object().into_iter().flatten();
    for (epoch, holds) in closed.map(|(epoch, holds)| (epoch, &holds["M"])) {
        let (held, dead) = (number(holds, "held"), number(holds, "dead"));
        if dead < Decimal::ZERO || dead > held {
            return Some(format!("{dead} of {held} held credits in epoch {epoch} are expired"));
        }
    }
    if before.is_null() {
        return None;
    }
    let step = |name: &str| number(after, name) - number(before, name);
    // A refill is a write of the balance and of a lane.
    let most = if are_open(before) && are_open(after) { Decimal::TWO } else { Decimal::ONE };
    if step("version") < Decimal::ONE || step("version") > most {
        return Some(format!("the version increases by {}", step("version")));
    }
    let same_epoch = step("epoch").is_zero();
    if !same_epoch && step("epoch") != Decimal::ONE {
        return Some(format!("the epoch increases by {}", step("epoch")));
    }
    let taken = step("spendable") < step("credit_limit");
    if same_epoch && taken {
        if spendable < Decimal::ZERO && step("credit_limit").is_zero() {
            return Some(format!("a debit takes it below zero, to {spendable}"));
        }
        // Lanes take debits until the close recalls them. No caller learns of the change before.
        if (millis(before, "expires_next") == 0 || has_changes(before)) && !are_open(before) {
            return Some("credits are debited behind the fence".to_owned());
        }
        let ends = list(before, "grants").map(|grant| millis(grant, "expires"));
        let starts = list(before, "next").map(|next| millis(next, "starts"));
        let due = ends.chain(starts).min().unwrap_or(i64::MAX);
        if due <= latest.as_millisecond() {
            return Some("credits are debited long after an expiry or a start was due".to_owned());
        }
    }
    None
}

/// Checks that spent credits are counted in their month, and that a refund is taken from the month of its debit.
fn counted(
    (before, after): (&Value, &Value),
    (spent, refunded): (Decimal, Option<(String, Decimal)>),
    at: Timestamp,
) -> Option<String> {
    let months = after.as_object().unwrap().keys().filter(|name| {
        name.len() == 8 && name.starts_with('c') && name[1..5].bytes().all(|it| it.is_ascii_digit())
    });
    let near = [at - MAX_OFF, at + MAX_OFF];
    let mut grown = Decimal::ZERO;
    if let Some((month, credits)) = &refunded {
        let name = format!("c{}", month.replace('-', "_"));
        let step = number(after, &name) - number(before, &name);
        // Months before the last one have no counter any more.
        let wanted = near.map(|at| if *month >= last_month(at) { -*credits } else { Decimal::ZERO });
        if !wanted.contains(&step) {
            return Some(format!("{credits} of {month} are refunded, but {name} changes by {step}"));
        }
    }
    let is_refunded =
        |month: &str| refunded.as_ref().is_some_and(|(of, _)| month[1..] == of.replace('-', "_"));
    for month in months.filter(|month| !is_refunded(month)) {
        let step = number(after, month) - number(before, month);
        if step < Decimal::ZERO {
            return Some(format!("{month} decreases by {}", -step));
        }
        let near = near.map(|at| format!("c{:.7}", at.to_string()).replace('-', "_"));
        if !step.is_zero() && !near.contains(month) {
            return Some(format!("{step} is counted in {month}"));
        }
        grown += step;
    }
    (spent != grown).then(|| format!("{spent} credits are spent, but {grown} are counted"))
}

/// Returns the month before an instant's, as `2026-11`.
fn last_month(at: Timestamp) -> String {
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month().yesterday().unwrap();
    format!("{:04}-{:02}", date.year(), date.month())
}

/// Returns the credits that a hold keeps, zero once it has ended.
fn kept(hold: Option<&Value>) -> Decimal {
    hold.filter(|hold| !hold["end"].is_object()).map_or(Decimal::ZERO, |hold| number(hold, "credits"))
}

fn kind(entry: &Value) -> &str {
    text(&entry["detail"]["M"], "kind")
}

/// Returns whether an entry records spent credits.
fn is_spent(entry: &Value) -> bool {
    ["debit", "hold_settled"].contains(&kind(entry))
}

/// Checks that a hold or run ends once, and that an ended hold has no further captures.
fn lasting(change: &TableChange, latest: Timestamp) -> Option<String> {
    let (pk, before, after) = (&change.key.0, change.before.as_deref()?, change.after.as_deref()?);
    if pk.starts_with("hold#") {
        let captures = after["captures"]["L"].as_array().map(Vec::len).unwrap_or_default();
        let grown = captures > before["captures"]["L"].as_array().map(Vec::len).unwrap_or_default();
        if number(after, "remaining") < Decimal::ZERO {
            return Some(format!("{pk} keeps {}", number(after, "remaining")));
        }
        if grown && before["end"].is_object() {
            return Some(format!("{pk} is captured after its end"));
        }
        if grown && millis(before, "expires_at") <= latest.as_millisecond() {
            return Some(format!("{pk} is captured long after its expiry"));
        }
        let keys: Vec<&Value> = after["captures"]["L"].as_array().into_iter().flatten().step_by(2).collect();
        if keys.iter().enumerate().any(|(place, key)| keys[..place].contains(key)) {
            return Some(format!("{pk} is captured twice under one key"));
        }
        if before["end"].is_object() && before["end"] != after["end"] {
            return Some(format!("{pk} ends twice"));
        }
    }
    if pk.starts_with("run#") {
        let status = |run: &Value| text(&run["detail"]["M"], "status").to_owned();
        if !["running", "succeeded", "failed"].contains(&status(after).as_str()) {
            return Some(format!("{pk} has an unknown status"));
        }
        if status(before) != "running" && status(before) != status(after) {
            return Some(format!("{pk} changes from {} to {}", status(before), status(after)));
        }
    }
    None
}
