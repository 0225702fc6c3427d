//! Debits: take the credits of an AI call, in one request, exactly once, never more than the balance covers (M2).

use credits_core::credits::CallPrice;
use credits_core::ledger::{Cause, Entry};
use credits_core::own_prices::OtherPrices;
use credits_core::posting::Posting;

use crate::error::Fault;
use crate::idempotency::{Claim, KeyUse};
use crate::items::entry_item;
use crate::posting::{EntryState, PostingOrder, RefusedPosting, Unposted};
use crate::refused::RefusedBalance;
use crate::table::Store;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;

/// A posting that was written now or under an earlier use of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub entry: Entry,
    /// Whether an earlier request has written the entry.
    pub key_use: KeyUse,
}

/// The reason why a debit is refused.
#[derive(Debug, thiserror::Error)]
pub enum DebitRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The balance doesn't cover the amount (M11).
    #[error("{required} credits are required and {} can be spent", balance.spendable)]
    Insufficient { required: CallPrice, balance: RefusedBalance },
    #[error(transparent)]
    OtherPrices(OtherPrices),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Debits and batches of debits.
#[derive(Debug, Clone, Copy)]
pub struct DebitStore<'a> {
    pub(crate) store: &'a Store,
}

impl DebitStore<'_> {
    /// Debits the price of a call under the caller's key.
    ///
    /// Sends one request, whether the debit succeeds, is a replay or is refused. Sends more only if the balance has to
    /// be closed first, if other writes are in the way, or if expired holds may keep what is missing.
    pub async fn debit(self, claim: &Claim, price: CallPrice, cause: Cause) -> Result<Posted, DebitRefusal> {
        let priced_with = cause.priced_with();
        let order = PostingOrder {
            workspace: &claim.workspace_id,
            key: ItemKey::called(&claim.workspace_id, &claim.key),
            fingerprint: Some(claim.fingerprint),
            entry_id: self.store.sources.new_id("deb"),
            credits: price.credits().negated(),
            cause,
            state: EntryState::Complete,
            debit: Some(price),
            priced_with,
            build_posting: &|now| Posting::debit(price, now).priced_with(priced_with),
            extra_writes: Vec::new(),
        };
        match self.store.postings().post(order).await {
            Ok(entry) => Ok(Posted { entry, key_use: KeyUse::First }),
            Err(Unposted::KeyTaken(item)) => Ok(replay(&item, claim)?.ok_or(DebitRefusal::KeyReused)?),
            Err(Unposted::Insufficient(RefusedPosting { balance, .. })) => {
                Err(DebitRefusal::Insufficient { required: price, balance })
            }
            Err(Unposted::OtherPrices(other)) => Err(DebitRefusal::OtherPrices(other)),
            Err(Unposted::NoBalance | Unposted::ExtraConditionFailed) => Err(DebitRefusal::WorkspaceNotFound),
            Err(Unposted::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Returns the posting that the same request has written under the key before; `None` if it has not.
    ///
    /// Callers ask for it before they refuse a call whose price is no longer on the rate card.
    pub async fn earlier_posting(self, claim: &Claim) -> Result<Option<Posted>, Fault> {
        let item = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        item.map_or(Ok(None), |item| replay(&item, claim))
    }
}

/// Returns the entry under the key as a replay; `None` if another request has written it.
pub(crate) fn replay(item: &Item, claim: &Claim) -> Result<Option<Posted>, Fault> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Ok(None);
    }
    Ok(Some(Posted { entry: entry_item::read(item)?, key_use: KeyUse::Replay }))
}
