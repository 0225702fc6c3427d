//! Closing an epoch: what has expired goes, what is used is settled, and the waiting changes are applied in order.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::balance::{Balance, ClosedHolds, NEVER};
use crate::change::Change;
use crate::credits::{Credits, OutOfRange};
use crate::grant::{ExpiringGrant, GrantKind, NextGrant};
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
    /// A grant that was paid ahead has started.
    Started {
        /// The key under which its ledger entry waits.
        key: String,
        /// What it granted.
        credits: Credits,
    },
    /// A month's debt was billed.
    Invoiced {
        /// The month.
        month: Month,
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

/// What a close works on: the waterfall, and what joins it or is billed of it.
struct Worked {
    waterfall: Waterfall,
    next: Vec<NextGrant>,
    invoices_at: Option<Timestamp>,
    outcomes: Vec<Outcome>,
}

impl Balance {
    /// Works out the next epoch's balance. The one who writes it must have read this one, and nothing since.
    ///
    /// What has expired goes first, then a month's debt is billed, then what was paid ahead joins, and then the
    /// changes are applied in order.
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
        let (next, invoices_at) = (self.next.clone(), self.invoices_at);
        let mut worked = Worked { waterfall, next, invoices_at, outcomes: Vec::new() };
        worked.invoice(now);
        let (now_applied, later) = self.changes.split_at(self.changes.len().min(CHANGES_A_CLOSE));
        worked.start(now)?;
        worked.apply(now_applied)?;
        worked.start(now)?;
        // A period that is used up stays until its end: it says what the period granted.
        let stays = |grant: &ExpiringGrant| !grant.amount.is_zero() || grant.kind == GrantKind::Allocation;
        worked.waterfall.grants.retain(stays);
        let outcomes = std::mem::take(&mut worked.outcomes);
        let next = self.next_epoch(worked, closed, later.to_vec(), now)?;
        Ok(Closing { next, expired, expired_grants, outcomes })
    }

    fn next_epoch(
        &self,
        worked: Worked,
        closed: BTreeMap<u64, ClosedHolds>,
        changes: Vec<Change>,
        now: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let fenced = !changes.is_empty();
        let expiry = worked.waterfall.grants.first().map(|grant| grant.expires_at);
        let start = worked.next.first().map(|next| next.starts_at);
        let earliest = [expiry, start, worked.invoices_at].into_iter().flatten().min().unwrap_or(NEVER);
        let mut next = Self {
            used: Credits::ZERO,
            held: Credits::ZERO,
            prepaid: worked.waterfall.prepaid,
            expires_next: if fenced { self.expires_next } else { earliest },
            next: worked.next,
            invoices_at: worked.invoices_at,
            changes,
            closed,
            consumed: kept_months(&self.consumed, Month::of(now)),
            epoch: self.epoch.saturating_add(1),
            version: self.version.saturating_add(1),
            last: format!("sys#{}", close_key(self.epoch)),
            ..self.clone()
        };
        let total = worked.waterfall.total()?;
        next.grants = worked.waterfall.grants;
        next.spendable = total.plus(self.credit_limit)?.minus(next.live_in_closed()?)?;
        Ok(next)
    }
}

impl Worked {
    /// Bills the debt of a month that has ended, and sets the date for the one after.
    fn invoice(&mut self, now: Timestamp) {
        let Some(due) = self.invoices_at.filter(|due| *due <= now) else { return };
        let credits = self.waterfall.invoice();
        if !credits.is_zero() {
            self.outcomes.push(Outcome::Invoiced { month: Month::before(due), credits });
        }
        self.invoices_at = Some(Month::of(due).end());
    }

    /// Lets what was paid ahead join once it starts.
    fn start(&mut self, now: Timestamp) -> Result<(), OutOfRange> {
        let (started, waiting): (Vec<_>, Vec<_>) =
            self.next.drain(..).partition(|next| next.starts_at <= now);
        self.next = waiting;
        for NextGrant { key, grant, .. } in started {
            self.waterfall.join(&grant)?;
            self.outcomes.push(Outcome::Started { key, credits: grant.granted.credits() });
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), OutOfRange> {
        for change in changes {
            match change {
                Change::Grant(grant) => self.waterfall.join(grant)?,
                Change::Next(next) => {
                    self.next.push(next.clone());
                    self.next.sort_by_key(|next| next.starts_at);
                }
                Change::ClawBack(amount) => self.waterfall.claw_back(*amount)?,
                Change::Void { key, grant_id, prepaid } => {
                    let credits = match prepaid {
                        Some(granted) => self.waterfall.void_prepaid(*granted)?,
                        None => self.waterfall.void(grant_id),
                    };
                    self.outcomes.push(Outcome::Voided { key: key.clone(), credits });
                }
                Change::Withdraw { key, grant_ids } => self.withdraw(key, grant_ids)?,
                Change::Invoicing(first_at) => self.invoices_at = *first_at,
            }
        }
        Ok(())
    }

    fn withdraw(&mut self, key: &str, grant_ids: &[Id]) -> Result<(), OutOfRange> {
        self.next.retain(|next| !grant_ids.contains(&next.grant.grant_id));
        let left = Credits::sum(grant_ids.iter().map(|grant_id| self.waterfall.void(grant_id)))?;
        if !left.is_zero() {
            self.outcomes.push(Outcome::Voided { key: key.to_owned(), credits: left });
        }
        Ok(())
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

fn kept_months(consumed: &BTreeMap<Month, Credits>, this: Month) -> BTreeMap<Month, Credits> {
    consumed.range(this.last()..).map(|(month, credits)| (*month, *credits)).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::Outcome;
    use crate::balance::Balance;
    use crate::change::Change;
    use crate::credits::Credits;
    use crate::grant::{ExpiringGrant, GrantKind, NextGrant};

    fn at(day: i8) -> Timestamp {
        format!("2026-11-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn grant(kind: GrantKind, ends: i8) -> ExpiringGrant {
        ExpiringGrant {
            grant_id: format!("grant_{ends}").parse().unwrap(),
            kind,
            granted: "5".parse().unwrap(),
            amount: "5".parse().unwrap(),
            expires_at: at(ends),
        }
    }

    fn ahead(starts: i8, ends: i8) -> NextGrant {
        NextGrant {
            key: format!("key_{starts}"),
            grant: grant(GrantKind::Allocation, ends),
            starts_at: at(starts),
        }
    }

    fn ids(balance: &Balance) -> Vec<&str> {
        balance.grants.iter().map(|grant| grant.grant_id.as_str()).collect()
    }

    #[test]
    fn what_is_used_up_goes_and_a_period_stays_until_its_end() {
        let grants = vec![
            grant(GrantKind::Allocation, 20),
            grant(GrantKind::Promotional, 21),
            grant(GrantKind::Commitment, 22),
        ];
        let balance = Balance {
            grants,
            used: "12".parse().unwrap(),
            spendable: "3".parse().unwrap(),
            ..Balance::default()
        };
        let closed = balance.close(at(10)).unwrap().next;
        assert_eq!(ids(&closed), ["grant_20", "grant_22"]);
        assert_eq!(ids(&closed.close(at(20)).unwrap().next), ["grant_22"]);
    }

    #[test]
    fn a_close_counts_itself_says_so_and_keeps_this_month_and_the_last() {
        let consumed = |month: &str| (month.parse().unwrap(), "1".parse::<Credits>().unwrap());
        let balance = Balance {
            consumed: ["2026-08", "2026-09", "2026-10", "2026-11"].map(consumed).into(),
            epoch: 7,
            version: 40,
            last: "key#k".to_owned(),
            ..Balance::default()
        };
        let closed = balance.close(at(10)).unwrap().next;
        assert_eq!((closed.epoch, closed.version, closed.last.as_str()), (8, 41, "sys#close#7"));
        assert_eq!(closed.consumed, ["2026-10", "2026-11"].map(consumed).into());
    }

    #[test]
    fn m06_a_withdrawn_grant_goes_whether_or_not_it_has_begun() {
        let next = ahead(15, 20);
        let grant_ids = vec![next.grant.grant_id.clone()];
        let withdraw = Change::Withdraw { key: "k".to_owned(), grant_ids };
        let withdrawn = |next: Vec<NextGrant>, grants: Vec<ExpiringGrant>, now| {
            let owned: Credits = if grants.is_empty() { Credits::ZERO } else { "5".parse().unwrap() };
            let changes = vec![withdraw.clone()];
            Balance { next, grants, spendable: owned, changes, ..Balance::default() }.close(now).unwrap()
        };
        let waiting = withdrawn(vec![next.clone()], Vec::new(), at(10));
        assert!(waiting.next.next.is_empty() && waiting.outcomes.is_empty());
        assert!(waiting.next.close(at(16)).unwrap().next.grants.is_empty(), "it never begins");
        let begun = withdrawn(Vec::new(), vec![next.grant.clone()], at(16));
        assert!(begun.next.grants.is_empty() && begun.next.is_consistent().unwrap());
        let taken = Outcome::Voided { key: "k".to_owned(), credits: "5".parse().unwrap() };
        assert_eq!(begun.outcomes, [taken]);
        let beginning = withdrawn(vec![next], Vec::new(), at(16));
        assert!(beginning.next.grants.is_empty() && beginning.next.is_consistent().unwrap());
    }

    #[test]
    fn m06_what_was_paid_ahead_waits_for_its_start_the_earliest_first() {
        let (first, second) = (ahead(15, 20), ahead(20, 25));
        let balance = Balance {
            next: vec![second.clone()],
            changes: vec![Change::Next(first.clone())],
            ..Balance::default()
        };
        let closed = balance.close(at(10)).unwrap().next;
        assert_eq!(
            (closed.next.as_slice(), closed.expires_next),
            ([first, second.clone()].as_slice(), at(15))
        );
        let closed = closed.close(at(15)).unwrap().next;
        assert_eq!(
            (ids(&closed).as_slice(), closed.next.as_slice()),
            (["grant_20"].as_slice(), [second].as_slice())
        );
    }
}
