//! A charge of the stored method: the purchase is stored first, Stripe charges, and the outcome is a grant or a
//! decline.

use credits_core::auto_top_up::AutoTopUp;
use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::{MetadataIds, News, Paid, PaidSource};
use credits_core::purchase::{Goods, Purchase, StoredMethod};
use credits_core::subscription::AHEAD;
use credits_core::subscription_account::{OpenCharge, SubscriptionAccount, UNANSWERED_TIMEOUT};
use credits_payments::provider::{ChargeOutcome, ProviderError, is_forgotten};
use credits_store::error::Corrupt;
use credits_store::payments::Applied;
use credits_store::payments::purchases::{Means, NewMeans, NewPurchase, StoredPurchase};
use credits_store::payments::refunds::OwedRefund;
use credits_store::subscriptions::VersionedAccount;

use crate::billing::{Billing, BillingFault};

/// The result of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChargeEnd {
    /// The charge is paid and its credits are granted.
    Paid,
    /// The charge is processing, and stays open.
    Processing,
    /// A checkout was opened, on which a person has to pay.
    ActionRequired,
    /// The charge was declined or refused. Holds Stripe's reason.
    Declined(String),
    /// The charge is paid, but its purchase is no longer wanted. A subscription's charge is then refunded.
    Unmatched,
}

impl Billing {
    /// Stores the purchase and charges the method for it. Returns `None` if another charge is open, or the account
    /// has changed since it was read.
    pub(crate) async fn charge(
        &self,
        read: &VersionedAccount,
        purchase: &Purchase,
        method: &StoredMethod,
    ) -> Result<Option<ChargeEnd>, BillingFault> {
        let Some(charging) = read.account.charging(purchase) else { return Ok(None) };
        let new = NewPurchase { purchase, means: NewMeans::OffSession(method) };
        if !self.store.subscriptions().begin_purchase(read, &charging, new).await? {
            return Ok(None);
        }
        match self.charged_before_restore(read, purchase, method).await? {
            Some(outcome) => self.follow(purchase, outcome, method).await,
            None => self.make_charge(&purchase.purchase_id).await,
        }
        .map(Some)
    }

    /// Charges for a purchase that was just stored.
    pub(crate) async fn make_charge(&self, purchase_id: &Id) -> Result<ChargeEnd, BillingFault> {
        let stored = self.stored(purchase_id).await?;
        let outcome = self.ask(&stored).await?;
        self.follow(&stored.purchase, outcome, off_session(&stored)?).await
    }

    /// Finds the charge of a period that is missing in a restored table. Stripe may have forgotten its idempotency key
    /// since, and would charge again.
    async fn charged_before_restore(
        &self,
        read: &VersionedAccount,
        purchase: &Purchase,
        method: &StoredMethod,
    ) -> Result<Option<ChargeOutcome>, BillingFault> {
        let Goods::Period { period, .. } = &purchase.goods else { return Ok(None) };
        let running = read.account.subscription.as_ref();
        let starts_at = running.map(|subscription| subscription.start_of(*period));
        let Some(starts_at) = starts_at.filter(|starts_at| is_forgotten(*starts_at, self.store.now())) else {
            return Ok(None);
        };
        let since = starts_at.saturating_sub(AHEAD).unwrap_or(starts_at);
        Ok(self.provider.find_period(&self.key, purchase, method, since).await?)
    }

    /// Settles an open charge, as [`Self::finish`] does, but does not make a withdrawn charge.
    pub(crate) async fn finish_open(&self, charge: &OpenCharge) -> Result<(), BillingFault> {
        if !charge.withdrawn {
            return self.finish(&charge.purchase_id).await.map(drop);
        }
        let stored = self.stored(&charge.purchase_id).await?;
        match self.made(&stored).await? {
            Some(outcome) => {
                self.follow(&stored.purchase, outcome, off_session(&stored)?).await?;
            }
            // The request may still be in progress.
            None if self.store.now().duration_since(charge.begun_at) < UNANSWERED_TIMEOUT => {
                return Err(ProviderError::Unsettled.into());
            }
            None => self.close_charge(&stored.purchase).await?,
        }
        Ok(())
    }

    /// Settles a charge whose outcome is unknown, and makes it if Stripe never received it. Repeated and concurrent
    /// calls make one charge and one grant.
    ///
    /// The function looks for the charge at Stripe first. Under an idempotency key Stripe repeats its first response
    /// for a day, even a 500 or the state of a bank debit that has ended since. Then it forgets the key.
    async fn finish(&self, purchase_id: &Id) -> Result<ChargeEnd, BillingFault> {
        let stored = self.stored(purchase_id).await?;
        let outcome = match self.made(&stored).await? {
            Some(outcome) => outcome,
            None => self.make_again(&stored).await?,
        };
        self.follow(&stored.purchase, outcome, off_session(&stored)?).await
    }

    async fn stored(&self, purchase_id: &Id) -> Result<StoredPurchase, BillingFault> {
        let stored = self.store.purchases().get(purchase_id).await?;
        Ok(stored.ok_or(Corrupt::Attribute("charge"))?)
    }

    /// Returns the outcome of a charge, if Stripe has made it.
    async fn made(&self, stored: &StoredPurchase) -> Result<Option<ChargeOutcome>, BillingFault> {
        if let Some(payment_id) = &stored.paid_by {
            return Ok(Some(ChargeOutcome::Succeeded(payment_id.clone())));
        }
        let (purchase, method) = (&stored.purchase, off_session(stored)?);
        Ok(self.provider.find_charge(&self.key, purchase, method, purchase.begun_at).await?)
    }

    /// Requests a charge again. After a 5xx it uses the next idempotency key, because Stripe repeats the failure under
    /// the old one.
    async fn make_again(&self, stored: &StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        match stored.key_failed_at {
            // A request under the failed key may still be in progress.
            Some(failed_at) if self.store.now().duration_since(failed_at) < UNANSWERED_TIMEOUT => {
                Err(ProviderError::Unsettled.into())
            }
            Some(_) => self.ask(&self.store.purchases().next_key(stored).await?).await,
            None => self.ask(stored).await,
        }
    }

    /// Requests a charge under the purchase's idempotency key.
    async fn ask(&self, stored: &StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        let (purchase, key, method) = (&stored.purchase, stored.idempotency_key(), off_session(stored)?);
        match self.provider.charge(&self.key, purchase, &key, method).await {
            Err(error @ ProviderError::Failed(_)) => {
                self.store.purchases().record_failed_key(stored).await?;
                Err(error.into())
            }
            Err(ProviderError::Refused(refusal)) => {
                tracing::error!(purchase_id = %purchase.purchase_id, %refusal, "Stripe refused a charge");
                Ok(ChargeOutcome::Declined(refusal.reason().to_owned()))
            }
            Err(error @ ProviderError::Unauthorised(_)) => {
                // Nothing was charged, and nothing can be until the operator replaces the API key.
                self.close_charge(purchase).await?;
                Err(error.into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Applies the outcome of a charge.
    pub(crate) async fn follow(
        &self,
        purchase: &Purchase,
        outcome: ChargeOutcome,
        method: &StoredMethod,
    ) -> Result<ChargeEnd, BillingFault> {
        let (workspace, purchase_id) = (&purchase.workspace_id, &purchase.purchase_id);
        match outcome {
            ChargeOutcome::Succeeded(payment_id) => self.grant(purchase, &payment_id, method).await,
            ChargeOutcome::Processing => {
                self.record_processing(purchase).await?;
                Ok(ChargeEnd::Processing)
            }
            ChargeOutcome::ActionRequired => {
                tracing::info!(%workspace, %purchase_id, "a charge needs the customer's authentication");
                self.ask_person(purchase).await?;
                Ok(ChargeEnd::ActionRequired)
            }
            ChargeOutcome::Declined(reason) => {
                tracing::info!(%workspace, %purchase_id, reason, "a charge was declined");
                self.record_decline(purchase).await?;
                Ok(ChargeEnd::Declined(reason))
            }
            ChargeOutcome::MethodGone => {
                // The next attempt looks for another method, and a checkout creates a new customer.
                tracing::info!(%workspace, %purchase_id, "the stored payment method is gone");
                self.record_decline(purchase).await?;
                Ok(ChargeEnd::Declined("payment_method_missing".to_owned()))
            }
        }
    }

    async fn record_processing(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            return self.change_top_up_charge(workspace, id, |kept| kept.processing(now)).await;
        }
        self.change_charge(workspace, id, |account| account.processing(id, now)).await.map(drop)
    }

    async fn record_decline(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            return self.change_top_up_charge(workspace, id, |kept| kept.declined(now)).await;
        }
        self.change_charge(workspace, id, |account| account.declined(purchase, now)).await.map(drop)
    }

    /// Closes a charge that Stripe did not carry out, without counting a decline.
    pub(crate) async fn close_charge(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            let closed = |kept: &AutoTopUp| AutoTopUp { charge: None, ..kept.unfinished(now) };
            return self.change_top_up_charge(workspace, id, closed).await;
        }
        self.change_charge(workspace, id, |account| account.without(id)).await.map(drop)
    }

    async fn grant(
        &self,
        purchase: &Purchase,
        payment_id: &str,
        method: &StoredMethod,
    ) -> Result<ChargeEnd, BillingFault> {
        let (workspace, id) = (&purchase.workspace_id, &purchase.purchase_id);
        let news = News::Paid(paid(purchase, method));
        let applied = Box::pin(self.store.payments().apply(payment_id, &news)).await?;
        if let Applied::Unmatched(reason) = applied {
            tracing::error!(payment_id, %reason, "a paid charge was not granted");
        }
        if matches!(purchase.goods, Goods::Pack { .. }) {
            let bought = !matches!(applied, Applied::Unmatched(_));
            // A pack that was paid but not granted must not be bought again.
            let ended = |kept: &AutoTopUp| if bought { kept.paid(purchase) } else { kept.given_up() };
            self.change_top_up_charge(workspace, id, ended).await?;
            return Ok(if bought { ChargeEnd::Paid } else { ChargeEnd::Unmatched });
        }
        // The grant's transaction closes the charge too. A charge that is still open was not granted.
        if self.change_charge(workspace, id, |account| account.without(id)).await? {
            self.refund_soon(workspace, &[OwedRefund::unwanted_id(payment_id)?]).await;
            return Ok(ChargeEnd::Unmatched);
        }
        Ok(ChargeEnd::Paid)
    }

    /// Changes the open charge of a subscription, if it is still this one. Returns whether it was.
    pub(crate) async fn change_charge(
        &self,
        workspace: &WorkspaceId,
        purchase_id: &Id,
        after: impl Fn(&SubscriptionAccount) -> SubscriptionAccount,
    ) -> Result<bool, BillingFault> {
        loop {
            let read = self.store.subscriptions().get(workspace).await?;
            if read.account.open_charge(purchase_id).is_none() {
                return Ok(false);
            }
            if self.store.subscriptions().change(workspace, &read, &after(&read.account)).await? {
                return Ok(true);
            }
        }
    }
}

/// Returns the stored method that pays for a purchase.
fn off_session(stored: &StoredPurchase) -> Result<&StoredMethod, Corrupt> {
    match &stored.means {
        Means::OffSession(method) => Ok(method),
        Means::Checkout(_) => Err(Corrupt::Attribute("card")),
    }
}

/// Builds the payment news from Stripe's response to a charge, as the payment's own event will state it.
fn paid(purchase: &Purchase, method: &StoredMethod) -> Paid {
    Paid {
        amount_minor: purchase.price.amount_minor,
        subtotal_minor: None,
        currency: purchase.price.currency,
        ids: MetadataIds {
            purchase_id: Some(purchase.purchase_id.to_string()),
            workspace_id: Some(purchase.workspace_id.to_string()),
        },
        customer: Some(method.customer.clone()),
        payment_method: Some(method.payment_method.clone()),
        at: None,
        source: PaidSource::Intent,
    }
}
