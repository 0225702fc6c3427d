//! Reads the request bodies of holds, captures and settlements.

use std::collections::HashSet;

use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{MAX_HOLDS, MAX_TTL_SECONDS, Purpose};
use credits_core::id::{Id, Name};
use credits_core::rate_card::RateCard;
use credits_runtime::Problem;
use credits_runtime::fields::{Fields, count, parsed, truth};
use credits_store::holds::OnExcess;
use credits_store::holds::settle::FinalCapture;
use jiff::SignedDuration;
use serde_json::Value;

use crate::request::{PricedBody, finish, read_consumer, read_line};

/// The body of a request for one hold or several.
#[derive(Debug)]
pub(crate) struct HoldBody {
    /// The credits that each hold keeps.
    pub amount: Amount,
    /// The number of holds, 2 to [`MAX_HOLDS`]; `None` for a single hold.
    pub count: Option<u8>,
    pub lasts: SignedDuration,
    pub purpose: Purpose,
    /// The problem of a well-formed body whose operation is not on the rate card.
    pub unpriced: Option<Problem>,
}

/// Reads the body of a request for one hold.
pub(crate) fn read_hold(body: &Value, card: &RateCard) -> Result<HoldBody, Problem> {
    read_placement(Fields::of(body)?, card, None)
}

/// Reads the body of a request for several holds.
pub(crate) fn read_holds(body: &Value, card: &RateCard) -> Result<HoldBody, Problem> {
    let mut fields = Fields::of(body)?;
    let number = fields.required("count", read_count);
    read_placement(fields, card, number)
}

fn read_placement(mut fields: Fields<'_>, card: &RateCard, number: Option<u8>) -> Result<HoldBody, Problem> {
    let amount = fields.required("credits", parsed::<Amount>);
    let lasts = fields.required("ttl_seconds", read_ttl);
    let operation = fields.required("operation", parsed::<Name>);
    let consumer = read_consumer(&mut fields);
    if let Some((amount, number)) = amount.zip(number)
        && let Err(message) = together(amount, number)
    {
        fields.refuse("credits", message);
    }
    let of_its_shape = fields.is_sound();
    let off_card = operation.as_ref().and_then(|operation| card.operation(operation).err());
    if let Some(refusal) = off_card {
        fields.refuse("operation", refusal.to_string());
    }
    let rate_card = card.version().clone();
    let purpose =
        operation.zip(consumer).map(|(operation, consumer)| Purpose { operation, rate_card, consumer });
    let read = amount.zip(lasts).zip(purpose).filter(|_| of_its_shape);
    let unpriced = fields.finish(Some(())).err();
    match (read, unpriced) {
        (Some(((amount, lasts), purpose)), unpriced) => {
            Ok(HoldBody { amount, count: number, lasts, purpose, unpriced })
        }
        (None, problem) => Err(problem.unwrap_or_else(Problem::unavailable)),
    }
}

/// Reads a capture's body: that of a debit, and what happens to an amount that exceeds the hold.
pub(crate) fn read_capture(
    body: &Value,
    card: &RateCard,
) -> Result<PricedBody<(PricedCall, OnExcess)>, Problem> {
    let mut fields = Fields::of(body)?;
    let on_excess = read_on_excess(&mut fields);
    let mut of_its_shape = fields.is_sound();
    let line = read_line(&mut fields, card, &mut of_its_shape);
    finish(fields, line.map(|line| (line, on_excess)), of_its_shape)
}

/// Reads a settlement's body: a final capture, if it has one.
pub(crate) fn read_settlement(body: &Value) -> Result<Option<FinalCapture>, Problem> {
    let mut fields = Fields::of(body)?;
    let amount = fields.optional("credits", parsed::<Amount>);
    let on_excess = read_on_excess(&mut fields);
    fields.finish(Some(amount.map(|amount| FinalCapture { amount, on_excess })))
}

fn read_on_excess(fields: &mut Fields<'_>) -> OnExcess {
    match fields.optional("extend", truth) {
        Some(true) => OnExcess::TakeFromBalance,
        Some(false) | None => OnExcess::Refuse,
    }
}

/// Reads the ids of the holds to settle together.
pub(crate) fn read_hold_ids(body: &Value) -> Result<Vec<Id>, Problem> {
    let mut fields = Fields::of(body)?;
    let ids = fields.required("hold_ids", |value| {
        let said = || format!("must be an array of 1 to {MAX_HOLDS} ids of holds");
        let ids = value.as_array().filter(|ids| (1..=MAX_HOLDS).contains(&ids.len())).ok_or_else(said)?;
        ids.iter().map(parsed::<Id>).collect::<Result<Vec<Id>, _>>().map_err(|_| said())
    });
    let mut seen = HashSet::new();
    if ids.iter().flatten().any(|id| !seen.insert(id)) {
        fields.refuse("hold_ids", "must not name a hold twice");
    }
    fields.finish(ids)
}

fn read_ttl(value: &Value) -> Result<SignedDuration, String> {
    let seconds = value.as_u64().filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds));
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let said = || format!("must be a whole number of 1 to {MAX_TTL_SECONDS}");
    seconds.map(SignedDuration::from_secs).ok_or_else(said)
}

fn read_count(value: &Value) -> Result<u8, String> {
    let most = u64::try_from(MAX_HOLDS).unwrap_or_default();
    let number = count(value, most).ok().filter(|number| *number >= 2);
    let said = || format!("must be a whole number of 2 to {MAX_HOLDS}");
    number.and_then(|number| u8::try_from(number).ok()).ok_or_else(said)
}

/// Checks that the sum of holds that are placed together is a valid amount.
fn together(amount: Amount, number: u8) -> Result<(), String> {
    let sum = Credits::sum(std::iter::repeat_n(amount.credits(), usize::from(number)));
    let sum = sum.map_err(|error| error.to_string())?;
    Amount::new(sum).map(drop).map_err(|error| format!("together: {error}"))
}
