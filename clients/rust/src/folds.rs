//! Counts units whose class the rate card does not price in the class that it prices.
//!
//! A rate card with two rates must not give away the calls that also read from a cache or reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// Counts by unit.
pub(crate) type Units = BTreeMap<String, u64>;

/// What the price of a unit depends on: the operation and the model.
pub(crate) type PricedFor = (String, Option<String>);

/// The unpriced units that refusals have named.
#[derive(Debug, Default)]
pub(crate) struct Folds(Mutex<BTreeMap<PricedFor, BTreeSet<String>>>);

/// The class of a unit, if the rate card may leave it out.
#[derive(Clone, Copy)]
enum Parent {
    CountedAs(&'static str),
    Dropped,
}

fn parent(unit: &str) -> Option<Parent> {
    match unit {
        "reasoning_tokens" | "audio_output_tokens" => Some(Parent::CountedAs("output_tokens")),
        "cached_input_tokens" | "cache_write_tokens" | "audio_input_tokens" => {
            Some(Parent::CountedAs("input_tokens"))
        }
        "tool_calls" => Some(Parent::Dropped),
        _ => None,
    }
}

impl Folds {
    /// Returns counts other than zero in classes that are not known to be unpriced, or one count of zero.
    pub(crate) fn fold(&self, priced_for: &PricedFor, units: &Units) -> Units {
        let unpriced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unpriced = unpriced.get(priced_for);
        let mut folded = Units::new();
        for (unit, count) in units {
            let parent = parent(unit).filter(|_| unpriced.is_some_and(|unpriced| unpriced.contains(unit)));
            let counted = match parent {
                Some(Parent::CountedAs(parent)) => parent,
                Some(Parent::Dropped) => continue,
                None => unit,
            };
            let sum = folded.entry(counted.to_owned()).or_default();
            *sum = sum.saturating_add(*count);
        }
        if folded.values().any(|count| *count > 0) {
            folded.retain(|_, count| *count > 0);
        } else {
            // Orders without units are refused.
            folded = folded.into_iter().take(1).collect();
        }
        folded
    }

    /// Remembers which of the sent units a refusal names as unpriced. Returns whether another attempt may succeed.
    pub(crate) fn learn(&self, priced_for: &PricedFor, sent: &Units, error: &Error) -> bool {
        let Error::Refused(problem) = error else { return false };
        let named = problem.errors.iter().filter_map(|error| error.field.strip_prefix("units."));
        let named =
            named.filter(|unit| parent(unit).is_some() && sent.contains_key(*unit)).map(str::to_owned);
        let mut named = named.peekable();
        if problem.status != 422 || named.peek().is_none() {
            return false;
        }
        let mut unpriced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unpriced.entry(priced_for.clone()).or_default().extend(named);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Folds, PricedFor, Units};
    use crate::error::Error;

    fn units(counts: &[(&str, u64)]) -> Units {
        counts.iter().map(|(unit, count)| ((*unit).to_owned(), *count)).collect()
    }

    fn refusal(units: &[&str]) -> Error {
        let errors =
            units.iter().map(|unit| format!(r#"{{ "field": "units.{unit}", "message": "is not priced" }}"#));
        let errors = errors.collect::<Vec<_>>().join(", ");
        Error::of(422, format!(r#"{{ "code": "invalid_request", "errors": [{errors}] }}"#).as_bytes())
    }

    #[test]
    fn unpriced_units_are_counted_in_their_class() {
        let (folds, large) = (Folds::default(), ("text.generate".to_owned(), Some("large".to_owned())));
        let sent = units(&[
            ("input_tokens", 700),
            ("cached_input_tokens", 200),
            ("cache_write_tokens", 0),
            ("output_tokens", 500),
            ("reasoning_tokens", 100),
            ("tool_calls", 2),
        ]);
        let refused = refusal(&["cached_input_tokens", "reasoning_tokens", "tool_calls"]);
        assert!(folds.learn(&large, &sent, &refused));
        let folded = folds.fold(&large, &sent);
        assert_eq!(folded, units(&[("input_tokens", 900), ("output_tokens", 600)]));
        // What was folded already would be refused again.
        assert!(!folds.learn(&large, &folded, &refused));
        let standard: PricedFor = ("text.generate".to_owned(), None);
        assert_eq!(folds.fold(&standard, &sent).len(), 5, "the folding is of one model");
    }

    #[test]
    fn a_unit_without_a_class_is_refused() {
        let (folds, priced_for) = (Folds::default(), ("text.generate".to_owned(), None));
        let sent = units(&[("images", 1), ("output_tokens", 1), ("reasoning_tokens", 1)]);
        assert!(!folds.learn(&priced_for, &sent, &refusal(&["images", "output_tokens"])));
        assert!(!folds.learn(&priced_for, &sent, &refusal(&["cached_input_tokens"])), "it was not sent");
        assert!(!folds.learn(&priced_for, &sent, &Error::Base));
    }

    #[test]
    fn one_count_of_zero_is_kept() {
        let (folds, priced_for) = (Folds::default(), ("text.generate".to_owned(), None));
        let zeros = units(&[("input_tokens", 0), ("output_tokens", 0)]);
        assert_eq!(folds.fold(&priced_for, &zeros), units(&[("input_tokens", 0)]));
    }
}
