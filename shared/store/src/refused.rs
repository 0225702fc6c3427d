//! The balance that does not cover a call, and what has to be done about it before the call is refused.

use credits_core::alert::Exhaustion;
use credits_core::balance::Balance;
use credits_core::credits::Credits;

use crate::error::Corrupt;

/// A balance that does not cover a call (M11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedBalance {
    /// Spendable credits, the credit limit included.
    pub spendable: Credits,
    /// Spendable credits without the credit limit.
    pub available: Credits,
    pub version: u64,
    /// The exhaustion to note, if there is one ([`crate::alerts::AlertStore::note_exhaustion`]).
    pub exhaustion: Option<Exhaustion>,
    /// Whether automatic top-up is switched on.
    pub tops_up: bool,
}

impl RefusedBalance {
    pub(crate) fn of(balance: &Balance) -> Result<Self, Corrupt> {
        Ok(Self {
            spendable: balance.spendable,
            available: balance.available()?,
            version: balance.version,
            exhaustion: balance.exhaustion()?,
            tops_up: balance.top_up_at.is_some(),
        })
    }
}
