//! Units: what an AI call used, counted in classes that exclude each other (M2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Name;

/// The maximum count of one unit in a single call.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// Tokens that went into the model, without those that it read from a cache or wrote to one.
pub const INPUT_TOKENS: &str = "input_tokens";
/// Tokens that the model returned, without those of its reasoning.
pub const OUTPUT_TOKENS: &str = "output_tokens";
/// Records of a list that the call processed.
pub const RECORDS: &str = "records";

/// The counts of a call by unit.
///
/// A unit is any name for which the operation or the model has a rate. Classes are exclusive: a token counts in one unit
/// only, so `input_tokens` excludes cached ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Units(BTreeMap<Name, u64>);

impl Units {
    /// Returns the count of a unit; `None` if the call does not state it.
    #[must_use]
    pub fn count(&self, unit: &str) -> Option<u64> {
        self.0.get(unit).copied()
    }

    /// Returns the units with their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.0.iter().map(|(unit, count)| (unit, *count))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Name, u64)> for Units {
    fn from_iter<I: IntoIterator<Item = (Name, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}
