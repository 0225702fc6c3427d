//! What must have come of payments: each has bought once what it was for, and what was refunded or is in dispute was
//! taken back, to the millionth (M5).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

use crate::actors::MOST_AUTO_TOP_UPS;
use crate::item::{list, number, plain, text};
use crate::table::{Key, Stored};
use crate::world::World;

/// The most by which a purchase's `begun_at` is later than a call that was made after it: two clocks may be off.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(21);

/// Stripe has one payment for each purchase, and each period of a subscription and each upgrade in it was bought once. A charge of
/// the stored method that bought nothing was cancelled, and is refunded.
pub fn charges(world: &World) -> Option<String> {
    let payments = world.payments.provider.lock().unwrap().payments();
    let mut paid: BTreeMap<String, u64> = BTreeMap::new();
    for payment in payments {
        *paid.entry(payment.purchase_id.clone()).or_default() += 1;
        let item =
            world.ground.table.item(&(format!("payment#{}", payment.payment_id), "payment".to_owned()));
        let Some(item) = item else {
            return Some(format!("payment {} was made, and nothing is known of it", payment.payment_id));
        };
        let (is_granted, is_kept) = (item["granted_for_minor"].is_object(), item["mismatch"].is_object());
        let purchase = (format!("purchase#{}", payment.purchase_id), "purchase".to_owned());
        let Some(item) = world.ground.table.item(&purchase) else {
            return Some(format!("payment {} is for no purchase", payment.payment_id));
        };
        let purchase = plain(&item["purchase"]);
        // A refund that failed is an operator's to make again.
        let is_refunded = payment.refunded_minor == payment.amount_minor || payment.has_failed_refund;
        if is_refunded && (is_granted || was_withdrawn(world, &purchase)) {
            continue;
        }
        if !is_granted && !item["card"].is_object() && is_kept {
            // An operator decides about a withdrawn checkout that was paid.
            continue;
        }
        // The debit for an upgrade may take longer than its period.
        if !is_granted && (!is_refunded || purchase["goods"]["goods"] == "period") {
            return Some(format!("payment {} was charged, and bought nothing", payment.payment_id));
        }
        let goods = &purchase["goods"];
        let (period, of) = (&goods["period"], &goods["subscription_id"]);
        let what = match goods["goods"].as_str() {
            Some("period") => format!("period {period} of {of}"),
            Some("upgrade") => {
                format!("the upgrade to {} in period {period} of {of}", goods["terms"]["tier"])
            }
            _ => continue,
        };
        *paid.entry(what).or_default() += 1;
    }
    paid.iter().find(|(_, times)| **times > 1).map(|(what, times)| format!("{what} was paid {times} times"))
}

/// Each refund that the operator has asked for was made at most once.
pub fn refunds(world: &World) -> Option<String> {
    let mut seen = BTreeSet::new();
    let payments = world.payments.provider.lock().unwrap().payments();
    let mut names = payments.into_iter().flat_map(|payment| payment.refund_names);
    names.find(|name| !seen.insert(name.clone())).map(|name| format!("refund {name} was made twice"))
}

/// Whether a caller cancelled the workspace's subscription after a purchase was begun.
fn was_withdrawn(world: &World, purchase: &Value) -> bool {
    let begun_at: Timestamp = purchase["begun_at"].as_str().unwrap().parse().unwrap();
    let calls = world.calls.lock().unwrap();
    calls.iter().any(|called| {
        let order = &called.order;
        order.method == "DELETE"
            && order.path == "subscription"
            && purchase["workspace_id"] == order.workspace
            && called.at >= begun_at - CLOCKS_APART
    })
}

/// No two payments have granted the same purchase.
pub fn purchases(world: &World) -> Option<String> {
    let mut granted: BTreeMap<String, String> = BTreeMap::new();
    for (pk, item) in of_kind(&world.ground.table.items(), "payment#") {
        if item["granted_for_minor"].is_object() {
            let purchase = text(item, "purchase_id").to_owned();
            if let Some(other) = granted.insert(purchase.clone(), pk.to_owned()) {
                return Some(format!("{purchase} was granted by {other} and by {pk}"));
            }
        }
    }
    None
}

/// What is refunded or in dispute is taken back in proportion, rounded down: of a pack all of it, and of a period what was
/// left of it or consumed, and nothing that has expired.
pub fn claw_backs(world: &World) -> Option<String> {
    let items = world.ground.table.items();
    let sums = |kinds: &str, name: &str| {
        let mut sums: BTreeMap<String, Decimal> = BTreeMap::new();
        for (_, entry) in of_kind(&items, "entry#") {
            let detail = &entry["detail"]["M"];
            if text(detail, "kind").starts_with(kinds) && entry["index_pk"].is_object() {
                *sums.entry(text(detail, name).to_owned()).or_default() += number(entry, "credits");
            }
        }
        sums
    };
    let (taken, joined) = (sums("claw_back", "payment_id"), sums("allocation", "grant_id"));
    let made = world.payments.provider.lock().unwrap().payments();
    for payment in made {
        let key = (format!("payment#{}", payment.payment_id), "payment".to_owned());
        let Some(item) = world.ground.table.item(&key).filter(|item| item["granted_for_minor"].is_object())
        else {
            continue;
        };
        let is = -taken.get(&payment.payment_id).copied().unwrap_or_default();
        let gone = payment.refunded_minor + payment.withheld_minor;
        let paid = number(&item, "granted_for_minor");
        let share = number(&item, "credits") * paid.min(gone.into()) / paid;
        let target = share.round_dp_with_strategy(6, RoundingStrategy::ToZero);
        let grant = text(&item, "grant_id");
        let owed = match () {
            () if item["is_withdrawn"].is_object() => Decimal::ZERO,
            () if grant.is_empty() => target,
            () => {
                let (workspace, credits) = (text(&item, "workspace_id"), number(&item, "credits"));
                // A refund before the start has no entry: so much less joined.
                let before = credits - joined.get(grant).copied().unwrap_or_default();
                match of_grant(world, workspace, grant, target) {
                    Ok(of_grant) => (of_grant - before).max(Decimal::ZERO),
                    Err(wrong) => return Some(wrong),
                }
            }
        };
        if is != owed {
            return Some(format!(
                "of payment {} {gone} minor units are gone: {owed}, and {is} were taken back",
                payment.payment_id
            ));
        }
    }
    None
}

/// What refunds that come to `target` take of a grant: all of it while it runs or waits; once it has ended, what was taken of
/// it unused before, and what was consumed.
fn of_grant(world: &World, workspace: &str, grant: &str, target: Decimal) -> Result<Decimal, String> {
    let ended = (format!("grant#{workspace}#{grant}"), "ended".to_owned());
    if let Some(ended) = world.ground.table.item(&ended) {
        let (unused, consumed) = (number(&ended, "clawed_unused"), number(&ended, "consumed"));
        return Ok(unused + (target - unused).max(Decimal::ZERO).min(consumed));
    }
    let balance = world.ground.table.balance(workspace);
    let balance = balance.ok_or("a payment has granted, and there is no balance")?;
    let mut grants = list(&balance, "grants").chain(list(&balance, "next").map(|next| &next["next"]["M"]));
    if grants.any(|running| text(running, "id") == grant) {
        Ok(target)
    } else {
        Err(format!("grant {grant} neither runs nor has ended"))
    }
}

/// No month has more automatic top-ups than people allow.
pub fn automatic(world: &World) -> Option<String> {
    let mut bought: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (_, item) in of_kind(&world.ground.table.items(), "purchase#") {
        let purchase = plain(&item["purchase"]);
        let is_automatic = item["card"].is_object() && purchase["goods"]["goods"] == "pack";
        if is_automatic && item["paid_by"].is_object() {
            let month = purchase["begun_at"].as_str().unwrap_or_default().get(..7).unwrap_or_default();
            let of = (purchase["workspace_id"].to_string(), month.to_owned());
            *bought.entry(of).or_default() += 1;
        }
    }
    let most = bought.iter().find(|(_, times)| **times > MOST_AUTO_TOP_UPS);
    most.map(|((workspace, month), times)| format!("{workspace} was topped up {times} times in {month}"))
}

fn of_kind<'a>(items: &'a [(Key, Stored)], kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    items
        .iter()
        .filter(move |((pk, _), _)| pk.starts_with(kind))
        .map(|((pk, _), item)| (pk.as_str(), &**item))
}
