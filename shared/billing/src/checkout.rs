//! Checkouts: purchases that a person pays on Stripe's page.

use credits_core::catalogue::Pack;
use credits_core::id::{Id, WorkspaceId};
use credits_core::purchase::{Checkout, CheckoutForm, CheckoutOptions, Goods, Purchase};
use credits_core::subscription::Terms;
use credits_core::subscription_account::SubscriptionAccount;
use credits_payments::event::{CheckoutNews, StripeEvent};
use credits_payments::provider::{CheckoutStatus, Provider, ProviderError, ReturnUrls};
use credits_store::error::{Chain, Corrupt};
use credits_store::payments::purchases::{
    CheckoutReason, Means, NewMeans, NewPurchase, PurchaseState, StoredPurchase,
};
use credits_store::subscriptions::VersionedAccount;

use crate::billing::{Billing, BillingFault};
use crate::refund::BEST_EFFORT_TIMEOUT;

impl Billing {
    /// Builds the form of a checkout for the workspace. The store keeps it with the purchase, so that every retry sends
    /// the same form.
    pub async fn checkout_form(
        &self,
        workspace: &WorkspaceId,
        options: CheckoutOptions,
    ) -> Result<CheckoutForm, BillingFault> {
        let customer = self.store.payment_methods().customer(workspace).await?;
        let profile = self.store.workspaces().get(workspace).await?.map(|known| known.profile);
        let ReturnUrls { success: success_url, cancel: cancel_url } = self.urls.of(workspace);
        let email = profile.map(|profile| profile.billing_email);
        Ok(CheckoutForm { customer, email, success_url, cancel_url, options })
    }

    /// Returns the checkout of a purchase, and whether this call is the first to record it. Opens the checkout if none
    /// is recorded.
    ///
    /// If Stripe has deleted the customer, the store forgets it and the checkout creates a new one.
    pub async fn open_checkout(&self, stored: StoredPurchase) -> Result<(Checkout, bool), BillingFault> {
        if let Some(checkout) = stored.checkout {
            return Ok((checkout, false));
        }
        let stored = if let Means::Checkout(Some(_)) = &stored.means {
            stored
        } else {
            // An earlier version stored the purchase without a form. A new form needs a new key.
            let workspace = stored.purchase.workspace_id.clone();
            let form = self.checkout_form(&workspace, CheckoutOptions::default()).await?;
            self.store.purchases().next_form(&stored, &form).await?
        };
        let opened = match self.open_as_stored(&stored).await {
            Err(BillingFault::Provider(error)) if Provider::lacks_customer(&error) => {
                self.open_for_new_customer(&stored).await?
            }
            opened => opened?,
        };
        let first = self.store.purchases().record_checkout(&stored.purchase, &opened).await?;
        Ok((opened, first))
    }

    async fn open_as_stored(&self, stored: &StoredPurchase) -> Result<Checkout, BillingFault> {
        let Means::Checkout(Some(form)) = &stored.means else {
            return Err(Corrupt::Attribute("form").into());
        };
        let key = stored.idempotency_key();
        let opened = self.provider.open_checkout(&self.key, &stored.purchase, &key, form).await;
        if let Err(ProviderError::Failed(_)) = opened {
            // Stripe repeats the failure under this key. If it opened a checkout all the same, no payer sees that one.
            self.store.purchases().next_key(stored).await?;
        }
        Ok(opened?)
    }

    async fn open_for_new_customer(&self, stored: &StoredPurchase) -> Result<Checkout, BillingFault> {
        let Means::Checkout(Some(form)) = &stored.means else {
            return Err(Corrupt::Attribute("form").into());
        };
        let workspace = &stored.purchase.workspace_id;
        tracing::warn!(%workspace, "Stripe no longer has the workspace's customer");
        if let Some(customer) = &form.customer {
            self.store.payment_methods().forget_customer(workspace, customer).await?;
        }
        let form = CheckoutForm { customer: None, ..form.clone() };
        let stored = self.store.purchases().next_form(stored, &form).await?;
        self.open_as_stored(&stored).await
    }

    /// Stores the purchase of a new subscription's first period, which a checkout pays. Returns `None` if the account
    /// has changed since it was read.
    pub(crate) async fn await_first_period(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        terms: &Terms,
        reason: CheckoutReason,
    ) -> Result<Option<Id>, BillingFault> {
        let purchase = self.first_period(workspace, &read.account, terms)?;
        let form = self.checkout_form(workspace, CheckoutOptions::default()).await?;
        let after = read.account.awaiting_first(&purchase.purchase_id, terms);
        let new = NewPurchase { purchase: &purchase, means: NewMeans::Checkout(&form, reason) };
        let begun = self.store.subscriptions().begin_purchase(read, &after, new).await?;
        Ok(begun.then_some(purchase.purchase_id))
    }

    /// Stores the purchase of a renewal or upgrade, which a person pays by a checkout. Returns `None` if the account
    /// has changed since it was read. The same transaction applies `change` to the account, for example to count a
    /// decline.
    pub(crate) async fn request_checkout(
        &self,
        read: &VersionedAccount,
        purchase: &Purchase,
        change: impl Fn(&SubscriptionAccount) -> SubscriptionAccount,
    ) -> Result<Option<Id>, BillingFault> {
        let form = self.checkout_form(&purchase.workspace_id, CheckoutOptions::default()).await?;
        let after = change(&read.account).awaiting_person(purchase);
        let means = NewMeans::Checkout(&form, CheckoutReason::Authentication);
        let begun =
            self.store.subscriptions().begin_purchase(read, &after, NewPurchase { purchase, means }).await?;
        Ok(begun.then(|| purchase.purchase_id.clone()))
    }

    /// Closes a charge that the stored method could not pay, and opens a checkout for it. A charge that was withdrawn
    /// meanwhile is only closed.
    pub(crate) async fn ask_person(&self, charged: &Purchase) -> Result<(), BillingFault> {
        let workspace = &charged.workspace_id;
        if let Goods::Pack { .. } = charged.goods {
            return self.ask_for_top_up(charged).await;
        }
        loop {
            let read = self.store.subscriptions().get(workspace).await?;
            let Some(charge) = read.account.open_charge(&charged.purchase_id) else { return Ok(()) };
            if charge.withdrawn {
                return self.close_charge(charged).await;
            }
            let now = self.store.now();
            let asked = match &charged.goods {
                Goods::Period { period: 1, terms, .. } => {
                    let after = VersionedAccount {
                        account: read.account.without(&charged.purchase_id),
                        version: read.version,
                    };
                    self.await_first_period(workspace, &after, terms, CheckoutReason::Authentication).await?
                }
                // The last attempt failed, so the subscription ends.
                _ if read.account.running().is_some()
                    && read.account.declined(charged, now).running().is_none() =>
                {
                    let after = read.account.declined(charged, now);
                    if self.store.subscriptions().change(workspace, &read, &after).await? {
                        return Ok(());
                    }
                    None
                }
                goods => {
                    let id = self.purchase_name(&read.account, goods)?;
                    let purchase = self.purchase_of(workspace, id, goods.clone(), charged.price);
                    self.request_checkout(&read, &purchase, |account| account.declined(charged, now)).await?
                }
            };
            if let Some(purchase_id) = asked {
                return self.open_checkout_of(&purchase_id).await.map(drop);
            }
        }
    }

    /// Opens the checkout of a purchase that a subscription waits for.
    pub(crate) async fn open_checkout_of(&self, purchase_id: &Id) -> Result<Option<Checkout>, BillingFault> {
        match self.store.purchases().get(purchase_id).await? {
            Some(stored) => Ok(Some(self.open_checkout(stored).await?.0)),
            None => Ok(None),
        }
    }

    /// Expires withdrawn checkouts if Stripe responds within [`BEST_EFFORT_TIMEOUT`] for each. The sweep expires the
    /// rest.
    pub(crate) async fn expire_soon(&self, withdrawn: &[Id]) {
        for purchase_id in withdrawn {
            let expired = tokio::time::timeout(BEST_EFFORT_TIMEOUT, self.attend_checkout(purchase_id)).await;
            if let Ok(Err(fault)) = expired {
                tracing::warn!(%purchase_id, error = %Chain(&fault), "a checkout is left to the sweep");
            }
        }
    }

    /// Handles a purchase whose checkout is due. Returns true if the purchase needs no further date, and false if it
    /// has a new one.
    pub(crate) async fn attend_checkout(&self, purchase_id: &Id) -> Result<bool, BillingFault> {
        let Some(stored) = self.store.purchases().get(purchase_id).await? else { return Ok(true) };
        if stored.paid_by.is_some() {
            return Ok(true);
        }
        if stored.state == PurchaseState::Withdrawn {
            let (checkout, _) = self.open_checkout(stored).await?;
            self.provider.expire_checkout(&self.key, &checkout.checkout_id).await?;
            return Ok(true);
        }
        let read = self.store.subscriptions().get(&stored.purchase.workspace_id).await?;
        let awaited = read.account.awaited_checkouts().any(|awaited| awaited == purchase_id);
        match &stored.checkout {
            Some(checkout) => self.settle_checkout(&stored, &checkout.checkout_id).await,
            // The caller retries with the same key, or never does.
            None if !awaited => Ok(true),
            None => {
                self.open_checkout(stored).await?;
                Ok(false)
            }
        }
    }

    /// Updates a purchase to the state of its checkout at Stripe, because the checkout timed out or its events were
    /// lost.
    async fn settle_checkout(
        &self,
        stored: &StoredPurchase,
        checkout_id: &str,
    ) -> Result<bool, BillingFault> {
        let purchase_id = &stored.purchase.purchase_id;
        let event = match self.provider.checkout(&self.key, checkout_id).await? {
            // An event said that the payer confirmed the checkout, and a signed event is trusted.
            CheckoutStatus::Open | CheckoutStatus::Expired if stored.state == PurchaseState::Processing => {
                self.store
                    .subscriptions()
                    .end_checkout(purchase_id, checkout_id, PurchaseState::Processing)
                    .await?;
                return Ok(false);
            }
            CheckoutStatus::Open => {
                self.provider.expire_checkout(&self.key, checkout_id).await?;
                return self.end_unpaid(stored, checkout_id, PurchaseState::Expired).await;
            }
            CheckoutStatus::Expired => {
                return self.end_unpaid(stored, checkout_id, PurchaseState::Expired).await;
            }
            CheckoutStatus::Complete(event) => *event,
        };
        match event {
            StripeEvent::Payment { payment_id, news } => {
                tracing::warn!(payment_id, "a checkout was paid, but its event never arrived");
                Box::pin(self.store.payments().apply(&payment_id, &news)).await?;
                Ok(true)
            }
            StripeEvent::Checkout { news: CheckoutNews::Processing, .. } => {
                self.store
                    .subscriptions()
                    .end_checkout(purchase_id, checkout_id, PurchaseState::Processing)
                    .await?;
                Ok(false)
            }
            StripeEvent::Checkout { .. } => self.end_unpaid(stored, checkout_id, PurchaseState::Failed).await,
            StripeEvent::Method(_) | StripeEvent::Ignored(_) => Ok(true),
        }
    }

    /// Ends a checkout that was not paid. A renewal that a person still has to pay gets a new checkout.
    async fn end_unpaid(
        &self,
        stored: &StoredPurchase,
        checkout_id: &str,
        state: PurchaseState,
    ) -> Result<bool, BillingFault> {
        let purchase = &stored.purchase;
        let read = self.store.subscriptions().get(&purchase.workspace_id).await?;
        if read.account.asks_for_renewal(&purchase.purchase_id) && read.account.charge.is_none() {
            let id = self.purchase_name(&read.account, &purchase.goods)?;
            let again = self.purchase_of(&purchase.workspace_id, id, purchase.goods.clone(), purchase.price);
            if let Some(purchase_id) =
                self.request_checkout(&read, &again, SubscriptionAccount::clone).await?
            {
                self.open_checkout_of(&purchase_id).await?;
            }
        }
        self.store.subscriptions().end_checkout(&purchase.purchase_id, checkout_id, state).await?;
        Ok(true)
    }

    /// Builds the purchase of a new subscription's first period.
    pub(crate) fn first_period(
        &self,
        workspace: &WorkspaceId,
        account: &SubscriptionAccount,
        terms: &Terms,
    ) -> Result<Purchase, BillingFault> {
        let subscription_id = self.store.sources().new_id("sub");
        let goods = Goods::Period { subscription_id, period: 1, terms: terms.clone() };
        let id = self.purchase_name(account, &goods)?;
        Ok(self.purchase_of(workspace, id, goods, terms.price))
    }

    /// Builds the purchase of a pack, which begins now.
    #[must_use]
    pub fn pack_of(&self, workspace: &WorkspaceId, pack: &Pack) -> Purchase {
        let goods = Goods::Pack { pack: pack.pack.clone(), credits: pack.credits };
        self.purchase_of(workspace, self.store.sources().new_id("top"), goods, pack.price)
    }

    /// Builds a purchase that begins now.
    pub(crate) fn purchase_of(
        &self,
        workspace: &WorkspaceId,
        purchase_id: Id,
        goods: Goods,
        price: credits_core::price::Price,
    ) -> Purchase {
        Purchase { purchase_id, workspace_id: workspace.clone(), goods, price, begun_at: self.store.now() }
    }

    /// Returns the id of a subscription's next purchase: the subscription, the period, and the count of purchases so
    /// far. So Stripe never repeats the response to a declined attempt for the next one.
    pub(crate) fn purchase_name(&self, account: &SubscriptionAccount, goods: &Goods) -> Result<Id, Corrupt> {
        let (subscription_id, period) = match goods {
            Goods::Period { subscription_id, period, .. }
            | Goods::Upgrade { subscription_id, period, .. } => (subscription_id, period),
            Goods::Pack { .. } => return Ok(self.store.sources().new_id("top")),
        };
        let name = format!("{subscription_id}-{period}-p{}", account.purchases);
        name.parse().map_err(|_| Corrupt::DerivedId)
    }
}
