//! The waterfall: who paid for what is used, as arithmetic at read time (M16).
//!
//! The allocation is spent first, the buffer after: `used` runs down the expiring grants, earliest expiry first, and
//! then `prepaid`, which may go below zero and is debt then. The balance item keeps only the sums, so a debit needs
//! to know nothing of this.

use jiff::Timestamp;

use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::ExpiringGrant;
use crate::id::Id;
use crate::planted::{Slip, slips};

/// What is left of each grant, in the order of spending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waterfall {
    /// The expiring grants with what is left of them, earliest expiry first.
    pub grants: Vec<ExpiringGrant>,
    /// What never expires; below zero it is debt.
    pub prepaid: Credits,
}

impl Waterfall {
    /// Runs `used` down the grants and then the prepaid sum.
    pub fn run_down(grants: &[ExpiringGrant], prepaid: Credits, used: Credits) -> Result<Self, OutOfRange> {
        let mut waterfall = Self { grants: grants.to_vec(), prepaid };
        waterfall.sort();
        waterfall.spend(used)?;
        Ok(waterfall)
    }

    /// Takes credits in the order of spending.
    fn spend(&mut self, amount: Credits) -> Result<(), OutOfRange> {
        if slips(Slip::PrepaidFirst) {
            let of_prepaid = amount.min(self.prepaid.or_zero());
            self.prepaid = self.prepaid.minus(of_prepaid)?;
            let unpaid = self.take_from_grants(amount.minus(of_prepaid)?)?;
            self.prepaid = self.prepaid.minus(unpaid)?;
            return Ok(());
        }
        let unpaid = self.take_from_grants(amount)?;
        self.prepaid = self.prepaid.minus(unpaid)?;
        Ok(())
    }

    /// Removes and returns the grants that have expired by `now`.
    pub fn expire(&mut self, now: Timestamp) -> Vec<ExpiringGrant> {
        let (gone, kept) = self.grants.drain(..).partition(|grant| grant.expires_at <= now);
        self.grants = kept;
        gone
    }

    /// Adds an expiring grant, which pays debt first.
    pub fn join(&mut self, grant: &ExpiringGrant) -> Result<(), OutOfRange> {
        self.grants.push(grant.clone());
        self.sort();
        self.pay_debt()
    }

    /// Takes back what is left of an expiring grant, and says how much that was.
    pub fn void(&mut self, grant_id: &Id) -> Credits {
        let Some(at) = self.grants.iter().position(|grant| grant.grant_id == *grant_id) else {
            return Credits::ZERO;
        };
        self.grants.remove(at).amount
    }

    /// Takes back at most so much of an expiring grant, as far as it is left, and returns how much that was.
    pub fn reduce(&mut self, grant_id: &Id, by: Amount) -> Result<Credits, OutOfRange> {
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.grant_id == *grant_id) else {
            return Ok(Credits::ZERO);
        };
        let taken = by.credits().min(grant.amount);
        grant.amount = grant.amount.minus(taken)?;
        Ok(taken)
    }

    /// Takes back at most what a prepaid grant gave, as far as it is left, and says how much that was.
    pub fn void_prepaid(&mut self, granted: Amount) -> Result<Credits, OutOfRange> {
        let taken = granted.credits().min(self.prepaid.or_zero());
        self.prepaid = self.prepaid.minus(taken)?;
        Ok(taken)
    }

    /// Takes credits for what was refunded: what is left of prepaid first, then expiring grants, earliest first, the rest
    /// is debt.
    pub fn claw_back(&mut self, amount: Credits) -> Result<(), OutOfRange> {
        let prepaid = if slips(Slip::GrantsClawedFirst) { Credits::ZERO } else { self.prepaid.or_zero() };
        let from_prepaid = amount.min(prepaid);
        self.prepaid = self.prepaid.minus(from_prepaid)?;
        self.spend(amount.minus(from_prepaid)?)
    }

    /// Takes back or returns credits of one expiring grant so that `target` of them is taken back in all. Returns what the
    /// workspace owns more by it; `None` if the grant does not run.
    pub fn claw_back_to(&mut self, grant_id: &Id, target: Credits) -> Result<Option<Credits>, OutOfRange> {
        let before = self.total()?;
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.grant_id == *grant_id) else {
            return Ok(None);
        };
        if slips(Slip::PrepaidClawedFirst) {
            let taken = target.minus(grant.clawed.total()?)?;
            grant.clawed.consumed = grant.clawed.consumed.plus(taken)?;
            self.owe(taken)?;
        } else {
            let debt = grant.claw_back_to(target)?;
            self.owe(debt)?;
        }
        Ok(Some(self.total()?.minus(before)?))
    }

    /// Charges what a refund takes for consumed credits; below zero it returns as prepaid.
    pub fn owe(&mut self, debt: Credits) -> Result<(), OutOfRange> {
        if debt > Credits::ZERO {
            return self.claw_back(debt);
        }
        self.prepaid = self.prepaid.minus(debt)?;
        self.pay_debt()
    }

    /// Pays debt out of the expiring grants: none stands beside a debt.
    fn pay_debt(&mut self) -> Result<(), OutOfRange> {
        let debt = if slips(Slip::DebtStays) { Credits::ZERO } else { self.prepaid.negated().or_zero() };
        let unpaid = self.take_from_grants(debt)?;
        self.prepaid = self.prepaid.plus(debt.minus(unpaid)?)?;
        Ok(())
    }

    /// Clears debt that is billed, and says how much that was.
    pub fn invoice(&mut self) -> Credits {
        let debt = self.prepaid.negated().or_zero();
        self.prepaid = self.prepaid.or_zero();
        debt
    }

    /// What all of it comes to.
    pub fn total(&self) -> Result<Credits, OutOfRange> {
        Credits::sum(self.grants.iter().map(|grant| grant.amount))?.plus(self.prepaid)
    }

    fn take_from_grants(&mut self, amount: Credits) -> Result<Credits, OutOfRange> {
        let mut wanted = amount;
        for grant in &mut self.grants {
            let taken = wanted.min(grant.amount);
            grant.amount = grant.amount.minus(taken)?;
            wanted = wanted.minus(taken)?;
        }
        Ok(wanted)
    }

    fn sort(&mut self) {
        self.grants.sort_by(|a, b| (a.expires_at, &a.grant_id).cmp(&(b.expires_at, &b.grant_id)));
        if slips(Slip::LatestFirst) {
            self.grants.reverse();
        }
    }
}
