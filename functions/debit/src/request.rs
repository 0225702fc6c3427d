//! Reads and prices the request bodies of debits and batches.

use credits_core::batch::{Batch, MAX_LINES, PricedCall};
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, CallPrice};
use credits_core::id::{Id, Name};
use credits_core::metadata::Metadata;
use credits_core::rate_card::{CallRates, Prices, RatingRefusal};
use credits_core::units::{MAX_COUNT, Units};
use credits_runtime::Problem;
use credits_runtime::fields::{Fields, count, parsed, truth};
use serde_json::Value;

/// A well-formed body.
#[derive(Debug)]
pub(crate) enum PricedBody<T> {
    Priced(T),
    /// The rate card has no price for the call. A replay under the same key may still have an answer.
    Unpriced(Problem),
}

#[derive(Debug)]
pub(crate) struct BatchRequest {
    pub lines: Vec<PricedCall>,
    pub partial: bool,
}

/// Reads a debit's body and prices it. An error names every invalid field.
pub(crate) fn read(body: &Value, prices: Prices<'_>) -> Result<PricedBody<PricedCall>, Problem> {
    let mut fields = Fields::of(body)?;
    let mut of_its_shape = true;
    let line = read_line(&mut fields, prices, &mut of_its_shape);
    finish(fields, line, of_its_shape)
}

/// Reads a batch's body and prices each of its lines.
pub(crate) fn read_batch(body: &Value, prices: Prices<'_>) -> Result<PricedBody<BatchRequest>, Problem> {
    let mut fields = Fields::of(body)?;
    let mut of_its_shape = true;
    let partial = fields.optional("partial", truth);
    of_its_shape &= fields.is_sound();
    let lines = fields.list("lines", MAX_LINES, |line| read_line(line, prices, &mut of_its_shape));
    of_its_shape &= fields.present("lines").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    let sum = lines.as_deref().map(|lines| Batch::of(&prices.version(), lines, lines.len()));
    if let Some(Err(error)) = sum {
        fields.refuse("lines", format!("together: {error}"));
    }
    let partial = partial.unwrap_or_default();
    let body = lines.map(|lines| BatchRequest { lines, partial });
    finish(fields, body, of_its_shape)
}

pub(crate) fn finish<T>(
    fields: Fields<'_>,
    read: Option<T>,
    of_its_shape: bool,
) -> Result<PricedBody<T>, Problem> {
    match fields.finish(read) {
        Ok(read) => Ok(PricedBody::Priced(read)),
        Err(problem) if of_its_shape => Ok(PricedBody::Unpriced(problem)),
        Err(problem) => Err(problem),
    }
}

/// The size of a call: counted units, or a price that the caller has set.
enum Size {
    /// Priced by its rates.
    Units(Units),
    /// Charged as given.
    Credits(Amount),
}

pub(crate) fn read_line(
    fields: &mut Fields<'_>,
    prices: Prices<'_>,
    of_its_shape: &mut bool,
) -> Option<PricedCall> {
    let operation = fields.required("operation", parsed::<Name>);
    let model = fields.optional("model", parsed::<Name>);
    let size = read_size(fields);
    let consumer = read_consumer(fields);
    let metadata = read_metadata(fields);
    *of_its_shape &= fields.is_sound();
    let rates = rates_of(fields, prices, operation.as_ref(), model.as_ref())?;
    let (units, amount) = match size? {
        Size::Credits(amount) => (None, amount.into()),
        Size::Units(units) => {
            let price = price(fields, rates, &units)?;
            (Some(units), price)
        }
    };
    // The entry names the model as the rate card does, whichever alias the caller has used.
    let model = rates.model().cloned();
    Some(PricedCall { operation: operation?, model, units, consumer: consumer?, metadata: metadata?, amount })
}

/// Finds the rates of a call. Refuses an operation and a model that are not on the rate card.
pub(crate) fn rates_of<'p>(
    fields: &mut Fields<'_>,
    prices: Prices<'p>,
    operation: Option<&Name>,
    model: Option<&Name>,
) -> Option<CallRates<'p>> {
    if let Some(Err(refusal)) = operation.map(|operation| prices.operation(operation)) {
        fields.refuse("operation", refusal.to_string());
    }
    if let Some(Err(refusal)) = model.map(|model| prices.model(model)) {
        fields.refuse("model", refusal.to_string());
    }
    prices.rates(operation?, model).ok()
}

/// Prices units. Refuses each unit without a rate.
pub(crate) fn price(fields: &mut Fields<'_>, rates: CallRates<'_>, units: &Units) -> Option<CallPrice> {
    let mut all_rated = true;
    for unit in rates.unrated(units) {
        fields.refuse(&format!("units.{unit}"), RatingRefusal::UnratedUnit.to_string());
        all_rated = false;
    }
    match rates.price(units) {
        Ok(price) => Some(price),
        Err(refusal) => {
            if all_rated {
                fields.refuse("units", refusal.to_string());
            }
            None
        }
    }
}

fn read_size(fields: &mut Fields<'_>) -> Option<Size> {
    let credits = fields.optional("credits", parsed::<Amount>);
    if !has_one_size(fields, "units", "or credits is required, and not both") {
        return None;
    }
    read_units(fields).map(Size::Units).or(credits.map(Size::Credits))
}

/// Returns whether a body has either `units` or `credits`. Refuses both and neither, naming the usual `field`.
pub(crate) fn has_one_size(fields: &mut Fields<'_>, field: &str, message: &str) -> bool {
    let has_one = fields.present("credits").is_some() != fields.present("units").is_some();
    if !has_one {
        fields.refuse(field, message);
    }
    has_one
}

/// Reads counts by unit, if present.
pub(crate) fn read_units(fields: &mut Fields<'_>) -> Option<Units> {
    let counts = fields.members("units", |value| count(value, MAX_COUNT))?;
    if counts.is_empty() {
        fields.refuse("units.input_tokens", "or another count is required");
        return None;
    }
    Some(counts.into_iter().collect())
}

/// Reads metadata; empty if absent.
pub(crate) fn read_metadata(fields: &mut Fields<'_>) -> Option<Metadata> {
    if fields.present("metadata").is_none() {
        return Some(Metadata::default());
    }
    let pairs = fields.members("metadata", |value| {
        value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
    })?;
    match Metadata::new(pairs) {
        Ok(metadata) => Some(metadata),
        Err(invalid) => {
            fields.refuse("metadata", invalid.to_string());
            None
        }
    }
}

/// Reads the consumer's kind. Without a kind, no other member is reported as unknown.
fn read_kind(consumer: &mut Fields<'_>) -> Option<String> {
    let kind = consumer.required("kind", parsed::<String>);
    if kind.is_none() {
        know_every_member(consumer);
    }
    kind
}

fn know_every_member(consumer: &mut Fields<'_>) {
    for member in ["workflow_id", "run_id", "step_id", "feature", "user_id", "job_id", "list_id"] {
        consumer.present(member);
    }
}

pub(crate) fn read_consumer(fields: &mut Fields<'_>) -> Option<Consumer> {
    if fields.present("consumer").is_none() {
        fields.refuse("consumer", "is required");
    }
    fields.nested("consumer", |consumer| match read_kind(consumer)?.as_str() {
        "workflow_step" => {
            let workflow_id = consumer.required("workflow_id", parsed::<Id>);
            let run_id = consumer.required("run_id", parsed::<Id>);
            let step_id = consumer.required("step_id", parsed::<Id>);
            Some(Consumer::WorkflowStep { workflow_id: workflow_id?, run_id: run_id?, step_id: step_id? })
        }
        "action" => {
            let feature = consumer.required("feature", parsed::<Id>);
            let user_id = consumer.required("user_id", parsed::<Id>);
            Some(Consumer::Action { feature: feature?, user_id: user_id? })
        }
        "bulk" => {
            let job_id = consumer.required("job_id", parsed::<Id>);
            let feature = consumer.required("feature", parsed::<Id>);
            let list_id = consumer.optional("list_id", parsed::<Id>);
            let user_id = consumer.optional("user_id", parsed::<Id>);
            Some(Consumer::Bulk { job_id: job_id?, feature: feature?, list_id, user_id })
        }
        _ => {
            know_every_member(consumer);
            consumer.refuse("kind", "must be one of workflow_step, action, bulk");
            None
        }
    })
}
