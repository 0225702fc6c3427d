//! The item of a workspace's subscription account, replaced as a whole under its version.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::WorkspaceId;
use credits_core::subscription_account::SubscriptionAccount;

use crate::error::Corrupt;
use crate::items::versioned::{self, VersionedItem};
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;

/// The attribute with the serialised [`SubscriptionAccount`].
const ACCOUNT: &str = "enrolment";

/// A workspace's account with its version, which each change must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionedAccount {
    /// Empty if none was ever written.
    pub account: SubscriptionAccount,
    /// Zero if none was ever written; each write adds 1.
    pub version: u64,
}

/// Returns the write that replaces the account if it still has the version that was read.
pub(crate) fn write_of(
    table: &str,
    workspace: &WorkspaceId,
    read_version: u64,
    after: &SubscriptionAccount,
) -> Result<TransactWriteItem, Corrupt> {
    let kept = VersionedItem {
        workspace,
        key: ItemKey::subscription(workspace),
        name: ACCOUNT,
        value: after,
        read_version,
        due_at: after.next_due(),
    };
    kept.write(table)
}

/// Reads the account of an item.
pub(crate) fn read(item: &Item) -> Result<VersionedAccount, Corrupt> {
    let (account, version) = versioned::read(item, ACCOUNT)?;
    Ok(VersionedAccount { account, version })
}
