//! The lines of a batch or of settled holds, as stored in their ledger entry. They are short, because each started KB
//! costs two write units.
//!
//! Tables hold each operation, model and consumer once. A line is seven text fields, separated by commas: the positions
//! of its operation, model and consumer in their tables, its credits, and three units. A consumer field is `3`, or
//! `3:summarize` for the step `summarize` of the run at position 3. The index does not hold lines.

use std::collections::HashMap;
use std::hash::Hash;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::batch::PricedCall;
use credits_core::consumer::Consumer;
use credits_core::id::Name;
use credits_core::rate_card::Units;

use crate::error::Corrupt;
use crate::items::consumer_code;
use crate::table::attribute::{Item, Reader, text};
use crate::table::keys::DETAIL;

/// The attribute that holds the lines.
const LINES: &str = "lines";

/// The maximum number of bytes of lines in one entry. DynamoDB limits an item to 400 KB, and the other attributes need
/// some of it.
const MAX_BYTES: usize = 380_000;

/// A table of the values that lines share, in the order of their first use.
struct Places<T> {
    known: HashMap<T, usize>,
    order: Vec<T>,
}

impl<T: Clone + Eq + Hash> Places<T> {
    fn new() -> Self {
        Self { known: HashMap::new(), order: Vec::new() }
    }

    fn of(&mut self, value: T) -> usize {
        let next = self.order.len();
        *self.known.entry(value.clone()).or_insert_with(|| {
            self.order.push(value);
            next
        })
    }
}

/// Puts lines into the item of their ledger entry.
pub(crate) fn put_lines(item: &mut Item, content: &[PricedCall]) {
    let (mut operations, mut models, mut consumers) = (Places::new(), Places::new(), Places::new());
    let mut lines = Vec::new();
    for line in content {
        let units = line.units.unwrap_or_default();
        let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
        lines.push(
            [
                operations.of(line.operation.to_string()).to_string(),
                line.model.as_ref().map(|it| models.of(it.to_string()).to_string()).unwrap_or_default(),
                place_of(&mut consumers, &line.consumer),
                line.amount.to_string(),
                count(units.input_tokens),
                count(units.output_tokens),
                count(units.records),
            ]
            .join(","),
        );
    }
    let table = |texts: Vec<String>| AttributeValue::L(texts.into_iter().map(text).collect());
    item.insert(
        LINES.to_owned(),
        AttributeValue::M(HashMap::from([
            ("operations".to_owned(), table(operations.order)),
            ("models".to_owned(), table(models.order)),
            ("consumers".to_owned(), table(consumers.order)),
            ("calls".to_owned(), text(lines.join(";"))),
        ])),
    );
}

/// Returns whether all of these lines fit into one entry.
pub(crate) fn have_room(content: &[PricedCall]) -> bool {
    let mut item = Item::new();
    put_lines(&mut item, content);
    item.values().map(bytes_of).sum::<usize>() <= MAX_BYTES
}

/// Returns the size of a value in bytes, as DynamoDB counts it (Developer Guide, Item sizes and formats).
fn bytes_of(value: &AttributeValue) -> usize {
    const OF_AN_ELEMENT: usize = 1;
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::L(values) => {
            values.iter().map(|value| bytes_of(value).saturating_add(OF_AN_ELEMENT)).sum()
        }
        AttributeValue::M(values) => values
            .iter()
            .map(|(name, value)| name.len().saturating_add(bytes_of(value)).saturating_add(OF_AN_ELEMENT))
            .sum(),
        _ => 0,
    }
}

/// Returns a line's consumer field. For a workflow step, the table holds its run, and the field adds the step's own id.
fn place_of(consumers: &mut Places<String>, consumer: &Consumer) -> String {
    let code = consumer_code::write(consumer);
    let (common, own) = consumer_code::part(&code);
    let place = consumers.of(common.to_owned());
    if own.is_empty() { place.to_string() } else { format!("{place}:{own}") }
}

/// Returns whether an entry has lines: its detail, which the index holds too, has their count.
pub(crate) fn has_lines(item: &Item) -> bool {
    item.get(DETAIL).and_then(|detail| detail.as_m().ok()).is_some_and(|detail| detail.contains_key(LINES))
}

/// Reads the lines of an entry; empty if the item comes from the index.
pub(crate) fn read_lines_of(item: &Item) -> Result<Vec<PricedCall>, Corrupt> {
    if !item.contains_key(LINES) {
        return Ok(Vec::new());
    }
    read_lines(Reader(item).map(LINES)?).ok_or(Corrupt::Attribute(LINES))
}

fn read_lines(kept: &Item) -> Option<Vec<PricedCall>> {
    let table = |name: &str| -> Option<Vec<&String>> {
        kept.get(name)?.as_l().ok()?.iter().map(|value| value.as_s().ok()).collect()
    };
    let names =
        |name: &str| -> Option<Vec<Name>> { table(name)?.into_iter().map(|it| it.parse().ok()).collect() };
    let (operations, models) = (names("operations")?, names("models")?);
    let consumers = table("consumers")?;
    let calls = kept.get("calls")?.as_s().ok()?.split(';');
    calls.map(|call| read_line(call, &operations, &models, &consumers)).collect()
}

fn read_line(call: &str, operations: &[Name], models: &[Name], consumers: &[&String]) -> Option<PricedCall> {
    let fields: Vec<&str> = call.split(',').collect();
    let [operation, model, consumer, credits, input, output, records] = fields[..] else { return None };
    let optional = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let units = Units {
        input_tokens: optional(input)?,
        output_tokens: optional(output)?,
        records: optional(records)?,
    };
    Some(PricedCall {
        operation: operations.get(operation.parse::<usize>().ok()?)?.clone(),
        model: match model {
            "" => None,
            place => Some(models.get(place.parse::<usize>().ok()?)?.clone()),
        },
        units: (units != Units::default()).then_some(units),
        consumer: read_consumer(consumer, consumers)?,
        amount: credits.parse().ok()?,
    })
}

fn read_consumer(field: &str, consumers: &[&String]) -> Option<Consumer> {
    let (place, own) = field.split_once(':').unwrap_or((field, ""));
    let common = consumers.get(place.parse::<usize>().ok()?)?;
    consumer_code::read(&consumer_code::join(common, own))
}

#[cfg(test)]
mod tests {
    use credits_core::batch::PricedCall;
    use credits_core::consumer::Consumer;

    use super::have_room;

    fn line(run: usize) -> PricedCall {
        let id = |name: &str| format!("{name}-{run:055}").parse().unwrap();
        PricedCall {
            operation: "text.generate".parse().unwrap(),
            model: Some("standard".parse().unwrap()),
            units: None,
            consumer: Consumer::WorkflowStep {
                workflow_id: id("wf"),
                run_id: id("run"),
                step_id: id("step"),
            },
            amount: "0.000001".parse().unwrap(),
        }
    }

    /// A batch has at most 500 lines, so any batch fits. Lines are shorter if they share a run.
    #[test]
    fn any_batch_fits_and_4000_lines_fit_if_they_share_a_run() {
        let each_its_own = |lines: usize| (0..lines).map(line).collect::<Vec<_>>();
        assert!(have_room(&each_its_own(500)));
        assert!(!have_room(&each_its_own(5_000)));
        assert!(have_room(&vec![line(1); 4_000]));
    }
}
