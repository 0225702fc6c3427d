//! The waterfall: which credits pay for usage, calculated when a balance is read (M16).
//!
//! The allocation is spent first, then the buffer. `used` is taken from the expiring grants, earliest expiry first, and
//! then from `prepaid`, which becomes debt below zero. The balance item keeps only the sums, so a debit doesn't depend
//! on this order.

use jiff::Timestamp;

use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::ExpiringGrant;
use crate::id::Id;

/// The rest of each grant, in the order of spending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waterfall {
    /// The expiring grants with the credits left of them, earliest expiry first.
    pub grants: Vec<ExpiringGrant>,
    /// The credits that never expire; below zero they are debt.
    pub prepaid: Credits,
}

impl Waterfall {
    /// Takes `used` from the grants and then from the prepaid sum.
    pub fn run_down(grants: &[ExpiringGrant], prepaid: Credits, used: Credits) -> Result<Self, OutOfRange> {
        let mut waterfall = Self { grants: grants.to_vec(), prepaid };
        waterfall.sort();
        waterfall.spend(used)?;
        Ok(waterfall)
    }

    /// Takes credits in the order of spending.
    fn spend(&mut self, amount: Credits) -> Result<(), OutOfRange> {
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

    /// Removes an expiring grant and returns the credits that were left of it.
    pub fn void(&mut self, grant_id: &Id) -> Credits {
        let Some(at) = self.grants.iter().position(|grant| grant.grant_id == *grant_id) else {
            return Credits::ZERO;
        };
        self.grants.remove(at).amount
    }

    /// Takes at most `by` credits of what is left of an expiring grant, and returns how many it took.
    pub fn reduce(&mut self, grant_id: &Id, by: Amount) -> Result<Credits, OutOfRange> {
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.grant_id == *grant_id) else {
            return Ok(Credits::ZERO);
        };
        let taken = by.credits().min(grant.amount);
        grant.amount = grant.amount.minus(taken)?;
        Ok(taken)
    }

    /// Takes at most `granted` credits of what is left of the prepaid sum, and returns how many it took.
    pub fn void_prepaid(&mut self, granted: Amount) -> Result<Credits, OutOfRange> {
        let taken = granted.credits().min(self.prepaid.or_zero());
        self.prepaid = self.prepaid.minus(taken)?;
        Ok(taken)
    }

    /// Takes credits for a refund: first from the prepaid sum, then from expiring grants, earliest expiry first. The
    /// rest becomes debt.
    pub fn claw_back(&mut self, amount: Credits) -> Result<(), OutOfRange> {
        let from_prepaid = amount.min(self.prepaid.or_zero());
        self.prepaid = self.prepaid.minus(from_prepaid)?;
        self.spend(amount.minus(from_prepaid)?)
    }

    /// Takes back or returns credits of one expiring grant, so that the total taken back is `target`.
    ///
    /// Returns the change in what the workspace owns, or `None` if the grant is not in the waterfall.
    pub fn claw_back_to(&mut self, grant_id: &Id, target: Credits) -> Result<Option<Credits>, OutOfRange> {
        let before = self.total()?;
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.grant_id == *grant_id) else {
            return Ok(None);
        };
        let debt = grant.claw_back_to(target)?;
        self.owe(debt)?;
        Ok(Some(self.total()?.minus(before)?))
    }

    /// Charges the debt of a refund that took consumed credits. A negative debt returns as prepaid credits.
    pub fn owe(&mut self, debt: Credits) -> Result<(), OutOfRange> {
        if debt > Credits::ZERO {
            return self.claw_back(debt);
        }
        self.prepaid = self.prepaid.minus(debt)?;
        self.pay_debt()
    }

    /// Pays debt from the expiring grants, so that no grant has credits left while there is debt.
    fn pay_debt(&mut self) -> Result<(), OutOfRange> {
        let debt = self.prepaid.negated().or_zero();
        let unpaid = self.take_from_grants(debt)?;
        self.prepaid = self.prepaid.plus(debt.minus(unpaid)?)?;
        Ok(())
    }

    /// Clears the debt that is billed, and returns it.
    pub fn invoice(&mut self) -> Credits {
        let debt = self.prepaid.negated().or_zero();
        self.prepaid = self.prepaid.or_zero();
        debt
    }

    /// Returns the sum of all grants and the prepaid sum.
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

    /// Restores the order of spending.
    pub(crate) fn sort(&mut self) {
        self.grants.sort_by(|a, b| (a.expires_at, &a.grant_id).cmp(&(b.expires_at, &b.grant_id)));
    }
}
