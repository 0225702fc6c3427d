//! Ids: 1 to 64 characters of `[A-Za-z0-9_-]` (docs/api.md).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The maximum number of characters of an id or a name.
pub const MAX_CHARACTERS: usize = 64;

/// The id of a grant, a ledger entry, a purchase, a run and so on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

/// The id of a workspace. Balances, keys and settings are scoped to it (M1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkspaceId(Id);

/// The name of an operation, a model or a version of the rate card: like an id, but with dots, as in `text.classify`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// The error of a text that is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of A-Z, a-z, 0-9, _, - and .")]
pub struct InvalidName;

/// The error of a text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")]
pub struct InvalidId;

impl Id {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl WorkspaceId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map that has names as keys be searched by text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_made_of(text, b"_-") { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_made_of(text, b"_-.") { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

fn is_made_of(text: &str, punctuation: &[u8]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || punctuation.contains(&byte);
    (1..=MAX_CHARACTERS).contains(&text.len()) && text.bytes().all(allowed)
}

impl FromStr for WorkspaceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Id, Name, WorkspaceId};

    #[test]
    fn ids_are_limited_in_alphabet_and_length() {
        assert!("ws_Acme-1".parse::<Id>().is_ok());
        assert!("a".repeat(64).parse::<Id>().is_ok());
        for bad in [String::new(), "a".repeat(65), "a#b".into(), "a b".into(), "ä".into()] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_and_names_are_shown_as_they_are_written() {
        assert_eq!("acme".parse::<WorkspaceId>().unwrap().to_string(), "acme");
        assert_eq!("run_1".parse::<Id>().unwrap().to_string(), "run_1");
        assert_eq!("text.generate-v1".parse::<Name>().unwrap().to_string(), "text.generate-v1");
        assert!("text.generate".parse::<Id>().is_err(), "only a name may have dots");
    }
}
