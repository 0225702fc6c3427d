//! Storage of subscriptions: one item for each workspace, replaced as a whole under its version, indexed by date.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::credits::{Amount, Credits};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::Cause;
use credits_core::payment::Payment;
use credits_core::posting::Posting;
use credits_core::subscription_account::{PaidAhead, SubscriptionAccount};

use crate::error::{Corrupt, Fault};
use crate::items::payment_item;
use crate::items::subscription_item;
use crate::payments::purchases::{NewPurchase, PurchaseState, begin_write};
use crate::payments::refunds::{OwedRefund, owe_write};
use crate::posting::{EntryState, PostingOrder, Unposted};
use crate::table::Store;
use crate::table::keys::ItemKey;

pub use crate::items::subscription_item::VersionedAccount;

/// Subscriptions, each with its open charge and what a person still has to pay.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionStore<'a> {
    pub(crate) store: &'a Store,
}

impl SubscriptionStore<'_> {
    /// Returns the workspace's account; an empty one if none was ever written.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<VersionedAccount, Fault> {
        let item = self.store.get(&ItemKey::subscription(workspace)).await?;
        Ok(item.as_ref().map(subscription_item::read).transpose()?.unwrap_or_default())
    }

    /// Returns the monthly credits of the subscription that runs; `None` without one.
    pub(crate) async fn monthly_credits(self, workspace: &WorkspaceId) -> Result<Option<Amount>, Fault> {
        let now = self.store.now();
        let account = self.get(workspace).await?.account.as_of(now);
        Ok(account.running().map(|running| running.current(now).1.monthly_credits))
    }

    /// Writes a change if the account still has the version that was read. Returns whether it was written.
    ///
    /// The same transaction withdraws the checkouts that the account no longer waits for.
    pub async fn change(
        self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        after: &SubscriptionAccount,
    ) -> Result<bool, Fault> {
        let mut writes = self.withdrawals(&read.account, after).await?;
        writes.push(subscription_item::write_of(&self.store.table, workspace, read.version, after)?);
        self.store.transact_unless_changed(writes).await
    }

    /// Stores a purchase and the account that waits for it. Returns whether both were written.
    ///
    /// Callers store it before they call Stripe, so that a retry finds it after a crash.
    pub async fn begin_purchase(
        self,
        read: &VersionedAccount,
        after: &SubscriptionAccount,
        new: NewPurchase<'_>,
    ) -> Result<bool, Fault> {
        let mut writes = self.withdrawals(&read.account, after).await?;
        writes.push(subscription_item::write_of(
            &self.store.table,
            &new.purchase.workspace_id,
            read.version,
            after,
        )?);
        writes.push(begin_write(&self.store.table, new)?);
        self.store.transact_unless_changed(writes).await
    }

    /// Records the state of a checkout that was not paid, and stops waiting for one that can't be paid any more.
    ///
    /// If a person has to pay for a renewal by it, the checkout becomes due instead, and the sweep replaces it. Ignores
    /// a checkout that is not the purchase's own: Stripe opened it although it answered 500.
    pub async fn end_checkout(
        self,
        purchase_id: &Id,
        checkout_id: &str,
        state: PurchaseState,
    ) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let Some(stored) = self.store.purchases().get(purchase_id).await? else { return Ok(()) };
            let known = match (stored.state, state) {
                // A checkout that is still processing gets a new due date.
                (PurchaseState::Processing, PurchaseState::Processing) => false,
                // A checkout that the payer has confirmed does not expire.
                (PurchaseState::Processing, PurchaseState::Expired) => true,
                (known, new) => known == new,
            };
            let is_other = stored.checkout.as_ref().is_some_and(|it| it.checkout_id != checkout_id);
            if stored.paid_by.is_some() || known || is_other {
                return Ok(());
            }
            let workspace = &stored.purchase.workspace_id;
            let read = self.get(workspace).await?;
            let ended = matches!(state, PurchaseState::Expired | PurchaseState::Failed);
            if ended && read.account.asks_for_renewal(purchase_id) {
                return self
                    .store
                    .transact_unless_changed(vec![
                        self.store.purchases().state_write(&stored, PurchaseState::Open)?,
                    ])
                    .await
                    .map(drop);
            }
            let after = match state {
                PurchaseState::Processing => read.account.processing(purchase_id, self.store.now()),
                _ => read.account.without(purchase_id),
            };
            let mut writes = vec![self.store.purchases().state_write(&stored, state)?];
            if after != read.account {
                writes.push(subscription_item::write_of(&self.store.table, workspace, read.version, &after)?);
            }
            if self.store.transact_unless_changed(writes).await? {
                return Ok(());
            }
            attempts.retry_after_conflict().await?;
        }
    }

    /// Withdraws the grants of a period that was paid ahead, and records an owed refund for each of its payments.
    ///
    /// Returns whether this was written; if not, something has changed since the account was read. Marks the payments
    /// as withdrawn, so that the events of their refunds move no credits.
    pub async fn withdraw_paid_ahead(
        self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        after: &SubscriptionAccount,
        paid_ahead: &[PaidAhead],
    ) -> Result<bool, Fault> {
        let mut extra_writes = self.withdrawals(&read.account, after).await?;
        extra_writes.push(subscription_item::write_of(&self.store.table, workspace, read.version, after)?);
        for paid in paid_ahead {
            let item = self.store.get(&ItemKey::payment(&paid.payment_id)).await?;
            let payment = item.as_ref().map(payment_item::read).transpose()?;
            let payment = payment.ok_or(Corrupt::Attribute("payment_id"))?;
            let version = payment.version.saturating_add(1);
            let withdrawn = Payment { is_withdrawn: true, version, ..payment };
            extra_writes.push(payment_item::write_of(&self.store.table, &withdrawn)?);
            extra_writes.push(owe_write(&self.store.table, &self.refund_of(workspace, paid))?);
        }
        let Some(first) = paid_ahead.first() else { return Ok(false) };
        let key = ItemKey::ours(workspace, &format!("withdrawn#{}", first.grant_id));
        let grant_ids = paid_ahead.iter().map(|paid| paid.grant_id.clone()).collect();
        let change = Change::Withdraw { key: key.pk.clone(), grant_ids };
        let reason = "refunded before it began".to_owned();
        let order = PostingOrder {
            workspace,
            key,
            fingerprint: None,
            entry_id: self.store.sources.new_id("void"),
            credits: Credits::ZERO,
            cause: Cause::Void { grant_id: first.grant_id.clone(), reason },
            state: EntryState::WaitsForClose,
            debit: None,
            priced_with: None,
            build_posting: &|now| Posting::queue_change(change.clone(), now),
            extra_writes,
        };
        match self.store.postings().post(order).await {
            Ok(_) => {
                self.store.balances().settle_fence(workspace).await?;
                Ok(true)
            }
            Err(Unposted::Fault(fault)) => Err(fault),
            Err(Unposted::ExtraConditionFailed | Unposted::KeyTaken(_)) => Ok(false),
            Err(Unposted::NoBalance | Unposted::Insufficient(_) | Unposted::OtherPrices(_)) => {
                Err(Corrupt::Attribute("balance").into())
            }
        }
    }

    fn refund_of(self, workspace: &WorkspaceId, paid: &PaidAhead) -> OwedRefund {
        OwedRefund {
            refund_id: paid.refund_id(),
            workspace_id: workspace.clone(),
            payment_id: paid.payment_id.clone(),
            price: paid.price,
            amount_minor: None,
            reason: None,
            begun_at: self.store.now(),
        }
    }

    /// Returns the writes that withdraw the checkouts for which the account no longer waits.
    async fn withdrawals(
        self,
        before: &SubscriptionAccount,
        after: &SubscriptionAccount,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let mut writes = Vec::new();
        for dropped in before.awaited_checkouts() {
            if after.awaited_checkouts().any(|awaited| awaited == dropped) {
                continue;
            }
            if let Some(stored) = self.store.purchases().get(dropped).await? {
                writes.push(self.store.purchases().state_write(&stored, PurchaseState::Withdrawn)?);
            }
        }
        Ok(writes)
    }
}
