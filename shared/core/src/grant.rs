//! Grants: credits given to a workspace, with or without an expiry.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::id::Id;

/// The kind of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Never expires. Prepaid grants are one sum in the balance (M5).
    Prepaid,
    /// Given by the operator, with an expiry.
    Promotional,
    /// A month of an Enterprise commitment (M8).
    Commitment,
    /// A period of a subscription (M6).
    Allocation,
}

/// A grant that expires, as it stood when the epoch began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringGrant {
    pub grant_id: Id,
    /// Never [`GrantKind::Prepaid`].
    pub kind: GrantKind,
    /// The credits granted at first.
    pub granted: Amount,
    /// The credits that were left when the epoch began.
    pub amount: Credits,
    /// When the rest expires.
    pub expires_at: Timestamp,
    /// What refunds and disputes of the grant's payment have taken back.
    pub clawed: Clawed,
}

/// A grant that was paid ahead. It waits in the balance item until it starts, so no schedule has to fire (M6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextGrant {
    /// The first instant of the grant: a whole second.
    pub starts_at: Timestamp,
    /// The idempotency key of the grant's ledger entry, which is not listed until the grant starts.
    pub key: String,
    pub grant: ExpiringGrant,
}

/// The credits that refunds and disputes have taken back of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clawed {
    /// Credits that were taken unused: `u`.
    pub unused: Credits,
    /// Credits that were paid for consumed ones: `d`.
    pub consumed: Credits,
}

impl Clawed {
    /// Returns what is taken back once refunds and disputes come to `target`.
    ///
    /// `reclaimable` is the most that can be taken unused, `r + u`; `consumed` is `c`.
    pub(crate) fn at(target: Credits, reclaimable: Credits, consumed: Credits) -> Result<Self, OutOfRange> {
        let unused = target.min(reclaimable);
        let debt = target.minus(unused)?.or_zero().min(consumed);
        Ok(Self { unused, consumed: debt })
    }

    /// Returns the credits taken back in all.
    pub fn total(self) -> Result<Credits, OutOfRange> {
        self.unused.plus(self.consumed)
    }
}
