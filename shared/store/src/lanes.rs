//! Lanes of busy workspaces: debits on them, and their opening, extension, recall and end (`credits_core::lane`).
//!
//! A debit at the balance is valid at all times. So an instance that knows nothing of lanes, or knows old ones, is slower
//! but never wrong.

use std::collections::BTreeMap;

use credits_core::balance::Balance;
use credits_core::credits::CallPrice;
use credits_core::id::WorkspaceId;
use credits_core::lane::{Lane, LaneSettlement};
use credits_core::posting::Posting;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::items::lane_item;
use crate::lanes::recall::RecallStep;
use crate::sources::Sources;
use crate::table::Store;
use crate::table::keys::ItemKey;

pub(crate) mod known;
pub mod opening;
pub(crate) mod recall;
pub(crate) mod settings;

/// How long lanes last that no debit uses. Debits prolong their lane.
const LASTS: SignedDuration = SignedDuration::from_mins(5);

/// How long an instance uses a lane until it checks that the lane still lasts.
pub(crate) const MAX_WITHOUT_CHECK: SignedDuration = SignedDuration::from_secs(150);

/// If fewer than one in so many lanes cover a debit, the lanes are recalled.
const MAX_LANES_FOR_EACH_COVERING: usize = 8;

/// Lanes of workspaces.
#[derive(Debug, Clone, Copy)]
pub struct LaneStore<'a> {
    pub(crate) store: &'a Store,
}

/// A balance that lists lanes, and the lanes, which were read before it.
pub(crate) struct LaneView {
    /// The balance as stored.
    pub stored: Balance,
    /// The balance as if the lanes were settled. It can spend at most this: what lanes had spent, they have spent for good.
    pub bound: Balance,
    lanes: BTreeMap<u16, Lane>,
}

/// What a call can do about a balance that does not cover it.
pub(crate) enum Shortfall {
    /// Nothing: the balance and its lanes together, as they are here, don't cover it.
    Final(Box<Balance>),
    /// Retry: a settlement is on board, or the lanes have changed.
    Retry,
    /// Retry after another caller's recall.
    Wait,
    /// Retry on one of these lanes, which cover the debit.
    OnLanes(Vec<u16>),
}

/// The part of a call that a balance does not cover.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uncovered<'a> {
    pub workspace: &'a WorkspaceId,
    /// The posting without a settlement.
    pub posting: &'a Posting,
    /// The number of writes in the same transaction, beside that of the balance.
    pub other_writes: usize,
    /// The amount, if the call is a debit that a lane can pay.
    pub debit: Option<(CallPrice, Timestamp)>,
}

impl LaneView {
    /// Returns the lanes that cover a debit, from a random one on. Returns none if only a few cover it: then a recall is
    /// faster than many callers that meet on them.
    fn covering(&self, amount: CallPrice, now: Timestamp, sources: &Sources) -> Vec<u16> {
        let covering = self.lanes.values().filter(|lane| lane.covers(amount, now));
        let mut covering: Vec<u16> = covering.map(|lane| lane.number).collect();
        if covering.len() < self.lanes.len().div_ceil(MAX_LANES_FOR_EACH_COVERING) {
            return Vec::new();
        }
        let count = u64::try_from(covering.len()).unwrap_or_default().max(1);
        covering.rotate_left(usize::try_from(sources.below(count)).unwrap_or_default());
        covering
    }
}

impl LaneStore<'_> {
    /// Reads the lanes that a balance lists. Lanes that were settled since are absent.
    pub(crate) async fn read(
        self,
        workspace: &WorkspaceId,
        balance: &Balance,
    ) -> Result<BTreeMap<u16, Lane>, Fault> {
        let Some(listed) = balance.lanes else { return Ok(BTreeMap::new()) };
        let keys: Vec<ItemKey> = listed.numbers().map(|number| ItemKey::lane(workspace, number)).collect();
        let items = self.store.get_many(&keys).await?;
        let lanes = items.values().map(lane_item::read);
        Ok(lanes.map(|lane| lane.map(|lane| (lane.number, lane))).collect::<Result<_, _>>()?)
    }

    /// Reads a balance's lanes, and then the balance again. Returns `None` if its lanes are others by then.
    async fn view(self, workspace: &WorkspaceId, listing: &Balance) -> Result<Option<LaneView>, Fault> {
        let lanes = self.read(workspace, listing).await?;
        let stored = self.store.balances().read_stored(workspace).await?.unwrap_or_default();
        if (stored.lane_generation, stored.lanes.is_none()) != (listing.lane_generation, false) {
            return Ok(None);
        }
        let bound = stored.with_lanes(&lanes).map_err(Corrupt::from)?;
        Ok(bound.map(|bound| LaneView { stored, bound, lanes }))
    }

    /// Finds what a call can do about a balance that does not cover its posting: `refused` is the balance as stored.
    ///
    /// A call that balance and lanes together do not cover is refused without a recall. Otherwise the lanes are recalled, and
    /// their last settlement is put on board: the call's next attempt writes it together with its posting. If the settlement
    /// were written before, another caller could open lanes in between, and the call would be refused although there are
    /// enough credits.
    pub(crate) async fn avert(
        self,
        call: Uncovered<'_>,
        refused: &Balance,
        on_board: &mut Option<LaneSettlement>,
    ) -> Result<Shortfall, Fault> {
        let covers = call.posting.condition.covers.unwrap_or_default();
        if let Some(settlement) = on_board.take() {
            // Every lane that the balance lists is stopped, so its sum is exact.
            let settled = settlement.posting().map_err(Corrupt::from)?.apply(refused, &refused.last);
            self.settle(call.workspace, &settlement).await?;
            let short = settled.ok().filter(|settled| settled.spendable < covers);
            return Ok(short.map_or(Shortfall::Retry, |settled| Shortfall::Final(Box::new(settled))));
        }
        if refused.lanes.is_none() {
            return Ok(Shortfall::Final(Box::new(refused.clone())));
        }
        if self.waits_for_another(call.workspace, refused.lane_generation) {
            return Ok(Shortfall::Wait);
        }
        let Some(view) = self.view(call.workspace, refused).await? else { return Ok(Shortfall::Retry) };
        // The exhaustion of a workspace is noted at a balance without lanes.
        if view.bound.spendable < covers && view.bound.exhaustion().map_err(Corrupt::from)?.is_none() {
            return Ok(Shortfall::Final(Box::new(view.bound)));
        }
        let covering = call.debit.map(|(amount, now)| view.covering(amount, now, &self.store.sources));
        if let Some(covering) = covering.filter(|covering| !covering.is_empty()) {
            return Ok(Shortfall::OnLanes(covering));
        }
        Ok(match self.recall(call.workspace, &view.stored, call.other_writes, on_board).await? {
            RecallStep::Ready | RecallStep::Changed => Shortfall::Retry,
            RecallStep::OfAnotherCaller => Shortfall::Wait,
        })
    }
}
