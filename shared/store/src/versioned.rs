//! Items that are written whole under a version, and found when they are due: what a workspace has of a subscription, an
//! agreement or automatic top-up.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::WorkspaceId;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attribute::{Item, Reader, keyed, number, text};
use crate::error::Corrupt;
use crate::expression::Expression;
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};

/// One of them, as it is to be kept.
pub(crate) struct Kept<'a, T> {
    pub workspace: &'a WorkspaceId,
    pub key: ItemKey,
    /// The attribute that holds all of it.
    pub name: &'static str,
    pub value: &'a T,
    /// The version at which it was read; zero where it was not there.
    pub read_version: u64,
    /// When a sweep has to look at it; `None` where it has not.
    pub due_at: Option<Timestamp>,
}

impl<T: Serialize> Kept<'_, T> {
    /// The write of all of it, if it is still at the version that was read.
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

/// What an item keeps, and how often it was written.
pub(crate) fn read<T: DeserializeOwned>(item: &Item, name: &'static str) -> Result<(T, u64), Corrupt> {
    let value = item.get(name).cloned().ok_or(Corrupt::Attribute(name))?;
    Ok((serde_dynamo::from_attribute_value(value)?, Reader(item).number("version")?))
}
