//! Views of subscriptions: an account with the checkouts that wait for a person.

use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::purchase::{Checkout, Goods};
use credits_core::subscription::Terms;
use credits_core::subscription_account::SubscriptionAccount;
use credits_store::Fault;

use crate::billing::{Billing, BillingFault};
use crate::subscribe_refusal::SubscribeRefusal;

/// A subscription as a response shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionView {
    pub account: SubscriptionAccount,
    /// The checkout of a first period that waits for payment.
    pub checkout: Option<Checkout>,
    /// The checkout on which a person has to authenticate or pay.
    pub action: Option<Checkout>,
    /// The terms of a first period whose charge is open.
    pub charging: Option<Terms>,
    /// Whether the request created the subscription instead of changing it.
    pub created: bool,
    /// What this request charged.
    pub charged: Option<Price>,
    /// What this request refunds: a period that was paid ahead.
    pub refunded: Option<Price>,
}

impl Billing {
    /// Returns the workspace's subscription with the checkouts that wait for a person. Sends no request to Stripe.
    pub async fn subscription(&self, workspace: &WorkspaceId) -> Result<SubscriptionView, SubscribeRefusal> {
        self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        Ok(self.view(workspace).await?)
    }

    pub(crate) async fn view(&self, workspace: &WorkspaceId) -> Result<SubscriptionView, BillingFault> {
        let account = self.store.subscriptions().get(workspace).await?.account.as_of(self.store.now());
        let waiting = account
            .pending
            .as_ref()
            .filter(|pending| account.running().is_none() && pending.processing_since.is_none());
        let checkout = self.checkout_of(waiting.map(|pending| &pending.purchase_id)).await?;
        let action = self.checkout_of(account.action.as_ref().map(|action| &action.purchase_id)).await?;
        let charging = self.charging(&account).await?;
        Ok(SubscriptionView { account, checkout, action, charging, ..SubscriptionView::default() })
    }

    async fn checkout_of(&self, purchase_id: Option<&Id>) -> Result<Option<Checkout>, Fault> {
        let Some(purchase_id) = purchase_id else { return Ok(None) };
        Ok(self.store.purchases().get(purchase_id).await?.and_then(|stored| stored.checkout))
    }

    /// Returns the terms of a first period whose charge is open.
    pub(crate) async fn charging(&self, account: &SubscriptionAccount) -> Result<Option<Terms>, Fault> {
        let charge = account.charge.as_ref().filter(|_| account.running().is_none());
        let Some(charge) = charge else { return Ok(None) };
        let stored = self.store.purchases().get(&charge.purchase_id).await?;
        Ok(stored.and_then(|stored| match stored.purchase.goods {
            Goods::Period { period: 1, terms, .. } => Some(terms),
            Goods::Pack { .. } | Goods::Period { .. } | Goods::Upgrade { .. } => None,
        }))
    }
}
