//! Conversion of DynamoDB attributes. Credits and instants are numbers, so that DynamoDB can compare and add them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::credits::{Amount, Credits};
use jiff::{SignedDuration, Timestamp};

use crate::error::Corrupt;
use crate::table::keys::{ItemKey, PK, SK};

/// An item, or a map attribute within an item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Makes a string attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Makes a number attribute of credits. Serde would write a decimal as a string, with which DynamoDB can't calculate.
pub(crate) fn credits(value: Credits) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Makes a number attribute of an integer.
pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Makes a number attribute of an instant: milliseconds since 1970.
pub(crate) fn instant(value: Timestamp) -> AttributeValue {
    AttributeValue::N(value.as_millisecond().to_string())
}

/// Makes a map attribute.
pub(crate) fn map<const N: usize>(attributes: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Makes the time to live of an item that is kept for a while: seconds since 1970, after which DynamoDB may delete it.
pub(crate) fn time_to_live(now: Timestamp, retention: SignedDuration) -> AttributeValue {
    let end = now.checked_add(retention).unwrap_or(now);
    AttributeValue::N(end.as_second().to_string())
}

/// Makes an item that has only its key.
pub(crate) fn keyed(key: &ItemKey) -> Item {
    HashMap::from([(PK.to_owned(), text(&key.pk)), (SK.to_owned(), text(key.sk.as_ref()))])
}

/// A reader of an item's attributes. Its errors name the attribute that is missing or malformed.
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

    pub fn amount(self, name: &'static str) -> Result<Amount, Corrupt> {
        Amount::new(self.credits(name)?).map_err(|_| Corrupt::Attribute(name))
    }

    pub fn optional_amount(self, name: &'static str) -> Result<Option<Amount>, Corrupt> {
        if self.0.contains_key(name) { self.amount(name).map(Some) } else { Ok(None) }
    }

    pub fn number(self, name: &'static str) -> Result<u64, Corrupt> {
        self.digits(name)?.parse().map_err(|_| Corrupt::Attribute(name))
    }

    /// Reads an integer of 16 bits.
    pub fn small(self, name: &'static str) -> Result<u16, Corrupt> {
        self.digits(name)?.parse().map_err(|_| Corrupt::Attribute(name))
    }

    pub fn optional_number(self, name: &'static str) -> Result<Option<u64>, Corrupt> {
        if self.0.contains_key(name) { self.number(name).map(Some) } else { Ok(None) }
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

/// Reads the credits of a number attribute.
pub(crate) fn read_credits(value: &AttributeValue) -> Option<Credits> {
    Credits::from_number(value.as_n().ok()?).ok()
}
