//! Closing an epoch: expires grants, settles what was used and applies queued changes, in the order of time.
//!
//! While something is due, no posting passes except a queued change and a new credit limit. So between a date and the
//! next close only changes are written, and each carries its time. A close replays dates and changes in the order of
//! time. So its result does not depend on which caller closes, or when (`docs/design.md`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, NEVER};
use crate::change::{Change, QueuedChange};
use crate::claw_back::EndedGrant;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::debit_refund::EpochPayment;
use crate::grant::{ExpiringGrant, GrantKind, NextGrant};
use crate::id::Id;
use crate::month::Month;
use crate::waterfall::Waterfall;

/// The maximum number of changes that one close applies: each may write a ledger entry, and a transaction has room for
/// 100 items.
pub const MAX_CHANGES: usize = 50;

/// A close stops after the step that reaches this number of ledger entries and records of ended grants.
const MAX_RECORDS: usize = 60;

/// The maximum number of closes that one read computes. A balance that is still due after them is broken.
const MAX_CLOSES: usize = 1_000;

/// The result of a close: the next balance, and the records to write with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseResult {
    /// The balance of the next epoch. It must be written only if the version is still the one that was read.
    pub next: Balance,
    /// The ledger entries, in the order of time.
    pub outcomes: Vec<CloseEntry>,
    /// The allocations that have ended. Refunds of their payments are computed from these records from now on.
    pub ended: Vec<EndedGrant>,
    /// How the epoch's use was paid; `None` if nothing was used.
    pub payment: Option<EpochPayment>,
}

/// A ledger entry that a close writes or completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseEntry {
    /// The time of the date or change, not of the close.
    pub at: Timestamp,
    /// The change of what the workspace owns; negative if it owns less.
    pub credits: Credits,
    pub what: Happened,
}

/// The cause of a ledger entry that a close writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// These grants expired with credits left.
    Expired(Vec<Id>),
    /// A grant that was paid ahead began. Its ledger entry waits under this key.
    Started(String),
    /// The debt of this month was billed.
    Invoiced(Month),
    /// Grants were voided, withdrawn or reduced. The ledger entry waits under this key.
    Voided(String),
    /// A refund or dispute took credits of a grant back, or returned them. Its ledger entry waits under this key.
    Clawed(String),
}

/// Why a balance can't be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// A sum of credits is out of range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The balance is still due after the most closes that a read computes, so it is broken.
    #[error("the balance is still due after the maximum number of closes")]
    Endless,
}

/// A balance while a close replays its dates and changes.
struct CloseReplay {
    waterfall: Waterfall,
    next: Vec<NextGrant>,
    invoices_at: Option<Timestamp>,
    earlier_epochs: BTreeMap<u64, ClosedHolds>,
    outcomes: Vec<CloseEntry>,
    ended: Vec<EndedGrant>,
    /// The latest addition of credits.
    added: Option<Amount>,
    /// Whether a noted exhaustion still stands: no credits were added, and no debt was billed.
    exhaustion_noted: bool,
}

impl Balance {
    /// Returns the balance with everything closed that is due by `now`, as reads show it.
    pub fn as_of(&self, now: Timestamp) -> Result<Self, CloseError> {
        let mut balance = self.clone();
        for _ in 0..MAX_CLOSES {
            if !balance.is_due(now) {
                return Ok(balance);
            }
            balance = balance.close(now)?.next;
        }
        Err(CloseError::Endless)
    }

    /// Computes the balance of the next epoch. The caller must write it only if the stored balance is still this one.
    pub fn close(&self, now: Timestamp) -> Result<CloseResult, CloseError> {
        let mut earlier_epochs = self.earlier_epochs.clone();
        if !self.held.is_zero() {
            earlier_epochs.insert(self.epoch, ClosedHolds { held: self.held, dead: Credits::ZERO });
        }
        let waterfall = self.waterfall()?;
        let payment = EpochPayment::of(self, &waterfall, now)?;
        let mut replay = CloseReplay {
            waterfall,
            next: self.next.clone(),
            invoices_at: self.invoices_at,
            earlier_epochs,
            outcomes: Vec::new(),
            ended: Vec::new(),
            added: self.added,
            exhaustion_noted: self.exhaustion_noted,
        };
        let applied = replay.run(&self.changes, now)?;
        let later = self.changes.get(applied..).unwrap_or_default();
        replay.retire(later)?;
        let (outcomes, ended) = (std::mem::take(&mut replay.outcomes), std::mem::take(&mut replay.ended));
        Ok(CloseResult { next: self.next_epoch(replay, later.to_vec(), now)?, outcomes, ended, payment })
    }

    fn next_epoch(
        &self,
        replay: CloseReplay,
        changes: Vec<QueuedChange>,
        now: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let fenced = !changes.is_empty();
        let earliest = replay.next_date().map_or(NEVER, |(at, _)| at);
        let mut next = Self {
            used: Credits::ZERO,
            held: Credits::ZERO,
            prepaid: replay.waterfall.prepaid,
            expires_next: if fenced { self.expires_next } else { earliest },
            next: replay.next,
            invoices_at: replay.invoices_at,
            added: replay.added,
            exhaustion_noted: replay.exhaustion_noted,
            changes,
            earlier_epochs: replay.earlier_epochs,
            consumed: kept_months(&self.consumed, Month::of(now)),
            epoch: self.epoch.saturating_add(1),
            version: self.version.saturating_add(1),
            last: format!("sys#{}", close_key(self.epoch)),
            ..self.clone()
        };
        let total = replay.waterfall.total()?;
        next.grants = replay.waterfall.grants;
        next.spendable = total.plus(self.credit_limit)?.minus(next.live_in_earlier_epochs()?)?;
        Ok(next)
    }
}

/// What happens to a balance by itself on a date. The order of the variants is the order at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Date {
    Expiry,
    MonthEnd,
    Start,
}

impl CloseReplay {
    /// Applies what is due by `now` and the queued changes, in the order of time. Returns how many changes it applied.
    ///
    /// At one instant, an expiry comes first, then the month's end, then a start, then changes.
    fn run(&mut self, changes: &[QueuedChange], now: Timestamp) -> Result<usize, OutOfRange> {
        let mut applied: usize = 0;
        while applied < MAX_CHANGES && self.outcomes.len().saturating_add(self.ended.len()) < MAX_RECORDS {
            let change = changes.get(applied);
            let by = change.map_or(now, |change| change.at.min(now));
            match (self.next_date().filter(|(at, _)| *at <= by), change) {
                (Some((at, date)), _) => self.reach(at, date)?,
                (None, Some(change)) => {
                    self.apply(change)?;
                    applied = applied.saturating_add(1);
                }
                (None, None) => break,
            }
        }
        Ok(applied)
    }

    /// Returns the next date, and what happens on it.
    fn next_date(&self) -> Option<(Timestamp, Date)> {
        let expiry = self.waterfall.grants.iter().map(|grant| grant.expires_at).min();
        let start = self.next.iter().map(|next| next.starts_at).min();
        let dates = [(expiry, Date::Expiry), (self.invoices_at, Date::MonthEnd), (start, Date::Start)];
        dates.into_iter().filter_map(|(at, date)| Some((at?, date))).min()
    }

    fn reach(&mut self, at: Timestamp, date: Date) -> Result<(), OutOfRange> {
        match date {
            Date::Expiry => self.expire(at)?,
            Date::MonthEnd => self.invoice(at),
            Date::Start => self.start(at)?,
        }
        Ok(())
    }

    fn expire(&mut self, at: Timestamp) -> Result<(), OutOfRange> {
        let gone = self.waterfall.expire(at);
        for grant in gone.iter().filter(|grant| grant.kind == GrantKind::Allocation) {
            self.ended.push(grant.ended()?);
        }
        let left: Vec<_> = gone.into_iter().filter(|grant| !grant.amount.is_zero()).collect();
        let total = Credits::sum(left.iter().map(|grant| grant.amount))?;
        let expired = let_die(&mut self.earlier_epochs, total)?;
        let grant_ids = left.into_iter().map(|grant| grant.grant_id).collect();
        self.happened(at, expired.negated(), Happened::Expired(grant_ids));
        Ok(())
    }

    /// Bills the debt of the month that has ended, and sets the date of the next billing.
    fn invoice(&mut self, at: Timestamp) {
        let credits = self.waterfall.invoice();
        self.invoices_at = Some(Month::of(at).end());
        self.exhaustion_noted &= credits.is_zero();
        self.happened(at, credits, Happened::Invoiced(Month::before(at)));
    }

    /// Adds the grants paid ahead that have begun to the waterfall.
    fn start(&mut self, at: Timestamp) -> Result<(), OutOfRange> {
        let (started, waiting): (Vec<_>, Vec<_>) = self.next.drain(..).partition(|next| next.starts_at <= at);
        self.next = waiting;
        for NextGrant { key, grant, .. } in started {
            self.add(&grant)?;
            self.happened(at, grant.amount, Happened::Started(key));
        }
        Ok(())
    }

    fn add(&mut self, grant: &ExpiringGrant) -> Result<(), OutOfRange> {
        self.waterfall.join(grant)?;
        self.note_added(grant.amount);
        Ok(())
    }

    /// Notes an addition of credits, if it is above zero.
    fn note_added(&mut self, credits: Credits) {
        if let Ok(added) = Amount::new(credits) {
            (self.added, self.exhaustion_noted) = (Some(added), false);
        }
    }

    fn apply(&mut self, QueuedChange { at, change }: &QueuedChange) -> Result<(), OutOfRange> {
        match change {
            Change::Grant(grant) => self.add(grant)?,
            Change::Next(next) => {
                self.next.push(next.clone());
                self.next.sort_by_key(|next| next.starts_at);
            }
            Change::ClawBack(amount) => self.waterfall.claw_back(amount.credits())?,
            Change::ClawBackTo { key, grant_id, target } => {
                let owned = self.claw_back_to(grant_id, *target)?;
                self.note_added(owned);
                self.happened(*at, owned, Happened::Clawed(key.clone()));
            }
            Change::Void { key, grant_id, prepaid } => {
                let credits = match prepaid {
                    Some(granted) => self.waterfall.void_prepaid(*granted)?,
                    None => self.waterfall.void(grant_id),
                };
                // A void that takes nothing is listed too, because its caller waits for the entry.
                let what = Happened::Voided(key.clone());
                self.outcomes.push(CloseEntry { at: *at, credits: credits.negated(), what });
            }
            Change::Withdraw { key, grant_ids } => {
                self.next.retain(|next| !grant_ids.contains(&next.grant.grant_id));
                let left = Credits::sum(grant_ids.iter().map(|grant_id| self.waterfall.void(grant_id)))?;
                self.happened(*at, left.negated(), Happened::Voided(key.clone()));
            }
            Change::Reduce { key, grant_id, by } => {
                let credits = self.waterfall.reduce(grant_id, *by)?;
                self.happened(*at, credits.negated(), Happened::Voided(key.clone()));
            }
            Change::Return { refund_id, returned } => self.waterfall.give_back(refund_id, returned, *at)?,
            Change::Invoicing(first_at) => self.invoices_at = *first_at,
        }
        Ok(())
    }

    /// Takes back or returns credits of a grant that runs, has not begun or has just ended. Returns the change of what
    /// the workspace owns.
    fn claw_back_to(&mut self, grant_id: &Id, target: Credits) -> Result<Credits, OutOfRange> {
        if let Some(owned) = self.waterfall.claw_back_to(grant_id, target)? {
            return Ok(owned);
        }
        if let Some(next) = self.next.iter_mut().find(|next| next.grant.grant_id == *grant_id) {
            next.grant.claw_back_to(target)?;
        }
        let Some(ended) = self.ended.iter_mut().find(|ended| ended.grant_id == *grant_id) else {
            return Ok(Credits::ZERO);
        };
        let (clawed, debt) = ended.claw_back_to(target)?;
        *ended = clawed;
        self.waterfall.owe(debt)?;
        Ok(debt.negated())
    }

    /// Removes used-up grants. An allocation stays until its end, because it states what it granted.
    ///
    /// An ended grant that a later change names stays for the next close, without the credits that have expired.
    fn retire(&mut self, later: &[QueuedChange]) -> Result<(), OutOfRange> {
        self.waterfall.grants.retain(|grant| !grant.amount.is_zero() || grant.kind == GrantKind::Allocation);
        let is_named = |id: &Id| {
            later.iter().any(|it| matches!(&it.change, Change::ClawBackTo { grant_id, .. } if grant_id == id))
        };
        let (named, ended): (Vec<_>, Vec<_>) =
            self.ended.drain(..).partition(|ended| is_named(&ended.grant_id));
        self.ended = ended;
        for ended in named {
            self.waterfall.grants.extend(ended.stays(Timestamp::UNIX_EPOCH)?);
        }
        Ok(())
    }

    fn happened(&mut self, at: Timestamp, credits: Credits, what: Happened) {
        if !credits.is_zero() {
            self.outcomes.push(CloseEntry { at, credits, what });
        }
    }
}

/// Returns our key for the close of an epoch. Callers' keys have another prefix, so they never collide with it.
fn close_key(epoch: u64) -> String {
    format!("close#{epoch}")
}

/// Returns our key for a ledger entry that the close of an epoch writes, by its place among the outcomes.
#[must_use]
pub fn close_entry_key(epoch: u64, place: usize) -> String {
    if place == 0 { close_key(epoch) } else { format!("close#{epoch}#{place}") }
}

/// Marks the expired credits in open holds as dead, and returns the rest, which expires now.
///
/// Open holds take credits directly after what is used, older epochs first. Dead credits expire only when their hold
/// releases them.
fn let_die(earlier_epochs: &mut BTreeMap<u64, ClosedHolds>, expired: Credits) -> Result<Credits, OutOfRange> {
    let mut left = expired;
    for holds in earlier_epochs.values_mut() {
        let dying = left.min(holds.held.minus(holds.dead)?);
        holds.dead = holds.dead.plus(dying)?;
        left = left.minus(dying)?;
    }
    Ok(left)
}

fn kept_months(consumed: &BTreeMap<Month, Credits>, this: Month) -> BTreeMap<Month, Credits> {
    consumed.range(this.last()..).map(|(month, credits)| (*month, *credits)).collect()
}

#[cfg(test)]
mod tests;
