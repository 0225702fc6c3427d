//! The sweep: everything whose date has come, wherever it stands, within the time there is (M6).

use std::collections::HashMap;
use std::time::Duration;

use credits_core::id::WorkspaceId;
use credits_store::Fault;
use credits_store::due::{Due, DueItem, Failed};
use credits_store::error::Chain;
use tokio::task::{Id as TaskId, JoinSet};
use tokio::time::Instant;

use crate::{Billing, BillingFault};

/// How many items are worked on at once.
const AT_ONCE: usize = 16;

/// What one item may take: two requests to the provider, and what is written.
const TIME_FOR_ONE: Duration = Duration::from_secs(25);

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many items were done.
    pub done: u64,
    /// How many were left for the next sweep, since something that we stand on is down or busy.
    pub left: u64,
    /// How many failed, and are tried again later.
    pub postponed: u64,
    /// How many have failed too often, and wait for an operator.
    pub stuck: u64,
    /// Whether time ran out before all was looked at.
    pub cut_short: bool,
}

/// What became of one item.
enum Outcome {
    Done,
    Left,
    Failed(Failed),
}

impl Billing {
    /// Works through what is due until the time is up. One item's failure holds up no other.
    pub async fn sweep(&self, until: Instant) -> Result<Swept, Fault> {
        // What gets another date meanwhile is the next sweep's.
        let now = self.store.now();
        let mut swept = Swept::default();
        let mut working = Working { tasks: JoinSet::new(), items: HashMap::new() };
        let shards: Vec<u8> = self.store.due_shards().collect();
        // Two sweeps at once begin in different places.
        let first = self.store.sources().below(u64::try_from(shards.len()).unwrap_or(1));
        let first = usize::try_from(first).unwrap_or(0);
        for shard in shards.iter().cycle().skip(first).take(shards.len()) {
            let mut last: Option<DueItem> = None;
            loop {
                let page = self.store.due(*shard, now, last.as_ref()).await?;
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

    /// Puts everything that is stuck back among what is due, and says how much that was.
    pub async fn unstick(&self) -> Result<usize, Fault> {
        let stuck = self.store.stuck().await?;
        for item in &stuck {
            self.store.unstick(item).await?;
        }
        Ok(stuck.len())
    }

    async fn attend(&self, item: &DueItem) -> Result<(), BillingFault> {
        match &item.what {
            Due::Subscription(workspace) => self.renew(workspace).await,
            Due::Agreement(workspace) => {
                self.store.advance_agreement(workspace).await?;
                self.number_invoices(workspace).await
            }
            Due::Invoice(workspace) => self.number_invoices(workspace).await,
            Due::Grant(workspace) => {
                if self.store.close_balance(workspace).await? {
                    self.store.settle_date(item).await?;
                }
                Ok(())
            }
            Due::AutoTopUp(workspace) => self.top_up_automatically(workspace).await,
            Due::Hold(workspace, hold_id) => {
                self.store.expire_hold(workspace, hold_id).await?;
                Ok(())
            }
            Due::Checkout(purchase_id) => {
                if self.attend_checkout(purchase_id).await? {
                    self.store.settle_date(item).await?;
                }
                Ok(())
            }
            Due::Refund(refund_id) => self.make_refund(refund_id).await,
        }
    }

    /// Numbers a workspace's invoices, one workspace at a time: all take the next number of one counter, and two
    /// transactions on it at once would cancel each other.
    async fn number_invoices(&self, workspace: &WorkspaceId) -> Result<(), BillingFault> {
        let _turn = self.numbering.lock().await;
        Ok(self.store.number_invoices(workspace).await?)
    }

    /// Waits until at most so many items are being worked on, and counts those that are done.
    async fn collect(&self, working: &mut Working, swept: &mut Swept, most: usize) {
        while working.tasks.len() > most {
            let Some(ended) = working.tasks.join_next_with_id().await else { return };
            let (id, outcome) = match ended {
                Ok((id, Ok(()))) => (id, Some(Outcome::Done)),
                Ok((id, Err(fault))) if fault.is_passing() => {
                    tracing::warn!(error = %Chain(&fault), "a due item is left for the next sweep");
                    (id, Some(Outcome::Left))
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
                (None, None) => Outcome::Left,
            };
            swept.count(&outcome);
        }
    }

    async fn set_aside(&self, item: &DueItem) -> Outcome {
        match self.store.failed(item).await {
            Ok(failed) => Outcome::Failed(failed),
            Err(fault) => {
                tracing::error!(error = %Chain(&fault), "a failure could not be counted");
                Outcome::Left
            }
        }
    }
}

/// What is being worked on.
struct Working {
    tasks: JoinSet<Result<(), BillingFault>>,
    items: HashMap<TaskId, DueItem>,
}

impl Swept {
    fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Done => &mut self.done,
            Outcome::Left => &mut self.left,
            Outcome::Failed(Failed::Postponed) => &mut self.postponed,
            Outcome::Failed(Failed::Stuck) => &mut self.stuck,
        };
        *counter = counter.saturating_add(1);
    }
}
