//! Reading a balance.

use credits_core::balance::Balance;
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;

use crate::Store;
use crate::balance_item;
use crate::error::{Chain, Corrupt, Fault};
use crate::keys::ItemKey;

/// How a balance stands, by its sums alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceStanding {
    /// How often it was written.
    pub version: u64,
    /// What the customer can spend, without the credit limit.
    pub available: Credits,
}

impl Store {
    /// The workspace's balance with all that is due closed; `None` where there is no workspace.
    ///
    /// What overdue holds keep is given back, and what is due is closed for good, so that the ledger sums to what is shown.
    /// Where it can't be closed now, the balance is shown as if it had been.
    pub async fn balance(&self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let Some(mut balance) = self.read_balance(workspace).await? else { return Ok(None) };
        if balance.has_holds() {
            let given_back = self.give_back_overdue(workspace).await.unwrap_or_else(|fault| {
                let error = Chain(&fault);
                tracing::warn!(%workspace, %error, "overdue holds are left to a sweep");
                // Some of them, perhaps.
                true
            });
            if given_back {
                balance = self.read_balance(workspace).await?.unwrap_or(balance);
            }
        }
        if !balance.is_due(self.now()) {
            return Ok(Some(balance));
        }
        match self.close_due(workspace).await {
            Ok(current) => Ok(current.balance),
            Err(Fault::Contended) => Ok(Some(balance.as_of(self.now()).map_err(Corrupt::from)?)),
            Err(fault) => Err(fault),
        }
    }

    /// The workspace's balance as if all that is due were closed, and what overdue holds keep given back; nothing is written.
    pub async fn peek_balance(&self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let Some(balance) = self.read_balance(workspace).await? else { return Ok(None) };
        let now = self.now();
        let balance = balance.as_of(now).map_err(Corrupt::from)?;
        if !balance.has_holds() {
            return Ok(Some(balance));
        }
        let mut ends = Vec::new();
        for hold in self.read_overdue(workspace).await? {
            ends.push((hold.placement, hold.captured().map_err(Corrupt::from)?));
        }
        // One that has ended since then is not in the balance that was read: it is shown as it was.
        let ending = balance.end_holds(ends, now).ok();
        let given_back = ending.and_then(|ending| ending.posting.apply(&balance, &balance.last).ok());
        Ok(Some(given_back.unwrap_or(balance)))
    }

    /// How often the workspace's balance was written; `None` where there is no workspace.
    pub async fn balance_version(&self, workspace: &WorkspaceId) -> Result<Option<u64>, Fault> {
        Ok(self.read_sums(workspace).await?.map(|balance| balance.version))
    }

    /// How the workspace's balance stands, with what is due still in it; `None` if there is no workspace.
    pub async fn balance_standing(&self, workspace: &WorkspaceId) -> Result<Option<BalanceStanding>, Fault> {
        let Some(balance) = self.read_sums(workspace).await? else { return Ok(None) };
        let available = balance.available().map_err(Corrupt::from)?;
        Ok(Some(BalanceStanding { version: balance.version, available }))
    }

    /// Reads the balance without its grants, for callers that need its sums; `None` if there is no workspace.
    pub(crate) async fn read_sums(&self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let item = self.get(&ItemKey::balance(workspace)).await?;
        Ok(item.as_ref().map(balance_item::read).transpose()?)
    }
}
