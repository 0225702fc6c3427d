//! A subscription's first period by a checkout, where no card is stored yet; paying it stores one.

use credits_core::enrolment::{Enrolment, Pending};
use credits_core::id::{Id, WorkspaceId};
use credits_core::purchase::{Checkout, Goods, Purchase};
use credits_core::subscription::Terms;
use credits_store::enrolments::Versioned;

use crate::{Billing, BillingFault};

impl Billing {
    /// The open checkout of what is pending, opened now if it never was.
    pub(crate) async fn pending_checkout(
        &self,
        workspace: &WorkspaceId,
        pending: &Pending,
    ) -> Result<Option<Checkout>, BillingFault> {
        let Some(kept) = self.store.purchase(&pending.purchase_id).await? else { return Ok(None) };
        if kept.checkout.is_some() {
            return Ok(kept.checkout);
        }
        let customer = self.store.customer(workspace).await?;
        let opened =
            self.provider.open_checkout(&self.key, &kept.purchase, customer.as_deref(), &self.urls).await?;
        self.store.open_checkout(&kept.purchase, &opened).await?;
        Ok(Some(opened))
    }

    /// Keeps a first period as pending; `None` where somebody else changed the subscription meanwhile.
    pub(crate) async fn await_payer(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        terms: &Terms,
    ) -> Result<Option<Pending>, BillingFault> {
        let purchase = self.first_period(workspace, terms);
        let pending = Pending { purchase_id: purchase.purchase_id.clone(), terms: terms.clone() };
        let after = Enrolment { pending: Some(pending.clone()), ..read.enrolment.clone() };
        let begun = self.store.begin_purchase(read, &after, &purchase, None).await?;
        Ok(begun.then_some(pending))
    }

    /// The purchase of a new subscription's first period.
    pub(crate) fn first_period(&self, workspace: &WorkspaceId, terms: &Terms) -> Purchase {
        let subscription_id = self.store.sources().new_id("sub");
        let goods =
            Goods::Period { subscription_id: subscription_id.clone(), period: 1, terms: terms.clone() };
        self.purchase_of(workspace, named(&subscription_id, "1-0"), goods, terms.price)
    }

    /// A purchase that begins now.
    pub(crate) fn purchase_of(
        &self,
        workspace: &WorkspaceId,
        purchase_id: Id,
        goods: Goods,
        price: credits_core::price::Price,
    ) -> Purchase {
        Purchase { purchase_id, workspace_id: workspace.clone(), goods, price, begun_at: self.store.now() }
    }

    /// Gives a checkout up that can't be paid any more.
    pub(crate) async fn expire_checkout(&self, purchase_id: &Id) -> Result<(), BillingFault> {
        let Some(kept) = self.store.purchase(purchase_id).await? else { return Ok(()) };
        let workspace = &kept.purchase.workspace_id;
        loop {
            let read = self.store.enrolment(workspace).await?;
            let waits =
                read.enrolment.pending.as_ref().is_some_and(|pending| pending.purchase_id == *purchase_id);
            let after = Enrolment { pending: None, ..read.enrolment.clone() };
            if !waits || self.store.change_enrolment(workspace, &read, &after).await? {
                return Ok(());
            }
        }
    }
}

/// A purchase's id: its subscription and what of it is bought, so that the same is never bought twice.
pub(crate) fn named(subscription_id: &Id, part: &str) -> Id {
    let name = format!("{subscription_id}-{part}");
    name.parse().unwrap_or_else(|_| subscription_id.clone())
}
