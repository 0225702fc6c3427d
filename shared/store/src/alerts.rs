//! Alerts: low balance (M15), exhausted credits (M10) and credits that expire.
//!
//! The balance item holds the thresholds in credits and the noted exhaustion. So each stream record of a balance write shows
//! which alert the write crosses. Percentages are resolved when the settings are written, and again when an allocation
//! arrives. The settings and the thresholds in the balance are written together, under the version of the settings.
//!
//! While expiry notices are switched on, the settings' item is due at the time of the next notice. The sweep records the
//! notices that are due in the item. The stream's record of that write is their event.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::alert::{AlertSettings, AlertThresholds, Exhaustion, LowBalance};
use credits_core::expiry::{Allocations, ExpirySettings};
use credits_core::grant::ExpiringGrant;
use credits_core::id::WorkspaceId;
use credits_core::posting::Posting;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::items::alerts_item::{self, StoredAlerts};
use crate::items::balance_item::{ADDED, EXHAUSTED, LANES_FIRST};
use crate::lanes::settings::SettingsWrite;
use crate::table::Store;
use crate::table::attribute::{credits, number};
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;
use crate::table::transaction::Updated;
use crate::workspaces::WorkspaceRefusal;

/// A change of a workspace's alert settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertChange {
    pub low_balance: LowBalance,
    /// `None` leaves the expiry notices as they are.
    pub expiry: Option<ExpirySettings>,
}

/// Alerts.
#[derive(Debug, Clone, Copy)]
pub struct AlertStore<'a> {
    pub(crate) store: &'a Store,
}

impl AlertStore<'_> {
    /// Returns the settings; `None` if they were never set.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<AlertSettings>, Fault> {
        Ok(self.read(workspace).await?.map(|read| read.settings))
    }

    /// Sets the alerts. Returns the new settings, and whether they are the workspace's first.
    pub async fn set(
        self,
        workspace: &WorkspaceId,
        change: &AlertChange,
    ) -> Result<(AlertSettings, bool), WorkspaceRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let read = self.read(workspace).await?;
            let is_first = read.is_none();
            let mut next = read.unwrap_or_else(StoredAlerts::new);
            next.settings.low_balance.clone_from(&change.low_balance);
            if let Some(expiry) = &change.expiry {
                next.settings.expiry.clone_from(expiry);
            }
            let thresholds = self.thresholds(workspace, &next.settings.low_balance).await?;
            next.due_at = self.next_notice(workspace, &next).await?;
            match self.write_with_thresholds(workspace, &next, thresholds).await? {
                SettingsWrite::Written => return Ok((next.settings, is_first)),
                SettingsWrite::NoBalance => return Err(WorkspaceRefusal::WorkspaceNotFound),
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Follows credits that were added: resolves percentages by the subscription's present credits, and finds the time of the
    /// next expiry notice. Writes nothing if both stay the same.
    pub async fn follow_addition(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(read) = self.read(workspace).await? else { return Ok(()) };
            if !read.settings.low_balance.follows_allocation() && !read.settings.expiry.enabled {
                return Ok(());
            }
            let Some(stored) = self.store.balances().read_stored(workspace).await? else { return Ok(()) };
            let thresholds = self.thresholds(workspace, &read.settings.low_balance).await?;
            let next = StoredAlerts { due_at: self.next_notice(workspace, &read).await?, ..read.clone() };
            let written = if stored.low_at != thresholds {
                self.write_with_thresholds(workspace, &next, thresholds).await? == SettingsWrite::Written
            } else if next == read {
                true
            } else {
                self.write(workspace, &next).await?
            };
            if written {
                return Ok(());
            }
            attempts.retry_after_conflict().await?;
        }
    }

    /// Records the expiry notices that are due, and the time of the next one.
    pub async fn notice_expiry(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(mut next) = self.read(workspace).await? else { return Ok(()) };
            let (now, expiry) = (self.store.now(), &next.settings.expiry);
            let left = self.left_of_grants(workspace, now).await?;
            let allocations = self.allocations(workspace, now).await?;
            let due = expiry.due(&left, allocations, &next.notices, now).map_err(Corrupt::from)?;
            next.due_at = expiry.next_after(&left, &next.notices, now);
            next.notices.retain(|notice| notice.is_kept(now));
            next.notices.extend(due);
            if self.write(workspace, &next).await? {
                return Ok(());
            }
            attempts.retry_after_conflict().await?;
        }
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

    async fn read(self, workspace: &WorkspaceId) -> Result<Option<StoredAlerts>, Fault> {
        let item = self.store.get(&ItemKey::alerts(workspace)).await?;
        Ok(item.as_ref().map(alerts_item::read).transpose()?)
    }

    /// Writes the next state if the stored one is still the one that was read. Returns whether it was written.
    async fn write(self, workspace: &WorkspaceId, next: &StoredAlerts) -> Result<bool, Fault> {
        let write = alerts_item::write_of(&self.store.table, workspace, next)?;
        self.store.transact_unless_changed(vec![write]).await
    }

    /// Writes the next state together with the thresholds of the balance.
    async fn write_with_thresholds(
        self,
        workspace: &WorkspaceId,
        next: &StoredAlerts,
        thresholds: AlertThresholds,
    ) -> Result<SettingsWrite, Fault> {
        let write = alerts_item::write_of(&self.store.table, workspace, next)?;
        self.store.lanes().post_settings(workspace, &Posting::low_at(thresholds), vec![write]).await
    }

    /// Returns the alert's thresholds in credits.
    async fn thresholds(self, workspace: &WorkspaceId, alert: &LowBalance) -> Result<AlertThresholds, Fault> {
        let allocation = if alert.follows_allocation() {
            self.store.subscriptions().monthly_credits(workspace).await?
        } else {
            None
        };
        Ok(alert.active_thresholds(allocation).map_err(Corrupt::from)?)
    }

    /// Returns when an expiry notice is due next. Reads nothing while they are switched off.
    async fn next_notice(
        self,
        workspace: &WorkspaceId,
        alerts: &StoredAlerts,
    ) -> Result<Option<Timestamp>, Fault> {
        if !alerts.settings.expiry.enabled {
            return Ok(None);
        }
        let now = self.store.now();
        let left = self.left_of_grants(workspace, now).await?;
        Ok(alerts.settings.expiry.next_from(&left, &alerts.notices, now))
    }

    /// Returns the running grants with what is left of them.
    async fn left_of_grants(
        self,
        workspace: &WorkspaceId,
        now: Timestamp,
    ) -> Result<Vec<ExpiringGrant>, Fault> {
        let Some(balance) = self.store.balances().read(workspace).await? else { return Ok(Vec::new()) };
        let balance = balance.as_of(now).map_err(Corrupt::from)?;
        Ok(balance.waterfall().map_err(Corrupt::from)?.grants)
    }

    async fn allocations(self, workspace: &WorkspaceId, now: Timestamp) -> Result<Allocations, Fault> {
        let account = self.store.subscriptions().get(workspace).await?.account.as_of(now);
        let renews = account.running().is_some_and(|running| !running.cancel_at_period_end);
        Ok(if renews { Allocations::AreReplaced } else { Allocations::End })
    }
}
