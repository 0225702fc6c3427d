//! Alerts: low balance (M15) and exhausted credits (M10).
//!
//! The balance item holds the threshold and the noted exhaustion. So each stream record of a balance write shows which
//! alert the write crosses.

use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::alert::{Exhaustion, LowBalance};
use credits_core::id::WorkspaceId;
use credits_core::posting::Posting;

use crate::error::{Corrupt, Fault};
use crate::items::balance_item::{ADDED, EXHAUSTED, LANES_FIRST};
use crate::lanes::settings::SettingsWrite;
use crate::table::Store;
use crate::table::attribute::{credits, keyed, number};
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;
use crate::table::transaction::Updated;
use crate::workspaces::WorkspaceRefusal;

const LOW_BALANCE: &str = "low_balance";

/// Low-balance alerts.
#[derive(Debug, Clone, Copy)]
pub struct AlertStore<'a> {
    pub(crate) store: &'a Store,
}

impl AlertStore<'_> {
    /// Returns the settings of the low-balance alert; `None` if they were never set.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<LowBalance>, Fault> {
        let Some(mut item) = self.store.get(&ItemKey::alerts(workspace)).await? else { return Ok(None) };
        let kept = item.remove(LOW_BALANCE).ok_or(Corrupt::Attribute(LOW_BALANCE))?;
        Ok(Some(serde_dynamo::from_attribute_value(kept).map_err(Corrupt::from)?))
    }

    /// Sets the low-balance alert and returns whether these are the workspace's first settings.
    pub async fn set(self, workspace: &WorkspaceId, alert: &LowBalance) -> Result<bool, WorkspaceRefusal> {
        let first = self.get(workspace).await?.is_none();
        let mut item = keyed(&ItemKey::alerts(workspace));
        let kept =
            serde_dynamo::to_attribute_value(alert).map_err(|error| Fault::from(Corrupt::from(error)))?;
        item.insert(LOW_BALANCE.into(), kept);
        let kept = Expression::new().put(&self.store.table, item).map_err(Fault::from)?;
        let posting = Posting::low_at(alert.active_threshold().into());
        match self.store.lanes().post_settings(workspace, &posting, vec![kept]).await? {
            SettingsWrite::Written => Ok(first),
            SettingsWrite::NoBalance => Err(WorkspaceRefusal::WorkspaceNotFound),
            // No write has another condition.
            SettingsWrite::Changed => Err(Fault::Contended.into()),
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
}
