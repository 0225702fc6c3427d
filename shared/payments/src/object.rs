//! Reads the members of a Stripe object and collects every error.
//!
//! Only the members that this crate uses are checked. API versions from 2020-08-27 on differ in other members and add
//! enum values.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The maximum length of a Stripe id in characters, as Stripe documents it.
const MAX_ID_CHARACTERS: usize = 255;

/// A missing or invalid member of an event's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMember {
    /// The path of the member, such as `data.object.amount`.
    pub field: String,
    /// The requirement that the member violates, such as `must be an id`.
    pub message: &'static str,
}

/// A Stripe object that is being read.
pub(crate) struct Object<'a> {
    members: &'a Map<String, Value>,
    bad: Vec<BadMember>,
}

impl<'a> Object<'a> {
    /// Starts to read a JSON value, which must be an object.
    pub fn of(object: &'a Value) -> Result<Self, Vec<BadMember>> {
        let field = "data.object".to_owned();
        let members = object.as_object().ok_or(vec![BadMember { field, message: "must be an object" }])?;
        Ok(Self { members, bad: Vec::new() })
    }

    /// Returns the result, or every bad member that was found.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Vec<BadMember>> {
        read.filter(|_| self.bad.is_empty()).ok_or(self.bad)
    }

    /// Reads a required id.
    pub fn id(&mut self, name: &str) -> Option<String> {
        let read = self.members.get(name).and_then(Value::as_str).filter(|id| is_id(id)).map(str::to_owned);
        self.expect(name, read, "must be an id")
    }

    /// Reads the id of another object, which may be expanded. Returns `None` if the member is null, absent or not an
    /// id.
    pub fn reference(&self, name: &str) -> Option<String> {
        let value = self.members.get(name)?;
        let id = value.as_str().or_else(|| value.get("id")?.as_str())?;
        is_id(id).then(|| id.to_owned())
    }

    /// Reads the id of the first of these members that the object has.
    pub fn first_reference(&mut self, names: &[&'static str]) -> Option<String> {
        let read = names.iter().find_map(|name| self.reference(name));
        self.expect(names.first().unwrap_or(&"id"), read, "must name a payment")
    }

    /// Reads a required string.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        let read = self.members.get(name).and_then(Value::as_str);
        self.expect(name, read, "must be a text")
    }

    /// Reads an optional string.
    pub fn optional_text(&self, name: &str) -> Option<&'a str> {
        self.members.get(name)?.as_str()
    }

    /// Reads a required non-negative integer.
    pub fn number(&mut self, name: &str) -> Option<u64> {
        let read = self.members.get(name).and_then(Value::as_u64);
        self.expect(name, read, "must be a whole number")
    }

    /// Reads an optional non-negative integer.
    pub fn optional_number(&self, name: &str) -> Option<u64> {
        self.members.get(name)?.as_u64()
    }

    /// Reads an optional instant in whole seconds since 1970.
    pub fn optional_instant(&self, name: &str) -> Option<Timestamp> {
        Timestamp::from_second(self.members.get(name)?.as_i64()?).ok()
    }

    /// Reads a required string and parses it.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str, message: &'static str) -> Option<T> {
        let read = self.members.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok());
        self.expect(name, read, message)
    }

    /// Reads a metadata value.
    pub fn metadata(&self, name: &str) -> Option<String> {
        Some(self.members.get("metadata")?.get(name)?.as_str()?.to_owned())
    }

    /// Returns whether the object has metadata, even if it is empty.
    pub fn has_metadata(&self) -> bool {
        self.members.get("metadata").is_some_and(Value::is_object)
    }

    /// Returns the value of a member, and records an error if it is `None`.
    pub fn expect<T>(&mut self, name: &str, read: Option<T>, message: &'static str) -> Option<T> {
        if read.is_none() {
            self.bad.push(BadMember { field: format!("data.object.{name}"), message });
        }
        read
    }
}

/// Returns whether a string is a valid id. An id becomes part of a table key.
fn is_id(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    plain && (1..=MAX_ID_CHARACTERS).contains(&text.len())
}
