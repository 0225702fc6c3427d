//! The rate card: what a call costs, as versioned data (M2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::PricedCall;
use crate::credit_rate::{CreditRate, Per};
use crate::credits::{CallPrice, Credits};
use crate::id::Name;
use crate::own_prices::OwnPrices;
use crate::price_list::{Listed, Listing};
use crate::units::{INPUT_TOKENS, OUTPUT_TOKENS, RECORDS, Units};

const MICROS: u128 = 1_000_000;

/// The price of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRate {
    pub unit: Name,
    /// Charged for `per` units, in proportion.
    pub credits: CreditRate,
    pub per: Per,
    /// What the provider of the model charges for `per` units, in the currency of its price list. For the operator's own
    /// calculation of margin: no response shows it.
    #[serde(default, skip_serializing)]
    pub cost: Option<ProviderCost>,
}

/// A provider's price, a plain decimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderCost {
    #[serde(with = "rust_decimal::serde::str")]
    pub amount: rust_decimal::Decimal,
    /// The ISO 4217 code, in upper case.
    pub currency: String,
}

/// The cost of an operation before the model's multiplier.
///
/// The three fields with a unit in their name are short for a rate of that unit. [`Self::rates`] take precedence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationRate {
    pub operation: Name,
    /// Charged once per call.
    #[serde(default)]
    pub base: CreditRate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_1k_input_tokens: Option<CreditRate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_1k_output_tokens: Option<CreditRate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_record: Option<CreditRate>,
    #[serde(default, skip_serializing_if = "Listing::is_empty")]
    pub rates: Listing<UnitRate>,
}

/// The prices of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRate {
    pub model: Name,
    /// The factor by which the model multiplies the price of each operation.
    #[serde(default = "CreditRate::one")]
    pub multiplier: CreditRate,
    /// Rates that replace those of the operation.
    #[serde(default, skip_serializing_if = "Listing::is_empty")]
    pub rates: Listing<UnitRate>,
    /// Other names of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Name>,
}

/// A version of the prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateCard {
    version: Name,
    /// `None` if the catalogue has this card only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effective_from: Option<Timestamp>,
    operations: Listing<OperationRate>,
    models: Listing<ModelRate>,
}

/// The versions of the prices by which a call was priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceVersion {
    pub rate_card: Name,
    /// The version of the workspace's own prices; `None` without any.
    pub pricing: Option<u64>,
}

/// The prices that apply to a call: a rate card, and the workspace's own prices if it has any.
#[derive(Debug, Clone, Copy)]
pub struct Prices<'a> {
    pub card: &'a RateCard,
    pub own: Option<&'a OwnPrices>,
}

/// The rates of one operation on one model.
#[derive(Debug, Clone, Copy)]
pub struct CallRates<'a> {
    operation: &'a OperationRate,
    model: Option<&'a ModelRate>,
    /// The multiplier of the workspace.
    own: CreditRate,
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
    /// Neither the operation nor the model has a rate for the unit.
    #[error("is a unit without a rate for this operation and model")]
    UnratedUnit,
    /// The price has more than twelve integer digits.
    #[error("comes to a price of more than 12 integer digits")]
    TooDear,
}

impl PriceVersion {
    /// Returns the version that a call names: without own prices if its caller has priced it.
    #[must_use]
    pub fn of_call(self, call: &PricedCall) -> Self {
        Self { pricing: self.pricing.filter(|_| call.units.is_some()), ..self }
    }

    /// Returns the version of a rate card without own prices of the workspace.
    #[must_use]
    pub fn of(rate_card: Name) -> Self {
        Self { rate_card, pricing: None }
    }
}

impl Listed for UnitRate {
    fn name(&self) -> &Name {
        &self.unit
    }
}

impl Listed for OperationRate {
    fn name(&self) -> &Name {
        &self.operation
    }
}

impl Listed for ModelRate {
    fn name(&self) -> &Name {
        &self.model
    }

    fn aliases(&self) -> &[Name] {
        &self.aliases
    }
}

impl OperationRate {
    fn rate(&self, unit: &str) -> Option<(CreditRate, Per)> {
        if let Some(rate) = self.rates.get(unit) {
            return Some((rate.credits, rate.per));
        }
        match unit {
            INPUT_TOKENS => Some((self.per_1k_input_tokens?, Per::Thousand)),
            OUTPUT_TOKENS => Some((self.per_1k_output_tokens?, Per::Thousand)),
            RECORDS => Some((self.per_record?, Per::One)),
            _ => None,
        }
    }
}

impl RateCard {
    /// Returns the card's version, which every debit names.
    #[must_use]
    pub fn version(&self) -> &Name {
        &self.version
    }

    /// Returns the instant from which the card prices calls; `None` if the catalogue has this card only.
    #[must_use]
    pub fn effective_from(&self) -> Option<Timestamp> {
        self.effective_from
    }

    /// Returns the operations with their rates.
    #[must_use]
    pub fn operations(&self) -> &Listing<OperationRate> {
        &self.operations
    }

    /// Returns the models with their rates.
    #[must_use]
    pub fn models(&self) -> &Listing<ModelRate> {
        &self.models
    }

    /// Returns the card with the operations, models and multiplier of a workspace in place of its own.
    #[must_use]
    pub fn with(&self, own: &OwnPrices) -> Self {
        let operations = self.operations.replaced_by(&own.operations);
        let mut models = Listing::default();
        for model in own.models.iter() {
            let of_card = self.models.get(model.model.as_str()).filter(|card| card.model == model.model);
            let inherited = of_card.into_iter().flat_map(|card| &card.aliases);
            let inherited = inherited.filter(|alias| own.models.get(alias.as_str()).is_none());
            let aliases = model.aliases.iter().chain(inherited).cloned().collect();
            // The names differ: neither list has one twice.
            drop(models.add(ModelRate { aliases, ..model.clone() }));
        }
        Self { operations, models: self.models.replaced_by(&models), ..self.clone() }
    }
}

impl<'a> Prices<'a> {
    /// Returns the versions, which every call names that is priced by them.
    #[must_use]
    pub fn version(self) -> PriceVersion {
        let pricing = self.own.map(|own| own.version);
        PriceVersion { rate_card: self.card.version.clone(), pricing }
    }

    /// Returns the operation's rates. A caller that has priced the call itself may name only operations on the card,
    /// too.
    pub fn operation(self, operation: &Name) -> Result<&'a OperationRate, RatingRefusal> {
        let own = self.own.and_then(|own| own.operations.get(operation.as_str()));
        own.or_else(|| self.card.operations.get(operation.as_str())).ok_or(RatingRefusal::UnknownOperation)
    }

    /// Returns the model with this name or alias.
    pub fn model(self, model: &Name) -> Result<&'a ModelRate, RatingRefusal> {
        let of_card = self.card.models.get(model.as_str());
        let own = self.own.and_then(|own| {
            // An alias of the rate card means the workspace's model of that name, too.
            let named = || own.models.get(of_card?.model.as_str());
            own.models.get(model.as_str()).or_else(named)
        });
        own.or(of_card).ok_or(RatingRefusal::UnknownModel)
    }

    /// Returns the rates of an operation on a model.
    pub fn rates(self, operation: &Name, model: Option<&Name>) -> Result<CallRates<'a>, RatingRefusal> {
        let (operation, model) =
            (self.operation(operation)?, model.map(|model| self.model(model)).transpose()?);
        Ok(CallRates { operation, model, own: self.own.map_or(CreditRate::ONE, |own| own.multiplier) })
    }
}

impl<'a> CallRates<'a> {
    /// Returns the name of the model on the rate card; `None` without a model.
    #[must_use]
    pub fn model(self) -> Option<&'a Name> {
        self.model.map(|model| &model.model)
    }

    /// Returns the units of a call that have no rate.
    pub fn unrated<'u>(&self, units: &'u Units) -> impl Iterator<Item = &'u Name> {
        units.iter().map(|(unit, _)| unit).filter(|unit| self.rate(unit.as_str()).is_none())
    }

    /// Returns the price of a call: `(base + Σ count / per × rate) × multiplier`.
    ///
    /// The price is exact, and rounded up once to six digits. The multiplier is that of the model (1 without a model)
    /// times that of the workspace (1 without own prices).
    pub fn price(&self, units: &Units) -> Result<CallPrice, RatingRefusal> {
        if self.unrated(units).next().is_some() {
            return Err(RatingRefusal::UnratedUnit);
        }
        let micros = self.exact_price(units).and_then(|micros| i128::try_from(micros).ok());
        let credits = micros.and_then(|micros| Credits::from_micros(micros).ok());
        CallPrice::new(credits.ok_or(RatingRefusal::TooDear)?).map_err(|_| RatingRefusal::TooDear)
    }

    fn rate(&self, unit: &str) -> Option<(CreditRate, Per)> {
        let of_model = self.model.and_then(|model| model.rates.get(unit));
        of_model.map(|rate| (rate.credits, rate.per)).or_else(|| self.operation.rate(unit))
    }

    /// Calculates in integers, because a decimal would silently round the product of a large count and a fine rate.
    fn exact_price(&self, units: &Units) -> Option<u128> {
        let mut millionths = self.operation.base.micros()?.checked_mul(MICROS)?;
        for (unit, count) in units.iter() {
            let (rate, per) = self.rate(unit.as_str())?;
            let of_unit = rate.micros()?.checked_mul(count.into())?.checked_mul(per.parts_of_a_million())?;
            millionths = millionths.checked_add(of_unit)?;
        }
        let multipliers =
            [self.model.map_or(CreditRate::ONE, |model| model.multiplier).micros()?, self.own.micros()?];
        if multipliers.contains(&0) {
            return Some(0);
        }
        // Neither multiplier is less than a millionth, so a product that overflows is more than any price.
        let product = multipliers.into_iter().try_fold(millionths, u128::checked_mul)?;
        Some(product.div_ceil(MICROS.checked_mul(MICROS)?.checked_mul(MICROS)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CreditRate, ModelRate, Prices, RateCard, RatingRefusal};
    use crate::credits::CallPrice;
    use crate::id::Name;
    use crate::own_prices::OwnPrices;
    use crate::units::{MAX_COUNT, Units};

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn card() -> RateCard {
        serde_json::from_value(json!({
            "version": "v1",
            "operations": [
                {
                    "operation": "classify", "base": "0.1", "per_1k_input_tokens": "0.000001",
                    "per_1k_output_tokens": "1", "per_record": "0.5",
                },
                {
                    "operation": "generate", "per_1k_input_tokens": "9", "rates": [
                        { "unit": "input_tokens", "credits": "2", "per": 1_000_000 },
                        { "unit": "images", "credits": "4", "per": 1 },
                    ],
                },
                { "operation": "free" },
            ],
            "models": [
                { "model": "large", "multiplier": "2.5", "aliases": ["large-2026"] },
                { "model": "own", "rates": [{ "unit": "input_tokens", "credits": "3", "per": 1_000 }] },
            ],
        }))
        .expect("a card")
    }

    fn units(counts: &[(&str, u64)]) -> Units {
        counts.iter().map(|(unit, count)| (name(unit), *count)).collect()
    }

    fn price(operation: &str, model: Option<&str>, counts: &[(&str, u64)]) -> Result<String, RatingRefusal> {
        let (card, model) = (card(), model.map(name));
        let rates = Prices { card: &card, own: None }.rates(&name(operation), model.as_ref())?;
        rates.price(&units(counts)).map(|price| price.to_string())
    }

    #[test]
    fn m02_price_is_exact_and_rounded_up_once() {
        let records = [("records", 3)];
        assert_eq!(price("classify", None, &records), Ok("1.6".into()));
        assert_eq!(price("classify", Some("large"), &records), Ok("4".into()));
        assert_eq!(price("classify", Some("large-2026"), &records), Ok("4".into()));
        // 0.1 + 0.000000001: the last digit is beyond six, so it costs a whole millionth.
        let token = [("input_tokens", 1)];
        assert_eq!(price("classify", None, &token), Ok("0.100001".into()));
        // Rounded once, after the multiplier: 2.5 × 0.100000001 = 0.2500000025.
        assert_eq!(price("classify", Some("large"), &token), Ok("0.250001".into()));
    }

    #[test]
    fn rates_of_the_model_precede_rates_of_the_operation_and_its_fields() {
        let counts = [("input_tokens", 1_000_000), ("images", 1)];
        assert_eq!(price("generate", None, &counts), Ok("6".into()));
        assert_eq!(price("generate", Some("own"), &counts), Ok("3004".into()));
    }

    #[test]
    fn call_without_a_rate_is_refused_and_one_whose_rates_are_zero_is_free() {
        assert_eq!(price("other", None, &[]), Err(RatingRefusal::UnknownOperation));
        assert_eq!(price("classify", Some("other"), &[]), Err(RatingRefusal::UnknownModel));
        assert_eq!(price("classify", None, &[("images", 1)]), Err(RatingRefusal::UnratedUnit));
        assert_eq!(price("free", None, &[]), Ok("0".into()));
        assert_eq!(price("classify", Some("large"), &[("records", MAX_COUNT)]), Err(RatingRefusal::TooDear));
    }

    #[test]
    fn own_prices_replace_and_multiply() {
        let card = card();
        let own: OwnPrices = serde_json::from_value(json!({
            "version": 3, "multiplier": "0.5",
            "operations": [{ "operation": "classify", "base": "7" }],
            "models": [{ "model": "tuned", "multiplier": "3" }],
        }))
        .unwrap();
        let prices = Prices { card: &card, own: Some(&own) };
        let price = |operation: &str, model: Option<&str>, counts: &[(&str, u64)]| {
            let rates = prices.rates(&name(operation), model.map(name).as_ref())?;
            rates.price(&units(counts)).map(|price| price.to_string())
        };
        assert_eq!(price("classify", None, &[]), Ok("3.5".into()));
        assert_eq!(price("classify", Some("tuned"), &[]), Ok("10.5".into()));
        assert_eq!(price("classify", None, &[("records", 1)]), Err(RatingRefusal::UnratedUnit));
        assert_eq!(price("generate", None, &[("images", 1)]), Ok("2".into()));
        assert_eq!(prices.version().pricing, Some(3));
        let shown = serde_json::to_value(card.with(&own)).unwrap();
        assert_eq!(shown["operations"][0], json!({ "operation": "classify", "base": "7" }));
    }

    #[test]
    fn an_alias_of_the_card_means_the_workspaces_model_of_that_name() {
        let card = card();
        let own: OwnPrices = serde_json::from_value(json!({
            "version": 1, "multiplier": "1", "operations": [],
            "models": [{ "model": "large", "multiplier": "1", "aliases": ["big"] }],
        }))
        .unwrap();
        let prices = Prices { card: &card, own: Some(&own) };
        for alias in ["large", "large-2026", "big"] {
            let rates = prices.rates(&name("classify"), Some(&name(alias))).unwrap();
            assert_eq!(rates.price(&units(&[])).map(|price| price.to_string()), Ok("0.1".into()), "{alias}");
        }
        let shown = card.with(&own);
        assert_eq!(shown.models().get("large-2026").unwrap().aliases, [name("big"), name("large-2026")]);
    }

    #[test]
    fn a_multiplier_of_zero_makes_any_call_free() {
        let card = card();
        let own = OwnPrices {
            version: 1,
            multiplier: CreditRate::ZERO,
            operations: super::Listing::default(),
            models: super::Listing::default(),
        };
        let rates = Prices { card: &card, own: Some(&own) }.rates(&name("generate"), None).unwrap();
        assert_eq!(rates.price(&units(&[("images", MAX_COUNT)])), Ok(CallPrice::ZERO));
    }

    #[test]
    fn rates_of_a_card_are_checked() {
        for (multiplier, is_valid) in
            [("0", true), ("1000000", true), ("1000000.000001", false), ("-1", false)]
        {
            let model = json!({ "model": "m", "multiplier": multiplier });
            assert_eq!(serde_json::from_value::<ModelRate>(model).is_ok(), is_valid, "{multiplier}");
        }
        let per = json!({ "model": "m", "rates": [{ "unit": "images", "credits": "1", "per": 10 }] });
        assert!(serde_json::from_value::<ModelRate>(per).is_err());
    }
}
