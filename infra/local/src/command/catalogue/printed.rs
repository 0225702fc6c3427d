//! Imported models as the catalogue has them.

use credits_core::credit_rate::{CreditRate, Per};
use credits_core::id::Name;
use rust_decimal::Decimal;

use super::conversion::{Conversion, Inconvertible, cost_of_many};
use super::listed_model::ListedCost;

/// The currency of a list of prices.
const CURRENCY: &str = "USD";

/// The rate of one unit, with the cost from which it was calculated.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImportedRate {
    unit: &'static str,
    credits: CreditRate,
    per: Per,
    /// Of `per` units.
    cost: Decimal,
}

impl ImportedRate {
    /// Calculates the rate of a cost.
    pub(super) fn of(listed: ListedCost, conversion: Conversion) -> Result<Self, Inconvertible> {
        let cost = cost_of_many(listed.cost, listed.per).ok_or(Inconvertible::TooManyDigits)?;
        Ok(Self { unit: listed.unit, credits: conversion.rate(cost)?, per: listed.per, cost })
    }

    /// Returns the rate as JSON. No part has a character that JSON escapes.
    fn json(self) -> String {
        let (unit, credits, per, cost) =
            (self.unit, self.credits.credits(), u64::from(self.per), self.cost.normalize());
        format!(
            r#"{{ "unit": "{unit}", "credits": "{credits}", "per": {per}, "cost": {{ "amount": "{cost}", "currency": "{CURRENCY}" }} }}"#
        )
    }
}

/// Returns models as JSON with a line for each rate, as in `infra/catalogue.json`.
pub(super) fn models<'a>(models: impl Iterator<Item = (&'a Name, &'a [ImportedRate])>) -> String {
    let models = models.map(|(model, rates)| {
        let rates: Vec<String> = rates.iter().map(|rate| format!("      {}", rate.json())).collect();
        let head = format!(r#"    "model": "{model}", "multiplier": "1","#);
        format!("  {{\n{head}\n    \"rates\": [\n{}\n    ]\n  }}", rates.join(",\n"))
    });
    let models: Vec<String> = models.collect();
    if models.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", models.join(",\n")) }
}
