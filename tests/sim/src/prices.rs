//! Prices: a catalogue whose rates give uneven amounts, and the price formula, written independently of `core` (M2).

use std::sync::{Arc, OnceLock};

use credits_core::catalogue::Catalogue;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

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
    let of = |list: &str, name: &str| {
        let found = card[list].as_array().into_iter().flatten().find(|it| it[name] == body[name]);
        found.cloned().unwrap_or_default()
    };
    let rate = of("operations", "operation");
    let count = |name: &str| Decimal::from(units.get(name).and_then(Value::as_u64).unwrap_or_default());
    let thousand = Decimal::from(1_000);
    let unmultiplied = decimal(&rate["base"])
        + count("input_tokens") * decimal(&rate["per_1k_input_tokens"]) / thousand
        + count("output_tokens") * decimal(&rate["per_1k_output_tokens"]) / thousand
        + count("records") * decimal(&rate["per_record"]);
    let model = of("models", "model");
    let multiplier = if model.is_null() { Decimal::ONE } else { decimal(&model["multiplier"]) };
    Some((unmultiplied * multiplier).round_dp_with_strategy(6, RoundingStrategy::ToPositiveInfinity))
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
        for rate in catalogue["rate_card"]["models"].as_array_mut().unwrap() {
            rate["multiplier"] =
                Value::from((decimal(&rate["multiplier"]) + Decimal::new(7_919, 6)).to_string());
        }
        catalogue
    })
}
