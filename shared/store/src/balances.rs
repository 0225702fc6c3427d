//! Reads of balances.

use credits_core::balance::Balance;
use credits_core::credits::Credits;
use credits_core::id::WorkspaceId;
use jiff::Timestamp;

use crate::error::{Chain, Corrupt, Fault};
use crate::items::balance_item::{self, RUNNING_GRANTS};
use crate::items::running_grants;
use crate::table::Store;
use crate::table::keys::ItemKey;

/// The version and the available credits of a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceStanding {
    /// Each write of the balance adds 1.
    pub version: u64,
    /// The credits that the customer can spend, without the credit limit.
    pub available: Credits,
}

/// Balances, and the closes of their epochs.
#[derive(Debug, Clone, Copy)]
pub struct BalanceStore<'a> {
    pub(crate) store: &'a Store,
}

impl BalanceStore<'_> {
    /// Returns the workspace's balance after releasing expired holds and closing what is due.
    ///
    /// Returns `None` if there is no workspace.
    ///
    /// The releases and the close are written, so that the ledger sums to the balance that is shown. If the close is
    /// contended, returns the balance as if it had been closed.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let Some(mut balance) = self.read(workspace).await? else { return Ok(None) };
        if balance.has_open_holds() {
            let released =
                self.store.holds().release_expired_holds(workspace).await.unwrap_or_else(|fault| {
                    let error = Chain(&fault);
                    tracing::warn!(%workspace, %error, "expired holds are left to the sweep");
                    // Some holds may have been released before the failure.
                    true
                });
            if released {
                balance = self.read(workspace).await?.unwrap_or(balance);
            }
        }
        if !balance.is_due(self.store.now()) {
            return Ok(Some(balance));
        }
        match self.close_due(workspace).await {
            Ok(_) => self.read(workspace).await,
            Err(Fault::Contended) => Ok(Some(balance.as_of(self.store.now()).map_err(Corrupt::from)?)),
            Err(fault) => Err(fault),
        }
    }

    /// Returns the workspace's balance as if expired holds were released and everything due were closed.
    ///
    /// Writes nothing. Returns `None` if there is no workspace.
    pub async fn peek(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let Some(balance) = self.read(workspace).await? else { return Ok(None) };
        let now = self.store.now();
        let balance = balance.as_of(now).map_err(Corrupt::from)?;
        if !balance.has_open_holds() {
            return Ok(Some(balance));
        }
        let mut ends = Vec::new();
        for hold in self.store.holds().read_expired_holds(workspace).await? {
            ends.push((hold.placement, hold.captured().map_err(Corrupt::from)?));
        }
        // The balance and the holds come from two reads. If they don't fit together, the balance keeps its holds.
        let end = balance.end_holds(ends, now).ok();
        let released = end.and_then(|end| end.posting.apply(&balance, &balance.last).ok());
        Ok(Some(released.unwrap_or(balance)))
    }

    /// Returns the version of the workspace's balance; `None` if there is no workspace.
    pub async fn version(self, workspace: &WorkspaceId) -> Result<Option<u64>, Fault> {
        Ok(self.read_sums(workspace).await?.map(|balance| balance.version))
    }

    /// Returns the version and the available credits of the balance; `None` if there is no workspace. Closes nothing.
    pub async fn standing(self, workspace: &WorkspaceId) -> Result<Option<BalanceStanding>, Fault> {
        let Some(balance) = self.read_sums(workspace).await? else { return Ok(None) };
        let available = balance.available().map_err(Corrupt::from)?;
        Ok(Some(BalanceStanding { version: balance.version, available }))
    }

    /// Reads the balance without its grants, for callers that need only its sums; `None` if there is no workspace.
    pub(crate) async fn read_sums(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let stored = self.read_stored(workspace).await?;
        self.join_lanes(workspace, stored).await
    }

    /// Reads the balance as stored, without its grants and lanes.
    pub(crate) async fn read_stored(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        Ok(self.read_stored_dated(workspace).await?.0)
    }

    /// Reads the balance as stored, without its grants and lanes, and the time of DynamoDB's response.
    pub(crate) async fn read_stored_dated(
        self,
        workspace: &WorkspaceId,
    ) -> Result<(Option<Balance>, Timestamp), Fault> {
        let (item, answered_at) = self.store.get_dated(&ItemKey::balance(workspace)).await?;
        Ok((item.as_ref().map(balance_item::read).transpose()?, answered_at))
    }

    /// Adds what the balance's lanes have left and spent. If lanes were settled since the balance was read, reads it again.
    ///
    /// The result contains every debit that was answered before the balance was read, and no debit that began afterwards.
    async fn join_lanes(
        self,
        workspace: &WorkspaceId,
        mut stored: Option<Balance>,
    ) -> Result<Option<Balance>, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(balance) = stored else { return Ok(None) };
            let lanes = self.store.lanes().read(workspace, &balance).await?;
            if let Some(joined) = balance.with_lanes(&lanes).map_err(Corrupt::from)? {
                return Ok(Some(joined));
            }
            attempts.retry_now()?;
            stored = self.read_dated(workspace).await?.0;
        }
    }

    /// Reads the balance as stored with its running grants but without its lanes, and the time of DynamoDB's response.
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
            if running_grants::join(&mut balance, &running.ok_or(Corrupt::Attribute(RUNNING_GRANTS))?)? {
                return Ok((Some(balance), answered_at));
            }
            // A close came between the two reads.
            attempts.retry_now()?;
        }
    }

    /// Reads the balance with its running grants and lanes; `None` if there is no workspace.
    pub(crate) async fn read(self, workspace: &WorkspaceId) -> Result<Option<Balance>, Fault> {
        let stored = self.read_dated(workspace).await?.0;
        self.join_lanes(workspace, stored).await
    }
}
