//! Readers of the table's items, independent of the store's own.

use jiff::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

/// Returns a number of an item; zero if absent.
#[must_use]
pub fn number(item: &Value, name: &str) -> Decimal {
    item[name]["N"].as_str().map_or(Decimal::ZERO, |text| text.parse().unwrap())
}

/// Returns a text of an item; empty if absent.
#[must_use]
pub fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]["S"].as_str().unwrap_or_default()
}

/// Returns an instant of an item, in milliseconds since 1970; zero if absent.
#[must_use]
pub fn millis(item: &Value, name: &str) -> i64 {
    item[name]["N"].as_str().map_or(0, |text| text.parse().unwrap())
}

/// Returns the maps in a list of an item.
pub fn list<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    item[name]["L"].as_array().into_iter().flatten().map(|value| &value["M"])
}

/// Adds the running grants to their balance. Fails if they are missing, or belong to another close.
pub fn with_grants(balance: &Value, running: Option<&Value>) -> Result<Value, String> {
    let mut joined = balance.clone();
    if balance["running_grants"].is_null() {
        return Ok(joined);
    }
    let running = running.ok_or("a balance has running grants, but their item is missing")?;
    if number(running, "epoch") != number(balance, "epoch") {
        return Err("the running grants and their balance are of different closes".to_owned());
    }
    if number(balance, "running_grants") != Decimal::from(list(running, "grants").count()) {
        return Err("the running grants are not as many as their balance says".to_owned());
    }
    joined["grants"] = running["grants"].clone();
    Ok(joined)
}

/// Returns the credits that all holds of a balance keep.
#[must_use]
pub fn held(balance: &Value) -> Decimal {
    let closed = balance["closed"]["M"].as_object().into_iter().flatten();
    number(balance, "held") + closed.map(|(_, holds)| number(&holds["M"], "held")).sum::<Decimal>()
}

/// Returns the held credits whose grants have expired.
#[must_use]
pub fn dead(balance: &Value) -> Decimal {
    let closed = balance["closed"]["M"].as_object().into_iter().flatten();
    closed.map(|(_, holds)| number(&holds["M"], "dead")).sum()
}

/// Returns the credits that a balance's customer owns, including held ones.
#[must_use]
pub fn credits_owned(balance: &Value) -> Decimal {
    number(balance, "spendable") - number(balance, "credit_limit") + held(balance)
}

/// Returns whether a workspace has run out of credits since credits were last added.
#[must_use]
pub fn has_run_out(balance: &Value) -> bool {
    balance["exhausted"].is_object()
        || credits_owned(balance) + number(balance, "credit_limit") <= Decimal::ZERO
}

/// Returns the limit below which a refusal finds a workspace out of credits: 1 % of the last addition, or of the credit
/// limit if that is larger.
#[must_use]
pub fn next_to_nothing(balance: &Value) -> Decimal {
    let base = number(balance, "added").max(number(balance, "credit_limit"));
    (base / Decimal::ONE_HUNDRED).round_dp_with_strategy(6, RoundingStrategy::ToZero)
}

/// Returns the credits that may be spent at an instant, after all expiries and starts that are due by then.
#[must_use]
pub fn spendable(balance: &Value, at: Timestamp) -> Decimal {
    let now = at.as_millisecond();
    let mut used = number(balance, "used");
    let mut spendable = number(balance, "spendable");
    for grant in list(balance, "grants") {
        let amount = number(grant, "amount");
        let left = (amount - used).max(Decimal::ZERO);
        used = (used - amount).max(Decimal::ZERO);
        if millis(grant, "expires") <= now {
            spendable -= left;
        }
    }
    for next in list(balance, "next").filter(|next| millis(next, "starts") <= now) {
        spendable += number(&next["next"]["M"], "amount");
    }
    spendable
}

/// Returns whether changes wait behind the fence.
#[must_use]
pub fn has_changes(balance: &Value) -> bool {
    list(balance, "changes").next().is_some()
}

/// Converts an item's value to JSON without DynamoDB's types, as far as the checks need it.
#[must_use]
pub fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|typed| typed.iter().next()) else {
        return Value::Null;
    };
    match (kind.as_str(), inner) {
        ("M", Value::Object(members)) => {
            members.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        ("L", Value::Array(values)) => values.iter().map(plain).collect(),
        ("NULL", _) => Value::Null,
        (_, inner) => inner.clone(),
    }
}
