//! The strict parser of form bodies and queries.

use std::collections::BTreeMap;

use super::amounts;
use super::errors::StripeRefusal;

/// The type of a parameter's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum FieldKind {
    /// Non-empty text of at most this many characters.
    Text(usize),
    /// `true` or `false`.
    Flag,
    Whole,
    /// An absolute URL with the scheme http or https.
    Url,
    /// A currency code in lowercase.
    Currency,
    Email,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A value of `metadata`, which may be empty.
    Metadata,
}

/// A parameter of an endpoint. In its name `#` stands for an index, `*` for any key, and `[]` for a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: FieldKind,
}

pub(super) const fn field(name: &'static str, kind: FieldKind) -> Field {
    Field { name, kind }
}

/// `expand[]`, which nearly every endpoint accepts.
pub(super) const EXPAND: Field = field("expand[]", FieldKind::Text(200));

/// The largest number of keys in a `metadata` object.
const MAX_METADATA_KEYS: usize = 50;
/// The largest length of a metadata key, in characters.
const MAX_METADATA_KEY: usize = 40;
/// The largest length of a metadata value, in characters.
const MAX_METADATA_VALUE: usize = 500;

/// The validated parameters of a request.
#[derive(Debug)]
pub(super) struct Form {
    fields: BTreeMap<String, String>,
    expand: Vec<String>,
}

/// Splits a form into its pairs, in the order of the request.
pub(super) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

impl Form {
    /// Parses a body or a query. Refuses a parameter that is not in `known`.
    pub fn read(text: &[u8], known: &[Field]) -> Result<Self, StripeRefusal> {
        let mut form = Self { fields: BTreeMap::new(), expand: Vec::new() };
        let pairs = pairs(text);
        for (name, _) in &pairs {
            check_known(name, known)?;
        }
        for (name, value) in pairs {
            let segments = segments(&name);
            let found = known.iter().find(|field| matches(&segments, field.name));
            if let Some(field) = found {
                check_value(&name, &value, field.kind)?;
            }
            if segments.first() == Some(&"expand") {
                form.expand.push(value);
            } else {
                form.fields.insert(name, value);
            }
        }
        form.check_metadata_keys()?;
        Ok(form)
    }

    /// Returns the value of a parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns the value of a required parameter.
    pub fn required(&self, name: &str) -> Result<&str, StripeRefusal> {
        self.text(name).ok_or_else(|| StripeRefusal::required(name))
    }

    /// Returns whether a parameter is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Returns the value of an integer parameter. [`Self::read`] has checked that it is one.
    pub fn whole(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| value.parse().ok())
    }

    /// Returns the value of an integer parameter, which must be at least 1.
    pub fn positive(&self, name: &str) -> Result<Option<u64>, StripeRefusal> {
        let Some(value) = self.whole(name) else { return Ok(None) };
        match u64::try_from(value) {
            Ok(value) if value > 0 => Ok(Some(value)),
            _ => {
                let refusal = StripeRefusal::validation("This value must be greater than or equal to 1.");
                Err(refusal.code("parameter_invalid_integer").param(name))
            }
        }
    }

    /// Returns whether the form has the parameter or a member of it.
    pub fn has(&self, name: &str) -> bool {
        let inner = format!("{name}[");
        self.fields.keys().any(|key| key == name || key.starts_with(&inner))
    }

    /// Returns the metadata under this name, without keys whose value is empty.
    pub fn metadata(&self, name: &str) -> BTreeMap<String, String> {
        let prefix = format!("{name}[");
        let named = self.fields.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix(&prefix)?.strip_suffix(']')?;
            (!value.is_empty() && !key.contains('[')).then(|| (key.to_owned(), value.clone()))
        });
        named.collect()
    }

    /// Returns the paths to expand.
    pub fn expand(&self) -> &[String] {
        &self.expand
    }

    fn check_metadata_keys(&self) -> Result<(), StripeRefusal> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (set, _) in self.fields.keys().filter_map(|name| name.rsplit_once('[')) {
            if set == "metadata" || set.ends_with("[metadata]") {
                let count = counts.entry(set).or_default();
                *count = count.saturating_add(1);
            }
        }
        match counts.into_iter().find(|(_, count)| *count > MAX_METADATA_KEYS) {
            Some((set, count)) => {
                let message =
                    format!("Metadata can have up to {MAX_METADATA_KEYS} keys, but you've set {count}.");
                Err(StripeRefusal::validation(message).param(set))
            }
            None => Ok(()),
        }
    }
}

/// Splits a name such as `line_items[0][quantity]` into its parts.
fn segments(name: &str) -> Vec<&str> {
    name.split('[').map(|part| part.strip_suffix(']').unwrap_or(part)).collect()
}

fn fits(segment: &str, pattern: &str) -> bool {
    match pattern {
        "*" => !segment.is_empty(),
        "#" => !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()),
        "" => segment.bytes().all(|byte| byte.is_ascii_digit()),
        pattern => segment == pattern,
    }
}

/// Returns how many leading parts match the pattern.
fn fitting(name: &[&str], pattern: &[&str]) -> usize {
    name.iter().zip(pattern).take_while(|(segment, pattern)| fits(segment, pattern)).count()
}

fn matches(name: &[&str], pattern: &str) -> bool {
    let pattern = segments(pattern);
    name.len() == pattern.len() && fitting(name, &pattern) == name.len()
}

/// Refuses a name that matches no pattern. The error names it up to the first unknown part, as Stripe's does.
fn check_known(name: &str, known: &[Field]) -> Result<(), StripeRefusal> {
    let parts = segments(name);
    if known.iter().any(|field| matches(&parts, field.name)) {
        return Ok(());
    }
    let deepest = known.iter().map(|field| fitting(&parts, &segments(field.name))).max().unwrap_or_default();
    if deepest == parts.len() {
        return Err(StripeRefusal::validation("Invalid object").param(name));
    }
    let mut path = parts.first().copied().unwrap_or_default().to_owned();
    for part in parts.iter().skip(1).take(deepest).filter(|part| !part.is_empty()) {
        path = format!("{path}[{part}]");
    }
    let refusal = StripeRefusal::validation(format!("Received unknown parameter: {path}"));
    Err(refusal.code("parameter_unknown").param(&path))
}

fn check_value(name: &str, value: &str, kind: FieldKind) -> Result<(), StripeRefusal> {
    if value.is_empty() && !matches!(kind, FieldKind::Metadata) {
        return Err(empty(name));
    }
    match kind {
        FieldKind::Text(longest) if value.chars().count() > longest => {
            let message = format!("Invalid string: {name} must be at most {longest} characters");
            Err(StripeRefusal::validation(message).param(name))
        }
        FieldKind::Flag if !matches!(value, "true" | "false") => {
            Err(StripeRefusal::validation(format!("Invalid boolean: {value}")).param(name))
        }
        FieldKind::Whole if value.parse::<i64>().is_err() => {
            let refusal = StripeRefusal::validation(format!("Invalid integer: {value}"));
            Err(refusal.code("parameter_invalid_integer").param(name))
        }
        FieldKind::Url => check_url(name, value),
        FieldKind::Currency => amounts::check_currency(value, name),
        FieldKind::Email if !is_address(value) => {
            let refusal = StripeRefusal::validation(format!("Invalid email address: {value}"));
            Err(refusal.code("email_invalid").param(name))
        }
        FieldKind::Choice(choices) if !choices.contains(&value) => {
            let message = format!("Invalid {name}: must be one of {}", listing(choices));
            Err(StripeRefusal::validation(message).param(name))
        }
        FieldKind::Metadata => check_metadata(name, value),
        _ => Ok(()),
    }
}

fn empty(name: &str) -> StripeRefusal {
    let message = format!(
        "You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; however \
         '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value."
    );
    StripeRefusal::validation(message).code("parameter_invalid_empty").param(name)
}

fn check_url(name: &str, value: &str) -> Result<(), StripeRefusal> {
    let refusal = |message: &str| Err(StripeRefusal::validation(message).code("url_invalid").param(name));
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match rest {
        None => refusal("Invalid URL: An explicit scheme (such as https) must be provided."),
        Some(rest) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic());
            if host.is_empty() || !is_plain || value.len() > 5_000 {
                return refusal("Not a valid URL");
            }
            Ok(())
        }
    }
}

fn is_address(value: &str) -> bool {
    let Some((name, domain)) = value.split_once('@') else { return false };
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic()) && value.len() <= 512;
    plain && !name.is_empty() && domain.contains('.') && !domain.contains('@') && !domain.ends_with('.')
}

fn check_metadata(name: &str, value: &str) -> Result<(), StripeRefusal> {
    let key = segments(name).last().copied().unwrap_or_default();
    let (key_length, length) = (key.chars().count(), value.chars().count());
    if key_length > MAX_METADATA_KEY {
        let message = format!(
            "Metadata keys can have up to {MAX_METADATA_KEY} characters, but you passed in a key that is \
             {key_length} characters. Invalid key: {key}"
        );
        return Err(StripeRefusal::validation(message).param(name));
    }
    if length > MAX_METADATA_VALUE {
        let message = format!(
            "Metadata values can have up to {MAX_METADATA_VALUE} characters, but you passed in a value that is \
             {length} characters. Invalid value: {value}"
        );
        return Err(StripeRefusal::validation(message).param(name));
    }
    Ok(())
}

/// Formats words as `a`, `a or b`, or `a, b, or c`.
fn listing(choices: &[&str]) -> String {
    match choices {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, second] => format!("{first} or {second}"),
        [rest @ .., last] => format!("{}, or {last}", rest.join(", ")),
    }
}
