//! Expressions: names and values are placeholders, so that no reserved word and no value can be mistaken. Only a balance's
//! own few names stand as they are, in the request that there is most of.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};

use crate::attribute::{Item, keyed};
use crate::error::Corrupt;
use crate::keys::{ItemKey, PK};

/// An update or a condition that is being put together.
#[derive(Debug)]
pub(crate) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    set: String,
    add: String,
    remove: String,
    conditions: String,
}

/// How many values there is room for before the map grows: as many as a debit has, which is written most.
const VALUES: usize = 7;

/// How much room a clause is given before it grows.
const CLAUSE: usize = 96;

/// What stands between the parts of a clause.
const COMMA: &str = ", ";
/// What stands between conditions.
const AND: &str = " AND ";

impl Expression {
    pub fn new() -> Self {
        let [set, add, remove, conditions] = [const { String::new() }; 4];
        Self { names: HashMap::new(), values: HashMap::new(), set, add, remove, conditions }
    }

    /// Sets an attribute.
    pub fn set(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("", name, value));
        append(&mut self.set, COMMA, &[&name, " = ", &value]);
        self
    }

    /// Sets an attribute that is not there yet.
    pub fn set_once(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("", name, value));
        append(&mut self.set, COMMA, &[&name, " = if_not_exists(", &name, ", ", &value, ")"]);
        self
    }

    /// Appends to a list.
    pub fn append(self, name: &str, element: AttributeValue) -> Self {
        self.append_all(name, vec![element])
    }

    /// Appends several elements to a list.
    pub fn append_all(mut self, name: &str, elements: Vec<AttributeValue>) -> Self {
        let (name, value) = (self.name(name), self.value("", name, AttributeValue::L(elements)));
        append(&mut self.set, COMMA, &[&name, " = list_append(", &name, ", ", &value, ")"]);
        self
    }

    /// Adds to a number, which is zero where it is missing.
    pub fn add(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("", name, value));
        append(&mut self.add, COMMA, &[&name, " ", &value]);
        self
    }

    /// Counts a number up by one, from zero where it is missing; also a member of a map, which `ADD` does not take.
    pub fn count(mut self, name: &str) -> Self {
        let [one, zero] = ["1", "0"].map(|digit| AttributeValue::N(digit.to_owned()));
        let (one, zero) = (self.value("", name, one), self.value("zero_", name, zero));
        let name = self.name(name);
        append(&mut self.set, COMMA, &[&name, " = if_not_exists(", &name, ", ", &zero, ") + ", &one]);
        self
    }

    /// Removes an attribute, if it is there.
    pub fn remove(mut self, name: &str) -> Self {
        let name = self.name(name);
        append(&mut self.remove, COMMA, &[&name]);
        self
    }

    /// Asks that an attribute compares with a value, as `>=` or `=` do.
    pub fn when(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("when_", name, value));
        append(&mut self.conditions, AND, &[&name, " ", comparator, " ", &value]);
        self
    }

    /// Asks that an attribute is not there, or compares with a value.
    pub fn when_absent_or(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("when_", name, value));
        let parts = ["(attribute_not_exists(", &name, ") OR ", &name, " ", comparator, " ", &value, ")"];
        append(&mut self.conditions, AND, &parts);
        self
    }

    /// Asks that an attribute is not there.
    pub fn when_absent(mut self, name: &str) -> Self {
        let name = self.name(name);
        append(&mut self.conditions, AND, &["attribute_not_exists(", &name, ")"]);
        self
    }

    /// Asks that a list doesn't hold an element.
    pub fn when_not_in(mut self, name: &str, element: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("not_in_", name, element));
        append(&mut self.conditions, AND, &["NOT contains(", &name, ", ", &value, ")"]);
        self
    }

    /// Asks that a list has fewer elements.
    pub fn when_shorter(mut self, name: &str, count: u64) -> Self {
        let count = AttributeValue::N(count.to_string());
        let (name, value) = (self.name(name), self.value("size_", name, count));
        append(&mut self.conditions, AND, &["size(", &name, ") < ", &value]);
        self
    }

    /// Asks that the item exists.
    pub fn when_exists(mut self) -> Self {
        let name = self.name(PK);
        append(&mut self.conditions, AND, &["attribute_exists(", &name, ")"]);
        self
    }

    /// The update of an item.
    pub fn update(self, table: &str, key: &ItemKey) -> Result<TransactWriteItem, Corrupt> {
        let mut clauses = String::with_capacity(CLAUSE.saturating_mul(2));
        for (word, clause) in [("SET ", &self.set), ("ADD ", &self.add), ("REMOVE ", &self.remove)] {
            if !clause.is_empty() {
                append(&mut clauses, " ", &[word, clause]);
            }
        }
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(keyed(key)))
            .update_expression(clauses)
            .set_condition_expression(condition(self.conditions))
            .set_expression_attribute_names(Some(self.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(self.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// The writing of a whole item.
    pub fn put(self, table: &str, item: Item) -> Result<TransactWriteItem, Corrupt> {
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .set_condition_expression(condition(self.conditions))
            .set_expression_attribute_names(Some(self.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(self.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// The deletion of an item.
    pub fn delete(self, table: &str, key: &ItemKey) -> Result<TransactWriteItem, Corrupt> {
        let delete = Delete::builder()
            .table_name(table)
            .set_key(Some(keyed(key)))
            .set_condition_expression(condition(self.conditions))
            .set_expression_attribute_names(Some(self.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(self.values).filter(|values| !values.is_empty()))
            .build()?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// The mere check of an item.
    pub fn check(self, table: &str, key: &ItemKey) -> Result<TransactWriteItem, Corrupt> {
        let check = ConditionCheck::builder()
            .table_name(table)
            .set_key(Some(keyed(key)))
            .condition_expression(self.conditions)
            .set_expression_attribute_names(Some(self.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(self.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// The placeholder of an attribute, or of a member of a map where the name has a dot.
    fn name<'name>(&mut self, name: &'name str) -> Cow<'name, str> {
        if stands_for_itself(name) {
            return Cow::Borrowed(name);
        }
        let mut path = String::with_capacity(name.len().saturating_add(2));
        for (place, part) in name.split('.').enumerate() {
            if place > 0 {
                path.push('.');
            }
            let mut placeholder = placeholder(["#", part, ""]);
            // Two names may come to one placeholder.
            while self.names.get(&placeholder).is_some_and(|other| other != part) {
                placeholder.push('_');
            }
            path.push_str(&placeholder);
            self.names.insert(placeholder, part.to_owned());
        }
        Cow::Owned(path)
    }

    fn value(&mut self, prefix: &str, name: &str, value: AttributeValue) -> String {
        let mut placeholder = placeholder([":", prefix, name]);
        while self.values.contains_key(&placeholder) {
            placeholder.push('_');
        }
        if self.values.is_empty() {
            self.values.reserve(VALUES);
        }
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}

/// Whether a name is none of `DynamoDB`'s reserved words (Developer Guide, Reserved words in `DynamoDB`) and needs no
/// placeholder: the names of which a debit is made, whose requests are a seventh shorter by that. The counter of a month
/// is a `c`, digits and an underscore.
fn stands_for_itself(name: &str) -> bool {
    matches!(name, PK | "spendable" | "used" | "prepaid" | "held" | "version" | "epoch" | "expires_next")
        || name.strip_prefix('c').is_some_and(|month| month.starts_with(|first: char| first.is_ascii_digit()))
}

/// Appends a part, which may be in pieces, to a clause.
fn append(clause: &mut String, separator: &str, pieces: &[&str]) {
    if clause.is_empty() {
        clause.reserve(CLAUSE);
    } else {
        clause.push_str(separator);
    }
    for piece in pieces {
        clause.push_str(piece);
    }
}

fn condition(conditions: String) -> Option<String> {
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

/// A placeholder, in which neither a hyphen nor a dot may stand; not always another for another name.
fn placeholder(pieces: [&str; 3]) -> String {
    let length = pieces.iter().fold(0_usize, |length, piece| length.saturating_add(piece.len()));
    let mut text = String::with_capacity(length);
    for piece in pieces {
        let mut parts = piece.split(['-', '.']);
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            text.push('_');
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Expression;
    use crate::attribute::text;
    use crate::keys::ItemKey;

    #[test]
    fn names_that_differ_in_a_hyphen_alone_have_placeholders_and_values_of_their_own() {
        let both = ["words._5y", "words.-5y"];
        let write = both.into_iter().fold(Expression::new(), |write, name| {
            write.set_once(name, text(name)).when_absent_or(name, "=", text(name))
        });
        let update = write.update("table", &ItemKey::entry("entry#".to_owned())).unwrap().update.unwrap();
        assert_eq!(
            update.update_expression,
            "SET #words.#_5y = if_not_exists(#words.#_5y, :words__5y), \
             #words.#_5y_ = if_not_exists(#words.#_5y_, :words__5y_)"
        );
        let names = update.expression_attribute_names.unwrap();
        assert_eq!((names["#_5y"].as_str(), names["#_5y_"].as_str()), ("_5y", "-5y"));
        let values = update.expression_attribute_values.unwrap();
        let meant =
            [":words__5y", ":words__5y_"].map(|placeholder| values[placeholder].as_s().unwrap().as_str());
        assert_eq!((meant, values.len()), (both, 4));
    }
}
