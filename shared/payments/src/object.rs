//! Reads the members of one of Stripe's objects, and collects everything that is wrong with them.
//!
//! Only the members that we read are looked at: API versions from 2020-08-27 on differ in others, and add values to enums.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The most characters that one of Stripe's ids may have; Stripe says 255.
const MAX_ID_CHARACTERS: usize = 255;

/// A member of an event's object that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMember {
    /// Where it stands, such as `data.object.amount`.
    pub field: String,
    /// What it has to be.
    pub message: &'static str,
}

/// An object of Stripe's while it is read.
pub(crate) struct Object<'a> {
    members: &'a Map<String, Value>,
    bad: Vec<BadMember>,
}

impl<'a> Object<'a> {
    /// The members of an object; an array is none.
    pub fn of(object: &'a Value) -> Result<Self, Vec<BadMember>> {
        let field = "data.object".to_owned();
        let members = object.as_object().ok_or(vec![BadMember { field, message: "must be an object" }])?;
        Ok(Self { members, bad: Vec::new() })
    }

    /// What was read, if every member was right.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Vec<BadMember>> {
        read.filter(|_| self.bad.is_empty()).ok_or(self.bad)
    }

    /// An id that has to be there.
    pub fn id(&mut self, name: &str) -> Option<String> {
        let read = self.members.get(name).and_then(Value::as_str).filter(|id| is_id(id)).map(str::to_owned);
        self.expect(name, read, "must be an id")
    }

    /// The id of another object, which may be expanded; `None` where it is null, absent, or no id.
    pub fn reference(&self, name: &str) -> Option<String> {
        let value = self.members.get(name)?;
        let id = value.as_str().or_else(|| value.get("id")?.as_str())?;
        is_id(id).then(|| id.to_owned())
    }

    /// Returns the id of the first of these members that the object has.
    pub fn first_reference(&mut self, names: &[&'static str]) -> Option<String> {
        let read = names.iter().find_map(|name| self.reference(name));
        self.expect(names.first().unwrap_or(&"id"), read, "must name a payment")
    }

    /// A text that has to be there.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        let read = self.members.get(name).and_then(Value::as_str);
        self.expect(name, read, "must be a text")
    }

    /// A text, if there is one.
    pub fn optional_text(&self, name: &str) -> Option<&'a str> {
        self.members.get(name)?.as_str()
    }

    /// A whole number, not below zero, that has to be there.
    pub fn number(&mut self, name: &str) -> Option<u64> {
        let read = self.members.get(name).and_then(Value::as_u64);
        self.expect(name, read, "must be a whole number")
    }

    /// A whole number, if there is one.
    pub fn optional_number(&self, name: &str) -> Option<u64> {
        self.members.get(name)?.as_u64()
    }

    /// An instant in whole seconds since 1970, if there is one.
    pub fn optional_instant(&self, name: &str) -> Option<Timestamp> {
        Timestamp::from_second(self.members.get(name)?.as_i64()?).ok()
    }

    /// A text that has to be there and to be read as something.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str, message: &'static str) -> Option<T> {
        let read = self.members.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok());
        self.expect(name, read, message)
    }

    /// A value of the metadata.
    pub fn metadata(&self, name: &str) -> Option<String> {
        Some(self.members.get("metadata")?.get(name)?.as_str()?.to_owned())
    }

    /// Whether there is metadata, be it empty.
    pub fn has_metadata(&self) -> bool {
        self.members.get("metadata").is_some_and(Value::is_object)
    }

    /// What was read of a member, or a note that it is wrong.
    pub fn expect<T>(&mut self, name: &str, read: Option<T>, message: &'static str) -> Option<T> {
        if read.is_none() {
            self.bad.push(BadMember { field: format!("data.object.{name}"), message });
        }
        read
    }
}

/// Whether a text could be an id: it becomes part of a key.
fn is_id(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    plain && (1..=MAX_ID_CHARACTERS).contains(&text.len())
}
