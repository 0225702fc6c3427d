//! The item of a ledger entry. It is stored under its idempotency key and never deleted.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::batch::Batch;
use credits_core::credits::Credits;
use credits_core::debit_refund::DebitRefund;
use credits_core::hold::Settlement;
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry, EntryKind};
use jiff::Timestamp;

use crate::error::Corrupt;
use crate::idempotency::{Claim, Fingerprint};
use crate::items::batch_item;
use crate::table::attribute::{Item, Reader, credits, keyed, text};
use crate::table::expression::Expression;
use crate::table::keys::{
    DETAIL, INDEX_PK, INDEX_SK, ItemKey, PK, ledger, ledger_of_lane, position, read_position,
};

/// The attribute with the id that an entry had before a close listed it.
const UNLISTED: &str = "unlisted";

/// Makes the item of an entry.
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
    item.insert(DETAIL.into(), serde_dynamo::to_attribute_value(&entry.cause)?);
    match &entry.cause {
        Cause::Batch(batch) => batch_item::put_lines(&mut item, &batch.content),
        Cause::HoldSettled(settlement) => batch_item::put_lines(&mut item, &settlement.content),
        Cause::DebitRefund(refund) => batch_item::put_lines(&mut item, &refund.content),
        _ => {}
    }
    if let Some(fingerprint) = fingerprint {
        item.insert("fingerprint".into(), AttributeValue::B(Blob::new(fingerprint.bytes())));
    }
    Ok(item)
}

/// Makes the item of an idempotency key that stands for something other than a ledger entry.
pub(crate) fn claimed(claim: &Claim) -> Item {
    let mut item = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
    item.insert("fingerprint".into(), AttributeValue::B(Blob::new(claim.fingerprint.bytes())));
    item
}

/// Returns the write of an item whose key must not be used yet.
pub(crate) fn put(table: &str, item: Item) -> Result<TransactWriteItem, Corrupt> {
    Expression::new().when_absent(PK).put(table, item)
}

/// Removes an entry from the ledger's index until a close lists it.
pub(crate) fn unlisted(mut item: Item, entry: &Entry) -> Item {
    item.remove(INDEX_PK);
    item.remove(INDEX_SK);
    item.insert(UNLISTED.into(), text(entry.entry_id.as_str()));
    item
}

/// Lists the entry of a debit on a lane in the lane's part of the ledger.
pub(crate) fn of_lane(mut item: Item, workspace: &WorkspaceId, lane: u16) -> Item {
    item.insert(INDEX_PK.into(), text(ledger_of_lane(workspace, lane)));
    item
}

/// Returns whether an item was written with this entry id.
pub(crate) fn is_written_as(item: &Item, entry_id: &Id) -> bool {
    let listed = Reader(item).optional_text(INDEX_SK).and_then(read_position).map(|(_, id)| id);
    listed.or_else(|| Reader(item).optional_text(UNLISTED)) == Some(entry_id.as_str())
}

/// Returns the write that lists an entry that waited for a close, with its credits and time.
pub(crate) fn complete(
    table: &str,
    workspace: &WorkspaceId,
    pk: &str,
    (entry_id, amount, at): (&Id, Credits, Timestamp),
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set(INDEX_PK, text(ledger(workspace)))
        .set(INDEX_SK, text(position(at, entry_id.as_str())))
        .set("credits", credits(amount))
        .when_absent(INDEX_PK)
        .update(table, &ItemKey::entry(pk.to_owned()))
}

/// Reads the entry of an item that comes from the table or from the index.
pub(crate) fn read(item: &Item) -> Result<Entry, Corrupt> {
    let reader = Reader(item);
    let (at, entry_id) = read_position(reader.text(INDEX_SK)?).ok_or(Corrupt::Attribute(INDEX_SK))?;
    Ok(Entry {
        entry_id: entry_id.parse().map_err(|_| Corrupt::Attribute(INDEX_SK))?,
        cause: read_cause(item)?,
        credits: reader.credits("credits")?,
        at,
    })
}

/// Reads the cause of an entry, whether it is listed or not.
pub(crate) fn read_cause(item: &Item) -> Result<Cause, Corrupt> {
    let detail = item.get(DETAIL).cloned().ok_or(Corrupt::Attribute(DETAIL))?;
    let content = batch_item::read_lines_of(item)?;
    if batch_item::has_lines(item)
        && Reader(Reader(item).map(DETAIL)?).text("kind")? == EntryKind::Debit.name()
    {
        let batch: Batch = serde_dynamo::from_attribute_value(detail)?;
        return Ok(Cause::Batch(Batch { content, ..batch }));
    }
    match serde_dynamo::from_attribute_value(detail)? {
        Cause::HoldSettled(settlement) => Ok(Cause::HoldSettled(Settlement { content, ..settlement })),
        Cause::DebitRefund(refund) => Ok(Cause::DebitRefund(DebitRefund { content, ..refund })),
        cause => Ok(cause),
    }
}

/// Returns whether an entry is listed in the ledger. An entry that waits for a close is not.
pub(crate) fn is_listed(item: &Item) -> bool {
    item.contains_key(INDEX_SK)
}

/// Returns whether an item was written for a request with this fingerprint.
pub(crate) fn is_of(item: &Item, fingerprint: Option<Fingerprint>) -> bool {
    Reader(item).bytes("fingerprint") == fingerprint.as_ref().map(Fingerprint::bytes)
}

pub(crate) fn entry(entry_id: &Id, cause: &Cause, credits: Credits, at: Timestamp) -> Entry {
    Entry { entry_id: entry_id.clone(), cause: cause.clone(), credits, at }
}
