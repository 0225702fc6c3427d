//! Metadata: pairs of texts that a caller attaches to a call, and that its ledger entry keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The maximum number of pairs.
pub const MAX_PAIRS: usize = 10;

/// The maximum number of bytes of all keys and values together.
pub const MAX_BYTES: usize = 512;

/// Up to 10 pairs of texts, 512 bytes together. Nothing interprets them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// The metadata of one call of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMetadata {
    /// The index of the call.
    pub line: usize,
    pub metadata: Metadata,
}

/// Why pairs are no metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    #[error("must have at most {MAX_PAIRS} pairs")]
    TooManyPairs,
    #[error("must have at most {MAX_BYTES} bytes in all keys and values together")]
    TooLong,
    #[error("must have no empty key")]
    EmptyKey,
}

impl Metadata {
    /// Checks the number and the length of pairs.
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, InvalidMetadata> {
        let bytes = pairs.iter().map(|(key, value)| key.len().saturating_add(value.len()));
        if pairs.len() > MAX_PAIRS {
            Err(InvalidMetadata::TooManyPairs)
        } else if bytes.fold(0, usize::saturating_add) > MAX_BYTES {
            Err(InvalidMetadata::TooLong)
        } else if pairs.contains_key("") {
            Err(InvalidMetadata::EmptyKey)
        } else {
            Ok(Self(pairs))
        }
    }

    /// Returns the metadata of a sequence of lines that have some, each with its index.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a Self>) -> Vec<LineMetadata> {
        let lines = lines.into_iter().enumerate().filter(|(_, metadata)| !metadata.is_empty());
        lines.map(|(line, metadata)| LineMetadata { line, metadata: metadata.clone() }).collect()
    }

    /// Returns an upper bound of the bytes that a line's metadata takes in a stored entry.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        const OF_A_PAIR: usize = 2;
        const OF_A_LINE: usize = 30;
        let pair = |(key, value): (&String, &String)| {
            key.len().saturating_add(value.len()).saturating_add(OF_A_PAIR)
        };
        if self.is_empty() { 0 } else { self.0.iter().map(pair).fold(OF_A_LINE, usize::saturating_add) }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidMetadata, Metadata};

    fn of(pairs: &[(&str, &str)]) -> Result<Metadata, InvalidMetadata> {
        Metadata::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn metadata_has_at_most_10_pairs_and_512_bytes() {
        let keys: Vec<String> = (0..11).map(|key| key.to_string()).collect();
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert!(of(&pairs[..10]).is_ok());
        assert_eq!(of(&pairs), Err(InvalidMetadata::TooManyPairs));
        let long = "ä".repeat(255);
        assert!(of(&[("k", &long), ("l", "")]).is_ok(), "512 bytes");
        assert_eq!(of(&[("k", &long), ("l", "v")]), Err(InvalidMetadata::TooLong));
        assert_eq!(of(&[("", "v")]), Err(InvalidMetadata::EmptyKey));
    }
}
