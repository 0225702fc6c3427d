//! `cargo local catalogue import`: converts a list of providers' prices to models of the catalogue (M2).
//!
//! The list has the format of `LiteLLM`'s `model_prices_and_context_window.json`: an object with an entry for each model,
//! whose fields are costs in US dollars and other data. The sample entry is ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use credits_core::id::{InvalidName, Name};
use serde_json::value::RawValue;

mod conversion;
mod listed_model;
mod printed;

pub(crate) use conversion::Conversion;
use conversion::Inconvertible;
use listed_model::{InvalidCost, ListedModel};
use printed::ImportedRate;

/// The entry of a list that describes the fields.
const SAMPLE: &str = "sample_spec";

/// A list of prices to import.
#[derive(Debug)]
pub(crate) struct ImportOrder {
    pub file: PathBuf,
    pub conversion: Conversion,
}

/// The models of a list that the catalogue can have, and what the list has besides.
#[derive(Debug)]
pub(crate) struct PriceImport {
    models: Vec<ImportedModel>,
    skipped: Vec<(String, SkipReason)>,
}

/// A model with the rates of its list.
#[derive(Debug)]
struct ImportedModel {
    model: Name,
    rates: Vec<ImportedRate>,
    /// The fields with a cost that no rate has.
    ignored: Vec<String>,
}

/// Why a list of prices can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("{} can't be read", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{} is not a JSON object with an entry for each model", file.display())]
    Shape { file: PathBuf, source: serde_json::Error },
}

/// Why a model of a list is not imported.
#[derive(Debug, thiserror::Error)]
enum SkipReason {
    #[error("its name {0}")]
    Name(#[from] InvalidName),
    #[error("its entry is not an object")]
    Shape(#[from] serde_json::Error),
    #[error("{field} {reason}")]
    Cost { field: String, reason: InvalidCost },
    #[error("its cost of {unit} {reason}")]
    Rate { unit: &'static str, reason: Inconvertible },
    #[error("it has no cost of a unit that can be imported")]
    Unpriced,
    #[error("it has no cost of a unit that can be imported, but costs {0}")]
    PricedOtherwise(String),
}

/// Reads a list of prices and converts it.
pub(crate) fn import(order: &ImportOrder) -> Result<PriceImport, ImportError> {
    let file = || order.file.clone();
    let json =
        std::fs::read_to_string(&order.file).map_err(|source| ImportError::File { file: file(), source })?;
    PriceImport::of(&json, order.conversion).map_err(|source| ImportError::Shape { file: file(), source })
}

impl PriceImport {
    /// Converts a list of prices.
    fn of(json: &str, conversion: Conversion) -> Result<Self, serde_json::Error> {
        let list: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json)?;
        let mut import = Self { models: Vec::new(), skipped: Vec::new() };
        for (name, entry) in list.into_iter().filter(|(name, _)| name != SAMPLE) {
            match ImportedModel::of(&name, &entry, conversion) {
                Ok(model) => import.models.push(model),
                Err(reason) => import.skipped.push((name, reason)),
            }
        }
        Ok(import)
    }

    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Returns the models as a JSON array: the `models` of a rate card.
    #[must_use]
    pub(crate) fn models_json(&self) -> String {
        printed::models(self.models.iter().map(|model| (&model.model, model.rates.as_slice())))
    }

    /// Returns what is not imported, and the number of models that are.
    #[must_use]
    pub(crate) fn report(&self) -> String {
        let ignored = self.models.iter().filter(|model| !model.ignored.is_empty());
        let ignored = ignored.map(|model| (model.model.as_str(), model.ignored.join(", ")));
        let mut lines: Vec<String> =
            ignored.map(|(model, fields)| format!("{model}: not imported: {fields}")).collect();
        lines.extend(self.skipped.iter().map(|(model, reason)| format!("{model}: skipped: {reason}")));
        lines.push(format!("imported {} models, skipped {}", self.models.len(), self.skipped.len()));
        lines.join("\n")
    }
}

impl ImportedModel {
    fn of(name: &str, entry: &RawValue, conversion: Conversion) -> Result<Self, SkipReason> {
        let model: Name = name.parse()?;
        let listed = ListedModel::of(serde_json::from_str(entry.get())?)
            .map_err(|(field, reason)| SkipReason::Cost { field, reason })?;
        // Rates of 0 alone would make calls free that the provider charges in another way.
        if listed.costs.iter().all(|cost| cost.cost.is_zero()) && !listed.ignored.is_empty() {
            return Err(SkipReason::PricedOtherwise(listed.ignored.join(", ")));
        }
        if listed.costs.is_empty() {
            return Err(SkipReason::Unpriced);
        }
        let rates = listed.costs.into_iter().map(|cost| {
            let unit = cost.unit;
            ImportedRate::of(cost, conversion).map_err(|reason| SkipReason::Rate { unit, reason })
        });
        Ok(Self { model, rates: rates.collect::<Result<_, _>>()?, ignored: listed.ignored })
    }
}

#[cfg(test)]
mod tests;
