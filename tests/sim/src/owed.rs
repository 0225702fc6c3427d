//! The checks of payments: each payment has bought its purchase once, and refunded or disputed amounts are clawed back
//! exactly to the millionth of a credit (M5).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

use crate::actors::MAX_AUTO_TOP_UPS;
use crate::item::{list, number, plain, text};
use crate::table::{Key, Stored};
use crate::world::World;

/// By how much a purchase's `begun_at` may be later than a call that came after it, because two clocks differ.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(21);

/// Checks that each purchase has one payment at Stripe, and that each period and each upgrade was bought once. A charge
/// of the stored method that bought nothing must be cancelled and refunded.
pub fn charges(world: &World) -> Option<String> {
    let payments = world.payments.provider.lock().unwrap().payments();
    let mut paid: BTreeMap<String, u64> = BTreeMap::new();
    for payment in payments {
        *paid.entry(payment.purchase_id.clone()).or_default() += 1;
        let item =
            world.ground.table.item(&(format!("payment#{}", payment.payment_id), "payment".to_owned()));
        let Some(item) = item else {
            return Some(format!("payment {} succeeded, but has no item", payment.payment_id));
        };
        let (is_granted, is_kept) = (item["granted_for_minor"].is_object(), item["mismatch"].is_object());
        let purchase = (format!("purchase#{}", payment.purchase_id), "purchase".to_owned());
        let Some(item) = world.ground.table.item(&purchase) else {
            return Some(format!("payment {} has no purchase", payment.payment_id));
        };
        let purchase = plain(&item["purchase"]);
        // An operator retries a failed refund.
        let is_refunded = payment.refunded_minor == payment.amount_minor || payment.has_failed_refund;
        if is_refunded && (is_granted || was_withdrawn(world, &purchase)) {
            continue;
        }
        if !is_granted && !item["card"].is_object() && is_kept {
            // An operator decides about the payment of a withdrawn checkout.
            continue;
        }
        // The bank debit for an upgrade may take longer than the period.
        if !is_granted && (!is_refunded || purchase["goods"]["goods"] == "period") {
            return Some(format!("payment {} was charged but bought nothing", payment.payment_id));
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

/// Checks that each refund that the operator requested was made at most once.
pub fn refunds(world: &World) -> Option<String> {
    let mut seen = BTreeSet::new();
    let payments = world.payments.provider.lock().unwrap().payments();
    let mut names = payments.into_iter().flat_map(|payment| payment.refund_names);
    names.find(|name| !seen.insert(name.clone())).map(|name| format!("refund {name} was made twice"))
}

/// Returns whether a caller cancelled the workspace's subscription after a purchase began.
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

/// Checks that no two payments have granted the same purchase.
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

/// Checks that refunded and disputed amounts are clawed back in proportion, rounded down. A pack is clawed back fully.
/// A period is clawed back as far as its credits are left or consumed, without the expired ones.
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
                // A refund before the start has no entry, but reduces the credits that join.
                let before = credits - joined.get(grant).copied().unwrap_or_default();
                match of_grant(world, workspace, grant, target) {
                    Ok(of_grant) => (of_grant - before).max(Decimal::ZERO),
                    Err(wrong) => return Some(wrong),
                }
            }
        };
        // A refund of a debit may have returned credits to the grant that an earlier claw-back had charged as consumed.
        let returned = if grant.is_empty() { Decimal::ZERO } else { debits_refunded(&items, &item) };
        if is < owed || is > owed + returned {
            return Some(format!(
                "payment {}: {gone} minor units refunded or disputed, {owed} owed, {is} clawed back",
                payment.payment_id
            ));
        }
    }
    None
}

/// Returns the credits that were refunded of all debits of a payment's workspace.
fn debits_refunded(items: &[(Key, Stored)], payment: &Value) -> Decimal {
    let prefix = format!("entry#{}#", text(payment, "workspace_id"));
    let refunds =
        of_kind(items, &prefix).filter(|(_, entry)| text(&entry["detail"]["M"], "kind") == "debit_refund");
    refunds.map(|(_, entry)| number(entry, "credits")).sum()
}

/// Returns the credits that refunds worth `target` take of a grant: all of them while it runs or waits; after its end
/// those that were clawed back unused, and the consumed ones.
fn of_grant(world: &World, workspace: &str, grant: &str, target: Decimal) -> Result<Decimal, String> {
    let ended = (format!("grant#{workspace}#{grant}"), "ended".to_owned());
    if let Some(ended) = world.ground.table.item(&ended) {
        let (unused, consumed) = (number(&ended, "clawed_unused"), number(&ended, "consumed"));
        return Ok(unused + (target - unused).max(Decimal::ZERO).min(consumed));
    }
    let balance = world.ground.table.balance(workspace);
    let balance = balance.ok_or("a payment has granted credits, but no balance exists")?;
    let mut grants = list(&balance, "grants").chain(list(&balance, "next").map(|next| &next["next"]["M"]));
    if grants.any(|running| text(running, "id") == grant) {
        Ok(target)
    } else {
        Err(format!("grant {grant} neither runs nor has ended"))
    }
}

/// Checks that no month has more automatic top-ups than its limit.
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
    let most = bought.iter().find(|(_, times)| **times > MAX_AUTO_TOP_UPS);
    most.map(|((workspace, month), times)| format!("{workspace} was topped up {times} times in {month}"))
}

fn of_kind<'a>(items: &'a [(Key, Stored)], kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    items
        .iter()
        .filter(move |((pk, _), _)| pk.starts_with(kind))
        .map(|((pk, _), item)| (pk.as_str(), &**item))
}
