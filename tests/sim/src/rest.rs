//! What must hold once everything has come to rest: the sums, and that nothing waits, is missing or is there twice.

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

/// How long a mail is claimed.
const CLAIM_LASTS: SignedDuration = SignedDuration::from_mins(2);

/// Events that each have a mail of their own.
const MAILED: [&str; 8] = [
    "PaymentReceived",
    "SubscriptionCancelled",
    "RenewalFailed",
    "AutoTopUpSwitchedOff",
    "AutoTopUpLimited",
    "AutoTopUpUnlimited",
    "CreditsClawedBack",
    "InvoiceReady",
];

/// How late a digest may be when everything has come to rest: six firings of its schedule.
const DIGEST_LATE: SignedDuration = SignedDuration::from_mins(30);

/// Until when an event may still start what was paid for.
const LATEST_START: SignedDuration = SignedDuration::from_hours(6 * 24);

/// How a month is broken down.
const BREAKDOWNS: [&str; 4] = ["feature", "day", "operation", "consumer"];

/// What a month's history tells, and which entries it is made of.
const MOVED: [(&str, &[&str]); 7] = [
    ("topped_up", &["top_up"]),
    ("allocated", &["allocation"]),
    ("granted", &["grant"]),
    ("expired", &["expiry"]),
    ("voided", &["void"]),
    ("clawed_back", &["claw_back", "claw_back_reversed"]),
    ("invoiced", &["invoiced"]),
];

/// Entries by which credits are added, each published as an event.
const ADDING: [&str; 4] = ["top_up", "allocation", "grant", "claw_back_reversed"];

/// Checks all of it; what is wrong. At last every month is broken down in every way, and before that the latest in one of
/// them: what was counted wrongly stays wrong.
pub async fn check(world: &Arc<World>, at_last: bool) -> Option<String> {
    // What the checks themselves bring about is told later.
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

/// Looks at every balance; what is wrong with an answer.
pub async fn balances(world: &Arc<World>) -> Option<String> {
    for (workspace, _) in WORKSPACES {
        if let Err(wrong) = answered(world, Order::get(workspace, "balance")).await {
            return Some(wrong);
        }
    }
    None
}

/// A path without its ids.
#[must_use]
pub fn route(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let part = |part: &str| {
        let is_id = part.contains('_') && part.len() > 12;
        if is_id { "…".to_owned() } else { part.to_owned() }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// After a day and its sweeps no hold is open.
#[must_use]
pub fn holds_have_ended(world: &World) -> Option<String> {
    let balances = world.ground.table.items().into_iter().filter(|((pk, _), _)| pk.starts_with("balance#"));
    let mut holding = balances.filter(|(_, item)| !held(item).is_zero());
    holding.next().map(|((pk, _), item)| format!("{pk} holds {} after everything has ended", held(&item)))
}

async fn check_workspace(world: &Arc<World>, workspace: &str, at_last: bool) -> Result<(), String> {
    probe(world, workspace).await?;
    let balance = answered(world, Order::get(workspace, "balance")).await?.body;
    let entries = ledger(world, workspace).await?;
    let sum: Decimal = entries.iter().map(|entry| decimal(&entry["credits"])).sum();
    let owned = decimal(&balance["available"]) + decimal(&balance["held"]);
    if sum != owned {
        return Err(format!("the ledger sums to {sum}, and {owned} are there"));
    }
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["entry_id"].as_str()).collect();
    if ids.len() != entries.len() {
        return Err("an entry is listed twice".to_owned());
    }
    once(&entries, "top_up", |entry| entry["payment_id"].to_string())?;
    once(&entries, "allocation", |entry| entry["grant_id"].to_string())?;
    once(&entries, "void", |entry| entry["grant_id"].to_string())?;
    if let Some(wrong) = calendar::check(&entries) {
        return Err(wrong);
    }
    subscription(world, workspace, &entries).await?;
    let one = world.dice.between(0, 3) as usize;
    usage(world, workspace, &entries, if at_last { &BREAKDOWNS } else { &BREAKDOWNS[one..=one] }).await
}

/// Credits that are there can be spent, and those that are not can't.
async fn probe(world: &Arc<World>, workspace: &str) -> Result<(), String> {
    // What waits behind the fence is carried out by the read.
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
        Err(format!("{there} are there, and a debit is answered {}", reply.status))
    }
}

async fn answered(world: &Arc<World>, order: Order) -> Result<Reply, String> {
    let reply = world.call(&order).await.ok_or_else(|| format!("{} is not answered", order.shown()))?;
    if reply.is_unsure() { Err(format!("{} is answered {}", order.shown(), reply.body)) } else { Ok(reply) }
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
        Some(twice) => Err(format!("there are two {kind} entries of {twice}")),
        None => Ok(()),
    }
}

/// Each month's breakdowns sum to what its ledger says was used.
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
    let latest = if breakdowns.len() > 1 { months.len() } else { 2 };
    for (month, used) in months.iter().rev().take(latest) {
        for group_by in breakdowns {
            let path = format!("usage?month={month}&group_by={group_by}&limit=1000");
            let body = answered(world, Order::get(workspace, &path)).await?.body;
            let groups: Decimal =
                body["groups"].as_array().into_iter().flatten().map(|group| decimal(&group["credits"])).sum();
            // The month's own debit above is not counted yet.
            let behind = *used - groups;
            if behind < Decimal::ZERO || behind > Decimal::new(1, 6) {
                return Err(format!("{month} by {group_by} comes to {groups}, and the ledger to {used}"));
            }
        }
    }
    Ok(())
}

/// Each entry that adds credits, and each record that nobody can read, was told.
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
        .then(|| format!("{wanted} records can't be read, and {} were told", unread.len()))
}

/// One mail a fact, and of each fact that is to be told by mail one.
fn mails(world: &World) -> Option<String> {
    let mails = world.services.told.lock().unwrap().clone();
    let mut seen: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (fact, at) in &mails {
        // Who dies between sending and writing it down is followed by another after two minutes.
        if seen.insert(fact, *at).is_some_and(|before| at.duration_since(before) < CLAIM_LASTS) {
            return Some(format!("a mail came twice: {fact}"));
        }
    }
    let sent = world.ground.table.items().into_iter();
    let sent: BTreeSet<String> = sent
        .filter(|((pk, _), item)| pk.starts_with("mail#") && item["sent"].is_object())
        .map(|((pk, _), _)| pk)
        .collect();
    if let Some(missing) = sent.iter().find(|mail| !seen.contains_key(mail.trim_start_matches("mail#"))) {
        return Some(format!("{missing} is said to be sent, and is not there"));
    }
    let shown = world.services.bus.shown();
    let given_back = |event: &Value| event["detail"]["kind"] == "claw_back_reversed";
    let wanted = shown.iter().filter(|event| {
        MAILED.contains(&event["detail-type"].as_str().unwrap_or_default()) || given_back(event)
    });
    let mut ids = wanted.filter_map(|event| event["detail"]["event_id"].as_str());
    ids.find(|id| !sent.contains(&format!("mail#{id}"))).map(|id| format!("no mail tells of {id}"))
}

/// Each run that nobody saw fail is mailed once: by itself, in a workspace's digest, or in the next one, which is not late.
fn failures(world: &World) -> Option<String> {
    let mut failed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in world.services.bus.shown().iter().filter(|event| event["detail-type"] == "RunFailed") {
        let said = |name: &str| event["detail"][name].as_str().unwrap_or_default();
        if said("trigger") != "manual" {
            failed.entry(said("workspace_id").to_owned()).or_default().insert(said("event_id").to_owned());
        }
    }
    // A mail that came again, since its sender had died, tells nothing new.
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
            let mailed = format!("{alone} are mailed alone, {together} together, and {waiting} wait");
            format!("{} runs of {workspace} failed: {mailed}", runs.len())
        })
    })
}

/// How many failed runs wait for a workspace's next digest.
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
        return Err(format!("{waiting} failed runs of {workspace} wait for a digest that is late"));
    }
    let of_workflows = item["failed"]["M"].as_object().into_iter().flatten();
    let counted: Decimal = of_workflows.map(|(name, _)| number(&item["failed"]["M"], name)).sum();
    if counted != waiting {
        return Err(format!(
            "{waiting} failed runs of {workspace} wait, and {counted} are counted by workflow"
        ));
    }
    waiting.try_into().map_err(|_| format!("{waiting} failed runs of {workspace} wait"))
}

/// Of how many runs a mail tells: its subject begins with their number, or it tells of one.
fn runs_in(subject: &str) -> u64 {
    subject.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// A running subscription has not passed the date of its renewal, and one that was cancelled ends.
async fn subscription(world: &Arc<World>, workspace: &str, entries: &[Value]) -> Result<(), String> {
    let reply = answered(world, Order::get(workspace, "subscription")).await?;
    if let Some(wrong) = calendar::is_last_paid(&reply.body, entries) {
        return Err(wrong);
    }
    if !reply.body["pending_payment"].is_null() {
        return Err(format!("a payment is still processing: {}", reply.body));
    }
    if reply.status == 404 || reply.body["status"] != "active" {
        return Ok(());
    }
    if reply.body["cancel_at_period_end"] != true && was_cancelled(world, workspace) {
        return Err(format!("a subscription goes on that was cancelled: {}", reply.body));
    }
    let renews_at = reply.body["renews_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    match renews_at {
        Some(at) if at >= world.now() - SignedDuration::from_hours(2) => Ok(()),
        _ => Err(format!("an active subscription is late: {}", reply.body)),
    }
}

/// Whether it was cancelled, and not asked for again; what was paid for before may start it as late as its event comes.
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

/// What the months came to is what the ledger says.
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
    for month in months.ok_or("a history without months")? {
        let of_month =
            |entry: &&Value| entry["at"].as_str().unwrap_or_default().get(..7) == month["month"].as_str();
        for (name, kinds) in MOVED {
            let of_kind = |entry: &&Value| kinds.contains(&entry["kind"].as_str().unwrap_or_default());
            let moved =
                entries.iter().filter(of_month).filter(of_kind).map(|entry| decimal(&entry["credits"]));
            let (moved, told) = (moved.sum::<Decimal>().abs(), decimal(&month[name]).abs());
            if moved != told {
                return Err(format!("{} {name} {told}, and by the ledger {moved}", month["month"]));
            }
        }
    }
    Ok(())
}

/// The invoices have the numbers from one on, each once and without a gap.
fn invoice_numbers(world: &World) -> Option<String> {
    let invoices = world.ground.table.items().into_iter().filter(|((pk, _), _)| pk.starts_with("invoice#"));
    let count = |(_, item): (Key, Stored)| {
        text(&item["invoice"]["M"], "number").rsplit('-').next().and_then(|count| count.parse().ok())
    };
    let mut counts: Vec<u64> = invoices.filter_map(count).collect();
    counts.sort_unstable();
    let misplaced = counts.into_iter().zip(1..).find(|(count, place)| count != place);
    misplaced
        .map(|(count, place)| format!("the invoice numbered {place} is missing, or {count} is there twice"))
}

/// Nothing is laid aside.
fn nothing_waits(world: &World) -> Option<String> {
    let items = world.ground.table.items();
    let stuck = items.iter().find(|(_, item)| text(item, "index_pk") == "stuck");
    if let Some(((pk, _), _)) = stuck {
        return Some(format!("{pk} is laid aside"));
    }
    let fenced =
        items.iter().find(|((pk, _), item)| pk.starts_with("balance#") && crate::item::has_changes(item));
    // A void or a claw-back closes at once, or is closed by the probe.
    fenced.map(|((pk, _), item)| format!("{pk} has changes that wait, with {} used", number(item, "used")))
}
