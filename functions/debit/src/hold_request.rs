//! Reads the request bodies of holds, captures and settlements.

use std::collections::HashSet;

use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, CallPrice, Credits};
use credits_core::hold::{MAX_HOLDS, MAX_TTL_SECONDS, Purpose};
use credits_core::id::{Id, Name};
use credits_core::metadata::Metadata;
use credits_core::own_prices::PricedWith;
use credits_core::rate_card::{CallRates, PriceVersion, Prices};
use credits_core::units::Units;
use credits_runtime::Problem;
use credits_runtime::fields::{Fields, choice, count, parsed, truth};
use credits_store::holds::OnExcess;
use jiff::SignedDuration;
use serde_json::Value;

use crate::request::{
    PricedBody, finish, has_one_size, price, rates_of, read_consumer, read_line, read_metadata, read_units,
};

/// The body of a request for one hold or several.
#[derive(Debug)]
pub(crate) struct HoldBody {
    /// The credits that each hold keeps; `None` if the hold has no price.
    pub amount: Option<Amount>,
    /// The prices that gave the amount; `None` if the caller has stated it.
    pub priced_with: Option<PricedWith>,
    /// The number of holds, 2 to [`MAX_HOLDS`]; `None` for a single hold.
    pub count: Option<u8>,
    pub lasts: SignedDuration,
    pub purpose: Purpose,
    /// The problem of a well-formed body for which the rate card has no price.
    pub unpriced: Option<Problem>,
}

/// Reads the body of a request for one hold.
pub(crate) fn read_hold(body: &Value, prices: Prices<'_>) -> Result<HoldBody, Problem> {
    read_placement(Fields::of(body)?, prices, None)
}

/// Reads the body of a request for several holds.
pub(crate) fn read_holds(body: &Value, prices: Prices<'_>) -> Result<HoldBody, Problem> {
    let mut fields = Fields::of(body)?;
    let number = fields.required("count", read_count);
    read_placement(fields, prices, number)
}

/// The size of a hold, or of the last call of a settlement.
#[derive(Debug)]
pub(crate) enum HoldSize {
    /// As the caller has priced it.
    Credits(Amount),
    /// Priced by its rates, as a debit would be.
    Units { units: Units, model: Option<Name> },
}

fn read_placement(
    mut fields: Fields<'_>,
    prices: Prices<'_>,
    number: Option<u8>,
) -> Result<HoldBody, Problem> {
    let has_one_size = has_one_size(&mut fields, "credits", "or units is required, and not both");
    let size = read_hold_size(&mut fields).filter(|_| has_one_size);
    let lasts = fields.required("ttl_seconds", read_ttl);
    let operation = fields.required("operation", parsed::<Name>);
    let consumer = read_consumer(&mut fields);
    let metadata = read_metadata(&mut fields);
    if let (Some(HoldSize::Credits(amount)), Some(number)) = (&size, number)
        && let Err(message) = together(*amount, number)
    {
        fields.refuse("credits", message);
    }
    let of_its_shape = fields.is_sound();
    let amount = size.as_ref().and_then(|size| hold_amount(&mut fields, prices, operation.as_ref(), size));
    if let (Some(HoldSize::Units { .. }), Some(amount), Some(number)) = (&size, amount, number)
        && let Err(message) = together(amount, number)
    {
        fields.refuse("units", message);
    }
    let purpose = operation.zip(consumer).zip(metadata).map(|((operation, consumer), metadata)| Purpose {
        operation,
        priced_by: prices.version(),
        consumer,
        metadata,
    });
    let by_units = matches!(size, Some(HoldSize::Units { .. }));
    let priced_with = by_units.then(|| prices.version().pricing.into());
    let read = lasts.zip(purpose).filter(|_| of_its_shape);
    let unpriced = fields.finish(Some(())).err();
    match (read, unpriced) {
        (Some((lasts, purpose)), unpriced) => {
            Ok(HoldBody { amount, priced_with, count: number, lasts, purpose, unpriced })
        }
        (None, problem) => Err(problem.unwrap_or_else(Problem::unavailable)),
    }
}

/// Returns the credits that a hold keeps. A hold by units whose rates come to nothing keeps the least amount, so that it
/// can be settled like any other.
fn hold_amount(
    fields: &mut Fields<'_>,
    prices: Prices<'_>,
    operation: Option<&Name>,
    size: &HoldSize,
) -> Option<Amount> {
    let model = match size {
        HoldSize::Credits(_) => None,
        HoldSize::Units { model, .. } => model.as_ref(),
    };
    let rates = rates_of(fields, prices, operation, model);
    match size {
        HoldSize::Credits(amount) => Some(*amount),
        HoldSize::Units { units, .. } => {
            let price = price(fields, rates?, units)?;
            Some(Amount::new(price.credits()).unwrap_or(Amount::LEAST))
        }
    }
}

/// Reads `credits`, or `units` with an optional `model`.
fn read_hold_size(fields: &mut Fields<'_>) -> Option<HoldSize> {
    let model = fields.optional("model", parsed::<Name>);
    if fields.present("units").is_some() {
        return read_units(fields).map(|units| HoldSize::Units { units, model });
    }
    if fields.present("model").is_some() {
        fields.refuse("model", "is for a size in units");
    }
    fields.optional("credits", parsed::<Amount>).map(HoldSize::Credits)
}

/// Reads a capture's body: that of a debit, and what happens to an amount that exceeds the hold.
pub(crate) fn read_capture(
    body: &Value,
    prices: Prices<'_>,
) -> Result<PricedBody<(PricedCall, OnExcess)>, Problem> {
    let mut fields = Fields::of(body)?;
    let on_excess = read_on_excess(&mut fields);
    let mut of_its_shape = fields.is_sound();
    let line = read_line(&mut fields, prices, &mut of_its_shape);
    finish(fields, line.map(|line| (line, on_excess)), of_its_shape)
}

/// The body of a settlement.
#[derive(Debug)]
pub(crate) struct SettlementBody {
    /// The last call that the hold pays; `None` if there is none beside its captures.
    pub last: Option<HoldSize>,
    /// The metadata of the last call; `None` if it has the hold's.
    pub metadata: Option<Metadata>,
    pub on_excess: OnExcess,
}

/// Reads a settlement's body.
pub(crate) fn read_settlement(body: &Value) -> Result<SettlementBody, Problem> {
    let mut fields = Fields::of(body)?;
    let has_both = fields.present("credits").is_some() && fields.present("units").is_some();
    if has_both {
        fields.refuse("units", "or credits, not both");
    }
    let last = read_hold_size(&mut fields);
    let on_excess = read_overrun(&mut fields);
    let metadata = fields.present("metadata").is_some().then(|| read_metadata(&mut fields)).flatten();
    if metadata.is_some() && last.is_none() {
        fields.refuse("metadata", "is for a last capture, by credits or units");
    }
    fields.finish(Some(SettlementBody { last, metadata, on_excess }))
}

/// Prices the last call of a settlement by its hold's operation.
pub(crate) fn price_last(
    units: &Units,
    model: Option<&Name>,
    operation: &Name,
    prices: Prices<'_>,
) -> Result<(CallPrice, PriceVersion, Option<Name>), Problem> {
    let body = Value::Object(serde_json::Map::new());
    let mut fields = Fields::of(&body)?;
    let rates = rates_of(&mut fields, prices, Some(operation), model);
    let price = rates.and_then(|rates| price(&mut fields, rates, units));
    let model = rates.and_then(CallRates::model).cloned();
    fields.finish(price.map(|price| (price, prices.version(), model)))
}

fn read_overrun(fields: &mut Fields<'_>) -> OnExcess {
    const OVERRUNS: [(&str, OnExcess); 3] = [
        ("refuse", OnExcess::Refuse),
        ("extend", OnExcess::TakeFromBalance),
        ("take_available", OnExcess::TakeAvailable),
    ];
    let has_both = fields.present("extend").is_some() && fields.present("overrun").is_some();
    if has_both {
        fields.refuse("overrun", "or extend, not both");
    }
    let by_flag = read_on_excess(fields);
    fields.optional("overrun", |value| choice(value, &OVERRUNS)).unwrap_or(by_flag)
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
