//! The stored payment method: which one is charged, how a person replaces it, and how it is removed.

use credits_core::id::WorkspaceId;
use credits_core::purchase::Checkout;
use credits_payments::provider::{PaymentMethod, Provider, ReturnUrls, SetupOrder};
use credits_store::payments::methods::MethodChoice;
use credits_store::{Fault, IdempotencyKey};

use crate::billing::{Billing, BillingFault};

/// A checkout on which a person stores a new payment method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupCheckout(pub Checkout);

/// The reason why a payment method was not replaced or removed.
#[derive(Debug, thiserror::Error)]
pub enum MethodRefusal {
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// A subscription renews by the method, or a charge of it is open.
    #[error("the payment method is in use")]
    InUse,
    /// The catalogue sells nothing, so it has no currency for charges.
    #[error("the catalogue sells nothing")]
    NothingSold,
    #[error(transparent)]
    Fault(#[from] BillingFault),
}

impl From<Fault> for MethodRefusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.into())
    }
}

impl Billing {
    /// Returns the payment method that the workspace is charged by. Returns `None` if it has none, or Stripe no longer
    /// has it.
    pub async fn stored_method(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Option<PaymentMethod>, BillingFault> {
        let choice = self
            .store
            .payment_methods()
            .choice(workspace)
            .await?
            .filter(|choice| choice.removed_at.is_none());
        let Some(MethodChoice { customer, payment_method, .. }) = choice else { return Ok(None) };
        Ok(self.provider.stored_method(&self.key, &customer, payment_method.as_deref()).await?)
    }

    /// Returns the stored payment method if it may be charged without a person. A method with an open or lost dispute
    /// may not.
    pub(crate) async fn chargeable_method(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Option<PaymentMethod>, BillingFault> {
        let Some(method) = self.stored_method(workspace).await? else { return Ok(None) };
        let is_disputed =
            self.store.payments().is_disputed_method(workspace, &method.stored.payment_method).await?;
        Ok(Some(method).filter(|_| !is_disputed))
    }

    /// Opens a checkout on which a person stores a new payment method. The same key opens the same checkout.
    pub async fn replace_method(
        &self,
        workspace: &WorkspaceId,
        key: &IdempotencyKey,
        urls: &ReturnUrls,
    ) -> Result<SetupCheckout, MethodRefusal> {
        let known = self.store.workspaces().get(workspace).await?.ok_or(MethodRefusal::WorkspaceNotFound)?;
        let currency = self.catalogue.currency().ok_or(MethodRefusal::NothingSold)?;
        let customer = self.store.payment_methods().customer(workspace).await?;
        let email = &known.profile.billing_email;
        let order =
            SetupOrder { workspace_id: workspace, customer: customer.as_deref(), email, currency, urls };
        // Stripe refuses one key with two forms, so the key is derived from the form too.
        let name = |order: &SetupOrder<'_>| order.idempotency_key(key.as_str());
        match self.provider.open_setup(&self.key, &order, &name(&order)).await {
            Err(error) if Provider::lacks_customer(&error) => {
                if let Some(customer) = &customer {
                    self.store.payment_methods().forget_customer(workspace, customer).await?;
                }
                let order = SetupOrder { customer: None, ..order };
                let opened = self.provider.open_setup(&self.key, &order, &name(&order)).await;
                Ok(SetupCheckout(opened.map_err(BillingFault::from)?))
            }
            opened => Ok(SetupCheckout(opened.map_err(BillingFault::from)?)),
        }
    }

    /// Switches automatic top-up off and detaches the payment method at Stripe. Nothing can be charged until another
    /// method is stored.
    pub async fn remove_method(&self, workspace: &WorkspaceId) -> Result<(), MethodRefusal> {
        self.store.workspaces().get(workspace).await?.ok_or(MethodRefusal::WorkspaceNotFound)?;
        let account = self.store.subscriptions().get(workspace).await?.account;
        let renews = account.running().is_some_and(|running| !running.cancel_at_period_end);
        if renews || account.charge.is_some() {
            return Err(MethodRefusal::InUse);
        }
        self.switch_auto_top_up_off(workspace).await?;
        loop {
            let Some(choice) = self.store.payment_methods().choice(workspace).await? else { return Ok(()) };
            if let Some(method) = self.stored_method(workspace).await? {
                self.provider.detach(&self.key, &method.stored).await.map_err(BillingFault::from)?;
            }
            if self.store.payment_methods().remove(workspace, &choice).await? {
                return Ok(());
            }
        }
    }

    async fn switch_auto_top_up_off(&self, workspace: &WorkspaceId) -> Result<(), MethodRefusal> {
        loop {
            let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(()) };
            if read.kept.charge.is_some() {
                return Err(MethodRefusal::InUse);
            }
            let off = read.kept.switched_off();
            if off == read.kept || self.store.auto_top_ups().change(workspace, &read, &off).await? {
                return Ok(());
            }
        }
    }
}
