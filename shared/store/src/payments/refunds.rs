//! Refunds that we make: stored before the request to Stripe, and made by the sweep if not at once.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::refund::RefundStatus;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, ClaimRefusal};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

const REFUND: &str = "refund";
const REFUND_ID: &str = "refund_id";
const ENDED: &str = "ended";
const KEYS: &str = "keys";

/// A refund that we owe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRefund {
    pub refund_id: Id,
    /// The workspace that paid.
    pub workspace_id: WorkspaceId,
    /// Stripe's id of the payment.
    pub payment_id: String,
    /// What was paid.
    pub price: Price,
    /// Amount to refund, in minor units; `None` for all that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<u64>,
    /// The operator's reason, if an operator asked for the refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the refund was stored.
    pub begun_at: Timestamp,
}

/// Stripe's answer to a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundResult {
    Made {
        /// Stripe's id of the refund; `None` if everything had been refunded before.
        made_as: Option<String>,
        /// Its status at that time. Its events report how it ends.
        status: RefundStatus,
    },
    /// It is more than is left of the payment.
    ExceedsPayment,
    /// A dispute of the payment decides about the money.
    Disputed,
    /// Stripe has no such payment.
    PaymentMissing,
}

/// A stored refund with Stripe's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRefund {
    pub refund: OwedRefund,
    /// Stripe's answer; `None` while the refund is due.
    pub end: Option<RefundResult>,
    /// Number of its idempotency keys under which Stripe has failed. The next request has another key.
    pub keys: u64,
}

impl OwedRefund {
    /// Returns the id of the refund of a charge that bought nothing. A payment has one at most.
    pub fn unwanted_id(payment_id: &str) -> Result<Id, Corrupt> {
        format!("ref-{payment_id}").parse().map_err(|_| Corrupt::Attribute("payment_id"))
    }
}

impl StoredRefund {
    /// Returns the idempotency key of the next request to Stripe.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let id = &self.refund.refund_id;
        if self.keys == 0 { id.to_string() } else { format!("{id}-{}", self.keys) }
    }
}

/// Refunds of payments.
#[derive(Debug, Clone, Copy)]
pub struct RefundStore<'a> {
    pub(crate) store: &'a Store,
}

impl RefundStore<'_> {
    /// Stores a refund under the caller's key, before the request to Stripe. The same call under the same key returns
    /// the first refund.
    pub async fn begin(self, claim: &Claim, refund: &OwedRefund) -> Result<StoredRefund, ClaimRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let mut claimed = entry_item::claimed(claim);
            claimed.insert(REFUND_ID.into(), text(refund.refund_id.as_str()));
            let writes = vec![
                entry_item::put(&self.store.table, claimed).map_err(Fault::from)?,
                owe_write(&self.store.table, refund).map_err(Fault::from)?,
            ];
            match self.store.transact(writes).await.map_err(ClaimRefusal::from)? {
                TransactionOutcome::Written => {
                    return Ok(StoredRefund { refund: refund.clone(), end: None, keys: 0 });
                }
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(taken))) => return self.begun(claim, taken).await,
                    _ if is_busy(&reasons) => attempts.retry_after_conflict().await?,
                    _ => return Err(Fault::from(Corrupt::Attribute(REFUND_ID)).into()),
                },
            }
        }
    }

    /// Returns the refund that was begun under the key; refuses a key that was used for another call.
    pub async fn earlier(self, claim: &Claim) -> Result<Option<StoredRefund>, ClaimRefusal> {
        let item = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        match item {
            Some(taken) => self.begun(claim, &taken).await.map(Some),
            None => Ok(None),
        }
    }

    async fn begun(self, claim: &Claim, taken: &Item) -> Result<StoredRefund, ClaimRefusal> {
        if !entry_item::is_of(taken, Some(claim.fingerprint)) {
            return Err(ClaimRefusal::KeyReused);
        }
        let id: Id = Reader(taken).parsed(REFUND_ID).map_err(Fault::from)?;
        let stored = self.owed(&id).await?;
        Ok(stored.ok_or(Corrupt::Attribute(REFUND_ID)).map_err(Fault::from)?)
    }

    /// Returns the refund with this id.
    pub async fn owed(self, id: &Id) -> Result<Option<StoredRefund>, Fault> {
        let item = self.store.get(&ItemKey::refund(id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Records Stripe's answer. The first answer stands.
    pub async fn end(self, id: &Id, end: &RefundResult) -> Result<(), Fault> {
        let value = serde_dynamo::to_attribute_value(end).map_err(Corrupt::from)?;
        let ended = Expression::new().remove(INDEX_PK).remove(INDEX_SK).set(ENDED, value);
        let ended = ended.when_exists().when_absent(ENDED);
        self.store
            .transact_unless_changed(vec![ended.update(&self.store.table, &ItemKey::refund(id))?])
            .await
            .map(drop)
    }

    /// Advances to the next idempotency key, after Stripe answered with a 5xx under the present one. Stripe repeats
    /// that answer under the same key.
    pub async fn next_key(self, stored: &StoredRefund) -> Result<(), Fault> {
        let next = Expression::new().set(KEYS, number(stored.keys.saturating_add(1)));
        let next = match stored.keys {
            0 => next.when_absent(KEYS),
            keys => next.when(KEYS, "=", number(keys)),
        };
        let key = ItemKey::refund(&stored.refund.refund_id);
        self.store
            .transact_unless_changed(vec![next.when_exists().update(&self.store.table, &key)?])
            .await
            .map(drop)
    }
}

/// Builds the write that stores a refund as owed.
pub(crate) fn owe_write(table: &str, refund: &OwedRefund) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::refund(&refund.refund_id));
    item.insert(REFUND.into(), serde_dynamo::to_attribute_value(refund)?);
    item.insert(INDEX_PK.into(), text(due(&refund.workspace_id)));
    item.insert(INDEX_SK.into(), text(position(refund.begun_at, refund.refund_id.as_str())));
    Expression::new().when_absent(PK).put(table, item)
}

fn read(item: &Item) -> Result<StoredRefund, Corrupt> {
    let refund = item.get(REFUND).cloned().ok_or(Corrupt::Attribute(REFUND))?;
    let end = item.get(ENDED).cloned().map(serde_dynamo::from_attribute_value).transpose()?;
    let keys = if item.contains_key(KEYS) { Reader(item).number(KEYS)? } else { 0 };
    Ok(StoredRefund { refund: serde_dynamo::from_attribute_value(refund)?, end, keys })
}
