//! Expressions: names and values are always placeholders, so that no reserved word and no value can be mistaken.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};

use crate::attribute::{Item, keyed};
use crate::error::Corrupt;
use crate::keys::{ItemKey, PK};

/// An update or a condition that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    set: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
    conditions: Vec<String>,
}

impl Expression {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an attribute.
    pub fn set(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value(name, value));
        self.set.push(format!("{name} = {value}"));
        self
    }

    /// Sets an attribute that is not there yet.
    pub fn set_once(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value(name, value));
        self.set.push(format!("{name} = if_not_exists({name}, {value})"));
        self
    }

    /// Appends to a list.
    pub fn append(self, name: &str, element: AttributeValue) -> Self {
        self.append_all(name, vec![element])
    }

    /// Appends several elements to a list.
    pub fn append_all(mut self, name: &str, elements: Vec<AttributeValue>) -> Self {
        let (name, value) = (self.name(name), self.value(name, AttributeValue::L(elements)));
        self.set.push(format!("{name} = list_append({name}, {value})"));
        self
    }

    /// Adds to a number, which is zero where it is missing.
    pub fn add(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.name(name), self.value(name, value));
        self.add.push(format!("{name} {value}"));
        self
    }

    /// Removes an attribute, if it is there.
    pub fn remove(mut self, name: &str) -> Self {
        let name = self.name(name);
        self.remove.push(name);
        self
    }

    /// Asks that an attribute compares with a value, as `>=` or `=` do.
    pub fn when(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (placeholder, value) = (self.name(name), self.value(&format!("when_{name}"), value));
        self.conditions.push(format!("{placeholder} {comparator} {value}"));
        self
    }

    /// Asks that an attribute is not there, or compares with a value.
    pub fn when_absent_or(mut self, name: &str, comparator: &str, value: AttributeValue) -> Self {
        let (placeholder, value) = (self.name(name), self.value(&format!("when_{name}"), value));
        self.conditions
            .push(format!("(attribute_not_exists({placeholder}) OR {placeholder} {comparator} {value})"));
        self
    }

    /// Asks that an attribute is not there.
    pub fn when_absent(mut self, name: &str) -> Self {
        let name = self.name(name);
        self.conditions.push(format!("attribute_not_exists({name})"));
        self
    }

    /// Asks that a list doesn't hold an element.
    pub fn when_not_in(mut self, name: &str, element: AttributeValue) -> Self {
        let (placeholder, value) = (self.name(name), self.value(&format!("not_in_{name}"), element));
        self.conditions.push(format!("NOT contains({placeholder}, {value})"));
        self
    }

    /// Asks that a list has fewer elements.
    pub fn when_shorter(mut self, name: &str, count: u64) -> Self {
        let count = AttributeValue::N(count.to_string());
        let (placeholder, value) = (self.name(name), self.value(&format!("size_{name}"), count));
        self.conditions.push(format!("size({placeholder}) < {value}"));
        self
    }

    /// Asks that the item exists.
    pub fn when_exists(mut self) -> Self {
        let name = self.name(PK);
        self.conditions.push(format!("attribute_exists({name})"));
        self
    }

    /// The update of an item.
    pub fn update(self, table: &str, key: &ItemKey) -> Result<TransactWriteItem, Corrupt> {
        let clause = |word: &str, parts: &[String]| match parts {
            [] => None,
            parts => Some(format!("{word} {}", parts.join(", "))),
        };
        let clauses = [clause("SET", &self.set), clause("ADD", &self.add), clause("REMOVE", &self.remove)];
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(keyed(key)))
            .update_expression(clauses.into_iter().flatten().collect::<Vec<_>>().join(" "))
            .set_condition_expression(self.condition())
            .set_expression_attribute_names(Some(self.names))
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
            .set_condition_expression(self.condition())
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
            .set_condition_expression(self.condition())
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
            .condition_expression(self.condition().unwrap_or_default())
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    fn condition(&self) -> Option<String> {
        Some(self.conditions.join(" AND ")).filter(|condition| !condition.is_empty())
    }

    /// The placeholder of an attribute, or of a member of a map where the name has a dot.
    fn name(&mut self, name: &str) -> String {
        let placeholders = name.split('.').map(|part| {
            let placeholder = format!("#{}", part.replace('-', "_"));
            self.names.insert(placeholder.clone(), part.to_owned());
            placeholder
        });
        placeholders.collect::<Vec<_>>().join(".")
    }

    fn value(&mut self, name: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{}", name.replace(['-', '.'], "_"));
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}
