//! The checks when no work is left: the sums, and that nothing waits, is missing or occurs twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::actors::WORKSPACES;
use crate::calendar;
use crate::call::{Called, Order, Reply, decimal};
use crate::item::{held, number, spendable, text};
use crate::owed;
use crate::table::{Key, Stored};
use crate::warnings;
use crate::world::World;

/// The duration of a claim of a mail.
const CLAIM_LASTS: SignedDuration = SignedDuration::from_mins(2);

/// The events that each have a mail.
const MAILED: [&str; 9] = [
    "PaymentReceived",
    "CreditsExpiring",
    "SubscriptionCancelled",
    "RenewalFailed",
    "AutoTopUpSwitchedOff",
    "AutoTopUpLimited",
    "AutoTopUpUnlimited",
    "CreditsClawedBack",
    "InvoiceReady",
];

/// How late a digest may be at rest: six firings of its schedule.
const DIGEST_LATE: SignedDuration = SignedDuration::from_mins(30);

/// How long a charge may be processing at rest. The sweep asks Stripe about it after an hour, and runs
/// every 15 minutes.
const CHARGE_LATE: SignedDuration = SignedDuration::from_mins(80);

/// The time after which an event no longer starts what was paid for.
const LATEST_START: SignedDuration = SignedDuration::from_hours(6 * 24);

/// The groupings of a month's usage.
const BREAKDOWNS: [&str; 4] = ["feature", "day", "operation", "consumer"];

/// The members of a month in the history, and the kinds of entries that they sum.
const MOVED: [(&str, &[&str]); 7] = [
    ("topped_up", &["top_up"]),
    ("allocated", &["allocation"]),
    ("granted", &["grant"]),
    ("expired", &["expiry"]),
    ("voided", &["void"]),
    ("clawed_back", &["claw_back", "claw_back_reversed"]),
    ("invoiced", &["invoiced"]),
];

/// The kinds of entries that add credits. Each is published as an event.
const ADDING: [&str; 4] = ["top_up", "allocation", "grant", "claw_back_reversed"];

/// Runs all checks. Returns the first violation. At the last rest it checks every month in every grouping; before that
/// the latest two months in one, because a wrong count stays wrong.
pub async fn check(world: &Arc<World>, at_last: bool) -> Option<String> {
    // The checks themselves cause events, which are published later.
    let items = world.ground.table.items();
    if let Some(wrong) = told(world, &items).or_else(|| warnings::check(world)) {
        return Some(wrong);
    }
    for (workspace, _) in WORKSPACES {
        let checked = check_workspace(world, workspace, at_last).await;
        if let Err(wrong) = checked {
            return Some(format!("{workspace}: {wrong}"));
        }
    }
    let checks: [fn(&World) -> Option<String>; 9] = [
        owed::charges,
        owed::purchases,
        owed::claw_backs,
        owed::refunds,
        owed::automatic,
        mails,
        failures,
        invoice_numbers,
        nothing_waits,
    ];
    checks.iter().find_map(|check| check(world))
}

/// Reads every balance. Returns the first failed response.
pub async fn balances(world: &Arc<World>) -> Option<String> {
    for (workspace, _) in WORKSPACES {
        if let Err(wrong) = answered(world, Order::get(workspace, "balance")).await {
            return Some(wrong);
        }
    }
    None
}

/// Returns a path without its ids.
#[must_use]
pub fn route(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let part = |part: &str| {
        let is_id = part.contains('_') && part.len() > 12;
        if is_id { "…".to_owned() } else { part.to_owned() }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Checks that no hold is open after a day and its sweeps.
#[must_use]
pub fn holds_have_ended(world: &World) -> Option<String> {
    let balances = world.ground.table.items().into_iter().filter(|((pk, _), _)| pk.starts_with("balance#"));
    let mut holding = balances.filter(|(_, item)| !held(item).is_zero());
    holding.next().map(|((pk, _), item)| format!("{pk} holds {} after all holds have expired", held(&item)))
}

async fn check_workspace(world: &Arc<World>, workspace: &str, at_last: bool) -> Result<(), String> {
    probe(world, workspace).await?;
    let balance = answered(world, Order::get(workspace, "balance")).await?.body;
    let entries = ledger(world, workspace).await?;
    let sum: Decimal = entries.iter().map(|entry| decimal(&entry["credits"])).sum();
    let owned = decimal(&balance["available"]) + decimal(&balance["held"]);
    if sum != owned {
        return Err(format!("the ledger sums to {sum}, but the balance to {owned}"));
    }
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["entry_id"].as_str()).collect();
    if ids.len() != entries.len() {
        return Err("an entry is listed twice".to_owned());
    }
    once(&entries, "top_up", |entry| entry["payment_id"].to_string())?;
    once(&entries, "allocation", |entry| entry["grant_id"].to_string())?;
    once(&entries, "void", |entry| entry["grant_id"].to_string())?;
    refunded(&entries)?;
    if let Some(wrong) = calendar::check(&entries) {
        return Err(wrong);
    }
    subscription(world, workspace, &entries).await?;
    let one = world.dice.between(0, 3) as usize;
    usage(world, workspace, &entries, if at_last { &BREAKDOWNS } else { &BREAKDOWNS[one..=one] }).await
}

/// Checks that a debit succeeds if and only if credits are there.
async fn probe(world: &Arc<World>, workspace: &str) -> Result<(), String> {
    // The read applies the changes that wait behind the fence.
    answered(world, Order::get(workspace, "balance")).await?;
    let balance = world.ground.table.balance(workspace);
    let there = balance.map_or(Decimal::ZERO, |balance| spendable(&balance, world.now()));
    let body = serde_json::json!({ "operation": "text.classify", "credits": "0.000001",
        "consumer": { "kind": "action", "feature": "probe", "user_id": "probe" } });
    let reply = answered(world, Order::post(workspace, "debits", world.new_key(), body)).await?;
    let wanted = if there > Decimal::ZERO { 201 } else { 402 };
    if reply.status == wanted {
        Ok(())
    } else {
        Err(format!("{there} credits are there, but a debit is answered with {}", reply.status))
    }
}

async fn answered(world: &Arc<World>, order: Order) -> Result<Reply, String> {
    let reply = world.call(&order).await.ok_or_else(|| format!("{} has no response", order.shown()))?;
    if reply.is_unsure() { Err(format!("{} gets {}", order.shown(), reply.body)) } else { Ok(reply) }
}

async fn ledger(world: &Arc<World>, workspace: &str) -> Result<Vec<Value>, String> {
    let (mut entries, mut path) = (Vec::new(), "ledger?limit=1000".to_owned());
    loop {
        let page = answered(world, Order::get(workspace, &path)).await?.body;
        entries.extend(page["entries"].as_array().cloned().unwrap_or_default());
        let Some(cursor) = page["next_cursor"].as_str() else { return Ok(entries) };
        path = format!("ledger?limit=1000&cursor={cursor}");
    }
}

fn once(entries: &[Value], kind: &str, name: impl Fn(&Value) -> String) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
    match of_kind.map(name).find(|name| !seen.insert(name.clone())) {
        Some(twice) => Err(format!("two {kind} entries for {twice}")),
        None => Ok(()),
    }
}

/// Checks that each debit, batch and settlement shows what was refunded of it, which is at most all of it.
fn refunded(entries: &[Value]) -> Result<(), String> {
    let mut refunds: BTreeMap<&str, Decimal> = BTreeMap::new();
    for refund in entries.iter().filter(|entry| entry["kind"] == "debit_refund") {
        *refunds.entry(refund["debit_id"].as_str().unwrap_or_default()).or_default() +=
            decimal(&refund["credits"]);
    }
    for entry in entries.iter().filter(|entry| entry["kind"] == "debit" || entry["kind"] == "hold_settled") {
        let ids = entry["hold_ids"].as_array().into_iter().flatten().chain([&entry["entry_id"]]);
        let sum: Decimal = ids.filter_map(|id| refunds.remove(id.as_str()?)).sum();
        let shown = match &entry["refunded"] {
            Value::Array(lines) => lines.iter().map(|line| decimal(&line["credits"])).sum(),
            Value::Null => Decimal::ZERO,
            sum => decimal(sum),
        };
        if sum != shown || sum > -decimal(&entry["credits"]) {
            return Err(format!("{sum} were refunded, but a debit shows {shown}: {entry}"));
        }
    }
    refunds.keys().next().map_or(Ok(()), |debit| Err(format!("{debit} was refunded and never debited")))
}

/// Checks that each month's groups sum to the usage in the ledger.
async fn usage(
    world: &Arc<World>,
    workspace: &str,
    entries: &[Value],
    breakdowns: &[&str],
) -> Result<(), String> {
    let mut months: BTreeMap<String, Decimal> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == "debit" || entry["kind"] == "hold_settled") {
        let month = entry["at"].as_str().unwrap_or_default().get(..7).unwrap_or_default();
        *months.entry(month.to_owned()).or_default() -= decimal(&entry["credits"]);
    }
    for refund in entries.iter().filter(|entry| entry["kind"] == "debit_refund") {
        let month = refund["debited_at"].as_str().unwrap_or_default().get(..7).unwrap_or_default();
        *months.entry(month.to_owned()).or_default() -= decimal(&refund["credits"]);
    }
    let latest = if breakdowns.len() > 1 { months.len() } else { 2 };
    for (month, used) in months.iter().rev().take(latest) {
        for group_by in breakdowns {
            let path = format!("usage?month={month}&group_by={group_by}&limit=1000");
            let body = answered(world, Order::get(workspace, &path)).await?.body;
            let groups: Decimal =
                body["groups"].as_array().into_iter().flatten().map(|group| decimal(&group["credits"])).sum();
            // The debit of `probe` is not counted yet.
            let behind = *used - groups;
            if behind < Decimal::ZERO || behind > Decimal::new(1, 6) {
                return Err(format!("{month} by {group_by} sums to {groups}, but the ledger to {used}"));
            }
        }
    }
    Ok(())
}

/// Checks that each entry that adds credits, and each record that can't be read, was published.
fn told(world: &Arc<World>, items: &[(Key, Stored)]) -> Option<String> {
    let shown = world.services.bus.shown();
    let ids: BTreeSet<&str> = shown.iter().filter_map(|event| event["detail"]["event_id"].as_str()).collect();
    for ((pk, _), item) in items {
        let listed = item["index_sk"]["S"].as_str().filter(|_| pk.starts_with("entry#"));
        let prefix = match text(&item["detail"]["M"], "kind") {
            "claw_back" => "clawed",
            kind if ADDING.contains(&kind) => "added",
            _ => continue,
        };
        let Some((_, id)) = listed.and_then(|place| place.split_once('#')) else { continue };
        if !ids.contains(format!("{prefix}-{id}").as_str()) {
            return Some(format!("{pk} was not published"));
        }
    }
    let unread: BTreeSet<&str> = shown
        .iter()
        .filter(|event| event["detail-type"] == "RecordUnread")
        .filter_map(|event| event["detail"]["record_id"].as_str())
        .collect();
    let wanted = world.poisoned();
    (unread.len() as u64 != wanted)
        .then(|| format!("{wanted} records can't be read, but {} were published", unread.len()))
}

/// Checks that each fact with a mail has exactly one.
fn mails(world: &World) -> Option<String> {
    let mails = world.services.told.lock().unwrap().clone();
    let mut seen: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (fact, at) in &mails {
        // If the sender dies before it marks the mail as sent, another one may send it again after two minutes.
        if seen.insert(fact, *at).is_some_and(|before| at.duration_since(before) < CLAIM_LASTS) {
            return Some(format!("a mail was sent twice: {fact}"));
        }
    }
    let sent = world.ground.table.items().into_iter();
    let sent: BTreeSet<String> = sent
        .filter(|((pk, _), item)| pk.starts_with("mail#") && item["sent"].is_object())
        .map(|((pk, _), _)| pk)
        .collect();
    if let Some(missing) = sent.iter().find(|mail| !seen.contains_key(mail.trim_start_matches("mail#"))) {
        return Some(format!("{missing} is marked as sent, but was not sent"));
    }
    let shown = world.services.bus.shown();
    let is_reversal = |event: &Value| event["detail"]["kind"] == "claw_back_reversed";
    let wanted = shown.iter().filter(|event| {
        MAILED.contains(&event["detail-type"].as_str().unwrap_or_default())
            || is_reversal(event)
            || (event["detail-type"] == "CreditsLow" && event["detail"]["crossed_smaller"] == false)
    });
    let mut ids = wanted.filter_map(|event| event["detail"]["event_id"].as_str());
    ids.find(|id| !sent.contains(&format!("mail#{id}"))).map(|id| format!("no mail was sent for {id}"))
}

/// Checks that each unattended failed run is mailed once: alone, in a digest, or in the next digest, which must not be
/// late.
fn failures(world: &World) -> Option<String> {
    let mut failed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in world.services.bus.shown().iter().filter(|event| event["detail-type"] == "RunFailed") {
        let said = |name: &str| event["detail"][name].as_str().unwrap_or_default();
        if said("trigger") != "manual" {
            failed.entry(said("workspace_id").to_owned()).or_default().insert(said("event_id").to_owned());
        }
    }
    // A mail that was sent again after a crash of its sender counts once.
    let facts = world.services.told.lock().unwrap().clone();
    let mails = facts.into_iter().zip(world.services.mailbox.mails());
    let told: BTreeMap<String, u64> = mails.map(|((fact, _), mail)| (fact, runs_in(&mail.subject))).collect();
    failed.iter().find_map(|(workspace, runs)| {
        let together = told.iter().filter(|(fact, _)| fact.starts_with(&format!("digest-{workspace}-")));
        let together: u64 = together.map(|(_, count)| count).sum();
        let alone = runs.iter().filter(|run| told.contains_key(*run)).count() as u64;
        let waiting = match waiting_failures(world, workspace) {
            Ok(waiting) => waiting,
            Err(wrong) => return Some(wrong),
        };
        (alone + together + waiting != runs.len() as u64).then(|| {
            let mailed = format!("{alone} mailed alone, {together} in digests, {waiting} waiting");
            format!("{} runs of {workspace} failed: {mailed}", runs.len())
        })
    })
}

/// Returns how many failed runs wait for a workspace's next digest.
fn waiting_failures(world: &World, workspace: &str) -> Result<u64, String> {
    let item = world.ground.table.item(&(format!("failures#{workspace}"), "failures".to_owned()));
    let Some(item) = item else { return Ok(0) };
    if item["sending"].is_object() {
        return Err(format!("a digest of {workspace} is never finished"));
    }
    let waiting = number(&item, "waiting");
    let due = text(&item, "index_sk").split('#').next().and_then(|due| due.parse::<i64>().ok());
    let late = (world.now() - DIGEST_LATE).as_millisecond();
    if !waiting.is_zero() && due.is_none_or(|due| due < late) {
        return Err(format!("the digest of {waiting} failed runs of {workspace} is late"));
    }
    let of_workflows = item["failed"]["M"].as_object().into_iter().flatten();
    let counted: Decimal = of_workflows.map(|(name, _)| number(&item["failed"]["M"], name)).sum();
    if counted != waiting {
        return Err(format!(
            "{waiting} failed runs of {workspace} wait, but {counted} are counted by workflow"
        ));
    }
    waiting.try_into().map_err(|_| format!("{waiting} failed runs of {workspace} wait"))
}

/// Returns the number of runs in a mail: the number at the start of its subject, or one.
fn runs_in(subject: &str) -> u64 {
    subject.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// Checks that an active subscription is not late for its renewal, and that a cancelled one ends.
async fn subscription(world: &Arc<World>, workspace: &str, entries: &[Value]) -> Result<(), String> {
    let reply = answered(world, Order::get(workspace, "subscription")).await?;
    if let Some(wrong) = calendar::is_last_paid(&reply.body, entries) {
        return Err(wrong);
    }
    if !reply.body["pending_payment"].is_null() && !is_charged_lately(world, workspace) {
        return Err(format!("a payment is still processing: {}", reply.body));
    }
    if reply.status == 404 || reply.body["status"] != "active" {
        return Ok(());
    }
    if reply.body["cancel_at_period_end"] != true && was_cancelled(world, workspace) {
        return Err(format!("a cancelled subscription continues: {}", reply.body));
    }
    let renews_at = reply.body["renews_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    match renews_at {
        Some(at) if at >= world.now() - SignedDuration::from_hours(2) => Ok(()),
        _ => Err(format!("an active subscription is late: {}", reply.body)),
    }
}

/// Returns whether the open charge was begun so late in the rest that no sweep has asked Stripe about it since.
fn is_charged_lately(world: &World, workspace: &str) -> bool {
    let item = world.ground.table.item(&(format!("subscription#{workspace}"), "subscription".to_owned()));
    let begun_at = item.map(|item| text(&item["enrolment"]["M"]["charge"]["M"], "begun_at").to_owned());
    let begun_at = begun_at.and_then(|begun_at| begun_at.parse::<Timestamp>().ok());
    begun_at.is_some_and(|begun_at| begun_at > world.now() - CHARGE_LATE)
}

/// Returns whether the subscription was cancelled and not requested again. A payment from before may start it until its
/// event arrives.
fn was_cancelled(world: &World, workspace: &str) -> bool {
    let calls = world.calls.lock().unwrap();
    let asked = |method: &'static str| {
        let of = calls.iter().filter(|it| it.order.workspace == workspace && it.order.path == "subscription");
        of.filter(move |it| it.order.method == method)
    };
    let taken = |it: &&Called| it.answered.as_ref().is_some_and(|it| it.reply.status == 200);
    let Some(cancelled) = asked("DELETE").rfind(taken) else { return false };
    asked("PUT").all(|it| it.at < cancelled.at - LATEST_START)
}

/// Checks that the history of months matches the ledger.
pub async fn history(world: &Arc<World>) -> Option<String> {
    for (workspace, _) in WORKSPACES {
        if let Err(wrong) = check_history(world, workspace).await {
            return Some(format!("{workspace}: {wrong}"));
        }
    }
    None
}

async fn check_history(world: &Arc<World>, workspace: &str) -> Result<(), String> {
    let entries = ledger(world, workspace).await?;
    let history = answered(world, Order::get(workspace, "usage/history?months=24")).await?.body;
    let months = history["months"].as_array().filter(|months| !months.is_empty());
    let taken =
        |entry: &Value| ["debit", "hold_settled"].contains(&entry["kind"].as_str().unwrap_or_default());
    for month in months.ok_or("a history without months")? {
        let is_in = |entry: &Value, name: &str| {
            entry[name].as_str().unwrap_or_default().get(..7) == month["month"].as_str()
        };
        let of_month = |entry: &&Value| is_in(entry, "at");
        let consumed = entries.iter().filter(|entry| {
            (taken(entry) && is_in(entry, "at"))
                || (entry["kind"] == "debit_refund" && is_in(entry, "debited_at"))
        });
        let consumed: Decimal = consumed.map(|entry| -decimal(&entry["credits"])).sum();
        if consumed != decimal(&month["consumed"]) {
            return Err(format!(
                "{} consumed {}, but {consumed} by the ledger",
                month["month"], month["consumed"]
            ));
        }
        for (name, kinds) in MOVED {
            let of_kind = |entry: &&Value| kinds.contains(&entry["kind"].as_str().unwrap_or_default());
            let moved =
                entries.iter().filter(of_month).filter(of_kind).map(|entry| decimal(&entry["credits"]));
            let (moved, told) = (moved.sum::<Decimal>().abs(), decimal(&month[name]).abs());
            if moved != told {
                return Err(format!("{} {name} {told}, but {moved} by the ledger", month["month"]));
            }
        }
    }
    Ok(())
}

/// Checks that the invoice numbers begin at one, without gaps and without duplicates.
fn invoice_numbers(world: &World) -> Option<String> {
    let invoices = world.ground.table.items().into_iter().filter(|((pk, _), _)| pk.starts_with("invoice#"));
    let count = |(_, item): (Key, Stored)| {
        text(&item["invoice"]["M"], "number").rsplit('-').next().and_then(|count| count.parse().ok())
    };
    let mut counts: Vec<u64> = invoices.filter_map(count).collect();
    counts.sort_unstable();
    let misplaced = counts.into_iter().zip(1..).find(|(count, place)| count != place);
    misplaced.map(|(count, place)| format!("the invoice number {place} is missing, or {count} occurs twice"))
}

/// Checks that nothing is quarantined, that no lane is open, and that no changes wait behind the fence.
fn nothing_waits(world: &World) -> Option<String> {
    let items = world.ground.table.items();
    let stuck = items.iter().find(|(_, item)| text(item, "index_pk") == "stuck");
    if let Some(((pk, _), _)) = stuck {
        return Some(format!("{pk} is quarantined"));
    }
    if let Some(((pk, _), _)) = items.iter().find(|((pk, _), _)| pk.starts_with("lane#")) {
        return Some(format!("{pk} is still open"));
    }
    let fenced =
        items.iter().find(|((pk, _), item)| pk.starts_with("balance#") && crate::item::has_changes(item));
    // A void or a claw-back closes the balance at once, or the probe does.
    fenced.map(|((pk, _), item)| format!("{pk} has waiting changes, with {} used", number(item, "used")))
}
