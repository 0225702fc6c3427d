//! Update and condition expressions. Names and values become placeholders, so that neither can be misread as syntax.
//!
//! Only a few attributes of the balance need no placeholder, which shortens the debit, the most frequent request.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};

use crate::error::Corrupt;
use crate::table::attribute::{Item, keyed};
use crate::table::keys::{ItemKey, PK};

/// An update or condition expression under construction.
#[derive(Debug)]
pub(crate) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    set: String,
    add: String,
    remove: String,
    conditions: String,
}

/// The initial capacity of the map of values: as many as a debit has, which is the most frequent write.
const VALUES: usize = 7;

/// The initial capacity of a clause, in bytes.
const CLAUSE: usize = 96;

/// The separator of the parts of a clause.
const COMMA: &str = ", ";
/// The separator of conditions.
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

    /// Sets an attribute if it is absent.
    pub fn set_once(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("", name, value));
        append(&mut self.set, COMMA, &[&name, " = if_not_exists(", &name, ", ", &value, ")"]);
        self
    }

    /// Appends an element to a list.
    pub fn append(self, name: &str, element: AttributeValue) -> Self {
        self.append_all(name, vec![element])
    }

    /// Appends several elements to a list.
    pub fn append_all(mut self, name: &str, elements: Vec<AttributeValue>) -> Self {
        let (name, value) = (self.name(name), self.value("", name, AttributeValue::L(elements)));
        append(&mut self.set, COMMA, &[&name, " = list_append(", &name, ", ", &value, ")"]);
        self
    }

    /// Adds to a number. An absent number counts as zero.
    pub fn add(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("", name, value));
        append(&mut self.add, COMMA, &[&name, " ", &value]);
        self
    }

    /// Adds one to a number. An absent number counts as zero. Supports a member of a map, which `ADD` does not.
    pub fn count(mut self, name: &str) -> Self {
        let [one, zero] = ["1", "0"].map(|digit| AttributeValue::N(digit.to_owned()));
        let (one, zero) = (self.value("", name, one), self.value("zero_", name, zero));
        let name = self.name(name);
        append(&mut self.set, COMMA, &[&name, " = if_not_exists(", &name, ", ", &zero, ") + ", &one]);
        self
    }

    /// Removes an attribute, if it is present.
    pub fn remove(mut self, name: &str) -> Self {
        let name = self.name(name);
        append(&mut self.remove, COMMA, &[&name]);
        self
    }

    /// Requires a comparison of an attribute with a value, by a comparator such as `>=` or `=`.
    pub fn when(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("when_", name, value));
        append(&mut self.conditions, AND, &[&name, " ", comparator, " ", &value]);
        self
    }

    /// Requires that an attribute is absent, or that its comparison with a value holds.
    pub fn when_absent_or(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("when_", name, value));
        let parts = ["(attribute_not_exists(", &name, ") OR ", &name, " ", comparator, " ", &value, ")"];
        append(&mut self.conditions, AND, &parts);
        self
    }

    /// Requires that an attribute is absent.
    pub fn when_absent(mut self, name: &str) -> Self {
        let name = self.name(name);
        append(&mut self.conditions, AND, &["attribute_not_exists(", &name, ")"]);
        self
    }

    /// Requires that a list does not contain an element.
    pub fn when_not_in(mut self, name: &str, element: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value("not_in_", name, element));
        append(&mut self.conditions, AND, &["NOT contains(", &name, ", ", &value, ")"]);
        self
    }

    /// Requires that a list has fewer than `count` elements.
    pub fn when_shorter(mut self, name: &str, count: u64) -> Self {
        let count = AttributeValue::N(count.to_string());
        let (name, value) = (self.name(name), self.value("size_", name, count));
        append(&mut self.conditions, AND, &["size(", &name, ") < ", &value]);
        self
    }

    /// Requires that the item exists.
    pub fn when_exists(mut self) -> Self {
        let name = self.name(PK);
        append(&mut self.conditions, AND, &["attribute_exists(", &name, ")"]);
        self
    }

    /// Returns the update of an item.
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

    /// Returns the write of a whole item.
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

    /// Returns the deletion of an item.
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

    /// Returns a condition check of an item, which writes nothing.
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

    /// Returns the placeholder of an attribute. In a name with a dot, the part after it is a member of a map.
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
            // Two names may have the same placeholder.
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

/// Returns whether a name needs no placeholder: it is no reserved word (Developer Guide, Reserved words in DynamoDB).
///
/// These are the names in a debit, whose request is a seventh shorter without placeholders. The name of a month's
/// counter is a `c`, digits and an underscore.
fn stands_for_itself(name: &str) -> bool {
    matches!(name, PK | "spendable" | "used" | "prepaid" | "held" | "version" | "epoch" | "expires_next")
        || name.strip_prefix('c').is_some_and(|month| month.starts_with(|first: char| first.is_ascii_digit()))
}

/// Appends a part, given in pieces, to a clause.
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

/// Returns a placeholder, in which underscores replace hyphens and dots. Two names may have the same placeholder.
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
    use crate::table::attribute::text;
    use crate::table::keys::ItemKey;

    #[test]
    fn names_that_differ_by_a_hyphen_get_distinct_placeholders() {
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
