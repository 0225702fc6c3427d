//! Records of ended allocations. Each has the credits that were consumed, so that a later refund takes no more.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::claw_back::{Clawed, EndedGrant};
use credits_core::id::{Id, WorkspaceId};

use crate::error::Corrupt;
use crate::items::grant_value::{CLAWED_CONSUMED, CLAWED_UNUSED};
use crate::table::attribute::{Item, Reader, credits, keyed};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};

const CONSUMED: &str = "consumed";

/// Returns the write of the record when a grant ends.
pub(crate) fn end_write(
    table: &str,
    workspace: &WorkspaceId,
    ended: &EndedGrant,
) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::ended_grant(workspace, &ended.grant_id));
    item.insert(CONSUMED.into(), credits(ended.consumed));
    item.insert(CLAWED_UNUSED.into(), credits(ended.clawed.unused));
    item.insert(CLAWED_CONSUMED.into(), credits(ended.clawed.consumed));
    Expression::new().when_absent(PK).put(table, item)
}

/// Returns the write of the credits that refunds have charged, if they are still the ones that were read.
pub(crate) fn clawed_write(
    table: &str,
    workspace: &WorkspaceId,
    read: &EndedGrant,
    after: &EndedGrant,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set(CLAWED_CONSUMED, credits(after.clawed.consumed))
        .when(CLAWED_CONSUMED, "=", credits(read.clawed.consumed))
        .update(table, &ItemKey::ended_grant(workspace, &read.grant_id))
}

/// Returns the check that no close has recorded the grant's end yet.
pub(crate) fn runs_check(
    table: &str,
    workspace: &WorkspaceId,
    grant_id: &Id,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new().when_absent(PK).check(table, &ItemKey::ended_grant(workspace, grant_id))
}

pub(crate) fn read(item: &Item, grant_id: &Id) -> Result<EndedGrant, Corrupt> {
    let reader = Reader(item);
    let clawed =
        Clawed { unused: reader.credits(CLAWED_UNUSED)?, consumed: reader.credits(CLAWED_CONSUMED)? };
    Ok(EndedGrant { grant_id: grant_id.clone(), consumed: reader.credits(CONSUMED)?, clawed })
}
