//! Reads query parameters, and collects every error, including unknown parameters.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::fields::FieldError;
use crate::problem::Problem;

/// Passes each parameter to a reader, and returns a problem with every error.
pub fn read<S: BuildHasher>(
    query: &HashMap<String, String, S>,
    mut take: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> = query
        .iter()
        .filter_map(|(name, value)| {
            take(name, value).err().map(|message| FieldError { field: name.clone(), message })
        })
        .collect();
    errors.sort_by(|a, b| a.field.cmp(&b.field));
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid_request(&errors)) }
}

/// Refuses every parameter, for a route that has none.
pub(crate) fn none(query: &HashMap<String, String>) -> Result<(), Problem> {
    read(query, |_, _| unknown())
}

/// Refuses a parameter that the route does not have.
pub fn unknown() -> Result<(), String> {
    Err("is not a parameter of this request".to_owned())
}

/// Reads an integer within a range.
pub fn whole_number(value: &str, range: RangeInclusive<u16>) -> Result<u16, String> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| plain && range.contains(number));
    number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

/// Parses a string as its type.
pub fn parsed<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}
