//! A charge of the stored card, from the purchase that is kept first to the grant or the decline.

use credits_core::auto_top_up::AutoTopUp;
use credits_core::enrolment::Enrolment;
use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::{News, Paid};
use credits_core::purchase::{Card, Goods, Purchase};
use credits_core::subscription::AHEAD;
use credits_payments::provider::{Charged, is_forgotten};
use credits_store::Fault;
use credits_store::enrolments::Versioned;
use credits_store::error::Corrupt;
use credits_store::payments::Told;
use credits_store::purchases::Kept;

use crate::{Billing, BillingFault};

/// How a charge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is paid and granted.
    Paid,
    /// The card was declined.
    Declined,
    /// It is paid, but the subscription has moved on: it waits for an operator among the unmatched payments.
    Unmatched,
}

impl Billing {
    /// The card that the workspace's customer stored last.
    pub(crate) async fn stored_card(&self, workspace: &WorkspaceId) -> Result<Option<Card>, BillingFault> {
        match self.store.customer(workspace).await? {
            Some(customer) => Ok(self.provider.card(&self.key, &customer).await?),
            None => Ok(None),
        }
    }

    /// Keeps the purchase and charges the card for it; `None` where somebody else changed the subscription meanwhile.
    pub(crate) async fn charge(
        &self,
        read: &Versioned,
        purchase: &Purchase,
        card: &Card,
    ) -> Result<Option<Ended>, BillingFault> {
        let charging = read.enrolment.charging(purchase);
        if !self.store.begin_purchase(read, &charging, purchase, Some(card)).await? {
            return Ok(None);
        }
        let asked = match self.charged_long_ago(read, purchase, card).await? {
            Some(charged) => charged,
            None => self.provider.charge(&self.key, purchase, card).await?,
        };
        self.follow(purchase, asked, card.clone()).await.map(Some)
    }

    /// A charge of a period that we know nothing of, since the table was restored to a time before it: the provider has
    /// forgotten its key by now, and would charge again.
    async fn charged_long_ago(
        &self,
        read: &Versioned,
        purchase: &Purchase,
        card: &Card,
    ) -> Result<Option<Charged>, BillingFault> {
        let Goods::Period { period, .. } = &purchase.goods else { return Ok(None) };
        let running = read.enrolment.subscription.as_ref();
        let starts_at = running.map(|subscription| subscription.start_of(*period));
        let Some(starts_at) = starts_at.filter(|starts_at| is_forgotten(*starts_at, self.store.now())) else {
            return Ok(None);
        };
        let since = starts_at.saturating_sub(AHEAD).unwrap_or(starts_at);
        Ok(self.provider.find_charge(&self.key, purchase, (card, since)).await?)
    }

    /// Asks what became of a charge, charging if it never was, and does what follows from it. However often this is
    /// done, and by however many at once, there is one charge and one grant.
    pub(crate) async fn finish(&self, purchase_id: &Id) -> Result<Ended, BillingFault> {
        let kept = self.store.purchase(purchase_id).await?.ok_or(Corrupt::Attribute("charge"));
        let kept = kept.map_err(Fault::from)?;
        let card = kept.card.clone().ok_or(Corrupt::Attribute("card")).map_err(Fault::from)?;
        let asked = self.ask(&kept, &card).await?;
        self.follow(&kept.purchase, asked, card).await
    }

    /// Does what follows from the provider's answer.
    pub(crate) async fn follow(
        &self,
        purchase: &Purchase,
        asked: Charged,
        card: Card,
    ) -> Result<Ended, BillingFault> {
        let (workspace, purchase_id) = (&purchase.workspace_id, &purchase.purchase_id);
        match asked {
            Charged::Succeeded(payment_id) => self.grant(purchase, &payment_id, card).await,
            Charged::Declined => {
                tracing::info!(%workspace, %purchase_id, "a charge was declined");
                let now = self.store.now();
                if matches!(purchase.goods, Goods::Pack { .. }) {
                    self.let_top_up_go(workspace, purchase_id, |kept| kept.declined(now)).await?;
                } else {
                    let declined = |enrolment: &Enrolment| enrolment.declined(purchase, now);
                    self.let_go(workspace, purchase_id, declined).await?;
                }
                Ok(Ended::Declined)
            }
        }
    }

    async fn ask(&self, kept: &Kept, card: &Card) -> Result<Charged, BillingFault> {
        if let Some(payment_id) = &kept.paid_by {
            return Ok(Charged::Succeeded(payment_id.clone()));
        }
        let (purchase, begun_at) = (&kept.purchase, kept.purchase.begun_at);
        if is_forgotten(begun_at, self.store.now())
            && let Some(charged) = self.provider.find_charge(&self.key, purchase, (card, begun_at)).await?
        {
            return Ok(charged);
        }
        Ok(self.provider.charge(&self.key, purchase, card).await?)
    }

    async fn grant(&self, purchase: &Purchase, payment_id: &str, card: Card) -> Result<Ended, BillingFault> {
        let workspace = &purchase.workspace_id;
        let paid = Paid {
            amount_minor: purchase.price.amount_minor,
            currency: purchase.price.currency,
            purchase_id: Some(purchase.purchase_id.to_string()),
            workspace_id: Some(workspace.to_string()),
            customer: Some(card.customer),
        };
        let told = self.store.tell(payment_id, &News::Paid(paid)).await?;
        let unmatched = match told {
            Told::Unmatched(reason) => Some(reason),
            Told::Nothing | Told::Settled => None,
        };
        if let Some(reason) = unmatched {
            tracing::error!(payment_id, %reason, "a charge fits nothing any more and waits for an operator");
        }
        let purchase_id = &purchase.purchase_id;
        if matches!(purchase.goods, Goods::Pack { .. }) {
            // What was paid and not granted must not be bought again.
            let ended = |kept: &AutoTopUp| unmatched.map_or_else(|| kept.paid(purchase), |_| kept.given_up());
            self.let_top_up_go(workspace, purchase_id, ended).await?;
        } else if unmatched.is_some() {
            let none = |enrolment: &Enrolment| Enrolment { charge: None, ..enrolment.clone() };
            self.let_go(workspace, purchase_id, none).await?;
        }
        Ok(if unmatched.is_some() { Ended::Unmatched } else { Ended::Paid })
    }

    /// Ends the open charge, if it still is this one.
    async fn let_go(
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
