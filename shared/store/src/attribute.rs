//! Attributes: money and instants as numbers, so that DynamoDB can compare and add them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::credits::Credits;
use jiff::Timestamp;

use crate::error::Corrupt;
use crate::keys::{ItemKey, PK, SK};

/// An item, or a map within one.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Makes a text attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Makes a number of credits. Never by way of serde: a decimal would become a text there, useless in arithmetic.
pub(crate) fn credits(value: Credits) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Makes a counting number.
pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Makes a number of milliseconds since 1970.
pub(crate) fn instant(value: Timestamp) -> AttributeValue {
    AttributeValue::N(value.as_millisecond().to_string())
}

/// An item that has nothing yet but its key.
pub(crate) fn keyed(key: &ItemKey) -> Item {
    HashMap::from([(PK.to_owned(), text(&key.pk)), (SK.to_owned(), text(key.sk.as_ref()))])
}

/// Reads attributes of an item, naming the one that is not as we write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a Item);

impl<'a> Reader<'a> {
    pub fn text(self, name: &'static str) -> Result<&'a str, Corrupt> {
        self.optional_text(name).ok_or(Corrupt::Attribute(name))
    }

    pub fn optional_text(self, name: &'static str) -> Option<&'a str> {
        self.0.get(name)?.as_s().ok().map(String::as_str)
    }

    pub fn parsed<T: std::str::FromStr>(self, name: &'static str) -> Result<T, Corrupt> {
        self.text(name)?.parse().map_err(|_| Corrupt::Attribute(name))
    }

    pub fn credits(self, name: &'static str) -> Result<Credits, Corrupt> {
        self.0.get(name).and_then(read_credits).ok_or(Corrupt::Attribute(name))
    }

    pub fn number(self, name: &'static str) -> Result<u64, Corrupt> {
        self.digits(name)?.parse().map_err(|_| Corrupt::Attribute(name))
    }

    pub fn instant(self, name: &'static str) -> Result<Timestamp, Corrupt> {
        let millis = self.digits(name)?.parse().map_err(|_| Corrupt::Attribute(name))?;
        Timestamp::from_millisecond(millis).map_err(|_| Corrupt::Attribute(name))
    }

    pub fn optional_instant(self, name: &'static str) -> Result<Option<Timestamp>, Corrupt> {
        if self.0.contains_key(name) { self.instant(name).map(Some) } else { Ok(None) }
    }

    pub fn list(self, name: &'static str) -> Result<&'a [AttributeValue], Corrupt> {
        self.0
            .get(name)
            .and_then(|value| value.as_l().ok())
            .map(Vec::as_slice)
            .ok_or(Corrupt::Attribute(name))
    }

    pub fn optional_list(self, name: &'static str) -> Result<&'a [AttributeValue], Corrupt> {
        if self.0.contains_key(name) { self.list(name) } else { Ok(&[]) }
    }

    pub fn map(self, name: &'static str) -> Result<&'a Item, Corrupt> {
        self.0.get(name).and_then(|value| value.as_m().ok()).ok_or(Corrupt::Attribute(name))
    }

    pub fn bytes(self, name: &'static str) -> Option<&'a [u8]> {
        self.0.get(name)?.as_b().ok().map(AsRef::as_ref)
    }

    fn digits(self, name: &'static str) -> Result<&'a str, Corrupt> {
        self.0
            .get(name)
            .and_then(|value| value.as_n().ok())
            .map(String::as_str)
            .ok_or(Corrupt::Attribute(name))
    }
}

/// Reads a number of credits.
pub(crate) fn read_credits(value: &AttributeValue) -> Option<Credits> {
    Credits::from_number(value.as_n().ok()?).ok()
}
