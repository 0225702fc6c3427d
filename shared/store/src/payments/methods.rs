//! The stored payment method: the Stripe customer and method that off-session charges of a workspace use.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::id::WorkspaceId;
use credits_core::purchase::Checkout;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, ClaimRefusal, KeyUse};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, keyed, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};
use crate::table::transaction::{TransactionOutcome, is_busy};

const CUSTOMER: &str = "customer";
const METHOD: &str = "payment_method";
const CHOSEN_AT: &str = "chosen_at";
const REMOVED_AT: &str = "removed_at";
const SETUP: &str = "setup";

/// The payment method that a workspace has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodChoice {
    /// Stripe's id of the customer.
    pub customer: String,
    /// Stripe's id of the method; `None` if only the customer is known. Then the customer's latest method is charged.
    pub payment_method: Option<String>,
    /// When it was chosen. An older payment or setup changes nothing.
    pub chosen_at: Option<Timestamp>,
    /// When a person removed the method. The customer stays for the next checkout.
    pub removed_at: Option<Timestamp>,
}

/// The customer and method of a payment or setup that has just succeeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsedMethod<'a> {
    pub customer: &'a str,
    pub payment_method: Option<&'a str>,
    pub at: Timestamp,
}

/// The result of storing a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodStored {
    /// The method is charged from now on.
    Chosen,
    /// A newer method is charged.
    Outdated,
    WorkspaceUnknown,
}

/// Payment methods.
#[derive(Debug, Clone, Copy)]
pub struct PaymentMethodStore<'a> {
    pub(crate) store: &'a Store,
}

impl PaymentMethodStore<'_> {
    /// Returns the workspace's chosen method, if it ever stored one.
    pub async fn choice(self, workspace: &WorkspaceId) -> Result<Option<MethodChoice>, Fault> {
        let item = self.store.get(&ItemKey::card(workspace)).await?;
        Ok(item.as_ref().map(read).transpose()?)
    }

    /// Returns whether a method exists that may be charged off-session, as far as is known without a request to Stripe.
    pub async fn has_chargeable_method(self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        let choice = self.choice(workspace).await?.filter(|choice| choice.removed_at.is_none());
        match choice {
            Some(MethodChoice { payment_method: Some(method), .. }) => {
                Ok(!self.store.payments().is_disputed_method(workspace, &method).await?)
            }
            // Stripe knows the customer's latest method.
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// Returns Stripe's id of the customer to open checkouts for, if there is one.
    pub async fn customer(self, workspace: &WorkspaceId) -> Result<Option<String>, Fault> {
        Ok(self.choice(workspace).await?.map(|choice| choice.customer))
    }

    /// Chooses a method that a person has stored, unless a newer one is chosen. The next sweep retries what waits for a
    /// method.
    pub async fn choose(
        self,
        workspace: &WorkspaceId,
        customer: &str,
        payment_method: Option<&str>,
        at: Timestamp,
    ) -> Result<MethodStored, Fault> {
        let known = ItemKey::workspace(workspace);
        let mut attempts = self.store.attempts();
        loop {
            let used = UsedMethod { customer, payment_method, at };
            let Some(write) = self.write(workspace, used).await? else {
                return self.chosen_before(workspace, at).await;
            };
            let exists = Expression::new().when_exists().check(&self.store.table, &known)?;
            match self.store.transact(vec![write, exists]).await? {
                TransactionOutcome::Written => {
                    self.retry_with_new_method(workspace).await?;
                    return Ok(MethodStored::Chosen);
                }
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons)
                    if !is_busy(&reasons) && self.store.get(&known).await?.is_none() =>
                {
                    return Ok(MethodStored::WorkspaceUnknown);
                }
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Handles a redelivered event. An earlier delivery may have stopped before it made the waiting charges due.
    async fn chosen_before(self, workspace: &WorkspaceId, at: Timestamp) -> Result<MethodStored, Fault> {
        let choice = self.choice(workspace).await?;
        if choice.is_none_or(|choice| choice.chosen_at != Some(at)) {
            return Ok(MethodStored::Outdated);
        }
        self.retry_with_new_method(workspace).await?;
        Ok(MethodStored::Chosen)
    }

    /// Makes due what waits for a payment method: a declined charge, an automatic top-up.
    async fn retry_with_new_method(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        loop {
            let read = self.store.subscriptions().get(workspace).await?;
            let after = read.account.with_new_method(self.store.now());
            if after == read.account || self.store.subscriptions().change(workspace, &read, &after).await? {
                break;
            }
        }
        loop {
            let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(()) };
            let after = read.kept.with_new_method(self.store.now());
            if after == read.kept || self.store.auto_top_ups().change(workspace, &read, &after).await? {
                return Ok(());
            }
        }
    }

    /// Returns the setup checkout that was opened under the key; refuses a key that was used for another call.
    pub async fn earlier_setup(self, claim: &Claim) -> Result<Option<Checkout>, ClaimRefusal> {
        let Some(item) = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await? else {
            return Ok(None);
        };
        Ok(Some(read_setup(claim, &item)?))
    }

    /// Records the setup checkout under the caller's key. Returns the checkout of the key's first call.
    pub async fn record_setup(
        self,
        claim: &Claim,
        checkout: &Checkout,
    ) -> Result<(Checkout, KeyUse), ClaimRefusal> {
        let mut item = keyed(&ItemKey::called(&claim.workspace_id, &claim.key));
        item.insert("fingerprint".into(), AttributeValue::B(Blob::new(claim.fingerprint.bytes())));
        let value =
            serde_dynamo::to_attribute_value(checkout).map_err(|error| Fault::from(Corrupt::from(error)))?;
        item.insert(SETUP.into(), value);
        let put = Expression::new().when_absent(PK).put(&self.store.table, item).map_err(Fault::from)?;
        if self.store.transact_unless_changed(vec![put]).await? {
            return Ok((checkout.clone(), KeyUse::First));
        }
        let recorded = self.earlier_setup(claim).await?;
        Ok((recorded.unwrap_or_else(|| checkout.clone()), KeyUse::Replay))
    }

    /// Removes the method that was read, so that nothing is charged until another is stored. Returns `false` if it has
    /// changed.
    pub async fn remove(self, workspace: &WorkspaceId, read: &MethodChoice) -> Result<bool, Fault> {
        let removed = Expression::new().set(REMOVED_AT, instant(self.store.now())).remove(METHOD);
        let write = read.unchanged(removed).update(&self.store.table, &ItemKey::card(workspace))?;
        self.store.transact_unless_changed(vec![write]).await
    }

    /// Forgets a customer that Stripe no longer has, so that the next checkout creates another.
    pub async fn forget_customer(self, workspace: &WorkspaceId, customer: &str) -> Result<(), Fault> {
        let gone = Expression::new().when(CUSTOMER, "=", text(customer));
        self.store
            .transact_unless_changed(vec![gone.delete(&self.store.table, &ItemKey::card(workspace))?])
            .await
            .map(drop)
    }

    /// Builds the write that chooses a method; `None` if it is already chosen, or a newer one is.
    pub(crate) async fn write(
        self,
        workspace: &WorkspaceId,
        used: UsedMethod<'_>,
    ) -> Result<Option<TransactWriteItem>, Fault> {
        let read = self.choice(workspace).await?;
        if read.as_ref().is_some_and(|read| read.outlives(used)) {
            return Ok(None);
        }
        let mut write = Expression::new()
            .set(CUSTOMER, text(used.customer))
            .set(CHOSEN_AT, instant(used.at))
            .remove(REMOVED_AT);
        if let Some(method) = used.payment_method {
            write = write.set(METHOD, text(method));
        } else if read.as_ref().is_some_and(|read| read.customer != used.customer) {
            write = write.remove(METHOD);
        }
        let write = match &read {
            Some(read) => read.unchanged(write),
            None => write.when_absent(CUSTOMER),
        };
        Ok(Some(write.update(&self.store.table, &ItemKey::card(workspace))?))
    }
}

impl MethodChoice {
    /// Returns whether the choice stays as it is although this method was used.
    fn outlives(&self, used: UsedMethod<'_>) -> bool {
        let latest = self.chosen_at.max(self.removed_at);
        if latest.is_some_and(|latest| latest > used.at) {
            return true;
        }
        let same_method =
            used.payment_method.is_none() || self.payment_method.as_deref() == used.payment_method;
        self.customer == used.customer && same_method && self.removed_at.is_none() && self.chosen_at.is_some()
    }

    /// Adds the condition that the choice is still this one.
    fn unchanged(&self, write: Expression) -> Expression {
        let write = write.when(CUSTOMER, "=", text(&self.customer));
        match self.chosen_at {
            Some(at) => write.when(CHOSEN_AT, "=", instant(at)),
            None => write.when_absent(CHOSEN_AT),
        }
    }
}

fn read_setup(claim: &Claim, item: &Item) -> Result<Checkout, ClaimRefusal> {
    let setup = item.get(SETUP).filter(|_| entry_item::is_of(item, Some(claim.fingerprint)));
    let setup = setup.cloned().ok_or(ClaimRefusal::KeyReused)?;
    Ok(serde_dynamo::from_attribute_value(setup).map_err(|error| Fault::from(Corrupt::from(error)))?)
}

fn read(item: &Item) -> Result<MethodChoice, Corrupt> {
    let reader = Reader(item);
    Ok(MethodChoice {
        customer: reader.text(CUSTOMER)?.to_owned(),
        payment_method: reader.optional_text(METHOD).map(str::to_owned),
        chosen_at: reader.optional_instant(CHOSEN_AT)?,
        removed_at: reader.optional_instant(REMOVED_AT)?,
    })
}
