//! A balance that does not cover a call, and what follows from that before the call is answered.

use credits_core::alert::Exhaustion;
use credits_core::balance::Balance;
use credits_core::credits::Credits;

use crate::error::Corrupt;

/// A balance that does not cover a call (M11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedBalance {
    /// What can be spent, the credit limit included.
    pub spendable: Credits,
    /// What can be spent of the workspace's own credits.
    pub available: Credits,
    /// Its version.
    pub version: u64,
    /// What has to be noted of it ([`crate::Store::note_exhaustion`]).
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
