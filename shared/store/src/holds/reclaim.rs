//! Expired holds: they are released before a call is refused for insufficient credits.

use credits_core::hold::{Hold, HoldStatus};
use credits_core::id::{Id, WorkspaceId};

use crate::due::{Due, DueItem};
use crate::error::{Chain, Fault};
use crate::holds::HoldStore;
use crate::items::hold_item;
use crate::table::keys::{self, ItemKey};

/// Holds that one transaction releases. Five full holds have as many calls as fit into one ledger entry.
const TOGETHER: usize = 5;

/// The release of a workspace's expired holds, for a call that would be refused for insufficient credits.
pub(crate) struct ExpiredHoldReleaser<'a> {
    holds: HoldStore<'a>,
    workspace: &'a WorkspaceId,
    /// Whether a retry was already granted because other callers had released holds.
    tried_once_more: bool,
}

impl<'a> HoldStore<'a> {
    pub(crate) fn expired_hold_releaser(self, workspace: &'a WorkspaceId) -> ExpiredHoldReleaser<'a> {
        ExpiredHoldReleaser { holds: self, workspace, tried_once_more: false }
    }

    /// Releases all expired holds, as far as possible now. Returns whether there were any.
    pub(crate) async fn release_expired_holds(self, workspace: &'a WorkspaceId) -> Result<bool, Fault> {
        let (releaser, mut attempts, mut any) =
            (self.expired_hold_releaser(workspace), self.store.attempts(), false);
        while releaser.release_some().await? {
            any = true;
            attempts.retry_now()?;
        }
        Ok(any)
    }

    /// Reads the expired holds without releasing them.
    pub(crate) async fn read_expired_holds(self, workspace: &WorkspaceId) -> Result<Vec<Hold>, Fault> {
        let hold_ids = self.find_expired_holds(workspace).await?;
        let keys: Vec<_> = hold_ids.iter().map(|hold_id| ItemKey::hold(workspace, hold_id)).collect();
        let items = self.store.get_many(&keys).await?;
        let mut holds = items.values().map(hold_item::read).collect::<Result<Vec<_>, _>>()?;
        holds.retain(|hold| hold.status == HoldStatus::Open && hold.has_expired(self.store.now()));
        Ok(holds)
    }

    async fn find_expired_holds(self, workspace: &WorkspaceId) -> Result<Vec<Id>, Fault> {
        let until = keys::hold_position(workspace, self.store.now(), "~");
        let (items, _) =
            self.store.forwards(&[keys::holds(workspace)], &format!("{workspace}#"), &until, None).await?;
        let hold = |item| match DueItem::read(item)?.what {
            Due::Hold(_, hold_id) => Ok(Some(hold_id)),
            _ => Ok(None),
        };
        items.iter().filter_map(|item| hold(item).transpose()).collect()
    }
}

impl ExpiredHoldReleaser<'_> {
    /// Releases a few expired holds. Returns whether the call that the balance refused at version `refused_at` is worth
    /// a retry: holds were released now, or by other callers since that version.
    pub async fn release(&mut self, refused_at: u64) -> Result<bool, Fault> {
        if self.release_some().await? {
            return Ok(true);
        }
        // Other callers may have released them meanwhile. Under load the balance changes all the time, so this grants
        // one retry only.
        let balance = self.holds.store.balances().read_sums(self.workspace).await?;
        let moved = balance.is_some_and(|balance| balance.version != refused_at);
        Ok(moved && !std::mem::replace(&mut self.tried_once_more, true))
    }

    /// Releases a few expired holds. Returns whether there were any.
    async fn release_some(&self) -> Result<bool, Fault> {
        let mut holds = self.holds.find_expired_holds(self.workspace).await?;
        // Concurrent callers start at random places, so that they don't meet on the same holds.
        let first = self.holds.store.sources.below(u64::try_from(holds.len()).unwrap_or(1).max(1));
        holds.rotate_left(usize::try_from(first).unwrap_or(0));
        for together in holds.chunks(TOGETHER) {
            match self.holds.expire_all(self.workspace, together).await {
                Ok(expired) if expired.any_expired => return Ok(true),
                Ok(_) => {}
                Err(Fault::Corrupt(corrupt)) => {
                    let (workspace, error) = (self.workspace, Chain(&corrupt));
                    tracing::error!(%workspace, %error, "failed to release expired holds");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(false)
    }
}
