//! Due items: a few index partitions that hold the items with a due date, sorted by that date, and no others (M6). Open
//! holds have partitions of their own, sorted by workspace and date.
//!
//! A sweep reads each partition from its oldest date on. A handled item gets another date or none. So a sweep needs no
//! state of its own, even if it was cut short or two run at once.

use credits_core::id::{Id, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::table::Store;
use crate::table::attribute::{Item, Reader, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{
    self, DUE_SHARDS, INDEX_PK, INDEX_SK, ItemKey, PK, STUCK, due_shard, hold_position, holds_shard,
    position, read_hold_position, read_position,
};

/// The maximum number of due items in one page of a partition.
const PAGE: i32 = 100;

/// A position after every other: ids and dates begin with a letter or a digit.
const LAST_POSITION: &str = "~";

/// The delay before the retry after the first failure. Each further failure doubles it.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// The number of failures after which an item is stuck and waits for an operator.
const MAX_FAILURES: u64 = 5;

/// An item with a due date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueItem {
    pub what: Due,
    key: ItemKey,
    position: String,
}

/// The kinds of due items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    Subscription(WorkspaceId),
    Agreement(WorkspaceId),
    /// An invoice of the workspace that awaits its number.
    Invoice(WorkspaceId),
    /// A grant of the workspace that has expired: the sweep closes the balance.
    Grant(WorkspaceId),
    /// A purchase whose checkout has to be opened, was paid without an event, is out of time, or was withdrawn.
    Checkout(Id),
    /// A refund that is owed and not made yet.
    Refund(Id),
    /// An automatic top-up that was just set, has an open charge, or was declined, limited or not finished.
    AutoTopUp(WorkspaceId),
    /// The alerts of a workspace, while an expiry notice lies ahead.
    Alerts(WorkspaceId),
    /// The lanes of a busy workspace, whose balance is the due item: the sweep ends them if they are idle.
    Lanes(WorkspaceId),
    /// An expired hold.
    Hold(WorkspaceId, Id),
}

/// A list of due items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueList {
    /// The items of an index partition with dates, oldest first.
    Dated(u8),
    /// The open holds of an index partition, workspace by workspace.
    Holds(u8),
}

/// The state of a due item after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The sweep retries it later.
    Postponed,
    /// It has failed too often and waits for an operator.
    Stuck,
}

/// Items with a due date.
#[derive(Debug, Clone, Copy)]
pub struct DueItemStore<'a> {
    pub(crate) store: &'a Store,
}

impl DueItemStore<'_> {
    /// Returns every list of due items.
    pub fn lists(self) -> impl Iterator<Item = DueList> + use<> {
        (0..DUE_SHARDS).flat_map(|shard| [DueList::Dated(shard), DueList::Holds(shard)])
    }

    /// Returns a page of the items in one list that are due by an instant; empty after the last page.
    ///
    /// `after` is the last item of the previous page.
    pub async fn page(
        self,
        list: DueList,
        by: Timestamp,
        after: Option<&DueItem>,
    ) -> Result<Vec<DueItem>, Fault> {
        let start = after.map_or("", |item| item.position.as_str());
        let end = by.checked_add(SignedDuration::from_millis(1)).unwrap_or(by);
        let items = match list {
            DueList::Dated(shard) => {
                self.store.dated(&due_shard(shard), start, &position(end, ""), PAGE).await?
            }
            DueList::Holds(shard) => self.expired_holds(shard, end, start).await?,
        };
        Ok(items.iter().map(DueItem::read).collect::<Result<_, _>>()?)
    }

    /// Returns the earliest date in any list. A test clock that is moved ahead must not jump over it.
    pub async fn next(self) -> Result<Option<Timestamp>, Fault> {
        let mut next = None;
        for list in self.lists() {
            let first = match list {
                DueList::Dated(shard) => self.store.first_date(&due_shard(shard)).await?,
                DueList::Holds(shard) => self.first_expiry(shard).await?,
            };
            next = [next, first].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Returns a page of the holds that expire before `end`. Skips the other open holds: one request for each workspace
    /// that has any.
    async fn expired_holds(self, shard: u8, end: Timestamp, after: &str) -> Result<Vec<Item>, Fault> {
        let mut after = after.to_owned();
        while let Some((workspace, first)) = self.first_hold(shard, &after).await? {
            if first < end {
                let end = hold_position(&workspace, end, "");
                return self.store.dated(&holds_shard(shard), &after, &end, PAGE).await;
            }
            after = behind(&workspace);
        }
        Ok(Vec::new())
    }

    async fn first_expiry(self, shard: u8) -> Result<Option<Timestamp>, Fault> {
        let (mut earliest, mut after) = (None, String::new());
        while let Some((workspace, first)) = self.first_hold(shard, &after).await? {
            earliest = [earliest, Some(first)].into_iter().flatten().min();
            after = behind(&workspace);
        }
        Ok(earliest)
    }

    /// Returns the workspace and the expiry of the first open hold after a position.
    async fn first_hold(self, shard: u8, after: &str) -> Result<Option<(WorkspaceId, Timestamp)>, Fault> {
        let items = self.store.dated(&holds_shard(shard), after, LAST_POSITION, 1).await?;
        let Some(item) = items.first() else { return Ok(None) };
        let position = Reader(item).text(INDEX_SK)?;
        let (workspace, expires_at, _) = read_hold_position(position).ok_or(Corrupt::Attribute(INDEX_SK))?;
        let workspace = workspace.parse().map_err(|_| Corrupt::Attribute(INDEX_SK))?;
        Ok(Some((workspace, expires_at)))
    }

    /// Removes an item's due date, if it is still the one at which the item was found.
    pub async fn settle_date(self, item: &DueItem) -> Result<(), Fault> {
        self.redate(item, Expression::new().remove(INDEX_PK).remove(INDEX_SK)).await
    }

    /// Gives an item another date, if it still has the one at which it was found.
    pub async fn postpone(self, item: &DueItem, until: Timestamp) -> Result<(), Fault> {
        let (_, id) = item.date()?;
        self.redate(item, Expression::new().set(INDEX_SK, text(position(until, id)))).await
    }

    /// Counts a failure of an item: postpones the item, or makes it stuck for an operator.
    pub async fn failed(self, item: &DueItem) -> Result<Failed, Fault> {
        let kept = self.store.get(&item.key).await?.unwrap_or_default();
        let failures = kept.get("failures").and_then(|failures| failures.as_n().ok()?.parse().ok());
        let failures = failures.unwrap_or(0_u64).saturating_add(1);
        let counted = Expression::new().set("failures", number(failures));
        if failures >= MAX_FAILURES {
            let (due_at, id) = item.date()?;
            let stuck = counted.set(INDEX_PK, text(STUCK)).set(INDEX_SK, text(position(due_at, id)));
            self.redate(item, stuck).await?;
            return Ok(Failed::Stuck);
        }
        let further = u32::try_from(failures.saturating_sub(1)).unwrap_or(0);
        let pauses = i32::try_from(1_u64.checked_shl(further).unwrap_or(1));
        let pause = FIRST_PAUSE.checked_mul(pauses.unwrap_or(1)).unwrap_or(FIRST_PAUSE);
        let later = self.store.now().checked_add(pause).unwrap_or_else(|_| self.store.now());
        let (_, id) = item.date()?;
        let postponed = match &item.what {
            Due::Hold(workspace, _) => among_holds(counted, workspace, later, id),
            _ => counted.set(INDEX_SK, text(position(later, id))),
        };
        self.redate(item, postponed).await?;
        Ok(Failed::Postponed)
    }

    /// Returns the items that have failed too often, oldest first, at most 100.
    pub async fn stuck(self) -> Result<Vec<DueItem>, Fault> {
        let items = self.store.dated(STUCK, "", "9", PAGE).await?;
        Ok(items.iter().map(DueItem::read).collect::<Result<_, _>>()?)
    }

    /// Makes a stuck item due again, with no failures counted.
    pub async fn unstick(self, item: &DueItem) -> Result<(), Fault> {
        let workspace = match &item.what {
            Due::Subscription(workspace)
            | Due::Agreement(workspace)
            | Due::Invoice(workspace)
            | Due::Grant(workspace)
            | Due::AutoTopUp(workspace)
            | Due::Alerts(workspace)
            | Due::Lanes(workspace)
            | Due::Hold(workspace, _) => workspace.clone(),
            Due::Checkout(purchase) => match self.store.purchases().get(purchase).await? {
                Some(stored) => stored.purchase.workspace_id,
                None => return Ok(()),
            },
            Due::Refund(refund) => match self.store.refunds().owed(refund).await? {
                Some(stored) => stored.refund.workspace_id,
                None => return Ok(()),
            },
        };
        let again = Expression::new().remove("failures");
        let again = match &item.what {
            Due::Hold(workspace, _) => {
                let (due_at, id) = item.date()?;
                among_holds(again, workspace, due_at, id)
            }
            _ => again.set(INDEX_PK, text(keys::due(&workspace))),
        };
        self.redate(item, again).await
    }

    /// Changes an item if it still has the date at which it was found. Otherwise another caller has redated it.
    async fn redate(self, item: &DueItem, change: Expression) -> Result<(), Fault> {
        self.store.update_unless_changed(change.when(INDEX_SK, "=", text(&item.position)), &item.key).await
    }
}

/// Puts a hold among the open holds of its workspace. An older version put open holds among the other due items.
fn among_holds(change: Expression, workspace: &WorkspaceId, due_at: Timestamp, id: &str) -> Expression {
    let position = hold_position(workspace, due_at, id);
    change.set(INDEX_PK, text(keys::holds(workspace))).set(INDEX_SK, text(position))
}

/// Returns the position behind all holds of a workspace.
fn behind(workspace: &WorkspaceId) -> String {
    format!("{workspace}#{LAST_POSITION}")
}

impl DueItem {
    /// Returns the date at which the item was found, and the id in its index position.
    fn date(&self) -> Result<(Timestamp, &str), Corrupt> {
        let of_hold = read_hold_position(&self.position).filter(|_| matches!(self.what, Due::Hold(..)));
        let date = of_hold.map(|(_, due_at, id)| (due_at, id)).or_else(|| read_position(&self.position));
        date.ok_or(Corrupt::Attribute(INDEX_SK))
    }

    /// Reads a due item from the index.
    pub(crate) fn read(item: &Item) -> Result<Self, Corrupt> {
        let reader = Reader(item);
        let (pk, sk) = (reader.text(PK)?.to_owned(), reader.text(keys::SK)?.to_owned());
        let (kind, rest) = pk.split_once('#').ok_or(Corrupt::Attribute(PK))?;
        let workspace =
            || rest.split('#').next().unwrap_or_default().parse().map_err(|_| Corrupt::Attribute(PK));
        let what = match kind {
            "subscription" => Due::Subscription(workspace()?),
            "agreement" => Due::Agreement(workspace()?),
            "invoice" => Due::Invoice(workspace()?),
            "grant" => Due::Grant(workspace()?),
            "auto_top_up" => Due::AutoTopUp(workspace()?),
            "alerts" => Due::Alerts(workspace()?),
            "balance" => Due::Lanes(workspace()?),
            "hold" => {
                let hold_id = rest.split_once('#').and_then(|(_, hold_id)| hold_id.parse().ok());
                Due::Hold(workspace()?, hold_id.ok_or(Corrupt::Attribute(PK))?)
            }
            "purchase" => Due::Checkout(rest.parse().map_err(|_| Corrupt::Attribute(PK))?),
            "refund" => Due::Refund(rest.parse().map_err(|_| Corrupt::Attribute(PK))?),
            _ => return Err(Corrupt::Attribute(PK)),
        };
        let position = reader.text(INDEX_SK)?.to_owned();
        Ok(Self { what, key: ItemKey { pk, sk: sk.into() }, position })
    }
}
