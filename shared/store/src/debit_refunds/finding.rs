//! The search for a debit by its id. A debit is stored under its idempotency key, so the ledger's index finds it by the time in
//! its id. A hold names the entry of its settlement.

use credits_core::batch::PricedCall;
use credits_core::credits::CallPrice;
use credits_core::hold::{Hold, HoldStatus};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use jiff::{SignedDuration, Timestamp};

use crate::debit_refunds::refundable::RefundTarget;
use crate::debit_refunds::{DebitRefundOrder, DebitRefundRefusal, DebitRefundStore};
use crate::error::{Corrupt, Fault};
use crate::holds::capture::id_of;
use crate::items::{entry_item, hold_item};
use crate::sources::Sources;
use crate::table::attribute::Reader;
use crate::table::keys::{INDEX_SK, ItemKey, position, read_position};
use crate::table::reads::key_of;
use crate::table::transaction::Attempts;

/// The longest time from a debit's id to its posting.
const POSTED_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// The largest difference to expect between the clocks of a function and of DynamoDB.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(15);

/// The maximum number of pages that one search reads. Only a busy workspace has more entries in its window; there a debit
/// is found if the clocks agree.
const MAX_PAGES: usize = 25;

/// How long the index may lack a debit.
const INDEXED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The entries of each partition that one request reads.
const ENTRIES_A_PAGE: i32 = 200;

/// How often the search is repeated for a debit that the index may lack.
const MAX_SEARCHES: usize = 6;

impl DebitRefundStore<'_> {
    /// Finds a debit, with the calls that an order means.
    pub(super) async fn find(
        self,
        workspace: &WorkspaceId,
        order: &DebitRefundOrder,
        attempts: &mut Attempts,
    ) -> Result<RefundTarget, DebitRefundRefusal> {
        if let Some(item) = self.store.get(&ItemKey::hold(workspace, &order.debit_id)).await? {
            let hold = hold_item::read(&item).map_err(Fault::from)?;
            return self.target_of_hold(workspace, &hold, order).await;
        }
        let key = self.search(workspace, &order.debit_id, attempts).await?;
        let key = key.ok_or(DebitRefundRefusal::DebitNotFound)?;
        let entry = self.entry(&key).await?;
        if order.capture_id.is_some() {
            return Err(DebitRefundRefusal::CaptureNotFound);
        }
        let calls = match (&entry.cause, order.line) {
            (Cause::Debit { .. }, None) => vec![(0, call_of(&entry)?)],
            (Cause::Debit { .. }, Some(_)) => return Err(DebitRefundRefusal::LineNotFound),
            (Cause::Batch(batch), None) => batch.content.iter().cloned().enumerate().collect(),
            (Cause::Batch(batch), Some(line)) => {
                let call = batch.content.get(line).ok_or(DebitRefundRefusal::LineNotFound)?;
                vec![(line, call.clone())]
            }
            _ => return Err(DebitRefundRefusal::DebitNotFound),
        };
        Ok(RefundTarget { key, entry, calls })
    }

    /// Returns the settlement of a hold, with the calls that were captured from it.
    async fn target_of_hold(
        self,
        workspace: &WorkspaceId,
        hold: &Hold,
        order: &DebitRefundOrder,
    ) -> Result<RefundTarget, DebitRefundRefusal> {
        if order.line.is_some() {
            return Err(DebitRefundRefusal::LineNotFound);
        }
        let name = hold.entry.as_ref().filter(|_| hold.status != HoldStatus::Open);
        let key = ItemKey::named(workspace, name.ok_or(DebitRefundRefusal::DebitNotFound)?);
        let entry = self.entry(&key).await?;
        let Cause::HoldSettled(settlement) = &entry.cause else {
            return Err(DebitRefundRefusal::DebitNotFound);
        };
        // The entry has the calls of all holds that were settled together, in this order.
        let earlier = settlement.hold_ids.iter().take_while(|hold_id| **hold_id != hold.hold_id);
        let keys: Vec<ItemKey> = earlier.map(|hold_id| ItemKey::hold(workspace, hold_id)).collect();
        let items = self.store.get_many(&keys).await?;
        let mut first: usize = 0;
        for key in &keys {
            let item = items.get(key).ok_or(Fault::Corrupt(Corrupt::Attribute("hold_ids")))?;
            let captures = hold_item::read(item).map_err(Fault::from)?.captures;
            first = first.saturating_add(captures.len());
        }
        let own = settlement.content.iter().enumerate().skip(first).zip(&hold.captures);
        let mut calls: Vec<(usize, PricedCall)> = Vec::new();
        for ((line, call), capture) in own {
            let is_meant = match &order.capture_id {
                None => true,
                Some(capture_id) => id_of(&hold.hold_id, &capture.key)? == *capture_id,
            };
            if is_meant {
                calls.push((line, call.clone()));
            }
        }
        if calls.is_empty() && order.capture_id.is_some() {
            return Err(DebitRefundRefusal::CaptureNotFound);
        }
        Ok(RefundTarget { key, entry, calls })
    }

    async fn entry(self, key: &ItemKey) -> Result<Entry, DebitRefundRefusal> {
        let item = self.store.get(key).await?.ok_or(DebitRefundRefusal::DebitNotFound)?;
        Ok(entry_item::read(&item).map_err(Fault::from)?)
    }

    /// Searches the ledger's index. Repeats the search for a debit so young that the index may lack it.
    async fn search(
        self,
        workspace: &WorkspaceId,
        debit_id: &Id,
        attempts: &mut Attempts,
    ) -> Result<Option<ItemKey>, Fault> {
        let Some(made_at) = Sources::made_at(debit_id) else { return Ok(None) };
        let earliest = made_at.checked_sub(CLOCK_DIFFERENCE).unwrap_or(made_at);
        let latest = made_at.checked_add(POSTED_WITHIN).unwrap_or(made_at);
        for _ in 0..MAX_SEARCHES {
            // Most debits are posted within a millisecond.
            for (from, to) in [(made_at, latest), (earliest, made_at)] {
                if let Some(key) = self.search_between(workspace, debit_id, from, to).await? {
                    return Ok(Some(key));
                }
            }
            if self.store.now().duration_since(made_at) > INDEXED_WITHIN {
                break;
            }
            attempts.retry_after_conflict().await?;
        }
        Ok(None)
    }

    async fn search_between(
        self,
        workspace: &WorkspaceId,
        debit_id: &Id,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<ItemKey>, Fault> {
        let partitions = self.store.ledger().partitions(workspace).await?;
        let (mut after, end) = (position(from, ""), position(to, "~"));
        for _ in 0..MAX_PAGES {
            let (items, more) = self.store.forwards(&partitions, &after, &end, Some(ENTRIES_A_PAGE)).await?;
            for item in &items {
                let place = Reader(item).text(INDEX_SK)?;
                if read_position(place).is_some_and(|(_, id)| id == debit_id.as_str()) {
                    return Ok(Some(key_of(item)?));
                }
                place.clone_into(&mut after);
            }
            if !more || items.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}

/// Returns the call of a debit.
fn call_of(entry: &Entry) -> Result<PricedCall, Fault> {
    let Cause::Debit { operation, model, units, consumer, metadata, .. } = entry.cause.clone() else {
        return Err(Corrupt::Attribute("kind").into());
    };
    let price = CallPrice::new(entry.credits.negated());
    let amount = price.map_err(|_| Corrupt::Attribute("credits"))?;
    Ok(PricedCall { operation, model, units, consumer, metadata, amount })
}
