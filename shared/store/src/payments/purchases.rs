//! Purchases: stored before the request to Stripe, so that a retry after a crash finds them (M5, M6).

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::id::Id;
use credits_core::payment::Collection;
use credits_core::price::Price;
use credits_core::purchase::{Checkout, CheckoutForm, Purchase, StoredMethod};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, ClaimRefusal};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, PK, due, position};
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// How long a checkout can be paid: Stripe's default for `expires_at`.
const CHECKOUT_TIMEOUT: SignedDuration = SignedDuration::from_hours(24);

/// How soon the sweep looks for a checkout whose opening was not recorded.
const UNOPENED_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// How often the sweep asks Stripe about a checkout with a bank debit in process.
const PROCESSING_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

const METHOD: &str = "card";
const FORM: &str = "form";
const KEYS: &str = "keys";
const KEY_FAILED_AT: &str = "key_failed_at";
const STATE: &str = "state";
const ASKS: &str = "asks";

/// A purchase and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPurchase {
    pub purchase: Purchase,
    pub means: Means,
    /// Stripe's checkout, once it is open.
    pub checkout: Option<Checkout>,
    pub state: PurchaseState,
    /// Stripe's id of the payment that paid it.
    pub paid_by: Option<String>,
    pub paid_at: Option<Timestamp>,
    /// What was received for it, in minor units, with tax and less discounts.
    pub received_minor: Option<u64>,
    /// Number of its idempotency keys that are used up.
    pub keys: u64,
    /// When Stripe answered with a 5xx under the present key. Stripe repeats that answer under the same key.
    pub key_failed_at: Option<Timestamp>,
}

/// How a stored purchase is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// By a charge of this method.
    OffSession(StoredMethod),
    /// By a checkout with this form; `None` if it was opened before forms were stored.
    Checkout(Option<CheckoutForm>),
}

/// The progress of an unpaid purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurchaseState {
    Open,
    /// A bank debit is in process.
    Processing,
    /// The bank debit failed.
    Failed,
    /// Its checkout can no longer be paid.
    Expired,
    /// It was cancelled or replaced. Its checkout is to be expired at Stripe.
    Withdrawn,
}

/// Why a checkout is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutReason {
    /// A person asked for it and is redirected to it.
    Requested,
    /// A charge of the stored method needs authentication by the customer, who gets a mail.
    Authentication,
}

/// A purchase that is to be stored before it is paid.
#[derive(Debug, Clone, Copy)]
pub struct NewPurchase<'a> {
    pub purchase: &'a Purchase,
    pub means: NewMeans<'a>,
}

/// How a new purchase is paid.
#[derive(Debug, Clone, Copy)]
pub enum NewMeans<'a> {
    /// By a charge of this method.
    OffSession(&'a StoredMethod),
    /// By a checkout with this form, for this reason.
    Checkout(&'a CheckoutForm, CheckoutReason),
}

const STATES: [PurchaseState; 5] = [
    PurchaseState::Open,
    PurchaseState::Processing,
    PurchaseState::Failed,
    PurchaseState::Expired,
    PurchaseState::Withdrawn,
];

impl PurchaseState {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Processing => "processing",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl StoredPurchase {
    /// Returns the idempotency key of the next request to Stripe.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        idempotency_key(&self.purchase.purchase_id, self.keys)
    }

    /// Returns how the purchase is paid, for the comparison with a payment.
    #[must_use]
    pub fn collection(&self) -> Collection {
        match self.means {
            Means::OffSession(_) => Collection::OffSession,
            Means::Checkout(_) => Collection::Checkout,
        }
    }

    /// Returns what was received for the purchase, or its price while that is unknown.
    #[must_use]
    pub fn charged(&self) -> Price {
        let amount_minor = self.received_minor.unwrap_or(self.purchase.price.amount_minor);
        Price { amount_minor, ..self.purchase.price }
    }

    fn begun(new: NewPurchase<'_>) -> Self {
        let means = match new.means {
            NewMeans::OffSession(method) => Means::OffSession(method.clone()),
            NewMeans::Checkout(form, _) => Means::Checkout(Some(form.clone())),
        };
        Self {
            purchase: new.purchase.clone(),
            means,
            checkout: None,
            state: PurchaseState::Open,
            paid_by: None,
            paid_at: None,
            received_minor: None,
            keys: 0,
            key_failed_at: None,
        }
    }
}

fn idempotency_key(purchase: &Id, used_up: u64) -> String {
    if used_up == 0 { purchase.to_string() } else { format!("{purchase}-k{used_up}") }
}

/// Purchases and their checkouts.
#[derive(Debug, Clone, Copy)]
pub struct PurchaseStore<'a> {
    pub(crate) store: &'a Store,
}

impl PurchaseStore<'_> {
    /// Stores a top-up under the caller's key. The same call under the same key returns the top-up that is stored.
    ///
    /// The caller then opens the checkout under the purchase's idempotency key, and records it with
    /// [`Self::record_checkout`].
    pub async fn begin_top_up(
        self,
        claim: &Claim,
        purchase: &Purchase,
        form: &CheckoutForm,
    ) -> Result<StoredPurchase, ClaimRefusal> {
        let means = NewMeans::Checkout(form, CheckoutReason::Requested);
        let new = NewPurchase { purchase, means };
        let mut attempts = self.store.attempts();
        loop {
            let writes = self.begin_writes(claim, new).map_err(Fault::from)?;
            match self.store.transact(writes).await? {
                TransactionOutcome::Written => return Ok(StoredPurchase::begun(new)),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(taken))) => return self.begun(claim, taken).await,
                    _ if is_busy(&reasons) => attempts.retry_after_conflict().await?,
                    _ => return Err(ClaimRefusal::WorkspaceNotFound),
                },
            }
        }
    }

    /// Records the checkout of a purchase. Returns whether this call recorded it, or may have done so.
    pub async fn record_checkout(self, purchase: &Purchase, checkout: &Checkout) -> Result<bool, Fault> {
        let expires_at = self.store.now().checked_add(CHECKOUT_TIMEOUT).unwrap_or(Timestamp::MAX);
        let mut attempts = self.store.attempts();
        let mut unanswered = false;
        loop {
            let update = dated(purchase, expires_at, Expression::new())
                .set("checkout_id", text(&checkout.checkout_id))
                .set("checkout_url", text(&checkout.checkout_url))
                .when_absent("checkout_id")
                .when_absent("paid_by")
                .when_absent(STATE)
                .update(&self.store.table, &ItemKey::purchase(&purchase.purchase_id))?;
            match self.store.transact(vec![update]).await? {
                TransactionOutcome::Written => return Ok(true),
                TransactionOutcome::Unknown(error) => {
                    unanswered = true;
                    attempts.retry_after_failure(error).await?;
                }
                TransactionOutcome::Cancelled(reasons) if is_busy(&reasons) => {
                    attempts.retry_after_conflict().await?;
                }
                // Either this call's write, whose response was lost, or another caller's. Or the purchase is paid, or
                // its state is set.
                TransactionOutcome::Cancelled(_) => return Ok(unanswered),
            }
        }
    }

    /// Returns the purchase with this id.
    pub async fn get(self, id: &Id) -> Result<Option<StoredPurchase>, Fault> {
        let item = self.store.get(&ItemKey::purchase(id)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Returns the top-up that was begun under the key; `None` if the key is unused or was used for another call. The
    /// caller asks this before it refuses a pack that is no longer in the catalogue.
    pub async fn earlier_top_up(self, claim: &Claim) -> Result<Option<StoredPurchase>, Fault> {
        let Some(item) = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await? else {
            return Ok(None);
        };
        match self.begun(claim, &item).await {
            Ok(stored) => Ok(Some(stored)),
            Err(ClaimRefusal::Fault(fault)) => Err(fault),
            Err(ClaimRefusal::KeyReused | ClaimRefusal::WorkspaceNotFound) => Ok(None),
        }
    }

    /// Records that Stripe answered with a 5xx under the present key. Stripe repeats that answer under the same key.
    pub async fn record_failed_key(self, stored: &StoredPurchase) -> Result<(), Fault> {
        let failed =
            Expression::new().set(KEY_FAILED_AT, instant(self.store.now())).when_absent(KEY_FAILED_AT);
        self.at_key(stored, failed).await.map(drop)
    }

    /// Advances to the next idempotency key, and returns the purchase with it. If another caller has advanced it,
    /// returns the purchase as it is now.
    pub async fn next_key(self, stored: &StoredPurchase) -> Result<StoredPurchase, Fault> {
        let keys = stored.keys.saturating_add(1);
        let next = Expression::new().set(KEYS, number(keys)).remove(KEY_FAILED_AT);
        if self.at_key(stored, next).await? {
            return Ok(StoredPurchase { keys, key_failed_at: None, ..stored.clone() });
        }
        self.read_again(stored).await
    }

    /// Like [`Self::next_key`], with another form: Stripe can't carry out the one that was sent, and a key stands for
    /// one form.
    pub async fn next_form(
        self,
        stored: &StoredPurchase,
        form: &CheckoutForm,
    ) -> Result<StoredPurchase, Fault> {
        let keys = stored.keys.saturating_add(1);
        let value = serde_dynamo::to_attribute_value(form).map_err(Corrupt::from)?;
        let next = Expression::new().set(KEYS, number(keys)).set(FORM, value).remove(KEY_FAILED_AT);
        if self.at_key(stored, next).await? {
            let means = Means::Checkout(Some(form.clone()));
            return Ok(StoredPurchase { keys, key_failed_at: None, means, ..stored.clone() });
        }
        self.read_again(stored).await
    }

    async fn read_again(self, stored: &StoredPurchase) -> Result<StoredPurchase, Fault> {
        let again = self.get(&stored.purchase.purchase_id).await?;
        Ok(again.ok_or(Corrupt::Attribute("purchase"))?)
    }

    async fn at_key(self, stored: &StoredPurchase, change: Expression) -> Result<bool, Fault> {
        let change = match stored.keys {
            0 => change.when_absent(KEYS),
            keys => change.when(KEYS, "=", number(keys)),
        };
        let key = ItemKey::purchase(&stored.purchase.purchase_id);
        self.store.transact_unless_changed(vec![change.when_exists().update(&self.store.table, &key)?]).await
    }

    async fn begun(self, claim: &Claim, taken: &Item) -> Result<StoredPurchase, ClaimRefusal> {
        if !entry_item::is_of(taken, Some(claim.fingerprint)) {
            return Err(ClaimRefusal::KeyReused);
        }
        // A key of another kind of call has another path, and so another fingerprint.
        let id: Id = Reader(taken).parsed("purchase_id").map_err(Fault::from)?;
        let stored = self.get(&id).await?;
        Ok(stored.ok_or(Corrupt::Attribute("purchase_id")).map_err(Fault::from)?)
    }

    fn begin_writes(self, claim: &Claim, new: NewPurchase<'_>) -> Result<Vec<TransactWriteItem>, Corrupt> {
        let mut key = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
        let fingerprint = Blob::new(claim.fingerprint.bytes());
        key.insert("fingerprint".into(), AttributeValue::B(fingerprint));
        key.insert("purchase_id".into(), text(new.purchase.purchase_id.as_str()));
        let workspace = ItemKey::workspace(&claim.workspace_id);
        Ok(vec![
            Expression::new().when_absent(PK).put(&self.store.table, key)?,
            Expression::new().when_exists().check(&self.store.table, &workspace)?,
            begin_write(&self.store.table, new)?,
        ])
    }

    /// Builds the write of a state, on the condition that the purchase is not paid.
    pub(crate) fn state_write(
        self,
        stored: &StoredPurchase,
        state: PurchaseState,
    ) -> Result<TransactWriteItem, Corrupt> {
        let moved = Expression::new().set(STATE, text(state.name())).when_absent("paid_by");
        let moved = match state {
            PurchaseState::Processing => {
                let next = self.store.now().checked_add(PROCESSING_INTERVAL).unwrap_or(Timestamp::MAX);
                dated(&stored.purchase, next, moved)
            }
            PurchaseState::Withdrawn | PurchaseState::Open => {
                dated(&stored.purchase, self.store.now(), moved)
            }
            PurchaseState::Failed | PurchaseState::Expired => moved.remove(INDEX_PK).remove(INDEX_SK),
        };
        moved.update(&self.store.table, &ItemKey::purchase(&stored.purchase.purchase_id))
    }
}

/// Sets the date at which the sweep looks at the purchase.
fn dated(purchase: &Purchase, at: Timestamp, change: Expression) -> Expression {
    change
        .set(INDEX_PK, text(due(&purchase.workspace_id)))
        .set(INDEX_SK, text(position(at, purchase.purchase_id.as_str())))
}

/// Builds the write that stores a new purchase. If it is paid by a checkout, the sweep looks at it soon, unless the
/// checkout is recorded before.
pub(crate) fn begin_write(table: &str, new: NewPurchase<'_>) -> Result<TransactWriteItem, Corrupt> {
    let NewPurchase { purchase, means } = new;
    let mut item = keyed(&ItemKey::purchase(&purchase.purchase_id));
    item.insert("purchase".into(), serde_dynamo::to_attribute_value(purchase)?);
    match means {
        NewMeans::OffSession(method) => {
            item.insert(METHOD.into(), serde_dynamo::to_attribute_value(method)?);
        }
        NewMeans::Checkout(form, reason) => {
            item.insert(FORM.into(), serde_dynamo::to_attribute_value(form)?);
            if reason == CheckoutReason::Authentication {
                item.insert(ASKS.into(), AttributeValue::Bool(true));
            }
            let at = purchase.begun_at.checked_add(UNOPENED_TIMEOUT).unwrap_or(purchase.begun_at);
            item.insert(INDEX_PK.into(), text(due(&purchase.workspace_id)));
            item.insert(INDEX_SK.into(), text(position(at, purchase.purchase_id.as_str())));
        }
    }
    Expression::new().when_absent(PK).put(table, item)
}

/// A payment that has paid a purchase.
pub(crate) struct PaidWith<'a> {
    pub payment_id: &'a str,
    pub at: Timestamp,
    pub received_minor: u64,
}

/// Builds the write that marks a purchase as paid, on the condition that no other payment has paid it.
pub(crate) fn paid_write(
    table: &str,
    purchase: &Id,
    paid: &PaidWith<'_>,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set("paid_by", text(paid.payment_id))
        .set("paid_at", instant(paid.at))
        .set("received_minor", number(paid.received_minor))
        .remove(INDEX_PK)
        .remove(INDEX_SK)
        .when_absent_or("paid_by", "=", text(paid.payment_id))
        .update(table, &ItemKey::purchase(purchase))
}

/// Reads a purchase from its item.
pub(crate) fn read(item: &Item) -> Result<StoredPurchase, Corrupt> {
    let reader = Reader(item);
    let purchase = item.get("purchase").cloned().ok_or(Corrupt::Attribute("purchase"))?;
    let checkout = reader.optional_text("checkout_id").zip(reader.optional_text("checkout_url"));
    let state = reader.optional_text(STATE).map(read_state).transpose()?;
    let optional_number =
        |name: &'static str| item.contains_key(name).then(|| reader.number(name)).transpose();
    let means = match item.get(METHOD) {
        Some(method) => Means::OffSession(serde_dynamo::from_attribute_value(method.clone())?),
        None => Means::Checkout(item.get(FORM).cloned().map(serde_dynamo::from_attribute_value).transpose()?),
    };
    Ok(StoredPurchase {
        purchase: serde_dynamo::from_attribute_value(purchase)?,
        means,
        checkout: checkout
            .map(|(id, url)| Checkout { checkout_id: id.to_owned(), checkout_url: url.to_owned() }),
        state: state.unwrap_or(PurchaseState::Open),
        paid_by: reader.optional_text("paid_by").map(str::to_owned),
        paid_at: reader.optional_instant("paid_at")?,
        received_minor: optional_number("received_minor")?,
        keys: optional_number(KEYS)?.unwrap_or(0),
        key_failed_at: reader.optional_instant(KEY_FAILED_AT)?,
    })
}

/// Returns whether the purchase's checkout asks a person to authenticate a charge.
pub(crate) fn asks_person(item: &Item) -> bool {
    item.contains_key(ASKS)
}

fn read_state(name: &str) -> Result<PurchaseState, Corrupt> {
    let state = STATES.into_iter().find(|state| state.name() == name);
    state.ok_or(Corrupt::Attribute(STATE))
}
