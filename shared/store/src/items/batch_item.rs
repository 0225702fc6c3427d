//! The lines of a batch or of settled holds, as stored in their ledger entry. They are short, because each started KB
//! costs two write units.
//!
//! Tables hold each operation, model, consumer and unit once. A line is seven or eight text fields, separated by commas: the
//! positions of its operation, model and consumer in their tables, its credits, its input tokens, output tokens and
//! records, and its other units, if it has any. A consumer field is `3`, or `3:summarize` for the step `summarize` of the
//! run at position 3. A field of other units is `0:1200+2:7`: 1200 of the unit at position 0, and 7 of that at position 2.
//! The index does not hold lines, but it holds their metadata, which is part of the detail.

use std::collections::HashMap;
use std::hash::Hash;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::batch::PricedCall;
use credits_core::consumer::Consumer;
use credits_core::id::Name;
use credits_core::metadata::Metadata;
use credits_core::units::{INPUT_TOKENS, OUTPUT_TOKENS, RECORDS, Units};

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
    let mut other_units = Places::new();
    let mut lines = Vec::new();
    for line in content {
        let units = line.units.as_ref();
        let count = |unit: &str| {
            let count = units.and_then(|units| units.count(unit));
            count.map(|count| count.to_string()).unwrap_or_default()
        };
        let mut fields = vec![
            operations.of(line.operation.to_string()).to_string(),
            line.model.as_ref().map(|it| models.of(it.to_string()).to_string()).unwrap_or_default(),
            place_of(&mut consumers, &line.consumer),
            line.amount.to_string(),
            count(INPUT_TOKENS),
            count(OUTPUT_TOKENS),
            count(RECORDS),
        ];
        let others = units.map(|units| others_of(&mut other_units, units)).unwrap_or_default();
        if !others.is_empty() {
            fields.push(others);
        }
        lines.push(fields.join(","));
    }
    let table = |texts: Vec<String>| AttributeValue::L(texts.into_iter().map(text).collect());
    let mut stored = HashMap::from([
        ("operations".to_owned(), table(operations.order)),
        ("models".to_owned(), table(models.order)),
        ("consumers".to_owned(), table(consumers.order)),
        ("calls".to_owned(), text(lines.join(";"))),
    ]);
    if !other_units.order.is_empty() {
        stored.insert("units".to_owned(), table(other_units.order));
    }
    item.insert(LINES.to_owned(), AttributeValue::M(stored));
}

/// Returns whether all of these lines fit into one entry.
pub(crate) fn have_room(content: &[PricedCall]) -> bool {
    let mut item = Item::new();
    put_lines(&mut item, content);
    let of_metadata = content.iter().map(|line| line.metadata.stored_bytes()).sum::<usize>();
    item.values().map(bytes_of).sum::<usize>().saturating_add(of_metadata) <= MAX_BYTES
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

/// Returns the field of the units without a field of their own.
fn others_of(places: &mut Places<String>, units: &Units) -> String {
    let others =
        units.iter().filter(|(unit, _)| ![INPUT_TOKENS, OUTPUT_TOKENS, RECORDS].contains(&unit.as_str()));
    let others = others.map(|(unit, count)| format!("{}:{count}", places.of(unit.to_string())));
    others.collect::<Vec<_>>().join("+")
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

/// The tables that the lines of an entry share.
struct LineTables<'a> {
    operations: Vec<Name>,
    models: Vec<Name>,
    consumers: Vec<&'a String>,
    units: Vec<Name>,
}

fn read_lines(kept: &Item) -> Option<Vec<PricedCall>> {
    let list = |name: &str| kept.get(name).map_or(Some(&[][..]), |list| list.as_l().ok().map(Vec::as_slice));
    let texts = |name: &str| list(name)?.iter().map(|value| value.as_s().ok()).collect::<Option<Vec<_>>>();
    let names = |name: &str| texts(name)?.into_iter().map(|it| it.parse().ok()).collect::<Option<Vec<_>>>();
    let tables = LineTables {
        operations: names("operations")?,
        models: names("models")?,
        consumers: texts("consumers")?,
        units: names("units")?,
    };
    let calls = kept.get("calls")?.as_s().ok()?.split(';');
    calls.map(|call| read_line(call, &tables)).collect()
}

fn read_line(call: &str, tables: &LineTables<'_>) -> Option<PricedCall> {
    let LineTables { operations, models, consumers, units } = tables;
    let fields: Vec<&str> = call.split(',').collect();
    let [operation, model, consumer, credits, input, output, records, ref further @ ..] = fields[..] else {
        return None;
    };
    let others = match *further {
        [] => "",
        [others] => others,
        _ => return None,
    };
    let units =
        read_units([(INPUT_TOKENS, input), (OUTPUT_TOKENS, output), (RECORDS, records)], others, units)?;
    Some(PricedCall {
        operation: operations.get(operation.parse::<usize>().ok()?)?.clone(),
        model: match model {
            "" => None,
            place => Some(models.get(place.parse::<usize>().ok()?)?.clone()),
        },
        units: Some(units).filter(|units| !units.is_empty()),
        metadata: Metadata::default(),
        consumer: read_consumer(consumer, consumers)?,
        amount: credits.parse().ok()?,
    })
}

fn read_units(fields: [(&str, &str); 3], others: &str, names: &[Name]) -> Option<Units> {
    let fixed = fields.into_iter().filter(|(_, count)| !count.is_empty());
    let fixed = fixed.map(|(unit, count)| Some((unit.parse().ok()?, count.parse().ok()?)));
    let others = others.split('+').filter(|other| !other.is_empty()).map(|other| {
        let (place, count) = other.split_once(':')?;
        Some((names.get(place.parse::<usize>().ok()?)?.clone(), count.parse().ok()?))
    });
    fixed.chain(others).collect()
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
        let consumer =
            Consumer::WorkflowStep { workflow_id: id("wf"), run_id: id("run"), step_id: id("step") };
        let call =
            PricedCall::stated("text.generate".parse().unwrap(), consumer, "0.000001".parse().unwrap());
        PricedCall { model: Some("standard".parse().unwrap()), ..call }
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
