//! Reads and prices the request bodies of debits and batches.

use credits_core::batch::{Batch, MAX_LINES, PricedCall};
use credits_core::consumer::Consumer;
use credits_core::credits::Amount;
use credits_core::id::{Id, Name};
use credits_core::rate_card::{MAX_COUNT, RateCard, RatingRefusal, Size, Units};
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
pub(crate) fn read(body: &Value, card: &RateCard) -> Result<PricedBody<PricedCall>, Problem> {
    let mut fields = Fields::of(body)?;
    let mut of_its_shape = true;
    let line = read_line(&mut fields, card, &mut of_its_shape);
    finish(fields, line, of_its_shape)
}

/// Reads a batch's body and prices each of its lines.
pub(crate) fn read_batch(body: &Value, card: &RateCard) -> Result<PricedBody<BatchRequest>, Problem> {
    let mut fields = Fields::of(body)?;
    let mut of_its_shape = true;
    let partial = fields.optional("partial", truth);
    of_its_shape &= fields.is_sound();
    let lines = fields.list("lines", MAX_LINES, |line| read_line(line, card, &mut of_its_shape));
    of_its_shape &= fields.present("lines").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    let sum = lines.as_deref().map(|lines| Batch::of(card.version(), lines, lines.len()));
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

pub(crate) fn read_line(
    fields: &mut Fields<'_>,
    card: &RateCard,
    of_its_shape: &mut bool,
) -> Option<PricedCall> {
    let operation = fields.required("operation", parsed::<Name>);
    let model = fields.optional("model", parsed::<Name>);
    let size = read_size(fields);
    let consumer = read_consumer(fields);
    *of_its_shape &= fields.is_sound();
    let amount = price(fields, card, operation.as_ref(), model.as_ref(), size);
    let units = match size? {
        Size::Units(units) => Some(units),
        Size::Credits(_) => None,
    };
    Some(PricedCall { operation: operation?, model, units, consumer: consumer?, amount: amount? })
}

fn price(
    fields: &mut Fields<'_>,
    card: &RateCard,
    operation: Option<&Name>,
    model: Option<&Name>,
    size: Option<Size>,
) -> Option<Amount> {
    if let Some(Err(refusal)) = operation.map(|operation| card.operation(operation)) {
        fields.refuse("operation", refusal.to_string());
    }
    if let Some(Err(refusal)) = model.map(|model| card.model(model)) {
        fields.refuse("model", refusal.to_string());
    }
    let operation = operation?;
    match size? {
        Size::Credits(amount) => Some(amount),
        Size::Units(units) => match card.price(operation, model, &units) {
            Ok(amount) => Some(amount),
            Err(RatingRefusal::UnknownOperation | RatingRefusal::UnknownModel) => None,
            Err(refusal) => {
                fields.refuse("units", refusal.to_string());
                None
            }
        },
    }
}

fn read_size(fields: &mut Fields<'_>) -> Option<Size> {
    let credits = fields.optional("credits", parsed::<Amount>);
    let told_credits = fields.present("credits").is_some();
    let told_units = fields.present("units").is_some();
    let units = fields.nested("units", read_units);
    if told_credits == told_units {
        fields.refuse("units", "or credits is required, and not both");
        return None;
    }
    units.map(Size::Units).or(credits.map(Size::Credits))
}

fn read_units(fields: &mut Fields<'_>) -> Option<Units> {
    let tokens = |value: &Value| count(value, MAX_COUNT);
    let units = Units {
        input_tokens: fields.optional("input_tokens", tokens),
        output_tokens: fields.optional("output_tokens", tokens),
        records: fields.optional("records", tokens),
    };
    if units == Units::default() && fields.is_sound() {
        fields.refuse("input_tokens", "or another count is required");
    }
    fields.is_sound().then_some(units)
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
