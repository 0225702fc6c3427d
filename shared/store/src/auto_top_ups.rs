//! Storage of automatic top-up: one item for each workspace, replaced as a whole under its version, indexed by date.
//!
//! The balance item also holds the threshold, so that each stream record of a balance write shows whether a pack is
//! wanted.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::auto_top_up::{AutoTopUp, AutoTopUpSettings};
use credits_core::id::WorkspaceId;
use credits_core::posting::Posting;
use credits_core::purchase::{Purchase, StoredMethod};

use crate::error::{Corrupt, Fault};
use crate::items::versioned::{self, VersionedItem};
use crate::lanes::settings::SettingsWrite;
use crate::payments::purchases::{NewMeans, NewPurchase, begin_write};
use crate::table::Store;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;
use crate::workspaces::WorkspaceRefusal;

/// The attribute with the serialised [`AutoTopUp`].
const AUTO_TOP_UP: &str = "auto_top_up";

/// The stored automatic top-up with its version, which each change must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedTopUp {
    pub kept: AutoTopUp,
    /// Starts at 1; each write adds 1.
    pub version: u64,
}

/// Automatic top-ups.
#[derive(Debug, Clone, Copy)]
pub struct AutoTopUpStore<'a> {
    pub(crate) store: &'a Store,
}

impl AutoTopUpStore<'_> {
    /// Returns the workspace's automatic top-up; `None` if it was never set.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<VersionedTopUp>, Fault> {
        let item = self.store.get(&ItemKey::auto_top_up(workspace)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Stores a person's settings. Returns the new state, and whether it is the workspace's first.
    pub async fn set(
        self,
        workspace: &WorkspaceId,
        settings: &AutoTopUpSettings,
    ) -> Result<(AutoTopUp, bool), WorkspaceRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let read = self.get(workspace).await?;
            let before = read.as_ref().map(|read| &read.kept);
            let after = AutoTopUp::set(settings.clone(), before, self.store.now());
            let kept = self.write(workspace, read.as_ref(), &after).map_err(Fault::from)?;
            let posting = threshold_posting(&after);
            match self.store.lanes().post_settings(workspace, &posting, vec![kept]).await? {
                SettingsWrite::Written => return Ok((after, read.is_none())),
                SettingsWrite::NoBalance => return Err(WorkspaceRefusal::WorkspaceNotFound),
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Writes a change if the item still has the version that was read. Returns whether it was written.
    pub async fn change(
        self,
        workspace: &WorkspaceId,
        read: &VersionedTopUp,
        after: &AutoTopUp,
    ) -> Result<bool, Fault> {
        let kept = vec![self.write(workspace, Some(read), after)?];
        if read.kept.settings.active_threshold() == after.settings.active_threshold() {
            return self.store.transact_unless_changed(kept).await;
        }
        let written = self.store.lanes().post_settings(workspace, &threshold_posting(after), kept).await?;
        Ok(written == SettingsWrite::Written)
    }

    /// Stores a purchase together with the change that refers to it, before Stripe is called. Returns whether both were
    /// written.
    pub async fn begin(
        self,
        read: &VersionedTopUp,
        purchase: &Purchase,
        method: &StoredMethod,
    ) -> Result<bool, Fault> {
        let charging = read.kept.charging(purchase);
        let change = self.write(&purchase.workspace_id, Some(read), &charging)?;
        let new = NewPurchase { purchase, means: NewMeans::OffSession(method) };
        self.store.transact_unless_changed(vec![change, begin_write(&self.store.table, new)?]).await
    }

    /// Stores the purchase of a pack that a person has to pay by a checkout. Returns whether it was written.
    ///
    /// The same transaction writes `after`, which stops charges of the stored payment method.
    pub async fn begin_asked(
        self,
        read: &VersionedTopUp,
        after: &AutoTopUp,
        new: NewPurchase<'_>,
    ) -> Result<bool, Fault> {
        let change = self.write(&new.purchase.workspace_id, Some(read), after)?;
        self.store.transact_unless_changed(vec![change, begin_write(&self.store.table, new)?]).await
    }

    /// Returns the write that replaces the item if it still has the version that was read.
    pub(crate) fn write(
        self,
        workspace: &WorkspaceId,
        read: Option<&VersionedTopUp>,
        after: &AutoTopUp,
    ) -> Result<TransactWriteItem, Corrupt> {
        let kept = VersionedItem {
            workspace,
            key: ItemKey::auto_top_up(workspace),
            name: AUTO_TOP_UP,
            value: after,
            read_version: read.map_or(0, |read| read.version),
            due_at: after.next_due(),
        };
        kept.write(&self.store.table)
    }
}

fn threshold_posting(after: &AutoTopUp) -> Posting {
    Posting::top_up_at(after.settings.active_threshold().into())
}

/// Reads the automatic top-up of an item.
pub(crate) fn read(item: &Item) -> Result<VersionedTopUp, Corrupt> {
    let (kept, version) = versioned::read(item, AUTO_TOP_UP)?;
    Ok(VersionedTopUp { kept, version })
}
