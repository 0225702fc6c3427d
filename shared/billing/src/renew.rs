//! A subscription that is due: step by step, until nothing more is.

use credits_core::enrolment::{Enrolment, Step};
use credits_core::id::WorkspaceId;
use credits_core::purchase::{Goods, Purchase};
use credits_core::subscription::{Subscription, Terms};
use credits_store::Fault;
use credits_store::enrolments::Versioned;

use crate::checkout::named;
use crate::{Billing, BillingFault};

/// How many steps a subscription takes in one sweep at most.
const MOST_STEPS: usize = 8;

impl Billing {
    /// Does all that is due of a workspace's subscription. Done twice at once, late, or beside debits, it comes to the
    /// same.
    pub(crate) async fn renew(&self, workspace: &WorkspaceId) -> Result<(), BillingFault> {
        for _ in 0..MOST_STEPS {
            let read = self.store.enrolment(workspace).await?;
            let known = self.store.workspace(workspace).await?;
            let allows = known.is_some_and(|known| self.catalogue.allows_subscription(known.profile.plan));
            match read.enrolment.step(self.store.now(), allows) {
                Step::Wait => return Ok(()),
                Step::Finish(purchase_id) => {
                    self.finish(&purchase_id).await?;
                }
                Step::Charge(goods) => {
                    // Whichever way it ended, the next date is ahead; a change in between has dates of its own.
                    if self.charge_due(workspace, &read, goods).await? {
                        return Ok(());
                    }
                }
                step @ (Step::Begin | Step::End | Step::EndWithPeriod) => {
                    if !self.store.close_balance(workspace).await? {
                        // Our clock is ahead of the table's: the next sweep finds it due still.
                        return Ok(());
                    }
                    let after = read.enrolment.stepped(&step);
                    let written = self.store.change_enrolment(workspace, &read, &after).await?;
                    if written && after.next_due().is_none_or(|due| due > self.store.now()) {
                        return Ok(());
                    }
                }
            }
        }
        Err(Fault::Contended.into())
    }

    /// Charges for the period that is due; says whether that came to an end, and nobody was faster.
    async fn charge_due(
        &self,
        workspace: &WorkspaceId,
        read: &Versioned,
        goods: Goods,
    ) -> Result<bool, BillingFault> {
        let (Some(running), Goods::Period { terms, .. }) = (read.enrolment.running(), &goods) else {
            return Ok(true);
        };
        if self.store.now() >= running.end_of(running.period) {
            // What the period before has left goes before the next one's credits come.
            self.store.close_balance(workspace).await?;
        }
        let purchase = self.due_purchase(workspace, running, terms);
        let Some(card) = self.stored_card(workspace).await? else {
            tracing::info!(%workspace, "there is no card to charge");
            let declined: Enrolment = read.enrolment.declined(&purchase, self.store.now());
            return Ok(self.store.change_enrolment(workspace, read, &declined).await?);
        };
        Ok(self.charge(read, &purchase, &card).await?.is_some())
    }

    /// The purchase of the period that is due: named by subscription, period and try, so that it is charged once.
    pub(crate) fn due_purchase(
        &self,
        workspace: &WorkspaceId,
        running: &Subscription,
        terms: &Terms,
    ) -> Purchase {
        let goods = running.due_period(self.store.now(), terms);
        let period = match &goods {
            Goods::Period { period, .. } => *period,
            Goods::Pack { .. } | Goods::Upgrade { .. } => running.period,
        };
        let tries = running.declines.map_or(0, |declines| declines.count);
        let purchase_id = named(&running.subscription_id, &format!("{period}-{tries}"));
        self.purchase_of(workspace, purchase_id, goods, terms.price)
    }
}
