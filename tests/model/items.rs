//! Reads and writes of a table's items that bypass the functions.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use credits_local::Stack;

/// An item of the table.
pub type TableItem = HashMap<String, AttributeValue>;

/// The largest number of items in one `BatchWriteItem`, as DynamoDB limits it.
const MAX_BATCH_ITEMS: usize = 25;

/// Reads all items of the table.
pub async fn every_item(stack: &Stack) -> Vec<TableItem> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let scan = stack.client().scan().table_name(stack.table()).set_exclusive_start_key(start);
        let page = scan.send().await.unwrap();
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return items;
        }
    }
}

/// Writes items without a condition.
#[expect(clippy::disallowed_methods, reason = "a test fills the table with the items of thousands of calls")]
pub async fn put_all(stack: &Stack, items: Vec<TableItem>) {
    for chunk in items.chunks(MAX_BATCH_ITEMS) {
        let puts = chunk.iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        });
        let mut unwritten = HashMap::from([(stack.table().to_owned(), puts.collect())]);
        while !unwritten.is_empty() {
            let write = stack.client().batch_write_item().set_request_items(Some(unwritten));
            unwritten = write.send().await.unwrap().unprocessed_items.unwrap_or_default();
        }
    }
}

/// Returns the items whose partition key begins with `kind`.
pub fn of_kind<'a>(items: &'a [TableItem], kind: &'a str) -> impl Iterator<Item = &'a TableItem> {
    items.iter().filter(move |item| text(item, "pk").starts_with(kind))
}

/// Returns a text attribute of an item; empty if absent.
#[must_use]
pub fn text(item: &TableItem, name: &str) -> String {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
}

/// Copies an item, and replaces each key of `names` by its value in every text. The copy looks like another workspace's
/// item.
#[must_use]
pub fn renamed(item: &TableItem, names: &BTreeMap<&str, String>) -> TableItem {
    fn rename(value: &AttributeValue, names: &BTreeMap<&str, String>) -> AttributeValue {
        match value {
            AttributeValue::S(text) => {
                AttributeValue::S(names.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to)))
            }
            AttributeValue::L(list) => AttributeValue::L(list.iter().map(|it| rename(it, names)).collect()),
            AttributeValue::M(map) => {
                AttributeValue::M(map.iter().map(|(name, it)| (name.clone(), rename(it, names))).collect())
            }
            other => other.clone(),
        }
    }
    item.iter().map(|(name, value)| (name.clone(), rename(value, names))).collect()
}
