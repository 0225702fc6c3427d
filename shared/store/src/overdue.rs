//! Overdue holds: what they keep is given back before anything is refused for want of it.

use credits_core::id::{Id, WorkspaceId};

use crate::Store;
use crate::due::{Due, DueItem};
use crate::error::{Chain, Fault};
use crate::keys::{due, position};

/// How many are given back by one transaction: full ones have as many calls as one entry can tell.
const TOGETHER: usize = 5;

/// A workspace's overdue holds, for who would refuse something while any is open.
pub(crate) struct Overdue<'a> {
    store: &'a Store,
    workspace: &'a WorkspaceId,
    /// Whether some were found that others had given back.
    found_closed: bool,
}

impl Store {
    pub(crate) fn overdue<'a>(&'a self, workspace: &'a WorkspaceId) -> Overdue<'a> {
        Overdue { store: self, workspace, found_closed: false }
    }

    /// Gives back what all of them keep, as far as it can be done now.
    pub(crate) async fn give_back_overdue(&self, workspace: &WorkspaceId) -> Result<(), Fault> {
        let (mut overdue, mut attempts) = (self.overdue(workspace), self.attempts());
        while overdue.give_back().await? {
            attempts.at_once()?;
        }
        Ok(())
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
    /// Gives back what a few of them keep, and says whether it is worth while to try again what would be refused.
    pub async fn give_back(&mut self) -> Result<bool, Fault> {
        let mut holds = self.store.overdue_holds(self.workspace).await?;
        // Several who would refuse something at once begin in different places.
        let first = self.store.sources.below(u64::try_from(holds.len()).unwrap_or(1).max(1));
        holds.rotate_left(usize::try_from(first).unwrap_or(0));
        let mut closed = false;
        for together in holds.chunks(TOGETHER) {
            match self.store.expire_holds(self.workspace, together).await {
                Ok(expired) if expired.ended => return Ok(true),
                Ok(expired) => closed |= expired.closed,
                Err(Fault::Corrupt(corrupt)) => {
                    let (workspace, error) = (self.workspace, Chain(&corrupt));
                    tracing::error!(%workspace, %error, "a hold can't be ended");
                }
                Err(fault) => return Err(fault),
            }
        }
        // The index may tell of them still; so they are believed to be new once.
        Ok(closed && !std::mem::replace(&mut self.found_closed, true))
    }
}
