//! Debits: an AI call draws credits, in one request, exactly once, never below what there is (M2).

use credits_core::credits::Amount;
use credits_core::ledger::{Cause, Entry};
use credits_core::posting::Posting;

use crate::attribute::Item;
use crate::error::Fault;
use crate::idempotency::Claim;
use crate::keys::ItemKey;
use crate::posting::{Order, Unposted};
use crate::refused::RefusedBalance;
use crate::{Store, entry_item};

/// What was posted, now or when the key was first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The ledger entry.
    pub entry: Entry,
    /// Whether it was there before.
    pub replayed: bool,
}

/// Why a debit is refused.
#[derive(Debug, thiserror::Error)]
pub enum DebitRefusal {
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// There is no such workspace.
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The balance doesn't cover it (M11).
    #[error("{required} credits are required and {} can be spent", balance.spendable)]
    Insufficient {
        /// What the call costs.
        required: Amount,
        /// The balance.
        balance: RefusedBalance,
    },
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Store {
    /// Draws an amount, under the caller's key.
    ///
    /// One request, whether it succeeds, is a replay or is refused; more only where something has expired, the fence
    /// stands, others are in the way, or holds may keep what is short.
    pub async fn debit(&self, claim: &Claim, amount: Amount, cause: Cause) -> Result<Posted, DebitRefusal> {
        let order = Order {
            workspace: &claim.workspace_id,
            key: ItemKey::called(&claim.workspace_id, &claim.key),
            fingerprint: Some(claim.fingerprint),
            entry_id: self.sources.new_id("deb"),
            credits: amount.credits().negated(),
            cause,
            listed: true,
            posting: &|now| Posting::debit(amount, now),
            also: Vec::new(),
        };
        match self.post(order).await {
            Ok(entry) => Ok(Posted { entry, replayed: false }),
            Err(Unposted::KeyTaken(item)) => Ok(replay(&item, claim)?.ok_or(DebitRefusal::KeyReused)?),
            Err(Unposted::Insufficient { balance, .. }) => {
                Err(DebitRefusal::Insufficient { required: amount, balance })
            }
            Err(Unposted::NoBalance | Unposted::AlsoRefused) => Err(DebitRefusal::WorkspaceNotFound),
            Err(Unposted::Fault(fault)) => Err(fault.into()),
        }
    }

    /// What the key was first used for, if it was this very call. Asked before a call is refused for a price that is
    /// no longer on the card.
    pub async fn earlier_posting(&self, claim: &Claim) -> Result<Option<Posted>, Fault> {
        let item = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        item.map_or(Ok(None), |item| replay(&item, claim))
    }
}

/// The entry that stands under the key, if it was posted by this very call.
pub(crate) fn replay(item: &Item, claim: &Claim) -> Result<Option<Posted>, Fault> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Ok(None);
    }
    Ok(Some(Posted { entry: entry_item::read(item)?, replayed: true }))
}
