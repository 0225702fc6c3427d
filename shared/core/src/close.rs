//! Closing an epoch: what has expired goes, what is used is settled, and the waiting changes are applied in order.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, NEVER};
use crate::change::Change;
use crate::credits::{Credits, OutOfRange};
use crate::id::Id;
use crate::month::Month;
use crate::waterfall::Waterfall;

/// How many changes one close applies: each may write a ledger entry, and a transaction has room for 100 items.
pub const CHANGES_A_CLOSE: usize = 50;

/// The next balance, and what the close has to tell the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The balance of the next epoch; to be written only if the version is still the one that was read.
    pub next: Balance,
    /// What of the expired grants was left.
    pub expired: Credits,
    /// The grants of which something was left.
    pub expired_grants: Vec<Id>,
    /// What the waiting changes came to, where only the close could say.
    pub outcomes: Vec<Outcome>,
}

/// What a waiting change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A grant was voided.
    Voided {
        /// The key it was asked for under.
        key: String,
        /// What was taken back.
        credits: Credits,
    },
    /// Debt was billed.
    Invoiced {
        /// The key it was asked for under.
        key: String,
        /// How much.
        credits: Credits,
    },
}

/// Why a balance can't be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// The sums leave their range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// It stays due however often it is closed.
    #[error("the balance stays due however often it is closed")]
    Endless,
}

impl Balance {
    /// Works out the next epoch's balance. The one who writes it must have read this one, and nothing since.
    pub fn close(&self, now: Timestamp) -> Result<Closing, CloseError> {
        let mut waterfall = self.waterfall()?;
        let (expired, mut expired_grants) = waterfall.expire(now)?;
        let mut closed = self.closed.clone();
        if !self.held.is_zero() {
            closed.insert(self.epoch, ClosedHolds { held: self.held, dead: Credits::ZERO });
        }
        let expired = let_die(&mut closed, expired)?;
        if expired.is_zero() {
            expired_grants.clear();
        }
        let (now_applied, later) = self.changes.split_at(self.changes.len().min(CHANGES_A_CLOSE));
        let outcomes = apply_changes(&mut waterfall, now_applied)?;
        waterfall.grants.retain(|grant| !grant.amount.is_zero());
        let next = self.next_epoch(waterfall, closed, later.to_vec(), now)?;
        Ok(Closing { next, expired, expired_grants, outcomes })
    }

    fn next_epoch(
        &self,
        waterfall: Waterfall,
        closed: BTreeMap<u64, ClosedHolds>,
        changes: Vec<Change>,
        now: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let fenced = !changes.is_empty();
        let earliest = waterfall.grants.first().map_or(NEVER, |grant| grant.expires_at);
        let mut next = Self {
            used: Credits::ZERO,
            held: Credits::ZERO,
            prepaid: waterfall.prepaid,
            expires_next: if fenced { self.expires_next } else { earliest },
            changes,
            closed,
            consumed: kept_months(&self.consumed, Month::of(now)),
            epoch: self.epoch.saturating_add(1),
            version: self.version.saturating_add(1),
            last: close_key(self.epoch),
            ..self.clone()
        };
        let total = waterfall.total()?;
        next.grants = waterfall.grants;
        next.spendable = total.plus(self.credit_limit)?.minus(next.live_in_closed()?)?;
        Ok(next)
    }
}

/// Our own key for the entry of an epoch's close. Callers' keys never share a space with it.
#[must_use]
pub fn close_key(epoch: u64) -> String {
    format!("close#{epoch}")
}

/// Open holds stand directly after what is used, older epochs first: what of the expired credits they kept dies in
/// them, and expires only when they give it back. The rest expires now.
fn let_die(closed: &mut BTreeMap<u64, ClosedHolds>, expired: Credits) -> Result<Credits, OutOfRange> {
    let mut left = expired;
    for holds in closed.values_mut() {
        let dying = left.min(holds.held.minus(holds.dead)?);
        holds.dead = holds.dead.plus(dying)?;
        left = left.minus(dying)?;
    }
    Ok(left)
}

fn apply_changes(waterfall: &mut Waterfall, changes: &[Change]) -> Result<Vec<Outcome>, OutOfRange> {
    let mut outcomes = Vec::new();
    for change in changes {
        match change {
            Change::Grant(grant) => waterfall.join(grant)?,
            Change::ClawBack(amount) => waterfall.claw_back(*amount)?,
            Change::Void { key, grant_id, prepaid } => {
                let credits = match prepaid {
                    Some(granted) => waterfall.void_prepaid(*granted)?,
                    None => waterfall.void(grant_id),
                };
                outcomes.push(Outcome::Voided { key: key.clone(), credits });
            }
            Change::Invoice { key } => {
                outcomes.push(Outcome::Invoiced { key: key.clone(), credits: waterfall.invoice() });
            }
        }
    }
    Ok(outcomes)
}

fn kept_months(consumed: &BTreeMap<Month, Credits>, this: Month) -> BTreeMap<Month, Credits> {
    consumed.range(this.last()..).map(|(month, credits)| (*month, *credits)).collect()
}
