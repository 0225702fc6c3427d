//! A charge of the stored method, from the purchase that is stored first to the grant or the decline.

use credits_core::auto_top_up::AutoTopUp;
use credits_core::enrolment::{Enrolment, UNANSWERED_TIMEOUT};
use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::{Mismatch, Named, News, Paid, PaidSource};
use credits_core::purchase::{Goods, Purchase, StoredMethod};
use credits_core::subscription::AHEAD;
use credits_payments::provider::{ChargeOutcome, ProviderError, is_forgotten};
use credits_store::enrolments::Versioned;
use credits_store::error::Corrupt;
use credits_store::payments::Applied;
use credits_store::purchases::{Means, NewMeans, NewPurchase, StoredPurchase};

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
    /// It is paid, but the subscription has moved on: it waits for an operator among the unmatched payments.
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
        let stored = self.stored(&purchase.purchase_id).await?;
        let outcome = match self.charged_before_restore(read, purchase, method).await? {
            Some(outcome) => outcome,
            None => self.ask(stored).await?,
        };
        self.follow(purchase, outcome, method).await.map(Some)
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

    /// Asks for the outcome of a charge, charging if it never was, and does what follows from it. However often this is
    /// done, and by however many callers at once, there is one charge and one grant.
    pub(crate) async fn finish(&self, purchase_id: &Id) -> Result<ChargeEnd, BillingFault> {
        let stored = self.stored(purchase_id).await?;
        let Means::OffSession(method) = stored.means.clone() else {
            return Err(Corrupt::Attribute("card").into());
        };
        let purchase = stored.purchase.clone();
        let outcome = self.ask(stored).await?;
        self.follow(&purchase, outcome, &method).await
    }

    async fn stored(&self, purchase_id: &Id) -> Result<StoredPurchase, BillingFault> {
        let stored = self.store.purchase(purchase_id).await?;
        Ok(stored.ok_or(Corrupt::Attribute("charge"))?)
    }

    /// Asks Stripe under the purchase's idempotency key. A charge that Stripe may have made without our knowing is looked for
    /// first: Stripe forgets a key after a day, and keeps a 500 under it for as long.
    async fn ask(&self, stored: StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        if let Some(payment_id) = &stored.paid_by {
            return Ok(ChargeOutcome::Succeeded(payment_id.clone()));
        }
        let Means::OffSession(method) = &stored.means else {
            return Err(Corrupt::Attribute("card").into());
        };
        let (now, begun_at) = (self.store.now(), stored.purchase.begun_at);
        let uncertain = stored.keys > 0 || stored.key_failed_at.is_some() || is_forgotten(begun_at, now);
        if uncertain {
            let made = self.provider.find_charge(&self.key, &stored.purchase, method, begun_at).await?;
            if let Some(outcome) = made {
                return Ok(outcome);
            }
        }
        let stored = match stored.key_failed_at {
            // A request under the failed key may still be on its way.
            Some(failed_at) if now.duration_since(failed_at) < UNANSWERED_TIMEOUT => {
                return Err(ProviderError::Unsettled.into());
            }
            Some(_) => self.store.next_key(&stored).await?,
            None => stored,
        };
        self.ask_under_key(&stored).await
    }

    async fn ask_under_key(&self, stored: &StoredPurchase) -> Result<ChargeOutcome, BillingFault> {
        let Means::OffSession(method) = &stored.means else {
            return Err(Corrupt::Attribute("card").into());
        };
        let (purchase, key) = (&stored.purchase, stored.idempotency_key());
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
        self.change_charge(workspace, id, |enrolment| enrolment.processing(id, now)).await
    }

    async fn record_decline(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            return self.change_top_up_charge(workspace, id, |kept| kept.declined(now)).await;
        }
        self.change_charge(workspace, id, |enrolment| enrolment.declined(purchase, now)).await
    }

    /// Closes a charge that Stripe did not carry out and that counts as no decline.
    async fn close_charge(&self, purchase: &Purchase) -> Result<(), BillingFault> {
        let (workspace, id, now) = (&purchase.workspace_id, &purchase.purchase_id, self.store.now());
        if matches!(purchase.goods, Goods::Pack { .. }) {
            let closed = |kept: &AutoTopUp| AutoTopUp { charge: None, ..kept.unfinished(now) };
            return self.change_top_up_charge(workspace, id, closed).await;
        }
        self.change_charge(workspace, id, |enrolment| enrolment.without(id)).await
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
        let unmatched = match applied {
            Applied::Unmatched(reason) => Some(reason),
            Applied::Unchanged | Applied::Changed => None,
        };
        if let Some(reason) = unmatched {
            tracing::error!(payment_id, %reason, "a charge fits nothing any more and waits for an operator");
        }
        if matches!(purchase.goods, Goods::Pack { .. }) {
            // What was paid and not granted must not be bought again.
            let ended = |kept: &AutoTopUp| unmatched.map_or_else(|| kept.paid(purchase), |_| kept.given_up());
            self.change_top_up_charge(workspace, id, ended).await?;
        } else if unmatched.is_some() {
            self.change_charge(workspace, id, |enrolment| enrolment.without(id)).await?;
            self.refund_unwanted(purchase, payment_id, unmatched).await;
        }
        Ok(if unmatched.is_some() { ChargeEnd::Unmatched } else { ChargeEnd::Paid })
    }

    /// Refunds a renewal that was paid after its subscription was cancelled. If Stripe can't do it now, the payment stays
    /// among the unmatched ones for an operator.
    async fn refund_unwanted(&self, purchase: &Purchase, payment_id: &str, reason: Option<Mismatch>) {
        let renewal = matches!(purchase.goods, Goods::Period { period: 2.., .. });
        if !renewal || reason != Some(Mismatch::Withdrawn) {
            return;
        }
        let key = format!("refund-{}", purchase.purchase_id);
        if let Err(error) = self.provider.refund_all(&self.key, payment_id, &key).await {
            tracing::error!(payment_id, %error, "a payment that is not wanted could not be refunded");
        }
    }

    /// Changes the open charge of a subscription, if it still is this one.
    pub(crate) async fn change_charge(
        &self,
        workspace: &WorkspaceId,
        purchase_id: &Id,
        after: impl Fn(&Enrolment) -> Enrolment,
    ) -> Result<(), BillingFault> {
        loop {
            let read = self.store.enrolment(workspace).await?;
            if read.enrolment.charge.as_ref().is_none_or(|charge| charge.purchase_id != *purchase_id) {
                return Ok(());
            }
            if self.store.change_enrolment(workspace, &read, &after(&read.enrolment)).await? {
                return Ok(());
            }
        }
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
