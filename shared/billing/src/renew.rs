//! Renewal: runs the due steps of a subscription until none is left.

use credits_core::id::WorkspaceId;
use credits_core::purchase::{Goods, Purchase};
use credits_core::subscription::{PlanRule, Subscription, Terms};
use credits_core::subscription_account::{RenewalStep, SubscriptionAccount};
use credits_store::Fault;
use credits_store::subscriptions::VersionedAccount;

use crate::billing::{Billing, BillingFault};
use crate::charge::ChargeEnd;

/// The maximum number of steps of one subscription in one sweep.
const MAX_STEPS: usize = 8;

impl Billing {
    /// Runs every due step of a workspace's subscription. Repeated, concurrent and late calls have the same effect as
    /// one call, also beside debits.
    pub(crate) async fn renew(&self, workspace: &WorkspaceId) -> Result<(), BillingFault> {
        for _ in 0..MAX_STEPS {
            let read = self.store.subscriptions().get(workspace).await?;
            let known = self.store.workspaces().get(workspace).await?;
            let plan = match known {
                Some(known) if self.catalogue.allows_subscription(known.profile.plan) => {
                    PlanRule::AllowsSubscriptions
                }
                _ => PlanRule::EndsSubscriptions,
            };
            match read.account.step(self.store.now(), plan) {
                RenewalStep::Wait => return Ok(()),
                RenewalStep::Finish(charge) => self.finish_open(&charge).await?,
                RenewalStep::Charge(goods) => {
                    // The charge has ended or is open, so the next date is in the future. A change in between has its
                    // own date.
                    if self.charge_due(workspace, &read, goods).await?.is_some() {
                        return Ok(());
                    }
                }
                RenewalStep::Remind(goods) => {
                    if self.remind(workspace, &read, goods).await? {
                        return Ok(());
                    }
                }
                step @ (RenewalStep::Begin | RenewalStep::End | RenewalStep::EndWithPeriod) => {
                    if !self.store.balances().close(workspace).await? {
                        // Our clock is ahead of the table's. The next sweep finds the step due again.
                        return Ok(());
                    }
                    let after = read.account.stepped(&step);
                    let written = self.store.subscriptions().change(workspace, &read, &after).await?;
                    if written && after.next_due().is_none_or(|due| due > self.store.now()) {
                        return Ok(());
                    }
                }
            }
        }
        Err(Fault::Contended.into())
    }

    /// Charges for the due period. Returns `None` if the account has changed since it was read.
    pub(crate) async fn charge_due(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        goods: Goods,
    ) -> Result<Option<ChargeEnd>, BillingFault> {
        let (Some(running), Goods::Period { terms, .. }) = (read.account.running(), &goods) else {
            return Ok(Some(ChargeEnd::Unmatched));
        };
        self.close_before(workspace, running).await?;
        let purchase = self.due_purchase(workspace, &read.account, running, terms)?;
        let Some(method) = self.chargeable_method(workspace).await? else {
            tracing::info!(%workspace, "a due period has no payment method to charge");
            let declined: SubscriptionAccount = read.account.declined(&purchase, self.store.now());
            let written = self.store.subscriptions().change(workspace, read, &declined).await?;
            return Ok(written.then(|| ChargeEnd::Declined("no_payment_method".to_owned())));
        };
        self.charge(read, &purchase, &method.stored).await
    }

    /// Asks the person again to pay for the due period. After the last attempt the subscription ends. Returns false if
    /// the account has changed since it was read.
    async fn remind(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        goods: Goods,
    ) -> Result<bool, BillingFault> {
        let (Some(running), Goods::Period { terms, .. }) = (read.account.running(), &goods) else {
            return Ok(true);
        };
        self.close_before(workspace, running).await?;
        let (purchase, now) =
            (self.due_purchase(workspace, &read.account, running, terms)?, self.store.now());
        let counted = read.account.declined(&purchase, now);
        if counted.running().is_none() {
            let ended = SubscriptionAccount { action: None, ..counted };
            return Ok(self.store.subscriptions().change(workspace, read, &ended).await?);
        }
        match self.request_checkout(read, &purchase, |account| account.declined(&purchase, now)).await? {
            Some(purchase_id) => self.open_checkout_of(&purchase_id).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// Expires what is left of the previous period, before the next period's credits are granted.
    async fn close_before(&self, workspace: &WorkspaceId, running: &Subscription) -> Result<(), Fault> {
        if self.store.now() >= running.end_of(running.period) {
            self.store.balances().close(workspace).await?;
        }
        Ok(())
    }

    /// Builds the purchase of the due period.
    pub(crate) fn due_purchase(
        &self,
        workspace: &WorkspaceId,
        account: &SubscriptionAccount,
        running: &Subscription,
        terms: &Terms,
    ) -> Result<Purchase, BillingFault> {
        let goods = running.due_period(self.store.now(), terms);
        let id = self.purchase_name(account, &goods)?;
        Ok(self.purchase_of(workspace, id, goods, terms.price))
    }
}
