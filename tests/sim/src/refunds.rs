//! Refunds of debits: the checks of each refund and of the records of how epochs were paid. Independent of `core` and of the
//! store.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::commits::MAX_OFF;
use crate::item::{list, millis, number, plain, text};
use crate::table::{Commit, TableChange};

/// The records of how epochs were paid, and what the checks know of each debit.
#[derive(Debug, Default)]
pub struct RefundsSeen {
    /// The epoch in which each debit was written, by the key of its entry.
    epochs: BTreeMap<String, Decimal>,
    /// How each closed epoch was paid, less what was refunded, by workspace and position.
    payments: BTreeMap<String, BTreeMap<String, EpochPaid>>,
    voided: BTreeSet<String>,
    /// The workspaces in which a clock that is off has put a refund into another epoch than the debit's.
    misplaced: BTreeSet<String>,
}

/// How the use of an epoch was paid, less what was refunded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochPaid {
    epoch: Decimal,
    closed_at: Timestamp,
    /// By grant, in the order of spending.
    pub grants: Vec<(String, Decimal)>,
    pub prepaid: Decimal,
}

/// A refund that a commit wrote.
struct SeenRefund<'a> {
    /// The key of the debit's entry.
    debit: &'a str,
    debited_at: Timestamp,
    /// The part that live credits have paid, and the part of expired ones.
    live: Decimal,
    expired: Decimal,
}

impl RefundsSeen {
    /// Checks what a commit refunds and closes in a workspace, whose balance it changes.
    pub fn check(
        &mut self,
        workspace: &str,
        (before, after): (&Value, &Value),
        commit: &Commit,
    ) -> Result<(), String> {
        let of = |kind: &str, change: &&TableChange| {
            change.key.0 == format!("{kind}#{workspace}")
                || change.key.0.starts_with(&format!("{kind}#{workspace}#"))
        };
        let entries: Vec<&TableChange> = commit.changes.iter().filter(|it| of("entry", it)).collect();
        for change in &entries {
            if change.before.is_none() && !is_refund(change) {
                self.epochs.insert(change.key.0.clone(), number(before, "epoch"));
            }
        }
        let paid: Vec<&TableChange> = commit.changes.iter().filter(|it| of("paid", it)).collect();
        if number(before, "epoch") != number(after, "epoch") {
            self.check_closed(workspace, before, &paid)?;
            check_returned(before, after)?;
        } else if let Some(change) = entries.iter().find(|change| is_refund(change)) {
            let refund = seen(change, &entries)?;
            self.check_refund(workspace, (before, after), &refund, &paid)?;
        } else if !paid.is_empty() {
            return Err("the record of an epoch's payment changes without a refund".to_owned());
        }
        for grant in commit.changes.iter().filter(|it| of("grant", it)) {
            let id = grant.key.0.rsplit('#').next().unwrap();
            if grant.after.as_deref().is_some_and(|after| after["voided_under"].is_object()) {
                self.voided.insert(id.to_owned());
            }
        }
        Ok(())
    }

    /// Checks that a close has recorded how its epoch was paid: expiring grants first, the earliest end first.
    fn check_closed(&mut self, workspace: &str, before: &Value, paid: &[&TableChange]) -> Result<(), String> {
        let mut left = number(before, "used");
        let mut grants: Vec<&Value> = list(before, "grants").collect();
        grants.sort_by_key(|grant| (millis(grant, "expires"), text(grant, "id")));
        let mut wanted = Vec::new();
        for grant in grants {
            let part = left.min(number(grant, "amount"));
            left -= part;
            if !part.is_zero() {
                wanted.push((text(grant, "id").to_owned(), part));
            }
        }
        let [change] = paid else {
            let right = paid.is_empty() && number(before, "used").is_zero();
            return if right { Ok(()) } else { Err(format!("a close writes {} payments", paid.len())) };
        };
        let is = read_paid(change).filter(|_| change.before.is_none()).ok_or("a payment is written over")?;
        let wanted = EpochPaid {
            epoch: number(before, "epoch"),
            closed_at: is.closed_at,
            grants: wanted,
            prepaid: left,
        };
        if is != wanted {
            return Err(format!("an epoch was paid by {wanted:?}, but recorded is {is:?}"));
        }
        self.payments.entry(workspace.to_owned()).or_default().insert(change.key.1.clone(), is);
        Ok(())
    }

    /// Checks that a refund returns its credits as they were paid.
    fn check_refund(
        &mut self,
        workspace: &str,
        (before, after): (&Value, &Value),
        refund: &SeenRefund<'_>,
        paid: &[&TableChange],
    ) -> Result<(), String> {
        let step = |name: &str| number(after, name) - number(before, name);
        let payments = self.payments.entry(workspace.to_owned()).or_default();
        let found = paid.first().map(|change| (*change, payments.get(&change.key.1).cloned()));
        let of_debit = self.epochs.get(refund.debit).ok_or("a refund of a debit that was never written")?;
        let epoch = match &found {
            Some((_, record)) => record.as_ref().ok_or("a refund writes the record of an epoch")?.epoch,
            None => number(before, "epoch"),
        };
        if epoch != *of_debit && !refund.live.is_zero() {
            // Two clocks may be off in opposite directions.
            let near =
                |paid: &EpochPaid| paid.closed_at.duration_since(refund.debited_at).abs() <= MAX_OFF * 2;
            if !payments.values().any(near) && !self.misplaced.contains(workspace) {
                return Err(format!(
                    "a debit of epoch {of_debit} at {} is refunded as one of epoch {epoch}",
                    refund.debited_at
                ));
            }
            self.misplaced.insert(workspace.to_owned());
        }
        let (mut grants, mut expired) = (Vec::new(), refund.expired);
        let mut of_epoch = Decimal::ZERO;
        let prepaid = match found.filter(|_| !refund.live.is_zero()) {
            Some((change, Some(record))) => {
                let left = read_paid(change).ok_or("a refund removes the record of an epoch")?;
                let parts = record.parts(&left, refund.live)?;
                let prepaid = refund.live - parts.iter().map(|(_, part)| part).sum::<Decimal>();
                for (grant, part) in parts.into_iter().filter(|(_, part)| !part.is_zero()) {
                    if self.voided.contains(&grant) {
                        expired += part;
                    } else {
                        grants.push((grant, part));
                    }
                }
                payments.insert(change.key.1.clone(), left);
                prepaid
            }
            _ if !paid.is_empty() => return Err("a refund changes an unrelated record".to_owned()),
            _ => {
                let most = refund.live.min(number(before, "used"));
                of_epoch = -step("used");
                // The record of a wrong epoch that has nothing left is written as it was.
                if of_epoch < most
                    && of_epoch.is_zero()
                    && payments.values().any(|it| it.is_spent_at(refund.debited_at))
                {
                    self.misplaced.insert(workspace.to_owned());
                }
                // In a wrong epoch, the use may have grown since the refund read it.
                if of_epoch > most || (of_epoch < most && !self.misplaced.contains(workspace)) {
                    return Err(format!("{of_epoch} of {most} are refunded of the epoch's use"));
                }
                refund.live - of_epoch
            }
        };
        let waits = !grants.is_empty() || !expired.is_zero();
        let at_once = if waits { Decimal::ZERO } else { prepaid };
        let is = (step("used"), step("prepaid"), step("spendable"));
        let wanted = (-of_epoch, at_once, of_epoch + at_once);
        if is != wanted {
            return Err(format!("a refund moves used, prepaid and spendable by {is:?}, not by {wanted:?}"));
        }
        let changes: Vec<&Value> = list(after, "changes").collect();
        if changes.len() - list(before, "changes").count() != usize::from(waits) {
            return Err(format!("{expired} and {grants:?} return, with {} changes queued", changes.len()));
        }
        let Some(queued) = changes.last().filter(|_| waits) else { return Ok(()) };
        let to_grants: Vec<(String, Decimal)> = list(queued, "to_grants")
            .map(|grant| (text(grant, "id").to_owned(), number(grant, "amount")))
            .collect();
        let is = (to_grants, number(queued, "to_prepaid"), number(queued, "expired"));
        let wanted = (grants, prepaid, expired);
        if is == wanted { Ok(()) } else { Err(format!("a refund returns {is:?}, not {wanted:?}")) }
    }
}

impl EpochPaid {
    /// Returns whether nothing is left of the record, and a clock that is off may have closed its epoch just after an instant.
    fn is_spent_at(&self, at: Timestamp) -> bool {
        self.used() <= Decimal::ZERO
            && self.closed_at > at
            && self.closed_at.duration_since(at) <= MAX_OFF * 2
    }

    fn used(&self) -> Decimal {
        self.grants.iter().map(|(_, paid)| paid).sum::<Decimal>() + self.prepaid
    }

    /// Returns what each grant gets back of a refund, if the record loses that. Each source gets its proportion, but for
    /// the millionths that are rounded.
    fn parts(&self, left: &Self, refund: Decimal) -> Result<Vec<(String, Decimal)>, String> {
        let wrong = || format!("a refund of {refund} changes {self:?} to {left:?}");
        let ids = |paid: &Self| paid.grants.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        if (left.epoch, left.closed_at, ids(left)) != (self.epoch, self.closed_at, ids(self)) {
            return Err(wrong());
        }
        let used = self.used();
        let refunded = refund.min(used.max(Decimal::ZERO));
        let rounded = Decimal::new(self.grants.len() as i64 + 1, 6);
        let part = |paid: Decimal, left: Decimal| {
            let part = paid - left;
            let exact = if used.is_zero() { Decimal::ZERO } else { refunded * paid / used };
            let is_right = part >= Decimal::ZERO && left >= Decimal::ZERO && (part - exact).abs() <= rounded;
            is_right.then_some(part).ok_or_else(wrong)
        };
        let mut sum = part(self.prepaid, left.prepaid)?;
        let mut parts = Vec::new();
        for ((id, paid), (_, left)) in self.grants.iter().zip(&left.grants) {
            let part = part(*paid, *left)?;
            sum += part;
            parts.push((id.clone(), part));
        }
        if sum == refunded { Ok(parts) } else { Err(wrong()) }
    }
}

/// Checks that credits of ended grants return until the present period ends, or for 30 days.
fn check_returned(before: &Value, after: &Value) -> Result<(), String> {
    let is_new = |grant: &&Value| list(before, "grants").all(|it| it["id"] != grant["id"]);
    for grant in list(after, "grants").filter(is_new) {
        let queued = list(before, "changes").find(|it| it["return_of"] == grant["id"]);
        let Some(queued) = queued else { continue };
        let at = millis(queued, "at");
        if list(before, "next").any(|next| millis(next, "starts") <= at + MAX_OFF.as_millis() as i64) {
            continue;
        }
        let grants = list(before, "grants").chain(list(after, "grants"));
        let periods = grants.filter(|it| text(it, "kind") == "allocation").map(|it| millis(it, "expires"));
        let thirty_days = 30 * 86_400_000;
        let wanted = periods.filter(|end| *end > at).min().unwrap_or(at + thirty_days);
        if millis(grant, "expires") != wanted {
            return Err(format!("returned credits last until {}, not {wanted}", millis(grant, "expires")));
        }
    }
    Ok(())
}

/// Returns the record that a commit has written of how an epoch was paid.
#[must_use]
pub fn read_paid(change: &TableChange) -> Option<EpochPaid> {
    let record: Value = serde_json::from_str(text(change.after.as_deref()?, "payment")).ok()?;
    let decimal = |value: &Value| value.as_str()?.parse::<Decimal>().ok();
    let grants = record["grants"].as_array()?.iter();
    Some(EpochPaid {
        epoch: record["epoch"].as_u64()?.into(),
        closed_at: record["closed_at"].as_str()?.parse().ok()?,
        grants: grants
            .map(|paid| Some((paid["grant_id"].as_str()?.to_owned(), decimal(&paid["credits"])?)))
            .collect::<Option<_>>()?,
        prepaid: decimal(&record["prepaid"])?,
    })
}

/// Returns whether a change writes the entry of a refund.
#[must_use]
pub fn is_refund(change: &TableChange) -> bool {
    let kind = |entry: &Value| text(&entry["detail"]["M"], "kind") == "debit_refund";
    change.before.is_none() && change.after.as_deref().is_some_and(kind)
}

/// Returns whether a change of an entry notes a refund and changes nothing else.
#[must_use]
pub fn notes_refund(before: &Value, after: &Value) -> bool {
    let without = |entry: &Value| {
        let mut entry = entry.clone();
        entry["detail"]["M"].as_object_mut().map(|detail| detail.remove("refunded"));
        entry
    };
    without(before) == without(after)
}

/// Returns the month of the debit that a refund's entry names, as `2026-11`, and its credits.
#[must_use]
pub fn month_refunded(entry: &Value) -> (String, Decimal) {
    let at = text(&entry["detail"]["M"], "debited_at");
    (at.get(..7).unwrap_or_default().to_owned(), number(entry, "credits"))
}

/// Returns what was refunded of a debit, by line. A single call has the line 0.
fn refunded(entry: &Value) -> BTreeMap<Decimal, Decimal> {
    let refunded = plain(&entry["detail"]["M"]["refunded"]);
    let decimal = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    match refunded {
        Value::Array(lines) => {
            lines.iter().map(|line| (decimal(&line["line"]), decimal(&line["credits"]))).collect()
        }
        Value::Null => BTreeMap::new(),
        sum => BTreeMap::from([(Decimal::ZERO, decimal(&sum))]),
    }
}

/// Checks a refund's entry against the entry of its debit, in which it is noted.
fn seen<'a>(refund: &'a TableChange, entries: &[&'a TableChange]) -> Result<SeenRefund<'a>, String> {
    let after = refund.after.as_deref().unwrap();
    let noted = entries.iter().filter(|change| change.before.is_some() && change.key != refund.key);
    let noted: Vec<_> = noted.collect();
    let [debit] = noted[..] else { return Err(format!("a refund is noted in {} debits", noted.len())) };
    let (Some(before), Some(noted)) = (debit.before.as_deref(), debit.after.as_deref()) else {
        return Err("a debit was deleted".to_owned());
    };
    let credits = number(after, "credits");
    let (earlier, later) = (refunded(before), refunded(noted));
    let (was, is) = (earlier.values().sum::<Decimal>(), later.values().sum::<Decimal>());
    let debited = -number(before, "credits");
    if credits <= Decimal::ZERO || is - was != credits {
        return Err(format!("{credits} are refunded, but {} noted", is - was));
    }
    if is > debited {
        return Err(format!("{is} of a debit of {debited} are refunded"));
    }
    if earlier.iter().any(|(line, was)| later.get(line).is_none_or(|is| is < was)) {
        return Err(format!("an earlier refund is no longer noted: {earlier:?}, then {later:?}"));
    }
    let at: i64 =
        text(before, "index_sk").split('#').next().and_then(|at| at.parse().ok()).unwrap_or_default();
    let said = text(&after["detail"]["M"], "debited_at").parse::<Timestamp>();
    let debited_at = Timestamp::from_millisecond(at).map_err(|error| error.to_string())?;
    if said.as_ref().ok() != Some(&debited_at) {
        return Err(format!("the debit is of {debited_at}, but the refund says {said:?}"));
    }
    let by_expired = text(&before["detail"]["M"], "paid_by_expired").parse().unwrap_or(Decimal::ZERO);
    let live = credits.min((debited - by_expired - was).max(Decimal::ZERO));
    Ok(SeenRefund { debit: &debit.key.0, debited_at, live, expired: credits - live })
}
