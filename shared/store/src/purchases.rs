//! Purchases: kept before the provider is asked, so that a crash leaves nothing that a retry would not find (M5, M6).

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::catalogue::Pack;
use credits_core::id::Id;
use credits_core::purchase::{Card, Checkout, Goods, Purchase};
use jiff::{SignedDuration, Timestamp};

use crate::Store;
use crate::attribute::{Item, Reader, keyed, text};
use crate::entry_item;
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::{Claim, ClaimRefusal};
use crate::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};
use crate::transaction::{Outcome, Reason, is_busy};

/// How long a checkout can be paid: what the provider gives it.
const CHECKOUT_LASTS: SignedDuration = SignedDuration::from_hours(24);

/// A purchase with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The purchase.
    pub purchase: Purchase,
    /// The provider's checkout, once it is open.
    pub checkout: Option<Checkout>,
    /// The card that is charged for it, where one is.
    pub card: Option<Card>,
    /// The payment that paid it.
    pub paid_by: Option<String>,
}

impl Store {
    /// Claims the key for a top-up of this pack; with the same call's key, gives the top-up that it stands for.
    ///
    /// The checkout is opened after this, under the purchase's id as the provider's idempotency key, and kept with
    /// [`Self::open_checkout`].
    pub async fn begin_top_up(&self, claim: &Claim, pack: &Pack) -> Result<Kept, ClaimRefusal> {
        let purchase = Purchase {
            purchase_id: self.sources.new_id("top"),
            workspace_id: claim.workspace_id.clone(),
            goods: Goods::Pack { pack: pack.pack.clone(), credits: pack.credits },
            price: pack.price,
            begun_at: self.now(),
        };
        let mut attempts = self.attempts();
        loop {
            let writes = self.begin_writes(claim, &purchase).map_err(Fault::from)?;
            match self.transact(writes).await? {
                Outcome::Written => {
                    return Ok(Kept { purchase, checkout: None, card: None, paid_by: None });
                }
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(taken))) => return self.begun(claim, taken).await,
                    _ if is_busy(&reasons) => attempts.after_conflict().await?,
                    _ => return Err(ClaimRefusal::WorkspaceNotFound),
                },
            }
        }
    }

    /// Keeps the checkout with its purchase, and says whether it was the first to be kept.
    pub async fn open_checkout(&self, purchase: &Purchase, checkout: &Checkout) -> Result<bool, Fault> {
        let expires_at = self.now().checked_add(CHECKOUT_LASTS).unwrap_or(Timestamp::MAX);
        let mut attempts = self.attempts();
        let mut unanswered = false;
        loop {
            let update = Expression::new()
                .set("checkout_id", text(&checkout.checkout_id))
                .set("checkout_url", text(&checkout.checkout_url))
                .set(INDEX_PK, text(due(&purchase.workspace_id)))
                .set(INDEX_SK, text(position(expires_at, purchase.purchase_id.as_str())))
                .when_absent("checkout_id")
                .when_absent("paid_by")
                .update(&self.table, &ItemKey::purchase(&purchase.purchase_id))?;
            match self.transact(vec![update]).await? {
                Outcome::Written => return Ok(true),
                Outcome::Unknown(error) => {
                    unanswered = true;
                    attempts.after_failure(error).await?;
                }
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                // Either our own write, whose answer was lost, or another's of the same checkout.
                Outcome::Cancelled(_) => return Ok(unanswered),
            }
        }
    }

    /// The purchase of that id.
    pub async fn purchase(&self, id: &Id) -> Result<Option<Kept>, Fault> {
        let item = self.get(&ItemKey::purchase(id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// The top-up that the key stands for, if it was begun by this very call. Asked before a call is refused for a pack
    /// that is no longer in the catalogue.
    pub async fn earlier_top_up(&self, claim: &Claim) -> Result<Option<Kept>, Fault> {
        let Some(item) = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await? else {
            return Ok(None);
        };
        match self.begun(claim, &item).await {
            Ok(kept) => Ok(Some(kept)),
            Err(ClaimRefusal::Fault(fault)) => Err(fault),
            Err(ClaimRefusal::KeyReused | ClaimRefusal::WorkspaceNotFound) => Ok(None),
        }
    }

    async fn begun(&self, claim: &Claim, taken: &Item) -> Result<Kept, ClaimRefusal> {
        if !entry_item::is_of(taken, Some(claim.fingerprint)) {
            return Err(ClaimRefusal::KeyReused);
        }
        // A key that stands for something else was of another path, and so of another fingerprint.
        let id: Id = Reader(taken).parsed("purchase_id").map_err(Fault::from)?;
        let kept = self.purchase(&id).await?;
        Ok(kept.ok_or(Corrupt::Attribute("purchase_id")).map_err(Fault::from)?)
    }

    fn begin_writes(&self, claim: &Claim, purchase: &Purchase) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let mut key = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
        let fingerprint = Blob::new(claim.fingerprint.bytes());
        key.insert("fingerprint".into(), AttributeValue::B(fingerprint));
        key.insert("purchase_id".into(), text(purchase.purchase_id.as_str()));
        let workspace = ItemKey::workspace(&claim.workspace_id);
        Ok(vec![
            Expression::new().when_absent(PK).put(&self.table, key)?,
            Expression::new().when_exists().check(&self.table, &workspace)?,
            begin_write(&self.table, purchase, None)?,
        ])
    }
}

/// The write that keeps a new purchase.
pub(crate) fn begin_write(
    table: &str,
    purchase: &Purchase,
    card: Option<&Card>,
) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::purchase(&purchase.purchase_id));
    item.insert("purchase".into(), serde_dynamo::to_attribute_value(purchase)?);
    if let Some(card) = card {
        item.insert("card".into(), serde_dynamo::to_attribute_value(card)?);
    }
    Expression::new().when_absent(PK).put(table, item)
}

/// The write that marks a purchase as paid by this payment and no other.
pub(crate) fn paid_write(table: &str, purchase: &Id, payment_id: &str) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set("paid_by", text(payment_id))
        .remove(INDEX_PK)
        .remove(INDEX_SK)
        .when_absent_or("paid_by", "=", text(payment_id))
        .update(table, &ItemKey::purchase(purchase))
}

/// The purchase of an item.
pub(crate) fn read(item: &Item) -> Result<Kept, Corrupt> {
    let reader = Reader(item);
    let purchase = item.get("purchase").cloned().ok_or(Corrupt::Attribute("purchase"))?;
    let checkout = reader.optional_text("checkout_id").zip(reader.optional_text("checkout_url"));
    Ok(Kept {
        purchase: serde_dynamo::from_attribute_value(purchase)?,
        checkout: checkout
            .map(|(id, url)| Checkout { checkout_id: id.to_owned(), checkout_url: url.to_owned() }),
        card: item.get("card").cloned().map(serde_dynamo::from_attribute_value).transpose()?,
        paid_by: reader.optional_text("paid_by").map(str::to_owned),
    })
}
