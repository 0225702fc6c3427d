//! From the wire to a priced debit.

use credits_core::consumer::Consumer;
use credits_core::credits::Amount;
use credits_core::id::{Id, Name};
use credits_core::ledger::Cause;
use credits_core::rate_card::{MAX_COUNT, RateCard, RatingRefusal, Size, Units};
use credits_runtime::Problem;
use credits_runtime::fields::{Fields, count, parsed};
use serde_json::Value;

/// A debit that has a price.
#[derive(Debug)]
pub(crate) struct PricedDebit {
    pub amount: Amount,
    pub cause: Cause,
}

/// What a body says.
#[derive(Debug)]
pub(crate) enum Read {
    Priced(PricedDebit),
    /// It is a debit's body, but the rate card has no price for it.
    Unpriced(Problem),
}

/// Reads a debit's body and prices it; errors name every field that is wrong.
pub(crate) fn read(body: &Value, card: &RateCard) -> Result<Read, Problem> {
    let mut fields = Fields::of(body)?;
    let operation = fields.required("operation", parsed::<Name>);
    let model = fields.optional("model", parsed::<Name>);
    let size = read_size(&mut fields);
    let consumer = read_consumer(&mut fields);
    let of_a_debits_shape = fields.is_sound();
    let amount =
        operation.as_ref().and_then(|operation| price(&mut fields, card, operation, model.as_ref(), size));
    let debit = operation.zip(size).zip(consumer).zip(amount);
    let debit = debit.map(|(((operation, size), consumer), amount)| {
        let units = match size {
            Size::Units(units) => Some(units),
            Size::Credits(_) => None,
        };
        let rate_card = card.version().clone();
        PricedDebit { amount, cause: Cause::Debit { operation, model, units, rate_card, consumer } }
    });
    match fields.finish(debit) {
        Ok(debit) => Ok(Read::Priced(debit)),
        Err(problem) if of_a_debits_shape => Ok(Read::Unpriced(problem)),
        Err(problem) => Err(problem),
    }
}

fn price(
    fields: &mut Fields<'_>,
    card: &RateCard,
    operation: &Name,
    model: Option<&Name>,
    size: Option<Size>,
) -> Option<Amount> {
    if let Err(refusal) = card.operation(operation) {
        fields.refuse("operation", refusal.to_string());
    }
    if let Some(Err(refusal)) = model.map(|model| card.model(model)) {
        fields.refuse("model", refusal.to_string());
    }
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

/// The kind; without one, no other member can be told to be wrong.
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

fn read_consumer(fields: &mut Fields<'_>) -> Option<Consumer> {
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
