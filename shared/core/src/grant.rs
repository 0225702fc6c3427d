//! Grants: credits given to a workspace, with or without an expiry.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::claw_back::Clawed;
use crate::credits::{Amount, Credits};
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
