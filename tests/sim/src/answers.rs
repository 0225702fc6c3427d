//! The checks of each response, against the balances between the call and the response.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::call::{Answered, Called, Order, decimal};
use crate::commits::{Commits, MAX_OFF};
use crate::item::{has_changes, has_run_out, next_to_nothing, number, spendable, text};
use crate::lanes::are_open;
use crate::prices::price;
use crate::table::{Key, SimTable};

/// How far a debit's time may be from that in its id for a refund to find it.
const SEARCHED: SignedDuration = SignedDuration::from_mins(1);

/// The first success under each workspace and key.
type Firsts = BTreeMap<(String, String), (Order, Value)>;

/// The checked responses.
#[derive(Debug, Default)]
pub struct Answers {
    seen: BTreeSet<usize>,
    looked_at: usize,
    firsts: Firsts,
    /// The call of each key; `None` if the key was used for different calls.
    asked: BTreeMap<(String, String), Option<Order>>,
    /// The credits of each line of a batch, less what was refunded of it by line; by workspace and debit.
    lines: BTreeMap<(String, String), Vec<Decimal>>,
}

impl Answers {
    /// Checks the responses since the last check. Returns the first violation.
    pub fn check(&mut self, calls: &[Called], commits: &Commits, table: &SimTable) -> Option<String> {
        for called in &calls[self.looked_at..] {
            if let Some(key) = called.order.key.clone() {
                let key = (called.order.workspace.clone(), key);
                let asked = self.asked.entry(key).or_insert_with(|| Some(called.order.clone()));
                if asked.as_ref() != Some(&called.order) {
                    *asked = None;
                }
            }
        }
        self.looked_at = calls.len();
        for (number, called) in calls.iter().enumerate() {
            let Some(answered) = &called.answered else { continue };
            if !self.seen.insert(number) {
                continue;
            }
            if let Some(wrong) = self.check_one(called, answered, commits, table) {
                return Some(format!("#{number} {}: {wrong}", called.order.shown()));
            }
        }
        None
    }

    fn check_one(
        &mut self,
        called: &Called,
        answered: &Answered,
        commits: &Commits,
        table: &SimTable,
    ) -> Option<String> {
        let reply = &answered.reply;
        match reply.status {
            200 | 201 if called.order.key.is_some() => self.success(called, answered, table),
            200 if called.order.path == "balance" => shown(called, answered, commits),
            409 if reply.body["code"] == "idempotency_key_reused" => self.reused(&called.order),
            402 => refused(called, answered, commits),
            500 => Some(format!("answers 500: {}", reply.body)),
            503 if !["contended", "unavailable"]
                .contains(&reply.body["code"].as_str().unwrap_or_default()) =>
            {
                Some(format!("answers 503: {}", reply.body))
            }
            // A concurrent refund may have reduced the refundable amount.
            422 if reply.body["code"] == "exceeds_payment" => None,
            422 if reply.body["code"] == "exceeds_debit" => not_exceeding(&called.order, &reply.body),
            404 if called.order.path.starts_with("debits/deb") => not_found(called, table),
            400 | 422 => Some(format!("a good request is refused: {}", reply.body)),
            _ => None,
        }
    }

    /// Checks that a key is refused as reused only if different calls used it.
    fn reused(&self, order: &Order) -> Option<String> {
        let key = (order.workspace.clone(), order.key.clone()?);
        let same = self.asked.get(&key).is_some_and(Option::is_some);
        same.then(|| "refused as a reused key, and only this call used the key".to_owned())
    }

    /// Checks that the refunds of a batch's line are at most the line.
    fn line_refunded(&mut self, order: &Order, body: &Value) -> Option<String> {
        let of = |debit: &Value| (order.workspace.clone(), debit.as_str().unwrap_or_default().to_owned());
        if order.path == "debits/batch" {
            let lines = body["lines"].as_array().into_iter().flatten();
            self.lines.insert(of(&body["debit_id"]), lines.map(|line| decimal(&line["credits"])).collect());
        }
        let line = order.body["line"].as_u64().filter(|_| order.path.ends_with("/refund"))?;
        let left = self.lines.get_mut(&of(&body["debit_id"]))?.get_mut(line as usize)?;
        *left -= decimal(&body["credits"]);
        (*left < Decimal::ZERO).then(|| format!("{} more than line {line} are refunded", -*left))
    }

    /// Checks that a key has one success, and that all attempts get the same response.
    fn success(&mut self, called: &Called, answered: &Answered, table: &SimTable) -> Option<String> {
        let (order, reply) = (&called.order, &answered.reply);
        let key = (order.workspace.clone(), order.key.clone().unwrap_or_default());
        if let Some((first, body)) = self.firsts.get(&key) {
            if first != order {
                return Some(format!("{} succeeded earlier with another payload", first.shown()));
            }
            if *body != reply.body && !order.path.ends_with("/complete") {
                return Some(format!("first answered {}, now {}", body, reply.body));
            }
        }
        if reply.status == 201 && reply.replayed {
            return Some("a replay is answered 201".to_owned());
        }
        let is_first = !self.firsts.contains_key(&key);
        self.firsts.entry(key).or_insert_with(|| (order.clone(), reply.body.clone()));
        let wrong = if is_first { self.line_refunded(order, &reply.body) } else { None };
        if wrong.is_some() {
            return wrong;
        }
        if order.path.ends_with("/refund") && order.path.starts_with("debits/") {
            return refunded(order, &reply.body, table);
        }
        if order.path == "holds" || order.path.ends_with("/captures") {
            return not_priced(&order.body, &reply.body);
        }
        if order.path == "debits" || order.path == "debits/batch" {
            paid(order, &reply.body, table)
        } else {
            None
        }
    }
}

/// Checks that a refund finds its debit. It searches by the time in the debit's id, so a debit may be missed if a clock was more
/// than a minute off, or if it is so young that the index lacks it.
fn not_found(called: &Called, table: &SimTable) -> Option<String> {
    let id = called.order.path.split('/').nth(1)?;
    let items = table.items().into_iter();
    let place = items.map(|(_, item)| text(&item, "index_sk").to_owned()).find(|place| place.ends_with(id));
    let Some(at) = place.as_ref().and_then(|place| place.split('#').next()?.parse::<i64>().ok()) else {
        return Some("an answered debit is not in the ledger".to_owned());
    };
    let made_at = i64::from_str_radix(id.get(4..16)?, 16).ok()?;
    let is_off = (at - made_at).abs() > SEARCHED.as_millis() as i64;
    let is_young = called.at.as_millisecond() - at < MAX_OFF.as_millis() as i64;
    (!is_off && !is_young).then(|| "a known debit is not found".to_owned())
}

/// Checks that a refund that is refused exceeds what is left of its debit.
fn not_exceeding(order: &Order, body: &Value) -> Option<String> {
    let decimal = |value: &Value| value.as_str().and_then(|text| text.parse::<Decimal>().ok());
    let Some(refundable) = decimal(&body["refundable"]) else {
        return Some(format!("a refusal lacks members: {body}"));
    };
    let exceeds =
        decimal(&order.body["credits"]).map_or(refundable.is_zero(), |credits| credits > refundable);
    (!exceeds).then(|| format!("refused although {refundable} can be refunded"))
}

/// Checks that an answered refund has an entry with the same credits, of the debit in its path.
fn refunded(order: &Order, body: &Value, table: &SimTable) -> Option<String> {
    let pk = format!("entry#{}#key#{}", order.workspace, order.key.as_deref().unwrap_or_default());
    let Some(entry) = table.item(&(pk, "entry".to_owned())) else {
        return Some("answered, but no entry exists".to_owned());
    };
    let debit = text(&entry["detail"]["M"], "debit_id");
    let asked = order.path.split('/').nth(1).unwrap_or_default();
    let (credits, is) = (decimal(&body["credits"]), number(&entry, "credits"));
    if debit != asked || body["debit_id"] != asked || text(&entry["detail"]["M"], "kind") != "debit_refund" {
        return Some(format!("a refund of {asked} is one of {debit}: {body}"));
    }
    let meant = order.body["credits"].as_str().and_then(|text| text.parse().ok()).unwrap_or(credits);
    (is != credits || meant != credits || decimal(&body["refundable"]) < Decimal::ZERO)
        .then(|| format!("{credits} of {meant} are answered, but {is} refunded"))
}

/// Checks that a hold or a capture in units has the price of the rate card.
fn not_priced(order: &Value, body: &Value) -> Option<String> {
    let price = price(order)?.max(Decimal::new(i64::from(!order["ttl_seconds"].is_null()), 6));
    let credits = decimal(&body["credits"]);
    (price != credits).then(|| format!("the price is {price}, but {credits} are held or captured"))
}

/// Checks that an answered debit has an entry with the same credits.
fn paid(order: &Order, body: &Value, table: &SimTable) -> Option<String> {
    let pk = format!("entry#{}#key#{}", order.workspace, order.key.as_deref().unwrap_or_default());
    let key: Key = (pk, "entry".to_owned());
    let Some(entry) = table.item(&key) else { return Some("answered, but no entry exists".to_owned()) };
    let credits: Decimal = body["credits"].as_str().unwrap_or_default().parse().unwrap();
    if let Some(price) = price(&order.body).filter(|price| *price != credits) {
        return Some(format!("the price is {price}, but {credits} were debited"));
    }
    (number(&entry, "credits") != -credits)
        .then(|| format!("answered {credits}, but the entry is {}", number(&entry, "credits")))
}

/// Returns the balances between a call and its response, each with its last instant in that time.
fn between<'a>(
    called: &'a Called,
    answered: &'a Answered,
    commits: &'a Commits,
) -> impl Iterator<Item = (&'a Value, Timestamp)> {
    let stood = commits.balances.get(&called.order.workspace).map(Vec::as_slice).unwrap_or_default();
    let first = stood.iter().rposition(|it| it.from <= called.from).unwrap_or_default();
    let within = stood[first..].iter().take_while(|it| it.from <= answered.until);
    within.enumerate().map(move |(place, it)| {
        let next = stood.get(first + place + 1).filter(|next| next.from <= answered.until);
        (&*it.item, next.map_or(answered.at, |next| next.at))
    })
}

/// Checks that a refusal for insufficient credits fits a balance between the call and the response.
fn refused(called: &Called, answered: &Answered, commits: &Commits) -> Option<String> {
    let body = &answered.reply.body;
    let spends = ["debits", "debits/batch", "holds", "holds/batch"].contains(&called.order.path.as_str());
    if !spends || body["code"] != "insufficient_credits" {
        return None;
    }
    let (workspace, key) = (&called.order.workspace, called.order.key.as_deref().unwrap_or_default());
    let entry = commits.entries.get(&format!("entry#{workspace}#key#{key}"));
    if entry.is_some_and(|commit| *commit <= called.from) {
        return Some("refused, but the debit was committed before the call".to_owned());
    }
    let decimal = |name: &str| body[name].as_str().and_then(|text| text.parse::<Decimal>().ok());
    let (Some(required), Some(available)) = (decimal("required"), decimal("available")) else {
        return Some(format!("a 402 lacks members: {body}"));
    };
    if available >= required {
        return Some(format!("{required} are refused although {available} are available"));
    }
    // Changes behind the fence may take any amount.
    let short = |(item, until): (&Value, Timestamp)| {
        has_changes(item) || spendable(item, until).min(spendable(item, called.at)) < required
    };
    if !between(called, answered, commits).any(short) {
        return Some(format!("{required} are refused although always available: {body}"));
    }
    not_noted(called, answered, commits)
}

/// Checks that a refusal marks a workspace as out of credits before it is answered, unless credits were added
/// meanwhile.
fn not_noted(called: &Called, answered: &Answered, commits: &Commits) -> Option<String> {
    let stood: Vec<&Value> = between(called, answered, commits).map(|(item, _)| item).collect();
    let added = &stood.first()?["added"];
    let is_dry = |item: &&Value| {
        let dry = number(item, "spendable") < next_to_nothing(item);
        dry && !has_changes(item) && item["added"] == *added
    };
    let noted = stood.iter().any(|item| has_run_out(item));
    (!noted && stood.iter().all(is_dry))
        .then(|| format!("refused while out of credits, but not marked so: {}", answered.reply.body))
}

/// Checks that a balance shown is one that existed during the call.
fn shown(called: &Called, answered: &Answered, commits: &Commits) -> Option<String> {
    let body = &answered.reply.body;
    let available = body["available"].as_str().and_then(|text| text.parse::<Decimal>().ok());
    let (Some(available), Some(version)) = (available, body["version"].as_u64().map(Decimal::from)) else {
        return Some(format!("a balance lacks members: {body}"));
    };
    let stood: Vec<(&Value, Timestamp)> = between(called, answered, commits).collect();
    if stood.iter().any(|(item, _)| are_open(item)) {
        return shown_with_lanes(&stood, available, version, body);
    }
    let mut stood = stood.into_iter().peekable();
    stood.peek()?;
    let shown = |(item, _): (&Value, Timestamp)| {
        let next = crate::item::millis(item, "expires_next");
        // A balance whose fence has passed for some clock may be shown without what has expired.
        let due = next <= (answered.at + jiff::SignedDuration::from_mins(12)).as_millisecond();
        number(item, "version") == version
            && (due || number(item, "spendable") - number(item, "credit_limit") == available)
    };
    (!stood.any(shown)).then(|| format!("shows a balance that did not exist during the call: {body}"))
}

/// Checks a balance that was read with its lanes, item by item: it contains what was committed before the call, and of what
/// was committed meanwhile any part.
fn shown_with_lanes(
    stood: &[(&Value, Timestamp)],
    available: Decimal,
    version: Decimal,
    body: &Value,
) -> Option<String> {
    let of = |item: &Value| number(item, "spendable") - number(item, "credit_limit");
    let (first, _) = stood.first()?;
    let steps: Vec<Decimal> = stood.windows(2).map(|pair| of(pair[1].0) - of(pair[0].0)).collect();
    let fallen: Decimal = steps.iter().filter(|step| **step < Decimal::ZERO).sum();
    let risen: Decimal = steps.iter().filter(|step| **step > Decimal::ZERO).sum();
    let bounds = of(first) + fallen..=of(first) + risen;
    if version < number(first, "version") {
        return Some(format!("shows a version from before the call: {body}"));
    }
    (!bounds.contains(&available)).then(|| format!("shows a balance outside {bounds:?}: {body}"))
}
