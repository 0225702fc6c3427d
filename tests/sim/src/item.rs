//! Reading items as they stand in the table, without the store's own reading.

use jiff::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

/// A number of an item; zero where there is none.
#[must_use]
pub fn number(item: &Value, name: &str) -> Decimal {
    item[name]["N"].as_str().map_or(Decimal::ZERO, |text| text.parse().unwrap())
}

/// A text of an item.
#[must_use]
pub fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]["S"].as_str().unwrap_or_default()
}

/// An instant of an item, in milliseconds since 1970.
#[must_use]
pub fn millis(item: &Value, name: &str) -> i64 {
    item[name]["N"].as_str().map_or(0, |text| text.parse().unwrap())
}

/// A list of an item.
pub fn list<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    item[name]["L"].as_array().into_iter().flatten().map(|value| &value["M"])
}

/// Joins the grants that run to their balance; what is wrong if they are not of one close.
pub fn with_grants(balance: &Value, running: Option<&Value>) -> Result<Value, String> {
    let mut joined = balance.clone();
    if balance["running_grants"].is_null() {
        return Ok(joined);
    }
    let running = running.ok_or("a balance has grants, and they are nowhere")?;
    if number(running, "epoch") != number(balance, "epoch") {
        return Err("the grants are of another close than their balance".to_owned());
    }
    if number(balance, "running_grants") != Decimal::from(list(running, "grants").count()) {
        return Err("the balance has another number of grants".to_owned());
    }
    joined["grants"] = running["grants"].clone();
    Ok(joined)
}

/// All that a balance's holds keep.
#[must_use]
pub fn held(balance: &Value) -> Decimal {
    let closed = balance["closed"]["M"].as_object().into_iter().flatten();
    number(balance, "held") + closed.map(|(_, holds)| number(&holds["M"], "held")).sum::<Decimal>()
}

/// What of a balance's held credits has expired.
#[must_use]
pub fn dead(balance: &Value) -> Decimal {
    let closed = balance["closed"]["M"].as_object().into_iter().flatten();
    closed.map(|(_, holds)| number(&holds["M"], "dead")).sum()
}

/// What a balance's customer owns, held credits included.
#[must_use]
pub fn credits_owned(balance: &Value) -> Decimal {
    number(balance, "spendable") - number(balance, "credit_limit") + held(balance)
}

/// Whether a balance's workspace has run out of credits since they were added last.
#[must_use]
pub fn has_run_out(balance: &Value) -> bool {
    balance["exhausted"].is_object()
        || credits_owned(balance) + number(balance, "credit_limit") <= Decimal::ZERO
}

/// Below which a refusal finds a workspace out of credits: 1 % of the last addition, or of the credit limit if that is more.
#[must_use]
pub fn next_to_nothing(balance: &Value) -> Decimal {
    let base = number(balance, "added").max(number(balance, "credit_limit"));
    (base / Decimal::ONE_HUNDRED).round_dp_with_strategy(6, RoundingStrategy::ToZero)
}

/// What may be spent at an instant, with all that is due by then carried out.
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

/// Whether changes wait behind the fence.
#[must_use]
pub fn has_changes(balance: &Value) -> bool {
    list(balance, "changes").next().is_some()
}

/// The value of an item as JSON without DynamoDB's types; of what the checks look at.
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
