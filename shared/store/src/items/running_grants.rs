//! Running grants, in their own item, so that the balance item that a debit writes stays as small as it is without
//! them.
//!
//! Each close writes them together with the balance, under the epoch that it begins. So both items come from the same
//! close if and only if they have the same epoch.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::balance::Balance;
use credits_core::id::WorkspaceId;

use crate::error::Corrupt;
use crate::items::grant_value;
use crate::table::attribute::{Item, Reader, keyed, number};
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;

const GRANTS: &str = "grants";
const EPOCH: &str = "epoch";

/// Adds the grants to their balance. Returns whether both come from the same close.
pub(crate) fn join(balance: &mut Balance, running: &Item) -> Result<bool, Corrupt> {
    let reader = Reader(running);
    let epoch = reader.number(EPOCH)?;
    if epoch < balance.epoch {
        return Err(Corrupt::Attribute(EPOCH));
    }
    let grants = reader.list(GRANTS)?.iter().map(grant_value::read_grant);
    balance.grants = grants.collect::<Result<_, _>>()?;
    Ok(epoch == balance.epoch)
}

/// Builds the write of the grants that a close leaves. The close's condition on the balance guards both items.
pub(crate) fn write(
    table: &str,
    workspace: &WorkspaceId,
    next: &Balance,
) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::running_grants(workspace));
    let grants = next.grants.iter().map(grant_value::grant_value).collect();
    item.insert(GRANTS.into(), AttributeValue::L(grants));
    item.insert(EPOCH.into(), number(next.epoch));
    Expression::new().put(table, item)
}
