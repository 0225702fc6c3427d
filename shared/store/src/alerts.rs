//! Alerts: low balance (M15) and exhausted credits (M10).
//!
//! The balance item holds the thresholds in credits and the noted exhaustion. So each stream record of a balance write shows
//! which alert the write crosses. Percentages are resolved when the settings are written, and again when an allocation
//! arrives. The settings and the thresholds in the balance are written together, under the version of the settings.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::alert::{AlertThresholds, Exhaustion, LowBalance};
use credits_core::id::WorkspaceId;
use credits_core::posting::Posting;

use crate::error::{Corrupt, Fault};
use crate::items::balance_item::{ADDED, EXHAUSTED, LANES_FIRST};
use crate::lanes::settings::SettingsWrite;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, credits, keyed, number};
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;
use crate::table::transaction::Updated;
use crate::workspaces::WorkspaceRefusal;

const LOW_BALANCE: &str = "low_balance";

/// The version of the settings; absent in those of an older version of the product.
const VERSION: &str = "version";

/// The settings as they were read.
#[derive(Debug)]
struct VersionedAlerts {
    low_balance: LowBalance,
    /// 0 if there was no item, or one without a version.
    version: u64,
}

/// Low-balance alerts.
#[derive(Debug, Clone, Copy)]
pub struct AlertStore<'a> {
    pub(crate) store: &'a Store,
}

impl AlertStore<'_> {
    /// Returns the settings of the low-balance alert; `None` if they were never set.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<LowBalance>, Fault> {
        Ok(self.read(workspace).await?.map(|read| read.low_balance))
    }

    /// Sets the low-balance alert and returns whether these are the workspace's first settings.
    pub async fn set(self, workspace: &WorkspaceId, alert: &LowBalance) -> Result<bool, WorkspaceRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let read = self.read(workspace).await?;
            let thresholds = self.thresholds(workspace, alert).await?;
            let kept = self.write(workspace, read.as_ref(), alert).map_err(Fault::from)?;
            let posting = Posting::low_at(thresholds);
            match self.store.lanes().post_settings(workspace, &posting, vec![kept]).await? {
                SettingsWrite::Written => return Ok(read.is_none()),
                SettingsWrite::NoBalance => return Err(WorkspaceRefusal::WorkspaceNotFound),
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Resolves the alert's percentages by the subscription's present credits, after an allocation has arrived. Writes
    /// nothing if the thresholds stay the same.
    pub async fn follow_allocation(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(read) = self.read(workspace).await? else { return Ok(()) };
            if !read.low_balance.follows_allocation() {
                return Ok(());
            }
            let thresholds = self.thresholds(workspace, &read.low_balance).await?;
            let stored = self.store.balances().read_stored(workspace).await?;
            if stored.is_none_or(|stored| stored.low_at == thresholds) {
                return Ok(());
            }
            let kept = self.write(workspace, Some(&read), &read.low_balance)?;
            let posting = Posting::low_at(thresholds);
            match self.store.lanes().post_settings(workspace, &posting, vec![kept]).await? {
                SettingsWrite::Written | SettingsWrite::NoBalance => return Ok(()),
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Returns the alert's thresholds in credits.
    async fn thresholds(self, workspace: &WorkspaceId, alert: &LowBalance) -> Result<AlertThresholds, Fault> {
        let allocation = match alert.follows_allocation() {
            true => self.store.subscriptions().monthly_credits(workspace).await?,
            false => None,
        };
        Ok(alert.active_thresholds(allocation).map_err(Corrupt::from)?)
    }

    async fn read(self, workspace: &WorkspaceId) -> Result<Option<VersionedAlerts>, Fault> {
        let item = self.store.get(&ItemKey::alerts(workspace)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Builds the write of settings, on the condition that the stored ones are still those that were read.
    fn write(
        self,
        workspace: &WorkspaceId,
        read: Option<&VersionedAlerts>,
        alert: &LowBalance,
    ) -> Result<TransactWriteItem, Corrupt> {
        let version = read.map_or(0, |read| read.version);
        let mut item = keyed(&ItemKey::alerts(workspace));
        item.insert(LOW_BALANCE.into(), serde_dynamo::to_attribute_value(alert)?);
        item.insert(VERSION.into(), number(version.saturating_add(1)));
        let unchanged = match version {
            0 => Expression::new().when_absent(VERSION),
            version => Expression::new().when(VERSION, "=", number(version)),
        };
        unchanged.put(&self.store.table, item)
    }

    /// Notes in the balance that a refused call found the workspace out of credits.
    ///
    /// Does nothing if credits were added since the refusal, or if an exhaustion is noted already.
    pub async fn note_exhaustion(self, workspace: &WorkspaceId, exhaustion: Exhaustion) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let noted = Expression::new()
                .set(EXHAUSTED, AttributeValue::Bool(true))
                .add("version", number(1))
                .when_absent(EXHAUSTED)
                .when_absent(LANES_FIRST)
                .when("spendable", "<", credits(exhaustion.below));
            let noted = match exhaustion.added {
                Some(added) => noted.when(ADDED, "=", credits(added.credits())),
                None => noted.when_absent(ADDED),
            };
            match self
                .store
                .update_once(noted.update(&self.store.table, &ItemKey::balance(workspace))?)
                .await?
            {
                Updated::Written(_) | Updated::Refused(_) => return Ok(()),
                Updated::Busy => attempts.retry_after_conflict().await?,
                Updated::Unknown(error) => attempts.retry_after_failure(error).await?,
            }
        }
    }
}

fn read(item: &Item) -> Result<VersionedAlerts, Corrupt> {
    let low_balance = item.get(LOW_BALANCE).cloned().ok_or(Corrupt::Attribute(LOW_BALANCE))?;
    Ok(VersionedAlerts {
        low_balance: serde_dynamo::from_attribute_value(low_balance)?,
        version: Reader(item).optional_number(VERSION)?.unwrap_or_default(),
    })
}
