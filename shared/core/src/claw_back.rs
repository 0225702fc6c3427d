//! Claw-backs: credits that refunds and disputes take back of the expiring grant that their payment bought (M5).
//!
//! Of a grant of `G` credits, `r` are left, `c` were consumed, `e` have expired, and `u` were taken back unused. So
//! `G = r + c + e + u`. For consumed credits the workspace pays `d ≤ c`. If refunds and disputes come to `T ≤ G`, then
//!
//! ```text
//! u' = min(T, r + u)      while the grant runs; u' = u once it has ended
//! d' = min(T − u', c)     and at least 0
//! ```
//!
//! So a refund takes what is left of its own grant first, then what was consumed of it, and never what has expired.
//! `u'` and `d'` depend on `T` alone, not on the steps that led to it. So a refund that fails returns what it took.
//!
//! `d' − d` is debt: prepaid credits pay it, then expiring grants, like any debt. If it is negative, it returns as
//! prepaid credits. A pack joins the prepaid sum, of which every credit is left or was consumed. There, all of
//! `T' − T` is debt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, GrantKind};
use crate::id::Id;

pub use crate::grant::Clawed;

/// Why credits are taken back, or had been taken back before they were returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClawBackReason {
    Refund,
    /// A payment is disputed, or was.
    Dispute,
}

impl ClawBackReason {
    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Dispute => "dispute",
        }
    }
}

/// A grant that has ended. Later refunds and disputes of its payment are computed from this record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedGrant {
    pub grant_id: Id,
    /// The credits consumed before the end: `c`.
    pub consumed: Credits,
    pub clawed: Clawed,
}

impl ExpiringGrant {
    /// Returns the credits consumed of a grant that has not ended.
    pub fn consumed(&self) -> Result<Credits, OutOfRange> {
        self.granted.credits().minus(self.amount)?.minus(self.clawed.unused)
    }

    /// Takes back or returns credits so that `target` is taken back in all. Returns the change of the debt: what has to
    /// be paid for consumed credits, or, below zero, what returns.
    pub(crate) fn claw_back_to(&mut self, target: Credits) -> Result<Credits, OutOfRange> {
        let reclaimable = self.amount.plus(self.clawed.unused)?;
        let clawed = Clawed::at(target, reclaimable, self.consumed()?)?;
        let debt = clawed.consumed.minus(self.clawed.consumed)?;
        self.amount = reclaimable.minus(clawed.unused)?;
        self.clawed = clawed;
        Ok(debt)
    }

    /// Returns the record of the grant after its end. What is left now expires.
    pub(crate) fn ended(&self) -> Result<EndedGrant, OutOfRange> {
        Ok(EndedGrant { grant_id: self.grant_id.clone(), consumed: self.consumed()?, clawed: self.clawed })
    }
}

impl EndedGrant {
    /// Returns the grant with `target` credits taken back in all, and the change of the debt.
    pub fn claw_back_to(&self, target: Credits) -> Result<(Self, Credits), OutOfRange> {
        let rest = target.minus(self.clawed.unused)?.or_zero();
        let clawed = Clawed { consumed: rest.min(self.consumed), ..self.clawed };
        let debt = clawed.consumed.minus(self.clawed.consumed)?;
        Ok((Self { clawed, ..self.clone() }, debt))
    }

    /// Returns the grant as it stays in the balance for a claw-back that a later close applies.
    ///
    /// What was consumed and taken back counts as all that it granted. Returns `None` if that is nothing.
    pub(crate) fn stays(&self, expires_at: Timestamp) -> Result<Option<ExpiringGrant>, OutOfRange> {
        let granted = self.consumed.plus(self.clawed.unused)?;
        Ok(Amount::new(granted).ok().map(|granted| ExpiringGrant {
            grant_id: self.grant_id.clone(),
            kind: GrantKind::Allocation,
            granted,
            amount: Credits::ZERO,
            expires_at,
            clawed: self.clawed,
        }))
    }
}
