//! A charge of the stored method, from the purchase that is stored first to the grant or the decline.

use credits_core::auto_top_up::AutoTopUp;
use credits_core::enrolment::{Enrolment, OpenCharge, UNANSWERED_TIMEOUT};
use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::{Named, News, Paid, PaidSource};
use credits_core::purchase::{Goods, Purchase, StoredMethod};
use credits_core::subscription::AHEAD;
use credits_payments::provider::{ChargeOutcome, ProviderError, is_forgotten};
use credits_store::enrolments::Versioned;
use credits_store::error::Corrupt;
use credits_store::payments::Applied;
use credits_store::purchases::{Means, NewMeans, NewPurchase, StoredPurchase};
use credits_store::refunds::OwedRefund;

use crate::{Billing, BillingFault};

/// What a charge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChargeEnd {
    /// It is paid and granted.
    Paid,
    /// It is on its way, and stays open.
    Processing,
    /// A person was asked to pay by a checkout.
    ActionRequired,
    /// It was declined or refused, for Stripe's reason.
    Declined(String),
    /// It is paid, but the subscription has moved on: it is refunded.
    Unmatched,
}

impl Billing {
    /// Stores the purchase and charges the method for it; `None` if a charge is open, or something has changed since the
    /// enrolment was read.
    pub(crate) async fn charge(
        &self,
        read: &Versioned,
        purchase: &Purchase,
        method: &StoredMethod,
    ) -> Result<Option<ChargeEnd>, BillingFault> {
        let Some(charging) = read.enrolment.charging(purchase) else { return Ok(None) };
        let new = NewPurchase { purchase, means: NewMeans::OffSession(method) };
        if !self.store.begin_purchase(read, &charging, new).await? {
            return Ok(None);
        }
        match self.charged_before_restore(read, purchase, method).await? {
            Some(outcome) => self.follow(purchase, outcome, method).await,
            None => self.make_charge(&purchase.purchase_id).await,
        }
        .map(Some)
    }

    /// Makes a charge that was just stored.
    pub(crate) async fn make_charge(&self, purchase_id: &Id) -> Result<ChargeEnd, BillingFault> {
        let stored = self.stored(purchase_id).await?;
        let outcome = self.ask(&stored).await?;
        self.follow(&stored.purchase, outcome, off_session(&stored)?).await
    }

    /// A charge of a period that the table does not know, because it was restored to a time before it. Stripe has forgotten
    /// its key meanwhile, and would charge again.
    async fn charged_before_restore(
        &self,
        read: &Versioned,
        purchase: &Purchase,
        method: &StoredMethod,
    ) -> Result<Option<ChargeOutcome>, BillingFault> {
        let Goods::Period { period, .. } = &purchase.goods else { return Ok(None) };
        let running = read.enrolment.subscription.as_ref();
        let starts_at = running.map(|subscription| subscription.start_of(*period));
        let Some(starts_at) = starts_at.filter(|starts_at| is_forgotten(*starts_at, self.store.now())) else {
            return Ok(None);
        };
        let since = starts_at.saturating_sub(AHEAD).unwrap_or(starts_at);
        Ok(self.provider.find_period(&self.key, purchase, method, since).await?)
    }

    /// Learns the outcome of an open charge, as [`Self::finish`] does. A charge that was cancelled meanwhile is not made.
    pub(crate) async fn finish_open(&self, charge: &OpenCharge) -> Result<(), BillingFault> {
        if !charge.withdrawn {
            return self.finish(&charge.purchase_id).await.map(drop);
        }
        let stored = self.stored(&charge.purchase_id).await?;
        match self.made(&stored).await? {
            Some(outcome) => {
                self.follow(&stored.purchase, outcome, off_session(&stored)?).await?;
            }
            // The request may still be on its way.
            None if self.store.now().duration_since(charge.begun_at) < UNANSWERED_TIMEOUT => {
                return Err(ProviderError::Unsettled.into());
            }
            None => self.close_charge(&stored.purchase).await?,
        }
        Ok(())
    }

    /// Learns the outcome of a charge whose answer is not known, and makes it if Stripe never got it. However often this is
    /// done, and by however many callers at once, there is one charge and one grant.
    ///
    /// The charge is looked for first: under its idempotency key Stripe answers for a day as it did at first, even where that
    /// was a 500 or a bank debit has ended meanwhile, and then forgets the key.
    async fn finish(&self, purchase_id: &Id) -> Result<ChargeEnd, BillingFault> {
        let stored = self.stored(purchase_id).await?;
        let outcome = match self.made(&stored).await? {
            Some(outcome) => outcome,
            None => self.make_again(&stored).await?,
        };
        self.follow(&stored.purchase, outcome, off_session(&stored)?).await
    }

    async fn stored(&self, purchase_id: &Id) -> Result<StoredPurchase, BillingFault> {
        let stored = self.store.purchase(purchase_id).await?;
        Ok(stored.ok_or(Corrupt::Attribute("charge"))?)
    }

    /// The outcome of a charge that Stripe has made, if it has.
    async fn made(&self, stored: &StoredPurchase) -> Result<Option<ChargeOutcome>, BillingFault> {
        if let Some(payment_id) = &stored.paid_by {
            return Ok(Some(ChargeOutcome::Succeeded(payment_id.clone())));
        }
        let (purchase, method) = (&stored.purchase, off_session(stored)?);
        Ok(self.provider.find_charge(&self.key, purchase, method, purchase.begun_at).await?)
    }

    /// Asks for a charge again: under another key where Stripe has kept a failure under the first.
    async fn make_again(&self, stored: &StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        match stored.key_failed_at {
            // A request under the failed key may still be on its way.
            Some(failed_at) if self.store.now().duration_since(failed_at) < UNANSWERED_TIMEOUT => {
                Err(ProviderError::Unsettled.into())
            }
            Some(_) => self.ask(&self.store.next_key(stored).await?).await,
            None => self.ask(stored).await,
        }
    }

    /// Asks Stripe for a charge under the purchase's idempotency key.
    async fn ask(&self, stored: &StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        let (purchase, key, method) = (&stored.purchase, stored.idempotency_key(), off_session(stored)?);
        match self.provider.charge(&self.key, purchase, &key, method).await {
            Err(error @ ProviderError::Failed(_)) => {
                self.store.record_failed_key(stored).await?;
                Err(error.into())
            }
            Err(ProviderError::Refused(refusal)) => {
                tracing::error!(purchase_id = %purchase.purchase_id, %refusal, "Stripe refused a charge");
                Ok(ChargeOutcome::Declined(refusal.reason().to_owned()))
            }
            Err(error @ ProviderError::Unauthorised(_)) => {
                // Nothing was charged, and nothing will be before the key is replaced.
                self.close_charge(purchase).await?;
                Err(error.into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Does what follows from Stripe's answer.
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
                // The next attempt looks for another one, and a checkout makes a new customer.
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
        self.change_charge(workspace, id, |enrolment| enrolment.processing(id, now)).await.map(drop)
    }

    async fn record_decline(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            return self.change_top_up_charge(workspace, id, |kept| kept.declined(now)).await;
        }
        self.change_charge(workspace, id, |enrolment| enrolment.declined(purchase, now)).await.map(drop)
    }

    /// Closes a charge that Stripe did not carry out and that counts as no decline.
    pub(crate) async fn close_charge(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            let closed = |kept: &AutoTopUp| AutoTopUp { charge: None, ..kept.unfinished(now) };
            return self.change_top_up_charge(workspace, id, closed).await;
        }
        self.change_charge(workspace, id, |enrolment| enrolment.without(id)).await.map(drop)
    }

    async fn grant(
        &self,
        purchase: &Purchase,
        payment_id: &str,
        method: &StoredMethod,
    ) -> Result<ChargeEnd, BillingFault> {
        let (workspace, id) = (&purchase.workspace_id, &purchase.purchase_id);
        let news = News::Paid(paid(purchase, method));
        let applied = Box::pin(self.store.apply(payment_id, &news)).await?;
        if let Applied::Unmatched(reason) = applied {
            tracing::error!(payment_id, %reason, "a charge has bought nothing");
        }
        if matches!(purchase.goods, Goods::Pack { .. }) {
            let bought = !matches!(applied, Applied::Unmatched(_));
            // What was paid and not granted must not be bought again.
            let ended = |kept: &AutoTopUp| if bought { kept.paid(purchase) } else { kept.given_up() };
            self.change_top_up_charge(workspace, id, ended).await?;
            return Ok(if bought { ChargeEnd::Paid } else { ChargeEnd::Unmatched });
        }
        // What grants a charge closes it too.
        if self.change_charge(workspace, id, |enrolment| enrolment.without(id)).await? {
            self.refund_soon(workspace, &[OwedRefund::unwanted_id(payment_id)?]).await;
            return Ok(ChargeEnd::Unmatched);
        }
        Ok(ChargeEnd::Paid)
    }

    /// Changes the open charge of a subscription, if it still is this one; whether it was.
    pub(crate) async fn change_charge(
        &self,
        workspace: &WorkspaceId,
        purchase_id: &Id,
        after: impl Fn(&Enrolment) -> Enrolment,
    ) -> Result<bool, BillingFault> {
        loop {
            let read = self.store.enrolment(workspace).await?;
            if read.enrolment.open_charge(purchase_id).is_none() {
                return Ok(false);
            }
            if self.store.change_enrolment(workspace, &read, &after(&read.enrolment)).await? {
                return Ok(true);
            }
        }
    }
}

/// The stored method that a purchase is charged to.
fn off_session(stored: &StoredPurchase) -> Result<&StoredMethod, Corrupt> {
    match &stored.means {
        Means::OffSession(method) => Ok(method),
        Means::Checkout(_) => Err(Corrupt::Attribute("card")),
    }
}

/// What Stripe's answer to a charge says of its payment, as the payment's own event will.
fn paid(purchase: &Purchase, method: &StoredMethod) -> Paid {
    Paid {
        amount_minor: purchase.price.amount_minor,
        subtotal_minor: None,
        currency: purchase.price.currency,
        named: Named {
            purchase_id: Some(purchase.purchase_id.to_string()),
            workspace_id: Some(purchase.workspace_id.to_string()),
        },
        customer: Some(method.customer.clone()),
        payment_method: Some(method.payment_method.clone()),
        at: None,
        source: PaidSource::Intent,
    }
}
