//! Attempts on a lane: the writes of a debit, with the lane in place of the balance.

use credits_core::credits::CallPrice;
use credits_core::lane::{Lane, STOPPED};
use credits_core::ledger::Entry;
use credits_core::own_prices::{OtherPrices, PricedWith};
use jiff::Timestamp;

use crate::error::{Chain, Fault};
use crate::items::lane_item::{self, LaneDebit};
use crate::lanes::MAX_WITHOUT_CHECK;
use crate::posting::{
    CONFLICTS_PER_OPENING, Course, Place, PostingOrder, PostingStore, Unposted, entry_under_key,
};
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// One attempt on a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneAttempt {
    pub lane: u16,
    pub amount: CallPrice,
    pub now: Timestamp,
}

impl PostingStore<'_> {
    /// Sends one attempt on a lane. Returns the entry once it is written, and `None` to retry, perhaps elsewhere.
    pub(super) async fn attempt_on_lane(
        self,
        course: &mut Course<'_>,
        attempt: LaneAttempt,
        entry: &Entry,
    ) -> Result<Option<Entry>, Unposted> {
        let (order, LaneAttempt { lane, amount, now }) = (course.order, attempt);
        let debit = LaneDebit {
            number: lane,
            amount,
            priced_with: order.priced_with,
            now,
            entry_key: order.key.name(),
        };
        let mut writes = vec![lane_item::debit_write(&self.store.table, order.workspace, debit)?];
        writes.extend(self.other_writes(order, entry, Place::Lane(lane))?);
        let reasons = match self.store.transact(writes).await? {
            TransactionOutcome::Written => return Ok(Some(entry.clone())),
            TransactionOutcome::Unknown(error) => {
                course.attempts.retry_after_failure(error).await?;
                return Ok(None);
            }
            TransactionOutcome::Cancelled(reasons) => reasons,
        };
        if let Some(entry) = entry_under_key(order, &reasons, entry)? {
            return Ok(Some(entry));
        }
        let busy = is_busy(&reasons);
        match reasons.into_iter().next() {
            Some(Reason::Condition(item)) if !busy => {
                let stored = item.as_ref().map(lane_item::read).transpose()?;
                if let Some(other) = other_prices(order, stored.as_ref(), now) {
                    return Err(Unposted::OtherPrices(other));
                }
                self.leave_lane(course, attempt, stored.as_ref()).await?;
            }
            _ => self.change_lane(course, attempt).await?,
        }
        Ok(None)
    }

    /// Handles a lane that refuses a debit: refills it, or leaves the call to the balance, which knows of other lanes.
    /// While a recall is under way, leaves the balance to it.
    async fn leave_lane(
        self,
        course: &mut Course<'_>,
        attempt: LaneAttempt,
        stored: Option<&Lane>,
    ) -> Result<(), Fault> {
        let LaneAttempt { lane, amount, now } = attempt;
        let workspace = course.order.workspace;
        let is_open = stored.is_some_and(|stored| stored.ends_at > now);
        if is_open && Box::pin(self.store.lanes().refill(workspace, lane, amount)).await? {
            return course.attempts.retry_now();
        }
        course.stays_at_balance = true;
        self.store.known_lanes.return_busy(workspace, lane);
        course.place = Place::Balance;
        match stored {
            Some(stopped) if stopped.ends_at == STOPPED => {
                self.store.known_lanes.mark_stopped(workspace, stopped.generation, self.store.now());
                course.reads_first = true;
                return course.attempts.retry_after_recall().await;
            }
            Some(_) if is_open => {}
            _ => self.store.known_lanes.forget(workspace),
        }
        course.attempts.retry_now()
    }

    /// Takes another lane after a conflict. If conflicts last, adds lanes.
    async fn change_lane(self, course: &mut Course<'_>, attempt: LaneAttempt) -> Result<(), Fault> {
        let LaneAttempt { lane, amount, .. } = attempt;
        let workspace = course.order.workspace;
        course.lane_conflicts = course.lane_conflicts.saturating_add(1);
        if course.lane_conflicts.is_multiple_of(CONFLICTS_PER_OPENING) && course.covering.is_empty() {
            Box::pin(self.store.lanes().extend(workspace, amount)).await?;
        }
        let covering = course.covering.pop();
        let next = covering.or_else(|| self.store.known_lanes.take(workspace, &self.store.sources));
        self.store.known_lanes.return_busy(workspace, lane);
        course.place = next.map_or(Place::Balance, Place::Lane);
        if course.lane_conflicts == 1 {
            course.attempts.retry_elsewhere()
        } else {
            course.attempts.retry_after_conflict().await
        }
    }

    /// Returns a lane after a debit, and lets it last longer if its end is near.
    pub(super) async fn end_use_of(self, course: &Course<'_>, lane: u16) {
        let workspace = course.order.workspace;
        if course.lane_conflicts == 0 {
            self.store.known_lanes.return_quiet(workspace, lane);
        } else {
            self.store.known_lanes.return_busy(workspace, lane);
        }
        if self.store.known_lanes.should_prolong(workspace, lane, self.store.now(), MAX_WITHOUT_CHECK) {
            // The debit is written. If the lane is not prolonged, it ends earlier.
            if let Err(fault) = Box::pin(self.store.lanes().prolong(workspace, lane)).await {
                tracing::warn!(%workspace, error = %Chain(&fault), "a lane was not prolonged");
            }
        }
    }
}

/// Returns the version of the workspace's own prices if an open lane refuses a debit because of it.
fn other_prices(order: &PostingOrder<'_>, stored: Option<&Lane>, now: Timestamp) -> Option<OtherPrices> {
    let lane = stored.filter(|lane| lane.ends_at > now)?;
    let wanted = order.priced_with?;
    (wanted != PricedWith::from(lane.pricing)).then_some(OtherPrices { current: lane.pricing })
}
