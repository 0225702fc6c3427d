//! The costs of one model in a list of prices, by unit of the catalogue.

use std::collections::BTreeMap;

use credits_core::credit_rate::Per;
use credits_core::units::{INPUT_TOKENS, OUTPUT_TOKENS};
use rust_decimal::Decimal;
use serde_json::Value;
use serde_json::value::RawValue;

use super::conversion::parse_number;

const REASONING_TOKENS: &str = "reasoning_tokens";

/// A unit, and the fields of a list that have its cost.
struct ListedUnit {
    unit: &'static str,
    per: Per,
    /// If several are above zero, the first counts.
    fields: &'static [&'static str],
}

const UNITS: [ListedUnit; 10] = [
    tokens(INPUT_TOKENS, &["input_cost_per_token"]),
    tokens(OUTPUT_TOKENS, &["output_cost_per_token"]),
    tokens("cached_input_tokens", &["cache_read_input_token_cost"]),
    tokens("cache_write_tokens", &["cache_creation_input_token_cost"]),
    tokens(REASONING_TOKENS, &["output_cost_per_reasoning_token"]),
    tokens("audio_input_tokens", &["input_cost_per_audio_token"]),
    tokens("audio_output_tokens", &["output_cost_per_audio_token"]),
    // An image that the model makes, else one that it reads.
    single("images", &["output_cost_per_image", "input_cost_per_image"]),
    single("seconds", &["output_cost_per_second", "input_cost_per_second"]),
    // A character that the model speaks or reads, else one that it writes.
    tokens("characters", &["input_cost_per_character", "output_cost_per_character"]),
];

/// The costs of a model in a list.
#[derive(Debug, Default)]
pub(super) struct ListedModel {
    /// In the order of the units.
    pub costs: Vec<ListedCost>,
    /// The fields with a cost above zero that no unit has.
    pub ignored: Vec<String>,
}

/// The cost of one unit, in US dollars.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListedCost {
    pub unit: &'static str,
    /// Of a single unit.
    pub cost: Decimal,
    /// The number of units for which the rate is stated.
    pub per: Per,
}

/// Why a field has no valid cost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCost {
    #[error("is {0}, and must be a number")]
    NotNumber(String),
    #[error("is {0}, and must not be negative")]
    Negative(String),
    #[error("is {0}, which has too many digits")]
    TooManyDigits(String),
}

const fn tokens(unit: &'static str, fields: &'static [&'static str]) -> ListedUnit {
    ListedUnit { unit, per: Per::Million, fields }
}

const fn single(unit: &'static str, fields: &'static [&'static str]) -> ListedUnit {
    ListedUnit { unit, per: Per::One, fields }
}

impl ListedModel {
    /// Reads the fields of a model. An error names the field.
    pub(super) fn of(entry: BTreeMap<String, Box<RawValue>>) -> Result<Self, (String, InvalidCost)> {
        let supports_reasoning = entry.get("supports_reasoning").is_some_and(|value| value.get() == "true");
        let (mut known, mut listed) = (BTreeMap::new(), Self::default());
        for (field, value) in entry {
            if UNITS.iter().any(|unit| unit.fields.contains(&field.as_str())) {
                match parse_cost(value.get()) {
                    Ok(cost) => known.extend(cost.map(|cost| (field, cost))),
                    Err(reason) => return Err((field, reason)),
                }
            } else if is_cost(&field) && has_number(&value) {
                listed.ignored.push(field);
            }
        }
        for unit in &UNITS {
            listed.add(unit, &known);
        }
        if supports_reasoning {
            listed.add_reasoning();
        }
        Ok(listed)
    }

    fn add(&mut self, unit: &ListedUnit, known: &BTreeMap<String, Decimal>) {
        let found = || unit.fields.iter().filter_map(|field| Some((*field, *known.get(*field)?)));
        let above_zero = found().find(|(_, cost)| !cost.is_zero());
        let Some((counted, cost)) = above_zero.or_else(|| found().next()) else { return };
        self.costs.push(ListedCost { unit: unit.unit, cost, per: unit.per });
        let other = found().filter(|(field, other)| *field != counted && *other != cost && !other.is_zero());
        self.ignored.extend(other.map(|(field, _)| field.to_owned()));
    }

    /// Adds the cost of reasoning tokens if the list has none: providers then charge them as output.
    fn add_reasoning(&mut self) {
        let of = |unit: &str| self.costs.iter().find(|cost| cost.unit == unit).copied();
        if let (None, Some(output)) = (of(REASONING_TOKENS), of(OUTPUT_TOKENS)) {
            self.costs.push(ListedCost { unit: REASONING_TOKENS, ..output });
        }
    }
}

fn parse_cost(text: &str) -> Result<Option<Decimal>, InvalidCost> {
    if text == "null" {
        return Ok(None);
    }
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(InvalidCost::NotNumber(text.to_owned()));
    }
    match parse_number(text) {
        Some(cost) if cost < Decimal::ZERO => Err(InvalidCost::Negative(text.to_owned())),
        Some(cost) => Ok(Some(cost)),
        None => Err(InvalidCost::TooManyDigits(text.to_owned())),
    }
}

/// Returns whether a field changes what a provider charges.
fn is_cost(field: &str) -> bool {
    ["cost", "pricing", "multiplier"].iter().any(|word| field.contains(word))
        || field == "provider_specific_entry"
}

/// Returns whether a value is, or contains, a number other than zero. A text is no number, and is reported anyway.
fn has_number(value: &RawValue) -> bool {
    fn is_other_than_zero(value: &Value) -> bool {
        match value {
            Value::Number(number) => {
                let text = number.to_string();
                let digits = text.split('e').next().unwrap_or(&text);
                digits.contains(|digit| ('1'..='9').contains(&digit))
            }
            Value::String(text) => !text.is_empty(),
            Value::Array(values) => values.iter().any(is_other_than_zero),
            Value::Object(values) => values.values().any(is_other_than_zero),
            Value::Null | Value::Bool(_) => false,
        }
    }
    serde_json::from_str(value.get()).is_ok_and(|value| is_other_than_zero(&value))
}
