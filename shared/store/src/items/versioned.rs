//! Items that are written whole under a version, and found when they are due: a workspace's subscription, agreement and
//! automatic top-up.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::WorkspaceId;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Corrupt;
use crate::table::attribute::{Item, Reader, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};

/// The next state of such an item.
pub(crate) struct VersionedItem<'a, T> {
    pub workspace: &'a WorkspaceId,
    pub key: ItemKey,
    /// The attribute that holds the value.
    pub name: &'static str,
    pub value: &'a T,
    /// The version that was read; 0 if there was no item.
    pub read_version: u64,
    /// When a sweep has to look at it, if ever.
    pub due_at: Option<Timestamp>,
}

impl<T: Serialize> VersionedItem<'_, T> {
    /// Builds the write, on the condition that the item is still at the version that was read.
    pub fn write(&self, table: &str) -> Result<TransactWriteItem, Corrupt> {
        let mut item = keyed(&self.key);
        item.insert(self.name.into(), serde_dynamo::to_attribute_value(self.value)?);
        item.insert("version".into(), number(self.read_version.saturating_add(1)));
        if let Some(due_at) = self.due_at {
            item.insert(INDEX_PK.into(), text(due(self.workspace)));
            item.insert(INDEX_SK.into(), text(position(due_at, self.workspace.as_str())));
        }
        let unchanged = match self.read_version {
            0 => Expression::new().when_absent(PK),
            version => Expression::new().when("version", "=", number(version)),
        };
        unchanged.put(table, item)
    }
}

/// Reads the value and the version of an item.
pub(crate) fn read<T: DeserializeOwned>(item: &Item, name: &'static str) -> Result<(T, u64), Corrupt> {
    let value = item.get(name).cloned().ok_or(Corrupt::Attribute(name))?;
    Ok((serde_dynamo::from_attribute_value(value)?, Reader(item).number("version")?))
}
