//! Running grants, in their own item, so that the balance item that a debit writes stays as small as it is without
//! them.
//!
//! Each close writes them together with the balance, under the epoch that it begins. So both items come from the same
//! close if and only if they have the same epoch.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::balance::Balance;
use credits_core::id::WorkspaceId;
use jiff::Timestamp;

use crate::balances::BalanceStore;
use crate::error::{Corrupt, Fault};
use crate::items::balance_item::{self, RUNNING_GRANTS};
use crate::table::attribute::{Item, Reader, keyed, number};
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;

const GRANTS: &str = "grants";
const EPOCH: &str = "epoch";

impl BalanceStore<'_> {
    /// Reads the balance with its running grants, and the time of DynamoDB's response.
    pub(crate) async fn read_dated(
        self,
        workspace: &WorkspaceId,
    ) -> Result<(Option<Balance>, Timestamp), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let (item, answered_at) = self.store.get_dated(&ItemKey::balance(workspace)).await?;
            let Some(item) = item else { return Ok((None, answered_at)) };
            let mut balance = balance_item::read(&item)?;
            if !item.contains_key(RUNNING_GRANTS) {
                return Ok((Some(balance), answered_at));
            }
            let running = self.store.get(&ItemKey::running_grants(workspace)).await?;
            if join(&mut balance, &running.ok_or(Corrupt::Attribute(RUNNING_GRANTS))?)? {
                return Ok((Some(balance), answered_at));
            }
            // A close came between the two reads.
            attempts.at_once()?;
        }
    }

    /// Reads the balance with its running grants; `None` if there is no workspace.
    pub(crate) async fn read(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        Ok(self.read_dated(workspace).await?.0)
    }
}

/// Adds the grants to their balance. Returns whether both come from the same close.
fn join(balance: &mut Balance, running: &Item) -> Result<bool, Corrupt> {
    let reader = Reader(running);
    let epoch = reader.number(EPOCH)?;
    if epoch < balance.epoch {
        return Err(Corrupt::Attribute(EPOCH));
    }
    let grants = reader.list(GRANTS)?.iter().map(balance_item::read_grant);
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
    let grants = next.grants.iter().map(balance_item::grant_value).collect();
    item.insert(GRANTS.into(), AttributeValue::L(grants));
    item.insert(EPOCH.into(), number(next.epoch));
    Expression::new().put(table, item)
}
