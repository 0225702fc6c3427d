//! Reading a request's JSON: every field once, all errors at once, unknown fields by name.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// RFC 5321, 4.5.3.1.3: a path of 256 characters with its angle brackets.
const MOST_ADDRESS_CHARACTERS: usize = 254;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's path, such as `units.output_tokens`; empty for the body itself.
    pub field: String,
    /// What it must be.
    pub message: String,
}

/// A JSON object that is being read.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Begins to read a body, which must be an object.
    pub fn of(body: &'a Value) -> Result<Self, Problem> {
        let not_an_object = || FieldError { field: String::new(), message: "must be an object".into() };
        let object = body.as_object().ok_or_else(|| Problem::invalid_request(&[not_an_object()]))?;
        Ok(Self { object, path: String::new(), known: Vec::new(), errors: Vec::new() })
    }

    /// A field that must be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if self.present(name).is_none() {
            self.refuse(name, "is required");
        }
        self.optional(name, read)
    }

    /// A field that may be absent or null.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.present(name)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(message) => {
                self.refuse(name, message);
                None
            }
        }
    }

    /// Whether a field is there and not null; it counts as known from here on.
    pub fn present(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// An object within this one, if it is there.
    pub fn nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.present(name)?;
        let Some(object) = value.as_object() else {
            self.refuse(name, "must be an object");
            return None;
        };
        let mut nested = Fields { object, path: self.path_of(name), known: Vec::new(), errors: Vec::new() };
        let read = read(&mut nested);
        self.errors.append(&mut nested.all_errors());
        read
    }

    /// Objects in an array that must be there, each under its place: `lines.0`, `lines.1`, …
    pub fn list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        mut read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.present(name) else {
            self.refuse(name, "is required");
            return None;
        };
        let Some(items) = value.as_array().filter(|items| (1..=most).contains(&items.len())) else {
            self.refuse(name, format!("must be an array of 1 to {most} objects"));
            return None;
        };
        let mut all = Some(Vec::with_capacity(items.len()));
        for (place, item) in items.iter().enumerate() {
            let name = format!("{name}.{place}");
            let Some(object) = item.as_object() else {
                self.refuse(&name, "must be an object");
                all = None;
                continue;
            };
            let mut nested =
                Fields { object, path: self.path_of(&name), known: Vec::new(), errors: Vec::new() };
            let read = read(&mut nested);
            self.errors.append(&mut nested.all_errors());
            all = all.zip(read).map(|(mut all, read)| {
                all.push(read);
                all
            });
        }
        all
    }

    /// Says what is wrong with a field.
    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: self.path_of(name), message: message.into() });
    }

    /// Whether nothing is wrong so far but what an unknown field would be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// What was read, or all that is wrong.
    pub fn finish<T>(mut self, read: Option<T>) -> Result<T, Problem> {
        let errors = self.all_errors();
        match read {
            Some(read) if errors.is_empty() => Ok(read),
            _ => Err(Problem::invalid_request(&errors)),
        }
    }

    fn all_errors(&mut self) -> Vec<FieldError> {
        let unknown: Vec<&String> =
            self.object.keys().filter(|name| !self.known.iter().any(|known| known == name)).collect();
        for name in unknown {
            self.refuse(name, "is not a field of this request");
        }
        std::mem::take(&mut self.errors)
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Reads a text as what its type makes of it: an id, an amount, a plan.
pub fn parsed<T: FromStr<Err: Display>>(value: &Value) -> Result<T, String> {
    let text = value.as_str().ok_or("must be a string")?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Reads a truth value.
pub fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

/// Reads a count of at most `most`.
pub fn count(value: &Value, most: u64) -> Result<u64, String> {
    let count = value.as_u64().ok_or("must be a whole number of zero or more")?;
    if count <= most { Ok(count) } else { Err(format!("must be at most {most}")) }
}

/// Reads a text of 1 to `most` characters without control characters, as a name or a reason.
pub fn line(value: &Value, most: usize) -> Result<String, String> {
    let text = value.as_str().ok_or("must be a string")?;
    let fits = (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let said = || format!("must be 1 to {most} characters without control characters");
    if fits && !text.trim().is_empty() { Ok(text.to_owned()) } else { Err(said()) }
}

/// Reads an address that a mail could go to, without what could end a header or name a second one.
pub fn mail_address(value: &Value) -> Result<String, String> {
    let said = || "must be an e-mail address".to_owned();
    let text = value.as_str().ok_or_else(said)?;
    let allowed = |c: char| c.is_ascii_graphic() && !"<>()[],;:\\\"".contains(c);
    let (local, domain) = text.rsplit_once('@').ok_or_else(said)?;
    let whole = !local.is_empty() && !local.contains('@') && text.len() <= MOST_ADDRESS_CHARACTERS;
    let labels = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    if whole && labels && text.chars().all(allowed) { Ok(text.to_owned()) } else { Err(said()) }
}

#[cfg(test)]
mod tests {
    use super::{Fields, count, mail_address, parsed};
    use credits_core::id::Id;
    use serde_json::json;

    #[test]
    fn all_field_errors_are_told_at_once_with_unknown_fields_by_name() {
        let body = json!({"operation": 7, "units": {"records": -1, "pages": 2}, "extra": true});
        let mut fields = Fields::of(&body).unwrap();
        fields.required("operation", parsed::<Id>);
        fields.required("consumer", parsed::<Id>);
        fields.nested("units", |units| units.optional("records", |value| count(value, 10)));
        insta::assert_json_snapshot!(fields.finish(Some(())).unwrap_err().body()["errors"], @r#"
        [
          {
            "field": "operation",
            "message": "must be a string"
          },
          {
            "field": "consumer",
            "message": "is required"
          },
          {
            "field": "units.records",
            "message": "must be a whole number of zero or more"
          },
          {
            "field": "units.pages",
            "message": "is not a field of this request"
          },
          {
            "field": "extra",
            "message": "is not a field of this request"
          }
        ]
        "#);
    }

    #[test]
    fn an_address_cannot_carry_a_header_or_a_second_recipient() {
        assert!(mail_address(&json!("billing+ai@acme.example")).is_ok());
        for bad in [
            "",
            "acme",
            "a@b",
            "a@@b.example",
            "a b@c.example",
            "a@b.example\r\nBcc: x@y.example",
            "a@b..example",
            "a@b.example,c@d.example",
            "<a@b.example>",
        ] {
            assert!(mail_address(&json!(bad)).is_err(), "{bad:?}");
        }
    }
}
