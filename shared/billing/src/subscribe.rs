//! What a person asks for: to subscribe, to change the tier, to cancel (M6, M7).

use credits_core::catalogue::Tier;
use credits_core::enrolment::Enrolment;
use credits_core::id::WorkspaceId;
use credits_core::purchase::{Checkout, Goods};
use credits_core::subscription::{Status, Subscription, Terms};
use credits_payments::provider::ProviderError;
use credits_store::Fault;
use credits_store::enrolments::Versioned;

use crate::charge::Ended;
use crate::checkout::named;
use crate::{Billing, BillingFault};

/// How often a change is begun anew because somebody else was faster.
const MOST_ROUNDS: usize = 8;

/// A subscription after what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// What the workspace has now.
    pub enrolment: Enrolment,
    /// The checkout that waits for a payer, where no card is stored.
    pub checkout: Option<Checkout>,
    /// Whether a subscription was made, and not changed.
    pub created: bool,
}

/// Why it is refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeRefusal {
    /// There is no such workspace.
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// The workspace's plan has no subscriptions (M7).
    #[error("the plan has no subscriptions")]
    PlanForbids,
    /// There never was a subscription.
    #[error("there is no subscription")]
    NoSubscription,
    /// The card was declined, and nothing has changed.
    #[error("the card was declined")]
    Declined,
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] BillingFault),
}

impl From<Fault> for SubscribeRefusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.into())
    }
}

impl From<ProviderError> for SubscribeRefusal {
    fn from(error: ProviderError) -> Self {
        Self::Fault(error.into())
    }
}

impl Billing {
    /// Subscribes to a tier, or changes to it: up at once, down with the next period.
    pub async fn subscribe(
        &self,
        workspace: &WorkspaceId,
        tier: &Tier,
    ) -> Result<Subscribed, SubscribeRefusal> {
        let known = self.store.workspace(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        if !self.catalogue.allows_subscription(known.profile.plan) {
            return Err(SubscribeRefusal::PlanForbids);
        }
        let terms = Terms::from(tier);
        for _ in 0..MOST_ROUNDS {
            let read = self.brought_up_to_date(workspace).await?;
            let done = match read.enrolment.running() {
                Some(running) if running.status == Status::PastDue => {
                    self.pay_due(workspace, &read, running, &terms).await?
                }
                Some(running) => self.change_tier(workspace, &read, running, &terms).await?,
                None => self.start(workspace, &read, &terms).await?,
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(Fault::Contended.into())
    }

    /// Ends the subscription with what is paid of it.
    pub async fn unsubscribe(&self, workspace: &WorkspaceId) -> Result<Subscribed, SubscribeRefusal> {
        self.store.workspace(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        for _ in 0..MOST_ROUNDS {
            let read = self.brought_up_to_date(workspace).await?;
            if read.enrolment.subscription.is_none() && read.enrolment.pending.is_none() {
                return Err(SubscribeRefusal::NoSubscription);
            }
            let enrolment = read.enrolment.cancelled();
            if enrolment == read.enrolment
                || self.store.change_enrolment(workspace, &read, &enrolment).await?
            {
                // Where only a checkout was pending, that is what the answer tells of.
                let told = if enrolment.subscription.is_some() { enrolment } else { read.enrolment };
                return Ok(Subscribed { enrolment: told, checkout: None, created: false });
            }
        }
        Err(Fault::Contended.into())
    }

    /// What the workspace has, with the checkout that waits for its payer.
    pub async fn subscription(&self, workspace: &WorkspaceId) -> Result<Subscribed, SubscribeRefusal> {
        self.store.workspace(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        let enrolment = self.store.enrolment(workspace).await?.enrolment.as_of(self.store.now());
        let checkout = match enrolment.pending.as_ref().filter(|_| enrolment.running().is_none()) {
            Some(pending) => self.store.purchase(&pending.purchase_id).await?.and_then(|kept| kept.checkout),
            None => None,
        };
        Ok(Subscribed { enrolment, checkout, created: false })
    }

    /// What the workspace has, after the outcome of an open charge is known, and what was cancelled has ended with its
    /// period: no sweep has to be on time for that.
    async fn brought_up_to_date(&self, workspace: &WorkspaceId) -> Result<Versioned, BillingFault> {
        let mut read = self.store.enrolment(workspace).await?;
        if let Some(charge) = &read.enrolment.charge {
            self.finish(&charge.purchase_id).await?;
            read = self.store.enrolment(workspace).await?;
        }
        let now = read.enrolment.as_of(self.store.now());
        if now != read.enrolment && self.store.close_balance(workspace).await? {
            self.store.change_enrolment(workspace, &read, &now).await?;
            read = self.store.enrolment(workspace).await?;
        }
        Ok(read)
    }

    async fn start(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        terms: &Terms,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        if let Some(card) = self.stored_card(workspace).await? {
            let purchase = self.first_period(workspace, terms);
            let Some(ended) = self.charge(read, &purchase, &card).await? else { return Ok(None) };
            return self.after_charge(workspace, ended, true).await;
        }
        let same = read.enrolment.pending.clone().filter(|pending| pending.terms == *terms);
        let created = same.is_none();
        let pending = match same {
            Some(pending) => Some(pending),
            None => self.await_payer(workspace, read, terms).await?,
        };
        let Some(pending) = pending else { return Ok(None) };
        let checkout = self.pending_checkout(workspace, &pending).await?;
        let enrolment = self.store.enrolment(workspace).await?.enrolment;
        Ok(Some(Subscribed { enrolment, checkout, created }))
    }

    /// Tries the due charge again now, at the terms that were asked for.
    async fn pay_due(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        running: &Subscription,
        terms: &Terms,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        let card = self.stored_card(workspace).await?.ok_or(SubscribeRefusal::Declined)?;
        let purchase = self.due_purchase(workspace, running, terms);
        let Some(ended) = self.charge(read, &purchase, &card).await? else { return Ok(None) };
        self.after_charge(workspace, ended, false).await
    }

    async fn change_tier(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        running: &Subscription,
        terms: &Terms,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        let upgrade = if running.is_upgrade(terms) {
            running.upgrade(terms, self.store.now()).map_err(|sum| Fault::Corrupt(sum.into()))?
        } else {
            None
        };
        if let Some(upgrade) = upgrade {
            let card = self.stored_card(workspace).await?.ok_or(SubscribeRefusal::Declined)?;
            let (subscription_id, period) = (running.subscription_id.clone(), running.period);
            // A declined try must not be answered for the next one.
            let part = format!("{period}-up{}-v{}", running.upgrades, read.version);
            let purchase_id = named(&subscription_id, &part);
            let price = credits_core::price::Price { amount_minor: upgrade.amount_minor, ..terms.price };
            let goods =
                Goods::Upgrade { subscription_id, period, terms: terms.clone(), credits: upgrade.credits };
            let purchase = self.purchase_of(workspace, purchase_id, goods, price);
            let Some(ended) = self.charge(read, &purchase, &card).await? else { return Ok(None) };
            return self.after_charge(workspace, ended, false).await;
        }
        let then = Some(terms.clone()).filter(|terms| *terms != running.terms);
        let changed = Subscription { then, cancel_at_period_end: false, ..running.clone() };
        let enrolment = read.enrolment.with(changed);
        let same = enrolment == read.enrolment;
        let written = same || self.store.change_enrolment(workspace, read, &enrolment).await?;
        Ok(written.then_some(Subscribed { enrolment, checkout: None, created: false }))
    }

    async fn after_charge(
        &self,
        workspace: &WorkspaceId,
        ended: Ended,
        created: bool,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        match ended {
            Ended::Declined => Err(SubscribeRefusal::Declined),
            // What it was for has changed meanwhile; the payment waits for an operator, and the change begins anew.
            Ended::Unmatched => Ok(None),
            Ended::Paid => {
                let enrolment = self.store.enrolment(workspace).await?.enrolment;
                Ok(Some(Subscribed { enrolment, checkout: None, created }))
            }
        }
    }
}
