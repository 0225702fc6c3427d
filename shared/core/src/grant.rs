//! Grants: credits that were given, with or without an end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::claw_back::Clawed;
use crate::credits::{Amount, Credits};
use crate::id::Id;

/// What sort of grant it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Never expires; kept in the balance's one sum (M5).
    Prepaid,
    /// Given by the operator, with an end.
    Promotional,
    /// An Enterprise commitment's month (M8).
    Commitment,
    /// A subscription's month (M6).
    Allocation,
}

/// A grant that expires, as it stood when the epoch began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringGrant {
    /// Its id.
    pub grant_id: Id,
    /// Its kind; never [`GrantKind::Prepaid`].
    pub kind: GrantKind,
    /// What was given.
    pub granted: Amount,
    /// What of it was left when the epoch began.
    pub amount: Credits,
    /// When the rest of it is gone.
    pub expires_at: Timestamp,
    /// What refunds and disputes of its payment have taken back.
    pub clawed: Clawed,
}

/// A grant that was paid ahead: it waits in the balance item until it starts, whether a schedule fires or not (M6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextGrant {
    /// Its first instant, a whole second.
    pub starts_at: Timestamp,
    /// The idempotency key under which its ledger entry stands, unlisted until it joins.
    pub key: String,
    /// The grant.
    pub grant: ExpiringGrant,
}
