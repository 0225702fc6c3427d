//! The sweep: processes every due item within the available time (M6).

use std::collections::HashMap;
use std::time::Duration;

use credits_core::id::WorkspaceId;
use credits_store::Fault;
use credits_store::due::{Due, DueItem, DueList, Failed};
use credits_store::error::Chain;
use tokio::task::{Id as TaskId, JoinSet};
use tokio::time::Instant;

use crate::billing::{Billing, BillingFault};

/// The maximum number of items in progress.
const AT_ONCE: usize = 16;

/// The time that must be left to start an item: two requests to Stripe and the writes.
const TIME_FOR_ONE: Duration = Duration::from_secs(25);

/// The counts of one sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    pub done: u64,
    /// Items left for the next sweep, because the store or Stripe is down or busy.
    pub left: u64,
    /// Items that failed and are retried later.
    pub postponed: u64,
    /// Items that failed too often and wait for an operator.
    pub stuck: u64,
    /// Whether too little time was left to start every due item.
    pub cut_short: bool,
}

/// The outcome of one item.
enum ItemOutcome {
    Done,
    Left,
    Failed(Failed),
}

impl Billing {
    /// Processes due items until the deadline. A failure of one item does not delay the others.
    pub async fn sweep(&self, until: Instant) -> Result<Swept, Fault> {
        // An item that gets a new date meanwhile is left to the next sweep.
        let now = self.store.now();
        let mut swept = Swept::default();
        let mut working = Working { tasks: JoinSet::new(), items: HashMap::new() };
        let mut lists: Vec<DueList> = self.store.due_items().lists().collect();
        // Concurrent sweeps start at different lists.
        let first = self.store.sources().below(u64::try_from(lists.len()).unwrap_or(1));
        lists.rotate_left(usize::try_from(first).unwrap_or(0));
        for list in lists {
            let mut last: Option<DueItem> = None;
            loop {
                let page = self.store.due_items().page(list, now, last.as_ref()).await?;
                let Some(end) = page.last().cloned() else { break };
                last = Some(end);
                for item in page {
                    if until.saturating_duration_since(Instant::now()) < TIME_FOR_ONE {
                        swept.cut_short = true;
                        self.collect(&mut working, &mut swept, 0).await;
                        return Ok(swept);
                    }
                    self.collect(&mut working, &mut swept, AT_ONCE.saturating_sub(1)).await;
                    let (billing, due) = (self.clone(), item.clone());
                    let task = working.tasks.spawn(async move { billing.attend(&due).await });
                    working.items.insert(task.id(), item);
                }
            }
        }
        self.collect(&mut working, &mut swept, 0).await;
        Ok(swept)
    }

    /// Makes stuck items due again, oldest first and at most one page of them. Returns their number.
    pub async fn unstick(&self) -> Result<usize, Fault> {
        let stuck = self.store.due_items().stuck().await?;
        for item in &stuck {
            self.store.due_items().unstick(item).await?;
        }
        Ok(stuck.len())
    }

    async fn attend(&self, item: &DueItem) -> Result<(), BillingFault> {
        match &item.what {
            Due::Subscription(workspace) => self.renew(workspace).await,
            Due::Agreement(workspace) => {
                self.store.agreements().advance(workspace).await?;
                self.number_invoices(workspace).await
            }
            Due::Invoice(workspace) => self.number_invoices(workspace).await,
            Due::Grant(workspace) => {
                if self.store.balances().close(workspace).await? {
                    self.store.due_items().settle_date(item).await?;
                }
                Ok(())
            }
            Due::AutoTopUp(workspace) => self.top_up_automatically(workspace).await,
            Due::Alerts(workspace) => Ok(self.store.alerts().notice_expiry(workspace).await?),
            Due::Lanes(workspace) => {
                if let Some(until) = self.store.lanes().end_idle(workspace).await? {
                    self.store.due_items().postpone(item, until).await?;
                }
                Ok(())
            }
            Due::Hold(workspace, hold_id) => {
                self.store.holds().expire(workspace, hold_id).await?;
                Ok(())
            }
            Due::Checkout(purchase_id) => {
                if self.attend_checkout(purchase_id).await? {
                    self.store.due_items().settle_date(item).await?;
                }
                Ok(())
            }
            Due::Refund(refund_id) => self.make_refund(refund_id).await,
        }
    }

    /// Numbers a workspace's invoices, one workspace at a time. All workspaces share one counter, and concurrent
    /// transactions on it would cancel each other.
    async fn number_invoices(&self, workspace: &WorkspaceId) -> Result<(), BillingFault> {
        let _turn = self.numbering.lock().await;
        Ok(self.store.invoices().number_all(workspace).await?)
    }

    /// Waits until at most `most` items are in progress, and counts those that have ended.
    async fn collect(&self, working: &mut Working, swept: &mut Swept, most: usize) {
        while working.tasks.len() > most {
            let Some(ended) = working.tasks.join_next_with_id().await else { return };
            let (id, outcome) = match ended {
                Ok((id, Ok(()))) => (id, Some(ItemOutcome::Done)),
                Ok((id, Err(fault))) if fault.is_passing() => {
                    tracing::warn!(error = %Chain(&fault), "a due item is left for the next sweep");
                    (id, Some(ItemOutcome::Left))
                }
                Ok((id, Err(fault))) => {
                    tracing::error!(error = %Chain(&fault), "a due item failed");
                    (id, None)
                }
                Err(panicked) => (panicked.id(), None),
            };
            let item = working.items.remove(&id);
            let outcome = match (outcome, item) {
                (Some(outcome), _) => outcome,
                (None, Some(item)) => self.set_aside(&item).await,
                (None, None) => ItemOutcome::Left,
            };
            swept.count(&outcome);
        }
    }

    async fn set_aside(&self, item: &DueItem) -> ItemOutcome {
        match self.store.due_items().failed(item).await {
            Ok(failed) => ItemOutcome::Failed(failed),
            Err(fault) => {
                tracing::error!(error = %Chain(&fault), "a failure of a due item could not be recorded");
                ItemOutcome::Left
            }
        }
    }
}

/// The items in progress.
struct Working {
    tasks: JoinSet<Result<(), BillingFault>>,
    items: HashMap<TaskId, DueItem>,
}

impl Swept {
    fn count(&mut self, outcome: &ItemOutcome) {
        let counter = match outcome {
            ItemOutcome::Done => &mut self.done,
            ItemOutcome::Left => &mut self.left,
            ItemOutcome::Failed(Failed::Postponed) => &mut self.postponed,
            ItemOutcome::Failed(Failed::Stuck) => &mut self.stuck,
        };
        *counter = counter.saturating_add(1);
    }
}
