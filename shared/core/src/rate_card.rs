//! The rate card: what a call costs, as versioned data (M2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange, ParseCreditsError};
use crate::id::Name;

/// The maximum number of units of one kind that a single call may claim.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

const MICROS: u128 = 1_000_000;
/// A price per 1,000 units times a count is in thousandths of a micro-credit.
const PER_THOUSAND: u128 = 1_000;

/// The cost of an operation before the model's multiplier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationRate {
    pub operation: Name,
    /// Charged once per call.
    pub base: Credits,
    /// Charged per 1,000 input tokens, in proportion.
    pub per_1k_input_tokens: Credits,
    /// Charged per 1,000 output tokens, in proportion.
    pub per_1k_output_tokens: Credits,
    /// Charged per record.
    pub per_record: Credits,
}

/// The factor by which a model multiplies the price of each operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRate {
    pub model: Name,
    /// From 0 to 1,000,000.
    pub multiplier: Credits,
}

/// A version of the prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateCard {
    version: Name,
    #[serde(serialize_with = "crate::catalogue::values")]
    operations: BTreeMap<Name, OperationRate>,
    #[serde(serialize_with = "crate::catalogue::values")]
    models: BTreeMap<Name, ModelRate>,
}

/// The units that a call used. Any count is allowed for any operation, and the caller gives at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// Tokens that went into the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens that the model returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Records of a list that the call processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// The size of a call: counted units, or a price that the caller has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Priced by the rate card.
    Units(Units),
    /// Charged as given.
    Credits(Amount),
}

/// The reason why a call can't be priced. The API answers each with a 422 (`infra/openapi.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RatingRefusal {
    /// The operation is not on the card.
    #[error("is not an operation of the rate card")]
    UnknownOperation,
    /// The model is not on the card.
    #[error("is not a model of the rate card")]
    UnknownModel,
    /// The price is zero.
    #[error("comes to a price of zero")]
    Free,
    /// The price has more than twelve integer digits.
    #[error("comes to a price of more than 12 integer digits")]
    TooDear,
}

/// The reason why a rate card can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateCardError {
    /// An operation or model is on the card twice.
    #[error("{0} is on the rate card twice")]
    Twice(Name),
    /// A rate or a multiplier is below zero or above 1,000,000.
    #[error("a rate of {0} is below 0 or above 1000000")]
    Rate(Name),
}

impl RateCard {
    /// Creates a card. Refuses duplicate names, and rates outside 0 to 1,000,000.
    pub fn new(
        version: Name,
        operations: Vec<OperationRate>,
        models: Vec<ModelRate>,
    ) -> Result<Self, RateCardError> {
        let mut card = Self { version, operations: BTreeMap::new(), models: BTreeMap::new() };
        for rate in operations {
            for part in [rate.base, rate.per_1k_input_tokens, rate.per_1k_output_tokens, rate.per_record] {
                check_rate(&rate.operation, part)?;
            }
            let name = rate.operation.clone();
            if card.operations.insert(name.clone(), rate).is_some() {
                return Err(RateCardError::Twice(name));
            }
        }
        for rate in models {
            check_rate(&rate.model, rate.multiplier)?;
            let name = rate.model.clone();
            if card.models.insert(name.clone(), rate).is_some() {
                return Err(RateCardError::Twice(name));
            }
        }
        Ok(card)
    }

    /// Returns the card's version, which every debit names.
    #[must_use]
    pub fn version(&self) -> &Name {
        &self.version
    }

    /// Returns the operations with their rates.
    pub fn operations(&self) -> impl Iterator<Item = &OperationRate> {
        self.operations.values()
    }

    /// Returns the models with their multipliers.
    pub fn models(&self) -> impl Iterator<Item = &ModelRate> {
        self.models.values()
    }

    /// Returns the operation's rates. A caller that has priced the call itself may name only operations on the card,
    /// too.
    pub fn operation(&self, operation: &Name) -> Result<&OperationRate, RatingRefusal> {
        self.operations.get(operation).ok_or(RatingRefusal::UnknownOperation)
    }

    /// Returns the model's multiplier.
    pub fn model(&self, model: &Name) -> Result<&ModelRate, RatingRefusal> {
        self.models.get(model).ok_or(RatingRefusal::UnknownModel)
    }

    /// Returns the price of a call: `(base + input/1000 × per_1k_input + output/1000 × per_1k_output + records ×
    /// per_record) × multiplier`.
    ///
    /// The price is exact, and rounded up once to six digits. Without a model the multiplier is 1.
    pub fn price(
        &self,
        operation: &Name,
        model: Option<&Name>,
        units: &Units,
    ) -> Result<Amount, RatingRefusal> {
        let rate = self.operation(operation)?;
        let multiplier = model.map(|model| self.model(model)).transpose()?.map(|rate| rate.multiplier);
        let micros = exact_price(rate, multiplier, units).ok_or(RatingRefusal::TooDear)?;
        let credits = i128::try_from(micros).map_err(|_| OutOfRange).and_then(Credits::from_micros);
        match Amount::new(credits.map_err(|_| RatingRefusal::TooDear)?) {
            Ok(amount) => Ok(amount),
            Err(ParseCreditsError::NotPositive) => Err(RatingRefusal::Free),
            Err(_) => Err(RatingRefusal::TooDear),
        }
    }
}

fn check_rate(name: &Name, rate: Credits) -> Result<(), RateCardError> {
    let allowed = 0..=1_000_000_000_000_i128;
    match rate.micros() {
        Ok(micros) if allowed.contains(&micros) => Ok(()),
        _ => Err(RateCardError::Rate(name.clone())),
    }
}

/// Calculates in integers, because a decimal would silently round the product of a large count and a fine rate.
fn exact_price(rate: &OperationRate, multiplier: Option<Credits>, units: &Units) -> Option<u128> {
    let thousandths = |rate: Credits, count: u128| unsigned(rate)?.checked_mul(count);
    let records = u128::from(units.records.unwrap_or(0)).checked_mul(PER_THOUSAND)?;
    let unmultiplied = thousandths(rate.base, PER_THOUSAND)?
        .checked_add(thousandths(rate.per_1k_input_tokens, units.input_tokens.unwrap_or(0).into())?)?
        .checked_add(thousandths(rate.per_1k_output_tokens, units.output_tokens.unwrap_or(0).into())?)?
        .checked_add(thousandths(rate.per_record, records)?)?;
    let multiplier = multiplier.map_or(Some(MICROS), unsigned)?;
    let (unmultiplied, parts) = (unmultiplied.checked_mul(multiplier)?, PER_THOUSAND.checked_mul(MICROS)?);
    Some(unmultiplied.div_ceil(parts))
}

fn unsigned(rate: Credits) -> Option<u128> {
    u128::try_from(rate.micros().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{ModelRate, OperationRate, RateCard, RatingRefusal, Units};
    use crate::id::Name;

    fn id(text: &str) -> Name {
        text.parse().expect("an id")
    }

    fn card() -> RateCard {
        let operation = |name: &str, base: &str, input: &str| OperationRate {
            operation: id(name),
            base: base.parse().expect("a rate"),
            per_1k_input_tokens: input.parse().expect("a rate"),
            per_1k_output_tokens: "1".parse().expect("a rate"),
            per_record: "0.5".parse().expect("a rate"),
        };
        let models = vec![ModelRate { model: id("large"), multiplier: "2.5".parse().expect("a rate") }];
        RateCard::new(
            id("v1"),
            vec![operation("classify", "0.1", "0.000001"), operation("free", "0", "0")],
            models,
        )
        .expect("a card")
    }

    #[test]
    fn m02_price_is_exact_and_rounded_up_once() {
        let price = |model: Option<&str>, units| {
            let model = model.map(id);
            card().price(&id("classify"), model.as_ref(), &units).map(|amount| amount.to_string())
        };
        let records = Units { records: Some(3), ..Units::default() };
        assert_eq!(price(None, records), Ok("1.6".into()));
        assert_eq!(price(Some("large"), records), Ok("4".into()));
        // 0.1 + 0.000000001: the last digit is beyond six, so it costs a whole millionth.
        let token = Units { input_tokens: Some(1), ..Units::default() };
        assert_eq!(price(None, token), Ok("0.100001".into()));
        // Rounded once, after the multiplier: 2.5 × 0.100000001 = 0.2500000025.
        assert_eq!(price(Some("large"), token), Ok("0.250001".into()));
    }

    #[test]
    fn unknown_and_free_calls_have_no_price() {
        let none = Units::default();
        assert_eq!(card().price(&id("other"), None, &none), Err(RatingRefusal::UnknownOperation));
        assert_eq!(
            card().price(&id("classify"), Some(&id("other")), &none),
            Err(RatingRefusal::UnknownModel)
        );
        assert_eq!(card().price(&id("free"), None, &none), Err(RatingRefusal::Free));
        let many = Units { records: Some(super::MAX_COUNT), input_tokens: Some(0), output_tokens: None };
        assert_eq!(card().price(&id("classify"), Some(&id("large")), &many), Err(RatingRefusal::TooDear));
    }

    #[test]
    fn card_returns_its_rates_and_refuses_those_out_of_range() {
        let card = card();
        let (operations, models) = (card.operations().cloned().collect(), card.models().cloned().collect());
        let again = RateCard::new(card.version().clone(), operations, models);
        assert_eq!(again.as_ref(), Ok(&card));
        assert!(card.operations().count() > 0 && card.models().count() > 0);
        for (multiplier, is_taken) in
            [("0", true), ("1000000", true), ("1000000.000001", false), ("-1", false)]
        {
            let rate = ModelRate { model: id("m"), multiplier: multiplier.parse().unwrap() };
            assert_eq!(RateCard::new(id("v1"), vec![], vec![rate]).is_ok(), is_taken, "{multiplier}");
        }
    }
}
