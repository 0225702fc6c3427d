//! Top-ups: claimed before the provider is asked, so that a crash leaves nothing that a retry would not find (M5).

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::catalogue::Pack;
use credits_core::credits::Amount;
use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::top_up::{Checkout, TopUp};

use crate::Store;
use crate::attribute::{Item, Reader, credits, keyed, number, text};
use crate::entry_item;
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::{Claim, ClaimRefusal};
use crate::keys::{ItemKey, PK};
use crate::transaction::{Outcome, Reason, is_busy};

impl Store {
    /// Claims the key for a top-up of this pack; with the same call's key, gives the top-up that it stands for.
    ///
    /// The checkout is opened after this, under the top-up's id as the provider's idempotency key, and kept with
    /// [`Self::open_checkout`].
    pub async fn begin_top_up(&self, claim: &Claim, pack: &Pack) -> Result<TopUp, ClaimRefusal> {
        let top_up = TopUp {
            top_up_id: self.sources.new_id("top"),
            workspace_id: claim.workspace_id.clone(),
            pack: pack.pack.clone(),
            credits: pack.credits,
            price: pack.price,
            checkout: None,
            paid_by: None,
        };
        let mut attempts = self.attempts();
        loop {
            let writes = self.begin_writes(claim, &top_up).map_err(Fault::from)?;
            match self.transact(writes).await? {
                Outcome::Written => return Ok(top_up),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(taken))) => return self.begun(claim, taken).await,
                    _ if is_busy(&reasons) => attempts.after_conflict().await?,
                    _ => return Err(ClaimRefusal::WorkspaceNotFound),
                },
            }
        }
    }

    /// Keeps the checkout with its top-up, and says whether it was the first to be kept.
    pub async fn open_checkout(&self, top_up: &TopUp, checkout: &Checkout) -> Result<bool, Fault> {
        let mut attempts = self.attempts();
        loop {
            let update = Expression::new()
                .set("checkout_id", text(&checkout.checkout_id))
                .set("checkout_url", text(&checkout.checkout_url))
                .when_absent("checkout_id")
                .update(&self.table, &ItemKey::top_up(&top_up.top_up_id))?;
            match self.transact(vec![update]).await? {
                Outcome::Written => return Ok(true),
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                Outcome::Cancelled(reasons) if is_busy(&reasons) => attempts.after_conflict().await?,
                Outcome::Cancelled(_) => return Ok(false),
            }
        }
    }

    /// The top-up of that id.
    pub async fn top_up(&self, id: &Id) -> Result<Option<TopUp>, Fault> {
        let item = self.get(&ItemKey::top_up(id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// The top-up that the key stands for, if it was begun by this very call. Asked before a call is refused for a pack
    /// that is no longer in the catalogue.
    pub async fn earlier_top_up(&self, claim: &Claim) -> Result<Option<TopUp>, Fault> {
        let Some(item) = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await? else {
            return Ok(None);
        };
        match self.begun(claim, &item).await {
            Ok(top_up) => Ok(Some(top_up)),
            Err(ClaimRefusal::Fault(fault)) => Err(fault),
            Err(ClaimRefusal::KeyReused | ClaimRefusal::WorkspaceNotFound) => Ok(None),
        }
    }

    async fn begun(&self, claim: &Claim, taken: &Item) -> Result<TopUp, ClaimRefusal> {
        if !entry_item::is_of(taken, Some(claim.fingerprint)) {
            return Err(ClaimRefusal::KeyReused);
        }
        let id: Id = Reader(taken).parsed("top_up_id").map_err(Fault::from)?;
        let top_up = self.top_up(&id).await?;
        Ok(top_up.ok_or(Corrupt::Attribute("top_up_id")).map_err(Fault::from)?)
    }

    fn begin_writes(&self, claim: &Claim, top_up: &TopUp) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let mut key = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
        let fingerprint = Blob::new(claim.fingerprint.bytes());
        key.insert("fingerprint".into(), AttributeValue::B(fingerprint));
        key.insert("top_up_id".into(), text(top_up.top_up_id.as_str()));
        let workspace = ItemKey::workspace(&claim.workspace_id);
        Ok(vec![
            Expression::new().when_absent(PK).put(&self.table, key)?,
            Expression::new().when_exists().check(&self.table, &workspace)?,
            Expression::new().when_absent(PK).put(&self.table, item_of(top_up))?,
        ])
    }
}

/// The write that marks a top-up as paid by this payment and no other.
pub(crate) fn paid_write(table: &str, top_up: &Id, payment_id: &str) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set("paid_by", text(payment_id))
        .when_absent_or("paid_by", "=", text(payment_id))
        .update(table, &ItemKey::top_up(top_up))
}

fn item_of(top_up: &TopUp) -> Item {
    let mut item = keyed(&ItemKey::top_up(&top_up.top_up_id));
    let attributes = [
        ("workspace_id", text(top_up.workspace_id.as_str())),
        ("pack", text(top_up.pack.as_str())),
        ("credits", credits(top_up.credits.credits())),
        ("amount_minor", number(top_up.price.amount_minor)),
        ("currency", text(top_up.price.currency.as_str())),
        ("top_up_id", text(top_up.top_up_id.as_str())),
    ];
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    item
}

fn read(item: &Item) -> Result<TopUp, Corrupt> {
    let reader = Reader(item);
    let checkout = reader.optional_text("checkout_id").zip(reader.optional_text("checkout_url"));
    Ok(TopUp {
        top_up_id: reader.parsed("top_up_id")?,
        workspace_id: reader.parsed("workspace_id")?,
        pack: reader.parsed("pack")?,
        credits: Amount::new(reader.credits("credits")?).map_err(|_| Corrupt::Attribute("credits"))?,
        price: Price { amount_minor: reader.number("amount_minor")?, currency: reader.parsed("currency")? },
        checkout: checkout
            .map(|(id, url)| Checkout { checkout_id: id.to_owned(), checkout_url: url.to_owned() }),
        paid_by: reader.optional_text("paid_by").map(str::to_owned),
    })
}
