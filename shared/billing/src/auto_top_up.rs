//! Automatic top-up: buys packs with the stored payment method while the balance is low, one charge at a time (M5).

use credits_core::auto_top_up::{AutoTopUp, TopUpStep};
use credits_core::credits::Amount;
use credits_core::id::{Id, WorkspaceId};
use credits_core::purchase::{CheckoutOptions, Purchase};
use credits_core::subscription_account::OpenCharge;
use credits_store::Fault;
use credits_store::auto_top_ups::VersionedTopUp;
use credits_store::error::{Chain, Corrupt};
use credits_store::payments::purchases::{CheckoutReason, NewMeans, NewPurchase};

use crate::billing::{Billing, BillingFault};

/// The maximum number of packs in one run. A burst of debits may need more than one.
const MAX_ROUNDS: usize = 8;

impl Billing {
    /// Buys the packs that the workspace's settings ask for.
    ///
    /// Repeated, concurrent, late and needless calls have the same effect as one call. The function reads the settings
    /// first and the balance second. It begins a charge only if the settings have not changed since.
    pub async fn top_up_automatically(&self, workspace: &WorkspaceId) -> Result<(), BillingFault> {
        for _ in 0..MAX_ROUNDS {
            let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(()) };
            match read.kept.step(self.store.now()) {
                TopUpStep::Wait => return Ok(()),
                TopUpStep::Finish(charge) => self.finish_open(&charge).await?,
                TopUpStep::Look(threshold, pack) => {
                    match self.look(workspace, &read, threshold, &pack).await {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(fault) => {
                            // No later event may trigger this again: at an empty balance no debit writes to the table.
                            if let Err(again) = self.leave_due(workspace, &read).await {
                                tracing::warn!(%workspace, error = %Chain(&again), "a top-up could not be scheduled");
                            }
                            return Err(fault);
                        }
                    }
                }
            }
        }
        // More packs are needed; the sweep continues.
        match self.store.auto_top_ups().get(workspace).await? {
            Some(read) => self.leave_due(workspace, &read).await,
            None => Ok(()),
        }
    }

    /// Schedules unfinished work for the sweep, unless the settings have changed.
    async fn leave_due(&self, workspace: &WorkspaceId, read: &VersionedTopUp) -> Result<(), BillingFault> {
        self.rest(workspace, read, &read.kept.unfinished(self.store.now())).await.map(drop)
    }

    /// Reads the balance and buys a pack if it is low. Returns whether the work is complete.
    async fn look(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedTopUp,
        threshold: Amount,
        pack: &Id,
    ) -> Result<bool, BillingFault> {
        let Some(balance) = self.store.balances().get(workspace).await? else { return Ok(true) };
        let available = balance.available().map_err(|sum| Fault::Corrupt(Corrupt::Sum(sum)))?;
        let now = self.store.now();
        if !read.kept.wants_pack(available, threshold) {
            return self.rest(workspace, read, &read.kept.at_rest()).await;
        }
        let Some(pack) = self.catalogue.pack(pack) else {
            tracing::error!(%workspace, %pack, "the pack of an automatic top-up is no longer sold");
            return self.rest(workspace, read, &read.kept.given_up()).await;
        };
        if !read.kept.has_room_for(1, pack.credits, now) {
            return self.rest(workspace, read, &read.kept.limited(now)).await;
        }
        if let Some(until) = read.kept.hourly_limit_ends_at(now) {
            tracing::warn!(%workspace, "automatic top-up has reached its limit of charges per hour");
            return self.rest(workspace, read, &read.kept.waiting_until(until)).await;
        }
        let Some(method) = self.chargeable_method(workspace).await? else {
            tracing::info!(%workspace, "an automatic top-up has no payment method to charge");
            return self.rest(workspace, read, &read.kept.at_rest()).await;
        };
        let (purchase, method) = (self.pack_of(workspace, pack), method.stored);
        if self.store.auto_top_ups().begin(read, &purchase, &method).await? {
            self.make_charge(&purchase.purchase_id).await?;
        }
        Ok(false)
    }

    /// Ends without a purchase: writes the changed settings. Returns false if they have changed meanwhile, and the
    /// caller reads them again.
    async fn rest(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedTopUp,
        after: &AutoTopUp,
    ) -> Result<bool, BillingFault> {
        if *after == read.kept {
            return Ok(true);
        }
        Ok(self.store.auto_top_ups().change(workspace, read, after).await?)
    }

    /// Opens a checkout on which a person pays for a pack, because the stored method needs the customer. Until that
    /// checkout has ended, automatic top-up does not charge the method.
    pub(crate) async fn ask_for_top_up(&self, charged: &Purchase) -> Result<(), BillingFault> {
        let workspace = &charged.workspace_id;
        loop {
            let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(()) };
            let Some(charge) = open_charge(&read.kept, &charged.purchase_id) else { return Ok(()) };
            if charge.withdrawn {
                return self.close_charge(charged).await;
            }
            let after = read.kept.action_required(self.store.now());
            let name = self.store.sources().new_id("top");
            let purchase = self.purchase_of(workspace, name, charged.goods.clone(), charged.price);
            let form = self.checkout_form(workspace, CheckoutOptions::default()).await?;
            let means = NewMeans::Checkout(&form, CheckoutReason::Authentication);
            let new = NewPurchase { purchase: &purchase, means };
            if self.store.auto_top_ups().begin_asked(&read, &after, new).await? {
                return self.open_checkout_of(&purchase.purchase_id).await.map(drop);
            }
        }
    }

    /// Changes the open charge of an automatic top-up, if it is still this one.
    pub(crate) async fn change_top_up_charge(
        &self,
        workspace: &WorkspaceId,
        purchase_id: &Id,
        after: impl Fn(&AutoTopUp) -> AutoTopUp,
    ) -> Result<(), BillingFault> {
        loop {
            let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(()) };
            if open_charge(&read.kept, purchase_id).is_none() {
                return Ok(());
            }
            if self.store.auto_top_ups().change(workspace, &read, &after(&read.kept)).await? {
                return Ok(());
            }
        }
    }
}

fn open_charge<'a>(kept: &'a AutoTopUp, purchase_id: &Id) -> Option<&'a OpenCharge> {
    kept.charge.as_ref().filter(|charge| charge.purchase_id == *purchase_id)
}
