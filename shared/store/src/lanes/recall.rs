//! Recalls: each lane is stopped by itself, then they are settled, and the last settlement is left to the caller.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::id::WorkspaceId;
use credits_core::lane::{Lane, LaneSettlement, OpenLanes, STOPPED};
use credits_core::posting::{Posting, UsageMark};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::error::{Corrupt, Fault};
use crate::items::{balance_item, lane_item};
use crate::lanes::LaneStore;
use crate::table::Store;
use crate::table::keys::ItemKey;
use crate::table::transaction::{Reason, TransactionOutcome, Updated};

/// Lanes that are stopped concurrently.
const AT_A_TIME: usize = 64;

/// The items that a transaction has room for, beside the balance.
const ROOM: usize = 99;

/// How long stopped lanes are left to the caller that stopped them, before a recall for nothing but more lanes.
const GRACE: SignedDuration = SignedDuration::from_secs(5);

/// How long a call leaves a recall to the caller that leads it. After that the leader has probably died.
const MAX_RECALL: SignedDuration = SignedDuration::from_millis(1_500);

/// The result of a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecallStep {
    /// The last settlement is on board of the call.
    Ready,
    /// Another caller's recall is under way.
    OfAnotherCaller,
    /// The lanes have changed. The caller reads the balance again.
    Changed,
}

/// A stopped lane, and the call that stopped it.
struct Stopped {
    lane: Lane,
    by: StoppedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoppedBy {
    ThisCall,
    /// Or by an attempt of this call whose response was lost.
    Another,
}

impl LaneStore<'_> {
    /// Stops all lanes that a balance lists, settles all but the last ones, and takes the last settlement on board. The caller
    /// writes it together with its posting and `other_writes`.
    ///
    /// The caller that stops the first lane leads the recall. Concurrent calls wait for it, so that their
    /// settlements don't conflict. If the lanes stay stopped, the leader has died, and another call continues.
    pub(crate) async fn recall(
        self,
        workspace: &WorkspaceId,
        stored: &Balance,
        other_writes: usize,
        on_board: &mut Option<LaneSettlement>,
    ) -> Result<RecallStep, Fault> {
        let generation = stored.lane_generation;
        let Some((first, stop)) = self.stop_first(workspace, generation).await? else {
            return Ok(RecallStep::Changed);
        };
        if first.by == StoppedBy::Another {
            self.store.known_lanes.mark_stopped(workspace, generation, self.store.now());
            if self.waits_for_another(workspace, generation) {
                return Ok(RecallStep::OfAnotherCaller);
            }
        }
        metrics::counter!("LaneRecalls").increment(1);
        *on_board = self.settle_to_last(workspace, stop, other_writes).await?;
        Ok(if on_board.is_some() { RecallStep::Ready } else { RecallStep::Changed })
    }

    /// Stops the first lane of a generation, so that no further lanes are added to it. Returns `None` if its lanes are settled.
    async fn stop_first(
        self,
        workspace: &WorkspaceId,
        generation: u64,
    ) -> Result<Option<(Stopped, StopOrder)>, Fault> {
        let (stored, database_now) = self.store.balances().read_stored_dated(workspace).await?;
        let stop = StopOrder { generation, database_now };
        let Some(listed) = listed_of(stored.as_ref(), generation) else { return Ok(None) };
        let first = stop_lane(self.store, workspace, listed.first, stop).await?;
        Ok(first.map(|first| (first, stop)))
    }

    /// Stops the lanes and settles all but the last ones. Returns the last settlement; `None` if the lanes have changed.
    async fn settle_to_last(
        self,
        workspace: &WorkspaceId,
        stop: StopOrder,
        other_writes: usize,
    ) -> Result<Option<LaneSettlement>, Fault> {
        let stored = self.store.balances().read_stored(workspace).await?;
        let Some(mut listing) = stored.filter(|stored| listed_of(Some(stored), stop.generation).is_some())
        else {
            return Ok(None);
        };
        let Some(mut stopped) = self.stop_all(workspace, &listing, stop).await? else { return Ok(None) };
        while stopped.len() > ROOM.saturating_sub(other_writes) {
            let rest = stopped.split_off(ROOM.min(stopped.len().saturating_sub(1)));
            let Some(settlement) = LaneSettlement::of(&listing, stopped) else { return Ok(None) };
            if !self.settle(workspace, &settlement).await? {
                return Ok(None);
            }
            let settled = settlement.posting().map_err(Corrupt::from)?.apply(&listing, &listing.last);
            let Ok(settled) = settled else { return Ok(None) };
            (listing, stopped) = (settled, rest);
        }
        Ok(LaneSettlement::of(&listing, stopped))
    }

    /// Recalls all lanes that a balance lists, without a posting on board.
    pub(crate) async fn end(self, workspace: &WorkspaceId, stored: &Balance) -> Result<RecallStep, Fault> {
        let mut last = None;
        let step = self.recall(workspace, stored, 0, &mut last).await?;
        if let Some(settlement) = last {
            self.settle(workspace, &settlement).await?;
        }
        Ok(step)
    }

    /// Recalls all lanes like [`Self::end`], and continues another caller's recall at once.
    pub(crate) async fn end_now(self, workspace: &WorkspaceId, stored: &Balance) -> Result<(), Fault> {
        let Some((_, stop)) = self.stop_first(workspace, stored.lane_generation).await? else {
            return Ok(());
        };
        if let Some(settlement) = self.settle_to_last(workspace, stop, 0).await? {
            self.settle(workspace, &settlement).await?;
        }
        Ok(())
    }

    /// Returns whether a recall of a generation is under way and still left to its leader.
    pub(super) fn waits_for_another(self, workspace: &WorkspaceId, generation: u64) -> bool {
        let since = self.store.known_lanes.stopped_since(workspace, generation);
        since.is_some_and(|since| self.store.now().duration_since(since) < MAX_RECALL)
    }

    /// Ends a workspace's lanes if all have ended, or if a recall was left unfinished. Returns when to try again; `None` if
    /// no lane is open.
    pub async fn end_idle(self, workspace: &WorkspaceId) -> Result<Option<Timestamp>, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let (stored, database_now) = self.store.balances().read_stored_dated(workspace).await?;
            let Some(stored) = stored.filter(|stored| stored.lanes.is_some()) else { return Ok(None) };
            let lanes = self.read(workspace, &stored).await?;
            let now = self.store.now().min(database_now);
            match lanes.values().map(leave_until).max() {
                Some(until) if until > now => return Ok(Some(until)),
                _ => self.end_now(workspace, &stored).await?,
            }
            attempts.retry_now()?;
        }
    }

    /// Sends a settlement without a posting on board. Returns whether it is written.
    pub(super) async fn settle(
        self,
        workspace: &WorkspaceId,
        settlement: &LaneSettlement,
    ) -> Result<bool, Fault> {
        let posting = settlement.posting().map_err(Corrupt::from)?;
        let name = name_of(settlement);
        let mut writes = vec![balance_item::write_of(&self.store.table, workspace, &posting, &name)?];
        writes.extend(self.deletions(workspace, settlement)?);
        let mut attempts = self.store.attempts();
        attempts.hurry();
        self.store.transact_unless_changed_within(attempts, writes).await
    }

    fn deletions(
        self,
        workspace: &WorkspaceId,
        settlement: &LaneSettlement,
    ) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let lanes = settlement.lanes().iter();
        lanes.map(|lane| lane_item::delete(&self.store.table, workspace, lane)).collect()
    }

    /// Stops all lanes that a balance lists; `None` if one of them is settled or of another generation.
    async fn stop_all(
        self,
        workspace: &WorkspaceId,
        stored: &Balance,
        stop: StopOrder,
    ) -> Result<Option<Vec<Lane>>, Fault> {
        let Some(listed) = stored.lanes else { return Ok(None) };
        let mut stopped = Vec::new();
        let numbers: Vec<u16> = listed.numbers().collect();
        for some in numbers.chunks(AT_A_TIME) {
            let mut running = JoinSet::new();
            for number in some {
                let (store, workspace, number) = (self.store.clone(), workspace.clone(), *number);
                running.spawn(async move { stop_lane(&store, &workspace, number, stop).await });
            }
            for one in running.join_all().await {
                let Some(Stopped { lane, .. }) = one? else { return Ok(None) };
                stopped.push(lane);
            }
        }
        stopped.sort_by_key(|lane| lane.number);
        Ok(Some(stopped))
    }
}

/// A generation whose lanes are stopped, and when, by DynamoDB's clock.
#[derive(Debug, Clone, Copy)]
struct StopOrder {
    generation: u64,
    database_now: Timestamp,
}

/// Returns the lanes that a balance lists, if they are of a generation.
fn listed_of(stored: Option<&Balance>, generation: u64) -> Option<OpenLanes> {
    stored.filter(|stored| stored.lane_generation == generation)?.lanes
}

/// Stops a lane; `None` if it is settled, or if its number is in use by another generation.
async fn stop_lane(
    store: &Store,
    workspace: &WorkspaceId,
    number: u16,
    stop: StopOrder,
) -> Result<Option<Stopped>, Fault> {
    let mut attempts = store.attempts();
    let key = ItemKey::lane(workspace, number);
    let StopOrder { generation, database_now } = stop;
    loop {
        let write = lane_item::stop_write(&store.table, workspace, number, generation, database_now)?;
        match store.update_once(write).await? {
            Updated::Written(_) => {}
            // It is stopped already, unless its generation is another.
            Updated::Refused(Some(item)) => {
                let lane = lane_item::read(&item)?;
                let stopped = (lane.generation == generation).then_some(lane);
                return Ok(stopped.map(|lane| Stopped { lane, by: StoppedBy::Another }));
            }
            Updated::Refused(None) => return Ok(None),
            Updated::Busy => {
                attempts.retry_after_conflict().await?;
                continue;
            }
            Updated::Unknown(error) => {
                attempts.retry_after_failure(error).await?;
                continue;
            }
        }
        // A stopped lane changes only by its settlement.
        let lane = store.get(&key).await?.as_ref().map(lane_item::read).transpose()?;
        let stopped = lane.filter(|lane| lane.generation == generation && lane.ends_at == STOPPED);
        return Ok(stopped.map(|lane| Stopped { lane, by: StoppedBy::ThisCall }));
    }
}

/// Returns until when a lane is left alone: until it ends, or until its recall should be finished.
pub(super) fn leave_until(lane: &Lane) -> Timestamp {
    match lane.stopped_at {
        Some(stopped_at) => stopped_at.checked_add(GRACE).unwrap_or(stopped_at),
        None => lane.ends_at,
    }
}

/// Returns what a balance records in `last` for a settlement without a posting.
fn name_of(settlement: &LaneSettlement) -> String {
    let rest = if settlement.is_last() { 0 } else { settlement.lanes().len() };
    format!("lanes#{}#{rest}", settlement.generation())
}

impl Store {
    /// Sends one transaction of a posting, its other writes, and a settlement that is on board. Returns the reasons of the
    /// posting's own writes: the balance's first, then those of `others`.
    ///
    /// Takes the settlement off board once it is written, or if the lanes have changed. Then the balance's reason is `Busy`, so
    /// that the caller retries without it.
    pub(crate) async fn transact_posting(
        &self,
        workspace: &WorkspaceId,
        posting: &Posting,
        entry_key: &str,
        others: Vec<TransactWriteItem>,
        on_board: &mut Option<LaneSettlement>,
    ) -> Result<TransactionOutcome, Fault> {
        let Some(settlement) = on_board.as_ref() else {
            let mut writes = vec![balance_item::write_of(&self.table, workspace, posting, entry_key)?];
            writes.extend(others);
            return self.transact(writes).await;
        };
        let together = posting.clone().with_settlement(settlement).map_err(Corrupt::from)?;
        // The stream's readers count what the entry in `last` consumed. A posting that consumes nothing has none, or one that is
        // written later.
        let name = name_of(settlement);
        let has_entry =
            !posting.movement.consumed.is_empty() || posting.movement.usage_mark == UsageMark::Marked;
        let last = if has_entry { entry_key } else { &name };
        let mut writes = vec![balance_item::write_of(&self.table, workspace, &together, last)?];
        let own = others.len().saturating_add(1);
        writes.extend(others);
        writes.extend(self.lanes().deletions(workspace, settlement)?);
        let outcome = self.transact(writes).await?;
        let TransactionOutcome::Cancelled(mut reasons) = outcome else {
            if matches!(outcome, TransactionOutcome::Written) {
                *on_board = None;
            }
            return Ok(outcome);
        };
        let of_lanes = reasons.split_off(own.min(reasons.len()));
        let lanes_changed = of_lanes.iter().any(|reason| matches!(reason, Reason::Condition(_)))
            || is_of_other_lanes(&together, reasons.first())?;
        let busy = of_lanes.iter().any(|reason| matches!(reason, Reason::Busy));
        if lanes_changed {
            *on_board = None;
        }
        if (lanes_changed || busy)
            && let Some(first) = reasons.first_mut()
        {
            *first = Reason::Busy;
        }
        Ok(TransactionOutcome::Cancelled(reasons))
    }
}

/// Returns whether the balance has refused a settlement because its lanes are others.
fn is_of_other_lanes(posting: &Posting, reason: Option<&Reason>) -> Result<bool, Corrupt> {
    let Some(Reason::Condition(Some(item))) = reason else { return Ok(false) };
    Ok(!posting.condition.accepts_lanes_of(&balance_item::read(item)?))
}
