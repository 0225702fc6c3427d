//! Refunds that we make: stored before Stripe is called, and made by the sweep if not at once.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::refund::RefundStatus;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::attribute::{Item, Reader, keyed, number, text};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::{Claim, ClaimRefusal};
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};
use crate::transaction::{Outcome, Reason, is_busy};
use crate::{Store, entry_item};

const REFUND: &str = "refund";
const REFUND_ID: &str = "refund_id";
const ENDED: &str = "ended";
const KEYS: &str = "keys";

/// A refund that we make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRefund {
    /// Our id of it.
    pub refund_id: Id,
    /// The workspace that paid.
    pub workspace_id: WorkspaceId,
    /// The payment.
    pub payment_id: String,
    /// What was paid.
    pub price: Price,
    /// How much is refunded, in minor units; `None` for all that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<u64>,
    /// Why, in the operator's words, if an operator asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was promised.
    pub begun_at: Timestamp,
}

/// How Stripe has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundResult {
    /// It was made.
    Made {
        /// Stripe's id of the refund; `None` if everything had been refunded before.
        made_as: Option<String>,
        /// How it stood then. Its events say how it ends.
        status: RefundStatus,
    },
    /// It is more than is left of the payment.
    ExceedsPayment,
    /// A dispute of the payment decides about the money.
    Disputed,
}

/// A refund as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRefund {
    /// The refund.
    pub refund: OwedRefund,
    /// How Stripe has answered, if it has.
    pub end: Option<RefundResult>,
    /// How often Stripe has failed under an idempotency key of it: the next is sent under another.
    pub keys: u64,
}

impl OwedRefund {
    /// The id of the refund of a charge that bought nothing: one for each payment.
    pub fn unwanted_id(payment_id: &str) -> Result<Id, Corrupt> {
        format!("ref-{payment_id}").parse().map_err(|_| Corrupt::Attribute("payment_id"))
    }
}

impl StoredRefund {
    /// The idempotency key under which Stripe is asked for it.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let id = &self.refund.refund_id;
        if self.keys == 0 { id.to_string() } else { format!("{id}-{}", self.keys) }
    }
}

impl Store {
    /// Stores a refund under the caller's key, before Stripe is asked. Under the same key again it is the first one.
    pub async fn begin_refund(
        &self,
        claim: &Claim,
        refund: &OwedRefund,
    ) -> Result<StoredRefund, ClaimRefusal> {
        let mut attempts = self.attempts();
        loop {
            let mut claimed = entry_item::claimed(claim);
            claimed.insert(REFUND_ID.into(), text(refund.refund_id.as_str()));
            let writes = vec![
                entry_item::put(&self.table, claimed).map_err(Fault::from)?,
                owe_write(&self.table, refund).map_err(Fault::from)?,
            ];
            match self.transact(writes).await.map_err(ClaimRefusal::from)? {
                Outcome::Written => return Ok(StoredRefund { refund: refund.clone(), end: None, keys: 0 }),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(taken))) => return self.begun_refund(claim, taken).await,
                    _ if is_busy(&reasons) => attempts.after_conflict().await?,
                    _ => return Err(Fault::from(Corrupt::Attribute(REFUND_ID)).into()),
                },
            }
        }
    }

    /// The refund that the key stands for, if it was begun by this very call.
    pub async fn earlier_refund(&self, claim: &Claim) -> Result<Option<StoredRefund>, ClaimRefusal> {
        let item = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        match item {
            Some(taken) => self.begun_refund(claim, &taken).await.map(Some),
            None => Ok(None),
        }
    }

    async fn begun_refund(&self, claim: &Claim, taken: &Item) -> Result<StoredRefund, ClaimRefusal> {
        if !entry_item::is_of(taken, Some(claim.fingerprint)) {
            return Err(ClaimRefusal::KeyReused);
        }
        let id: Id = Reader(taken).parsed(REFUND_ID).map_err(Fault::from)?;
        let stored = self.owed_refund(&id).await?;
        Ok(stored.ok_or(Corrupt::Attribute(REFUND_ID)).map_err(Fault::from)?)
    }

    /// The refund of that id.
    pub async fn owed_refund(&self, id: &Id) -> Result<Option<StoredRefund>, Fault> {
        let item = self.get(&ItemKey::refund(id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Records how Stripe has answered. The first answer stands.
    pub async fn end_refund(&self, id: &Id, end: &RefundResult) -> Result<(), Fault> {
        let value = serde_dynamo::to_attribute_value(end).map_err(Corrupt::from)?;
        let ended = Expression::new().remove(INDEX_PK).remove(INDEX_SK).set(ENDED, value);
        let ended = ended.when_exists().when_absent(ENDED);
        self.written(vec![ended.update(&self.table, &ItemKey::refund(id))?]).await.map(drop)
    }

    /// Records that Stripe failed with a 5xx under the present key, which it keeps.
    pub async fn next_refund_key(&self, stored: &StoredRefund) -> Result<(), Fault> {
        let next = Expression::new().set(KEYS, number(stored.keys.saturating_add(1)));
        let next = match stored.keys {
            0 => next.when_absent(KEYS),
            keys => next.when(KEYS, "=", number(keys)),
        };
        let key = ItemKey::refund(&stored.refund.refund_id);
        self.written(vec![next.when_exists().update(&self.table, &key)?]).await.map(drop)
    }
}

/// The write that promises a refund.
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
