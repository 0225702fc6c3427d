//! Opening and extension of lanes, refills, and their prolongation. A call that met conflicts does it for all callers.

use credits_core::balance::Balance;
use credits_core::credits::CallPrice;
use credits_core::id::WorkspaceId;
use credits_core::lane::{Allotment, LaneRequest, MAX_LANES};
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::items::{balance_item, lane_item};
use crate::lanes::recall::leave_until;
use crate::lanes::{LASTS, LaneStore};
use crate::table::keys::ItemKey;
use crate::table::transaction::TransactionOutcome;

/// Lanes that an opening creates.
const FIRST_LANES: u16 = 16;

/// Lanes that one extension adds at most. A transaction has room for 100 items.
const MAX_ADDED: u16 = 64;

/// The name of an allotment in a balance's `last`, which has no ledger entry.
const ALLOTTED: &str = "lanes#allotted";

impl LaneStore<'_> {
    /// Opens lanes for a busy workspace, if enough can be spared. Sends one transaction, which may meet a conflict itself.
    ///
    /// Lanes that have ended are settled first. Lanes that were stopped just now are left to the caller that stopped them,
    /// since it settles them together with its own posting.
    pub(crate) async fn open(self, workspace: &WorkspaceId, debit: CallPrice) -> Result<(), Fault> {
        let (stored, mut database_now) = self.store.balances().read_stored_dated(workspace).await?;
        let Some(mut stored) = stored else { return Ok(()) };
        if stored.lanes.is_some() {
            let lanes = self.read(workspace, &stored).await?;
            let now = self.store.now().min(database_now);
            if lanes.values().any(|lane| leave_until(lane) > now) {
                self.store.known_lanes.learn(workspace, &stored);
                return Ok(());
            }
            self.end_now(workspace, &stored).await?;
            let (read, answered_at) = self.store.balances().read_stored_dated(workspace).await?;
            (stored, database_now) = (read.unwrap_or_default(), answered_at);
        }
        if self.store.lane_opening == LaneOpening::Never {
            return Ok(());
        }
        let request = self.request(FIRST_LANES, debit, database_now);
        let opening = stored.open_lanes(request).map_err(Corrupt::from)?;
        self.allot(workspace, &stored, opening).await
    }

    /// Doubles the number of lanes, if enough can be spared.
    pub(crate) async fn extend(self, workspace: &WorkspaceId, debit: CallPrice) -> Result<(), Fault> {
        let (stored, database_now) = self.store.balances().read_stored_dated(workspace).await?;
        let Some(stored) = stored else { return Ok(()) };
        let Some(listed) = stored.lanes else { return Ok(()) };
        self.store.known_lanes.learn(workspace, &stored);
        let open = listed.end.saturating_sub(listed.first);
        let room = MAX_LANES.saturating_sub(listed.end.saturating_sub(1));
        let count = open.min(room).min(MAX_ADDED);
        if count == 0 {
            return Ok(());
        }
        let extension = stored.extend_lanes(self.request(count, debit, database_now));
        self.allot(workspace, &stored, extension.map_err(Corrupt::from)?).await
    }

    /// Gives a lane more credits of the balance. Returns whether it has them.
    pub(crate) async fn refill(
        self,
        workspace: &WorkspaceId,
        number: u16,
        debit: CallPrice,
    ) -> Result<bool, Fault> {
        let item = self.store.get_recent(&ItemKey::lane(workspace, number)).await?;
        let Some(lane) = item.as_ref().map(lane_item::read).transpose()? else { return Ok(false) };
        let (stored, database_now) = self.store.balances().read_stored_dated(workspace).await?;
        let Some(stored) = stored else { return Ok(false) };
        let now = self.store.now().max(database_now);
        let refill = stored.refill_lane(debit, now).map_err(Corrupt::from)?;
        let Some((credits, posting)) = refill else { return Ok(false) };
        let writes = vec![
            balance_item::write_of(&self.store.table, workspace, &posting, ALLOTTED)?,
            lane_item::refill_write(&self.store.table, workspace, &lane, credits, now)?,
        ];
        Ok(matches!(self.store.transact(writes).await?, TransactionOutcome::Written))
    }

    /// Lets a lane in use last longer, if its end is near.
    pub(crate) async fn prolong(self, workspace: &WorkspaceId, number: u16) -> Result<(), Fault> {
        let (item, database_now) = self.store.get_dated(&ItemKey::lane(workspace, number)).await?;
        let Some(lane) = item.as_ref().map(lane_item::read).transpose()? else { return Ok(()) };
        let now = self.store.now().max(database_now);
        if let Some(end) = lane.prolonged(now, LASTS) {
            let write = lane_item::prolong_write(&self.store.table, workspace, &lane, end, now)?;
            // If it is not written, the lane ends earlier.
            self.store.update_once(write).await?;
        }
        Ok(())
    }

    /// Writes an allotment once. Another caller may have opened lanes, and then its lanes are used.
    async fn allot(
        self,
        workspace: &WorkspaceId,
        stored: &Balance,
        allotment: Option<Allotment>,
    ) -> Result<(), Fault> {
        let Some(Allotment { posting, lanes }) = allotment else { return Ok(()) };
        let mut writes = vec![balance_item::write_of(&self.store.table, workspace, &posting, ALLOTTED)?];
        for lane in &lanes {
            writes.push(lane_item::put(&self.store.table, workspace, lane)?);
        }
        // Lanes that are added during a recall would interrupt it.
        if let Some(open) = stored.lanes {
            let generation = stored.lane_generation;
            writes.push(lane_item::unstopped_check(&self.store.table, workspace, open.first, generation)?);
        }
        if let TransactionOutcome::Written = self.store.transact(writes).await?
            && let Ok(next) = posting.apply(stored, ALLOTTED)
        {
            tracing::debug!(%workspace, lanes = lanes.len(), "allotted credits to lanes");
            metrics::counter!("LanesOpened").increment(lanes.len().try_into().unwrap_or_default());
            self.store.known_lanes.learn(workspace, &next);
        }
        Ok(())
    }

    fn request(self, count: u16, debit: CallPrice, database_now: Timestamp) -> LaneRequest {
        LaneRequest { count, debit, now: self.store.now().max(database_now), lasts: LASTS }
    }
}

/// Whether a store opens lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaneOpening {
    /// Lanes are opened for busy workspaces.
    #[default]
    WhenBusy,
    /// No lanes are opened; open ones are used and settled. For the first release that knows lanes, beside one that does not.
    Never,
}
