//! Prices of 40 calls, computed again in exact fractions (M2): every unit, aliases, multipliers, dates, own prices.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test may use plain arithmetic and unwrap"
)]

use std::collections::BTreeMap;

use credits_core::catalogue::Catalogue;
use credits_core::id::Name;
use credits_core::own_prices::OwnPrices;
use credits_core::rate_card::Prices;
use credits_core::units::Units;
use serde_json::{Value, json};

/// A fraction of whole numbers, never reduced: enough for products of a few prices.
#[derive(Debug, Clone, Copy)]
struct Fraction {
    above: u128,
    below: u128,
}

impl Fraction {
    fn of(decimal: &str) -> Self {
        let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
        let below = 10_u128.pow(fraction.len().try_into().unwrap());
        Self { above: format!("{whole}{fraction}").parse().unwrap(), below }
    }

    fn plus(self, other: Self) -> Self {
        let common = lcm(self.below, other.below);
        let scaled = |one: Self| one.above * (common / one.below);
        Self { above: scaled(self) + scaled(other), below: common }
    }

    fn times(self, other: Self) -> Self {
        let divisor = gcd(self.above * other.above, self.below * other.below).max(1);
        Self { above: self.above * other.above / divisor, below: self.below * other.below / divisor }
    }

    /// Rounds up to six digits.
    fn rounded_up(self) -> String {
        let micros = (self.above * 1_000_000).div_ceil(self.below);
        let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn gcd(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { gcd(other, one % other) }
}

fn lcm(one: u128, other: u128) -> u128 {
    one / gcd(one, other) * other
}

fn catalogue() -> Value {
    let usd = json!({ "amount": 100, "currency": "USD" });
    let plans = ["free", "starter", "team", "pro", "enterprise"]
        .map(|plan| json!({ "plan": plan, "subscription": true, "monthly_runs": null }));
    let rate = |unit: &str, credits: &str, per: u64| json!({ "unit": unit, "credits": credits, "per": per });
    let card = |version: &str, from: &str, base: &str| {
        json!({
            "version": version,
            "effective_from": from,
            "operations": [
                {
                    "operation": "chat", "base": base, "per_1k_input_tokens": "0.337",
                    "per_1k_output_tokens": "1.000001", "per_record": "0.07",
                    "rates": [
                        rate("cached_input_tokens", "0.033333", 1_000),
                        rate("cache_write_tokens", "411.1", 1_000_000),
                        rate("reasoning_tokens", "1.7", 1_000),
                        rate("audio_input_tokens", "13.000007", 1_000_000),
                        rate("audio_output_tokens", "27.1", 1_000_000),
                        rate("images", "3.999999", 1),
                        rate("seconds", "0.0167", 1),
                        rate("characters", "15.0001", 1_000_000),
                        rate("tool_calls", "0.25", 1),
                        rate("pages", "2.5", 1_000),
                        rate("output_tokens", "1.11", 1_000),
                    ],
                },
                { "operation": "fixed", "base": "7.000007" },
                { "operation": "free", "per_record": "0" },
            ],
            "models": [
                { "model": "small", "multiplier": "0.333333", "aliases": ["mini", "small-2026"] },
                {
                    "model": "priced", "multiplier": "1.4", "aliases": ["priced-latest"],
                    "rates": [rate("input_tokens", "2.1", 1_000_000), rate("images", "40", 1_000)],
                },
            ],
        })
    };
    json!({
        "packs": [{ "pack": "p", "credits": "1", "price": usd }],
        "tiers": [],
        "plans": plans,
        "rate_cards": [card("2026", "2026-01-01T00:00:00Z", "0.1"), card("2027", "2027-01-01T00:00:00Z", "0.200003")],
    })
}

fn own_prices() -> Value {
    json!({
        "version": 4, "multiplier": "0.87",
        "operations": [{ "operation": "fixed", "base": "5.5", "per_record": "0.1" }],
        "models": [{ "model": "tuned", "multiplier": "1.234567" }],
    })
}

/// A call with its instant, and whether the workspace has own prices.
struct Call(&'static str, Option<&'static str>, Vec<(&'static str, u64)>, &'static str, bool);

const EARLY: &str = "2026-12-31T23:59:59.999Z";
const LATE: &str = "2027-01-01T00:00:00Z";

fn calls() -> Vec<Call> {
    let mut calls: Vec<Call> = [
        "input_tokens",
        "output_tokens",
        "records",
        "cached_input_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "images",
        "seconds",
        "characters",
        "tool_calls",
        "pages",
    ]
    .into_iter()
    .flat_map(|unit| [(unit, 1), (unit, 7_654_321)])
    .map(|(unit, count)| Call("chat", None, vec![(unit, count)], EARLY, false))
    .collect();
    let mixed = || {
        vec![("input_tokens", 1_201), ("output_tokens", 803), ("cached_input_tokens", 4_999), ("images", 3)]
    };
    for model in
        [None, Some("small"), Some("mini"), Some("small-2026"), Some("priced"), Some("priced-latest")]
    {
        calls.push(Call("chat", model, mixed(), EARLY, false));
    }
    calls.push(Call("chat", None, mixed(), LATE, false));
    calls.push(Call("chat", Some("mini"), mixed(), LATE, false));
    calls.push(Call("fixed", Some("priced"), vec![], LATE, false));
    calls.push(Call("free", None, vec![("records", 5)], LATE, false));
    calls.push(Call("chat", Some("tuned"), mixed(), EARLY, true));
    calls.push(Call("chat", Some("priced-latest"), mixed(), LATE, true));
    calls.push(Call("fixed", None, vec![("records", 11)], LATE, true));
    calls.push(Call("fixed", Some("tuned"), vec![("records", 1)], EARLY, true));
    calls
}

fn found<'a>(list: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    let is_named = |it: &&Value| {
        it[key] == name
            || it["aliases"].as_array().is_some_and(|aliases| aliases.iter().any(|alias| alias == name))
    };
    list.as_array().unwrap().iter().find(is_named)
}

/// Returns the fraction that a unit costs by a list of rates and the short fields.
fn unit_price(priced: &Value, unit: &str) -> Option<Fraction> {
    if let Some(rate) =
        priced["rates"].as_array().and_then(|rates| rates.iter().find(|rate| rate["unit"] == unit))
    {
        let per = Fraction { above: 1, below: rate["per"].as_u64().unwrap().into() };
        return Some(Fraction::of(rate["credits"].as_str().unwrap()).times(per));
    }
    let short = BTreeMap::from([
        ("input_tokens", ("per_1k_input_tokens", 1_000)),
        ("output_tokens", ("per_1k_output_tokens", 1_000)),
        ("records", ("per_record", 1)),
    ]);
    let (field, below) = short.get(unit)?;
    Some(Fraction::of(priced[field].as_str()?).times(Fraction { above: 1, below: *below }))
}

fn expected(call: &Call) -> String {
    let Call(operation, model, counts, at, is_own) = call;
    let (catalogue, own) = (catalogue(), own_prices());
    let card = &catalogue["rate_cards"][usize::from(*at == LATE)];
    let find = |list: &str, key: &str, name: &str| {
        let agreed = is_own.then(|| found(&own[list], key, name).cloned()).flatten();
        agreed.or_else(|| found(&card[list], key, name).cloned()).unwrap()
    };
    let operation = find("operations", "operation", operation);
    let model = model.map(|model| find("models", "model", model));
    let mut price = Fraction::of(operation["base"].as_str().unwrap_or("0"));
    for (unit, count) in counts {
        let of_model = model.as_ref().and_then(|model| unit_price(model, unit));
        let each = of_model.or_else(|| unit_price(&operation, unit)).unwrap();
        price = price.plus(each.times(Fraction { above: u128::from(*count), below: 1 }));
    }
    if let Some(model) = &model {
        price = price.times(Fraction::of(model["multiplier"].as_str().unwrap_or("1")));
    }
    if *is_own {
        price = price.times(Fraction::of(own["multiplier"].as_str().unwrap()));
    }
    price.rounded_up()
}

#[test]
fn m02_forty_calls_cost_their_exact_fraction_rounded_up() {
    let catalogue = Catalogue::parse(&catalogue().to_string()).unwrap();
    let own: OwnPrices = serde_json::from_value(own_prices()).unwrap();
    let calls = calls();
    assert_eq!(calls.len(), 40);
    let name = |text: &str| text.parse::<Name>().unwrap();
    for call in &calls {
        let Call(operation, model, counts, at, is_own) = call;
        let card = catalogue.rate_cards().at(at.parse().unwrap());
        let prices = Prices { card, own: is_own.then_some(&own) };
        let rates = prices.rates(&name(operation), model.map(name).as_ref()).unwrap();
        let units: Units = counts.iter().map(|(unit, count)| (name(unit), *count)).collect();
        let price = rates.price(&units).unwrap().to_string();
        assert_eq!(price, expected(call), "{operation} {model:?} {counts:?} {at} {is_own}");
    }
}
