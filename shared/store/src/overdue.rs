//! Overdue holds: what they keep is given back before anything is refused for want of it.

use credits_core::id::{Id, WorkspaceId};
use credits_core::settlement::{Hold, HoldStatus};

use crate::due::{Due, DueItem};
use crate::error::{Chain, Fault};
use crate::keys::{ItemKey, due, position};
use crate::{Store, hold_item};

/// How many are given back by one transaction: full ones have as many calls as one entry can tell.
const TOGETHER: usize = 5;

/// A workspace's overdue holds, for who would refuse something while any is open.
pub(crate) struct Overdue<'a> {
    store: &'a Store,
    workspace: &'a WorkspaceId,
    /// Whether it was tried once more since others had given back what was short.
    tried_once_more: bool,
}

impl Store {
    pub(crate) fn overdue<'a>(&'a self, workspace: &'a WorkspaceId) -> Overdue<'a> {
        Overdue { store: self, workspace, tried_once_more: false }
    }

    /// Gives back what all of them keep, as far as it can be done now, and says whether there were any.
    pub(crate) async fn give_back_overdue(&self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        let (overdue, mut attempts, mut any) = (self.overdue(workspace), self.attempts(), false);
        while overdue.give_back_some().await? {
            any = true;
            attempts.at_once()?;
        }
        Ok(any)
    }

    /// The overdue holds as the last writes left them, for who shows what would be given back.
    pub(crate) async fn read_overdue(&self, workspace: &WorkspaceId) -> Result<Vec<Hold>, Fault> {
        let overdue = self.overdue_holds(workspace).await?;
        let keys: Vec<_> = overdue.iter().map(|hold_id| ItemKey::hold(workspace, hold_id)).collect();
        let items = self.get_many(&keys).await?;
        let mut holds = items.values().map(hold_item::read).collect::<Result<Vec<_>, _>>()?;
        holds.retain(|hold| hold.status == HoldStatus::Open && hold.is_over(self.now()));
        Ok(holds)
    }

    async fn overdue_holds(&self, workspace: &WorkspaceId) -> Result<Vec<Id>, Fault> {
        let (partition, now) = (due(workspace), position(self.now(), "~"));
        let items = self.before(&partition, &now, &format!("hold#{workspace}#")).await?;
        let hold = |item| match DueItem::read(item)?.what {
            Due::Hold(_, hold_id) => Ok(Some(hold_id)),
            _ => Ok(None),
        };
        items.iter().filter_map(|item| hold(item).transpose()).collect()
    }
}

impl Overdue<'_> {
    /// Gives back what a few of them keep, and says whether it is worth while to try again what the balance refused at a
    /// version.
    pub async fn give_back(&mut self, refused_at: u64) -> Result<bool, Fault> {
        if self.give_back_some().await? {
            return Ok(true);
        }
        // Others may have given them back since. In a storm the balance moves on and on, so that is believed once.
        let balance = self.store.read_sums(self.workspace).await?;
        let moved = balance.is_some_and(|balance| balance.version != refused_at);
        Ok(moved && !std::mem::replace(&mut self.tried_once_more, true))
    }

    /// Gives back what a few of them keep, and says whether there were any.
    async fn give_back_some(&self) -> Result<bool, Fault> {
        let mut holds = self.store.overdue_holds(self.workspace).await?;
        // Several who would refuse something at once begin in different places.
        let first = self.store.sources.below(u64::try_from(holds.len()).unwrap_or(1).max(1));
        holds.rotate_left(usize::try_from(first).unwrap_or(0));
        for together in holds.chunks(TOGETHER) {
            match self.store.expire_holds(self.workspace, together).await {
                Ok(expired) if expired.ended => return Ok(true),
                Ok(_) => {}
                Err(Fault::Corrupt(corrupt)) => {
                    let (workspace, error) = (self.workspace, Chain(&corrupt));
                    tracing::error!(%workspace, %error, "a hold can't be ended");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(false)
    }
}
