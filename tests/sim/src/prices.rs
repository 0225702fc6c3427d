//! Prices: a catalogue whose rates give uneven amounts, and the price formula, written independently of `core` (M2).

use std::sync::{Arc, OnceLock};

use credits_core::catalogue::Catalogue;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

use crate::call::decimal;

/// Returns the catalogue of every run.
#[must_use]
pub fn catalogue() -> Arc<Catalogue> {
    static CATALOGUE: OnceLock<Arc<Catalogue>> = OnceLock::new();
    Arc::clone(CATALOGUE.get_or_init(|| Arc::new(Catalogue::parse(&odd().to_string()).unwrap())))
}

/// Returns the price of a call in units; `None` if its body has no units.
#[must_use]
pub fn price(body: &Value) -> Option<Decimal> {
    let units = body["units"].as_object()?;
    let card = &odd()["rate_card"];
    let operation = listed(&card["operations"], "operation", &body["operation"]);
    let model = listed(&card["models"], "model", &body["model"]);
    let mut sum = decimal(&operation["base"]);
    for (unit, count) in units {
        // A rate of the model replaces that of the operation, and a rate by unit the short form.
        let of = |rates: &Value| {
            let rate = listed(&rates["rates"], "unit", &Value::from(unit.as_str()));
            (!rate.is_null())
                .then(|| decimal(&rate["credits"]) / Decimal::from(rate["per"].as_u64().unwrap()))
        };
        let short = || match unit.as_str() {
            "input_tokens" => decimal(&operation["per_1k_input_tokens"]) / Decimal::ONE_THOUSAND,
            "output_tokens" => decimal(&operation["per_1k_output_tokens"]) / Decimal::ONE_THOUSAND,
            "records" => decimal(&operation["per_record"]),
            _ => panic!("{unit} has no rate"),
        };
        let rate = of(&model).or_else(|| of(&operation)).unwrap_or_else(short);
        sum += Decimal::from(count.as_u64().unwrap()) * rate;
    }
    let multiplier = if model["multiplier"].is_null() { Decimal::ONE } else { decimal(&model["multiplier"]) };
    Some((sum * multiplier).round_dp_with_strategy(6, RoundingStrategy::ToPositiveInfinity))
}

/// Returns the entry of a list that has a name or an alias; null without one.
fn listed(list: &Value, kind: &str, name: &Value) -> Value {
    let has_alias = |it: &Value| it["aliases"].as_array().is_some_and(|aliases| aliases.contains(name));
    let mut found = list.as_array().into_iter().flatten().filter(|it| it[kind] == *name || has_alias(it));
    found.next().cloned().unwrap_or_default()
}

/// Returns the deployed catalogue with uneven rates, because the deployed rates are round.
fn odd() -> &'static Value {
    static ODD: OnceLock<Value> = OnceLock::new();
    ODD.get_or_init(|| {
        let mut catalogue: Value = serde_json::from_str(credits_runtime::catalogue::DEPLOYED).unwrap();
        for rate in catalogue["rate_card"]["operations"].as_array_mut().unwrap() {
            for name in ["base", "per_1k_input_tokens", "per_1k_output_tokens"] {
                rate[name] = Value::from((decimal(&rate[name]) + Decimal::new(3_337, 6)).to_string());
            }
        }
        let models = catalogue["rate_card"]["models"].as_array_mut().unwrap();
        for rate in models.iter_mut() {
            rate["multiplier"] =
                Value::from((decimal(&rate["multiplier"]) + Decimal::new(7_919, 6)).to_string());
            if rate["model"] == "large" {
                rate["aliases"] = json!(["large-2026"]);
            }
        }
        // A model with rates of its own, one of them per million.
        models.push(json!({ "model": "tiny", "rates": [
            { "unit": "input_tokens", "credits": "37.000013", "per": 1_000_000 },
            { "unit": "output_tokens", "credits": "0.107", "per": 1_000 },
        ] }));
        catalogue
    })
}
