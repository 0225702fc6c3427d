//! Alert settings. The threshold stands in the balance item too, so that every write of it says whether it crossed.

use credits_core::alert::LowBalance;
use credits_core::id::WorkspaceId;

use crate::Store;
use crate::attribute::{credits, keyed};
use crate::balance_item::LOW_AT;
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::ItemKey;
use crate::transaction::{Outcome, is_busy};
use crate::workspaces::WorkspaceRefusal;

const LOW_BALANCE: &str = "low_balance";

impl Store {
    /// The alert settings, if anybody has set them.
    pub async fn low_balance_alert(&self, workspace: &WorkspaceId) -> Result<Option<LowBalance>, Fault> {
        let Some(mut item) = self.get(&ItemKey::alerts(workspace)).await? else { return Ok(None) };
        let kept = item.remove(LOW_BALANCE).ok_or(Corrupt::Attribute(LOW_BALANCE))?;
        Ok(Some(serde_dynamo::from_attribute_value(kept).map_err(Corrupt::from)?))
    }

    /// Keeps alert settings, and says whether they are the first.
    pub async fn set_low_balance_alert(
        &self,
        workspace: &WorkspaceId,
        alert: &LowBalance,
    ) -> Result<bool, WorkspaceRefusal> {
        let first = self.low_balance_alert(workspace).await?.is_none();
        let mut item = keyed(&ItemKey::alerts(workspace));
        let kept =
            serde_dynamo::to_attribute_value(alert).map_err(|error| Fault::from(Corrupt::from(error)))?;
        item.insert(LOW_BALANCE.into(), kept);
        let threshold = match alert.active_threshold() {
            Some(threshold) => Expression::new().set(LOW_AT, credits(threshold.credits())),
            None => Expression::new().remove(LOW_AT),
        };
        let threshold = threshold.add("version", crate::attribute::number(1)).when_exists();
        let writes = vec![
            Expression::new().put(&self.table, item).map_err(Fault::from)?,
            threshold.update(&self.table, &ItemKey::balance(workspace)).map_err(Fault::from)?,
        ];
        let mut attempts = self.attempts();
        loop {
            match self.transact(writes.clone()).await? {
                Outcome::Written => return Ok(first),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                Outcome::Cancelled(_) => return Err(WorkspaceRefusal::WorkspaceNotFound),
            }
        }
    }
}
