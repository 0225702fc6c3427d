//! The ledger entry's item, which stands under its idempotency key for good.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use credits_core::ledger::{Cause, Entry};
use jiff::Timestamp;

use crate::attribute::{Item, Reader, credits, keyed, text};
use crate::error::Corrupt;
use crate::expression::Expression;
use crate::idempotency::Fingerprint;
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, ledger, position, read_position};

/// The item of an entry.
pub(crate) fn item_of(
    workspace: &WorkspaceId,
    key: &ItemKey,
    fingerprint: Option<Fingerprint>,
    entry: &Entry,
) -> Result<Item, Corrupt> {
    let mut item = keyed(key);
    item.insert(INDEX_PK.into(), text(ledger(workspace)));
    item.insert(INDEX_SK.into(), text(position(entry.at, entry.entry_id.as_str())));
    item.insert("credits".into(), credits(entry.credits));
    item.insert("cause".into(), serde_dynamo::to_attribute_value(&entry.cause)?);
    if let Some(fingerprint) = fingerprint {
        item.insert("fingerprint".into(), AttributeValue::B(Blob::new(fingerprint.bytes())));
    }
    Ok(item)
}

/// The writing of an entry under a key that nothing stands under yet.
pub(crate) fn put(table: &str, item: Item) -> Result<TransactWriteItem, Corrupt> {
    Expression::new().when_absent(PK).put(table, item)
}

/// Completes the item that a key was claimed with by what only the close could say.
pub(crate) fn complete(
    table: &str,
    workspace: &WorkspaceId,
    pk: &str,
    entry: &Entry,
) -> Result<TransactWriteItem, Corrupt> {
    let cause: AttributeValue = serde_dynamo::to_attribute_value(&entry.cause)?;
    Expression::new()
        .set(INDEX_PK, text(ledger(workspace)))
        .set(INDEX_SK, text(position(entry.at, entry.entry_id.as_str())))
        .set("credits", credits(entry.credits))
        .set("cause", cause)
        .when_absent(INDEX_PK)
        .update(table, &ItemKey::entry(pk.to_owned()))
}

/// The entry of an item, read from the table or from the index.
pub(crate) fn read(item: &Item) -> Result<Entry, Corrupt> {
    let reader = Reader(item);
    let (at, entry_id) = read_position(reader.text(INDEX_SK)?).ok_or(Corrupt::Attribute(INDEX_SK))?;
    let cause = item.get("cause").cloned().ok_or(Corrupt::Attribute("cause"))?;
    Ok(Entry {
        entry_id: entry_id.parse().map_err(|_| Corrupt::Attribute(INDEX_SK))?,
        cause: serde_dynamo::from_attribute_value(cause)?,
        credits: reader.credits("credits")?,
        at,
    })
}

/// Whether an item was written for a call of this fingerprint.
pub(crate) fn is_of(item: &Item, fingerprint: Option<Fingerprint>) -> bool {
    Reader(item).bytes("fingerprint") == fingerprint.as_ref().map(Fingerprint::bytes)
}

/// Puts an entry together.
pub(crate) fn entry(
    entry_id: &credits_core::id::Id,
    cause: &Cause,
    credits: Credits,
    at: Timestamp,
) -> Entry {
    Entry { entry_id: entry_id.clone(), cause: cause.clone(), credits, at }
}
