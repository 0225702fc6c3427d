//! Refunds that we owe: stored before Stripe is called, and made by the sweep if not at once.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::attribute::{keyed, text};
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};

const REFUND: &str = "refund";

/// A refund of all that is left of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRefund {
    /// Its id.
    pub refund_id: Id,
    /// The workspace that paid.
    pub workspace_id: WorkspaceId,
    /// The payment.
    pub payment_id: String,
    /// What was paid.
    pub price: Price,
    /// When it was promised.
    pub begun_at: Timestamp,
}

impl OwedRefund {
    /// The id of the refund of a charge that bought nothing: one for each payment.
    pub fn unwanted_id(payment_id: &str) -> Result<Id, Corrupt> {
        format!("ref-{payment_id}").parse().map_err(|_| Corrupt::Attribute("payment_id"))
    }
}

impl Store {
    /// The refund of that id.
    pub async fn owed_refund(&self, id: &Id) -> Result<Option<OwedRefund>, Fault> {
        let item = self.get(&ItemKey::refund(id)).await?;
        let refund = item.and_then(|mut item| item.remove(REFUND));
        Ok(refund.map(serde_dynamo::from_attribute_value).transpose().map_err(Corrupt::from)?)
    }

    /// Records that Stripe has taken a refund; its events say how it ends.
    pub async fn record_refund(&self, id: &Id, made_as: Option<&str>) -> Result<(), Fault> {
        let mut made = Expression::new().remove(INDEX_PK).remove(INDEX_SK).when_exists();
        if let Some(made_as) = made_as {
            made = made.set("made_as", text(made_as));
        }
        self.written(vec![made.update(&self.table, &ItemKey::refund(id))?]).await.map(drop)
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
