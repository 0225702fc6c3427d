//! What an instance knows of open lanes. Old knowledge costs an attempt, but no correctness.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credits_core::balance::Balance;
use credits_core::id::WorkspaceId;
use jiff::{SignedDuration, Timestamp};

use crate::sources::Sources;

/// The maximum number of workspaces whose lanes an instance knows.
const MAX_WORKSPACES: usize = 1_000;

/// The lanes that this instance knows, by workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownLanes(Arc<Mutex<HashMap<WorkspaceId, KnownWorkspace>>>);

/// What is known of one workspace's lanes.
#[derive(Debug)]
enum KnownWorkspace {
    Open(WorkspaceLanes),
    /// A recall has stopped the lanes of this generation. This instance has seen it since then.
    Stopped {
        generation: u64,
        since: Timestamp,
    },
}

/// The open lanes of one workspace.
///
/// A call takes a lane that no other call of this instance uses, at best one on which the last call met no conflict. So an
/// instance that handles one call at a time stays on one lane, and concurrent calls of one process spread over many.
#[derive(Debug, Default)]
struct WorkspaceLanes {
    first: u16,
    end: u16,
    /// Lanes whose last debit met no conflict.
    quiet: Vec<u16>,
    in_use: HashSet<u16>,
    /// When lanes were last found to last long enough.
    prolonged_at: HashMap<u16, Timestamp>,
}

impl KnownLanes {
    /// Learns the lanes that a balance lists, as stored.
    pub fn learn(&self, workspace: &WorkspaceId, stored: &Balance) {
        let mut known = self.lock();
        let Some(listed) = stored.lanes else {
            known.remove(workspace);
            return;
        };
        if known.len() >= MAX_WORKSPACES {
            known.clear();
        }
        match known.get_mut(workspace) {
            Some(KnownWorkspace::Stopped { generation, .. }) if *generation == stored.lane_generation => {}
            Some(KnownWorkspace::Open(lanes)) => {
                (lanes.first, lanes.end) = (listed.first, listed.end);
                lanes.quiet.retain(|lane| listed.numbers().contains(lane));
            }
            _ => {
                let lanes = WorkspaceLanes { first: listed.first, end: listed.end, ..Default::default() };
                known.insert(workspace.clone(), KnownWorkspace::Open(lanes));
            }
        }
    }

    /// Remembers that a recall has stopped the lanes of a generation, so that no call of this instance disturbs it.
    pub fn mark_stopped(&self, workspace: &WorkspaceId, generation: u64, now: Timestamp) {
        let mut known = self.lock();
        if !matches!(known.get(workspace), Some(KnownWorkspace::Stopped { generation: marked, .. }) if *marked == generation)
        {
            known.insert(workspace.clone(), KnownWorkspace::Stopped { generation, since: now });
        }
    }

    /// Returns since when this instance knows that a recall has stopped the lanes of a generation.
    pub fn stopped_since(&self, workspace: &WorkspaceId, generation: u64) -> Option<Timestamp> {
        match self.lock().get(workspace) {
            Some(KnownWorkspace::Stopped { generation: marked, since }) => {
                (*marked == generation).then_some(*since)
            }
            _ => None,
        }
    }

    /// Returns whether a recall was under way when this instance last heard of the workspace's lanes.
    pub fn are_in_recall(&self, workspace: &WorkspaceId) -> bool {
        matches!(self.lock().get(workspace), Some(KnownWorkspace::Stopped { .. }))
    }

    /// Forgets a workspace's lanes.
    pub fn forget(&self, workspace: &WorkspaceId) {
        self.lock().remove(workspace);
    }

    /// Takes a lane for a call; `None` if no lane is known.
    pub fn take(&self, workspace: &WorkspaceId, sources: &Sources) -> Option<u16> {
        let mut known = self.lock();
        let Some(KnownWorkspace::Open(lanes)) = known.get_mut(workspace) else { return None };
        let taken = lanes.quiet.pop().or_else(|| lanes.any(sources))?;
        lanes.in_use.insert(taken);
        Some(taken)
    }

    /// Returns a lane after a debit without a conflict, for the next call.
    pub fn return_quiet(&self, workspace: &WorkspaceId, lane: u16) {
        self.end_use(workspace, lane, |lanes| lanes.quiet.push(lane));
    }

    /// Returns a lane on which a call met a conflict.
    pub fn return_busy(&self, workspace: &WorkspaceId, lane: u16) {
        self.end_use(workspace, lane, |_| {});
    }

    /// Returns whether the caller should check that a lane lasts, at most once an interval for each lane.
    pub fn should_prolong(
        &self,
        workspace: &WorkspaceId,
        lane: u16,
        now: Timestamp,
        interval: SignedDuration,
    ) -> bool {
        let mut known = self.lock();
        let Some(KnownWorkspace::Open(lanes)) = known.get_mut(workspace) else { return false };
        match lanes.prolonged_at.get(&lane) {
            Some(at) if now.duration_since(*at) < interval => false,
            checked => {
                let is_due = checked.is_some();
                lanes.prolonged_at.insert(lane, now);
                is_due
            }
        }
    }

    fn end_use(&self, workspace: &WorkspaceId, lane: u16, then: impl FnOnce(&mut WorkspaceLanes)) {
        if let Some(KnownWorkspace::Open(lanes)) = self.lock().get_mut(workspace)
            && lanes.in_use.remove(&lane)
            && (lanes.first..lanes.end).contains(&lane)
        {
            then(lanes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, KnownWorkspace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkspaceLanes {
    /// Returns a random lane, at best one that no call of this instance uses.
    fn any(&self, sources: &Sources) -> Option<u16> {
        let count = u64::from(self.end.saturating_sub(self.first)).max(1);
        let offset = u16::try_from(sources.below(count)).unwrap_or_default();
        let start = self.first.saturating_add(offset).min(self.end);
        let mut from_start = (start..self.end).chain(self.first..start);
        from_start.clone().find(|lane| !self.in_use.contains(lane)).or_else(|| from_start.next())
    }
}
