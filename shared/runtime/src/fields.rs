//! Reads the fields of a request's JSON, and collects every error, including unknown fields.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::problem::Problem;

pub use crate::problem::FieldError;

/// The maximum length of an e-mail address in octets (RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets).
const MAX_ADDRESS_OCTETS: usize = 254;
/// The maximum length before the `@` in octets (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_PART_OCTETS: usize = 64;
/// The maximum length of a domain's label in octets (RFC 1035, 2.3.4).
const MAX_LABEL_OCTETS: usize = 63;

/// The longest note or reason of an operator.
const MAX_REMARK_CHARACTERS: usize = 200;

/// A JSON object that is being read.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Starts to read a body, which must be an object.
    pub fn of(body: &'a Value) -> Result<Self, Problem> {
        let not_an_object = || FieldError { field: String::new(), message: "must be an object".into() };
        let object = body.as_object().ok_or_else(|| Problem::invalid_request(&[not_an_object()]))?;
        Ok(Self { object, path: String::new(), known: Vec::new(), errors: Vec::new() })
    }

    /// Reads a required field.
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

    /// Reads a field that may be absent or null.
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

    /// Returns a field's value unless it is absent or null, and marks the field as known.
    pub fn present(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Reads a nested object, if present.
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

    /// Reads an object whose members the caller names, if present. Ignores members that are null. Errors name the member.
    pub fn members<K: FromStr<Err: Display> + Ord, V>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Result<V, String>,
    ) -> Option<BTreeMap<K, V>> {
        let value = self.present(name)?;
        let Some(object) = value.as_object() else {
            self.refuse(name, "must be an object");
            return None;
        };
        let mut members = Some(BTreeMap::new());
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let member = key.parse().map_err(|error: K::Err| error.to_string());
            match member.and_then(|member| Ok((member, read(value)?))) {
                Ok((member, read)) => drop(members.as_mut().map(|members| members.insert(member, read))),
                Err(message) => {
                    self.refuse(&format!("{name}.{key}"), message);
                    members = None;
                }
            }
        }
        members
    }

    /// Reads a required array of 1 to `most` objects. Errors name each object by its index: `lines.0`, `lines.1`, …
    pub fn list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.present(name) else {
            self.refuse(name, "is required");
            return None;
        };
        let items = self.array(name, value, 1..=most, format!("must be an array of 1 to {most} objects"))?;
        self.elements(name, items, read)
    }

    /// Reads an array of at most `most` objects, if present. Errors are named as those of [`Self::list`].
    pub fn optional_list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.present(name)?;
        let items =
            self.array(name, value, 0..=most, format!("must be an array of at most {most} objects"))?;
        self.elements(name, items, read)
    }

    /// Reads an array of at most `most` values, if present. Errors name each value by its index: `recipients.0`.
    pub fn values<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.present(name)?;
        let items = self.array(name, value, 0..=most, format!("must be an array of at most {most}"))?;
        let mut all = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let read = read(item);
            if let Err(message) = &read {
                self.refuse(&format!("{name}.{place}"), message);
            }
            all.push(read.ok());
        }
        all.into_iter().collect()
    }

    /// Returns the elements of an array. Refuses any other value, and an array of another length.
    fn array(
        &mut self,
        name: &str,
        value: &'a Value,
        lengths: RangeInclusive<usize>,
        message: String,
    ) -> Option<&'a [Value]> {
        let items = value.as_array().filter(|items| lengths.contains(&items.len()));
        if items.is_none() {
            self.refuse(name, message);
        }
        items.map(Vec::as_slice)
    }

    fn elements<T>(
        &mut self,
        name: &str,
        items: &'a [Value],
        mut read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            all.push(self.element(&format!("{name}.{place}"), item, &mut read));
        }
        all.into_iter().collect()
    }

    fn element<T>(
        &mut self,
        name: &str,
        item: &'a Value,
        read: &mut impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(object) = item.as_object() else {
            self.refuse(name, "must be an object");
            return None;
        };
        let mut nested = Fields { object, path: self.path_of(name), known: Vec::new(), errors: Vec::new() };
        let read = read(&mut nested);
        self.errors.append(&mut nested.all_errors());
        read
    }

    /// Records an error of a field.
    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: self.path_of(name), message: message.into() });
    }

    /// Returns whether no error is recorded so far. Unknown fields are found only by [`Self::finish`].
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns the result, or a problem with every error.
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

/// Parses a string as its type: an id, an amount, a plan.
pub fn parsed<T: FromStr<Err: Display>>(value: &Value) -> Result<T, String> {
    let text = value.as_str().ok_or("must be a string")?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Reads a boolean.
pub fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

/// Reads a non-negative integer of at most `most`.
pub fn count(value: &Value, most: u64) -> Result<u64, String> {
    let count = value.as_u64().ok_or("must be a whole number of zero or more")?;
    if count <= most { Ok(count) } else { Err(format!("must be at most {most}")) }
}

/// Reads a visible single-line string of 1 to `most` characters, such as a name or a reason.
pub fn line(value: &Value, most: usize) -> Result<String, String> {
    let text = value.as_str().ok_or("must be a string")?;
    let fits = (1..=most).contains(&text.chars().count()) && !text.chars().any(misleads);
    let said = || format!("must be 1 to {most} characters, not blank, and without control characters");
    if fits && text.chars().any(is_seen) { Ok(text.to_owned()) } else { Err(said()) }
}

/// Reads a note or reason in the operator's words: one line of at most 200 characters.
pub fn remark(value: &Value) -> Result<String, String> {
    line(value, MAX_REMARK_CHARACTERS)
}

/// Reads a string that is one of a few, each with its meaning.
pub fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| value.as_str() == Some(*name));
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    chosen.map(|(_, meaning)| *meaning).ok_or_else(|| format!("must be one of {}", names()))
}

/// Returns whether a character breaks a line or changes the direction of text, so that one name could show as another.
fn misleads(letter: char) -> bool {
    let breaks = letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    let turns = matches!(letter, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    breaks || turns
}

/// Returns whether a character is visible: neither white space nor one of Unicode's default ignorable code points.
fn is_seen(letter: char) -> bool {
    let ignorable = matches!(letter, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}');
    // U+2800 is a braille pattern without dots.
    !ignorable && !letter.is_whitespace() && letter != '\u{2800}'
}

/// Reads an e-mail address that SES accepts: a dot-string at a host name (RFC 5321, 4.1.2).
///
/// Characters that could end a header or name a second recipient are refused. So are quoted local parts, address
/// literals and letters outside ASCII.
pub fn mail_address(value: &Value) -> Result<String, String> {
    let said = || "must be an e-mail address".to_owned();
    let text = value.as_str().filter(|text| text.len() <= MAX_ADDRESS_OCTETS).ok_or_else(said)?;
    let (local, domain) = text.split_once('@').ok_or_else(said)?;
    let atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atom);
    let last_is_named =
        domain.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
    let fits = local.len() <= MAX_LOCAL_PART_OCTETS
        && local.split('.').all(atom)
        && domain.contains('.')
        && domain.split('.').all(is_label)
        && last_is_named;
    if fits { Ok(text.to_owned()) } else { Err(said()) }
}

/// Returns whether a byte is allowed in an atom (RFC 5322, 3.2.3).
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Returns whether a string is a label of a host name (RFC 1123, 2.1).
fn is_label(label: &str) -> bool {
    let ends_well = !label.starts_with('-') && !label.ends_with('-');
    let made_of = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=MAX_LABEL_OCTETS).contains(&label.len()) && ends_well && made_of
}

#[cfg(test)]
mod tests {
    use super::{Fields, count, line, mail_address, parsed};
    use credits_core::id::Id;
    use serde_json::json;

    #[test]
    fn all_field_errors_and_unknown_fields_are_reported() {
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
    fn only_addresses_that_ses_accepts_are_read() {
        let label = "d".repeat(63);
        let longest = format!("a@{label}.{label}.{label}.{}.example", "d".repeat(52));
        assert_eq!(longest.len(), 254);
        let whole = format!("{}@acme.example", "l".repeat(64));
        for good in [
            "billing+ai@acme.example",
            "o'neil.x_y@sub.acme-1.co",
            "a@xn--bcher-kva.example",
            &whole,
            &longest,
        ] {
            assert_eq!(mail_address(&json!(good)).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "acme",
            "@b.example",
            "a@",
            "a@b",
            "a@@b.example",
            "a@b@c.example",
            "a b@c.example",
            "a@b.example\r\nBcc: x@y.example",
            "a@b..example",
            "a@b.example.",
            "a@.b.example",
            "a@b.example,c@d.example",
            "<a@b.example>",
            "a..b@c.example",
            ".a@c.example",
            "a.@c.example",
            "\"a b\"@c.example",
            "a(b)@c.example",
            "a@[192.0.2.1]",
            "a@192.0.2.1",
            "a@-b.example",
            "a@b-.example",
            "a@b_c.example",
            "ä@b.example",
            "a@bücher.example",
            &format!("l{whole}"),
            &format!("a{longest}"),
            &format!("a@d{label}.example"),
        ] {
            assert!(mail_address(&json!(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_visible_single_line_names_are_read() {
        for good in ["Acme", "  Acme", "Ωmega 株式会社", "שלום", "👩\u{200D}💻", "e\u{301}", "a\u{200B}b"]
        {
            assert_eq!(line(&json!(good), 200).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "   ",
            "\u{A0}\u{3000}",
            "\u{200B}",
            "\u{200D}\u{2060}\u{FEFF} \u{AD}",
            "\u{3164}",
            "\u{2800}",
            "\u{FE0F}",
            "\u{E0041}",
            "a\u{0}b",
            "a\nb",
            "a\u{7F}b",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{202E}b",
            "a\u{2066}b",
            "a\u{200E}b",
            "a\u{200F}b",
            "a\u{61C}b",
            "abcdefg",
        ] {
            assert!(line(&json!(bad), 6).is_err(), "{bad:?}");
        }
        assert!(line(&json!(7), 6).is_err());
    }
}
