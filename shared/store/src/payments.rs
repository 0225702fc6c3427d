//! Payments: each becomes credits exactly once, however often and in whatever order Stripe's events arrive.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::claw_back::ClawBackReason;
use credits_core::claw_back::Clawed;
use credits_core::credits::Credits;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::Cause;
use credits_core::payment::{Collection, Granted, Mismatch, NamedPurchase, News, Payment, PaymentStep};
use credits_core::posting::Posting;
use credits_core::purchase::Goods;
use credits_core::subscription_account::{NotAwaited, PaidPeriod, Payer};
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::items::payment_item;
use crate::items::subscription_item;
use crate::payments::methods::UsedMethod;
use crate::payments::purchases::{PaidWith, StoredPurchase};
use crate::payments::refunds::{OwedRefund, owe_write};
use crate::posting::{EntryState, PostingOrder, Unposted};
use crate::table::Store;
use crate::table::index::{Cursor, IndexQuery, Page};
use crate::table::keys::{self, ItemKey};
use crate::table::reads::key_of;
use crate::table::transaction::TransactionOutcome;

pub(crate) mod claw_backs;
pub mod methods;
pub mod purchases;
pub mod refunds;
pub mod unmatched;

/// The result of applying an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The payment had everything in the event already.
    Unchanged,
    /// Credits were granted, clawed back or returned, or the event was only recorded.
    Changed,
    /// The payment matches no purchase and waits for an operator.
    Unmatched(Mismatch),
}

/// The result of one transaction for a payment.
pub(crate) enum Progress {
    /// Nothing is left to do.
    Done(Applied),
    /// A step was taken, and another may follow.
    Stepped(Applied),
    /// Another event of the same payment was applied first, or the result is unknown: read again.
    Overtaken,
}

/// A payment merged with an event, and the purchase that it names.
struct Merged {
    payment: Payment,
    purchase: Option<StoredPurchase>,
    /// The reason of a claw-back or of its reversal, if the step is one.
    reason: ClawBackReason,
    /// Further writes that the event requires, whatever the step.
    extra_writes: Vec<TransactWriteItem>,
}

/// Payments.
#[derive(Debug, Clone, Copy)]
pub struct PaymentStore<'a> {
    pub(crate) store: &'a Store,
}

impl PaymentStore<'_> {
    /// Applies an event: merges it into its payment, and takes one step after another until none is left.
    ///
    /// Each step is one transaction on the payment's item, the balance and the ledger. After a crash between two steps,
    /// Stripe's next delivery finds what is left and does it.
    pub async fn apply(self, payment_id: &str, news: &News) -> Result<Applied, Fault> {
        let applied = Box::pin(self.apply_steps(payment_id, news)).await?;
        match applied {
            Applied::Changed => metrics::counter!("PaymentsSettled").increment(1),
            Applied::Unmatched(_) => metrics::counter!("PaymentsUnmatched").increment(1),
            Applied::Unchanged => {}
        }
        Ok(applied)
    }

    async fn apply_steps(self, payment_id: &str, news: &News) -> Result<Applied, Fault> {
        let mut attempts = self.store.attempts();
        let mut applied = Applied::Unchanged;
        loop {
            match Box::pin(self.advance(payment_id, news)).await? {
                Progress::Done(Applied::Unchanged) => return Ok(applied),
                Progress::Done(last) => return Ok(last),
                Progress::Stepped(step) => applied = step,
                Progress::Overtaken => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Returns a page of a workspace's payments, newest first.
    pub async fn list(
        self,
        workspace: &WorkspaceId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<Payment>, Fault> {
        let partition = keys::payments(workspace);
        let listing = IndexQuery { partitions: &[partition], limit, after, filter: None };
        let listed = self.store.page(listing, key_of).await?;
        let mut items = self.store.get_many(&listed.items).await?;
        let found = listed.items.iter().filter_map(|key| items.remove(key));
        let payments = found.map(|item| payment_item::read(&item)).collect::<Result<_, _>>()?;
        Ok(Page { items: payments, next: listed.next })
    }

    /// Returns the payment with this id, if any event of it has arrived.
    pub async fn get(self, payment_id: &str) -> Result<Option<Payment>, Fault> {
        let item = self.store.get(&ItemKey::payment(payment_id)).await?;
        Ok(item.as_ref().map(payment_item::read).transpose()?)
    }

    async fn advance(self, payment_id: &str, news: &News) -> Result<Progress, Fault> {
        let known = self.get(payment_id).await?;
        let before = known.unwrap_or_else(|| Payment::unheard_of(payment_id, self.store.now()));
        let mut payment = before.clone();
        payment.merge(news);
        let changed = payment != before;
        let named = payment.named_purchase().filter(|_| payment.granted.is_none() || changed);
        let purchase = match named {
            Some(id) => self.store.purchases().get(&id).await?,
            None => None,
        };
        let bought = purchase.as_ref().map(|stored| NamedPurchase {
            purchase: &stored.purchase,
            paid_by: stored.paid_by.as_deref(),
            collection: stored.collection(),
        });
        if payment.sale.is_none() {
            payment.sale = payment.sale_of(bought);
        }
        let step = payment.next_step(bought).map_err(Corrupt::from)?;
        let extra_writes = self.disputed_write(&before, &payment)?.into_iter().collect();
        // A dispute that was won just now still counts: what it took is returned.
        let is_disputed = before.is_disputed() || payment.is_disputed();
        let reason = if is_disputed { ClawBackReason::Dispute } else { ClawBackReason::Refund };
        let mut merged = Merged { payment, purchase, reason, extra_writes };
        match step {
            Some(PaymentStep::Grant(granted)) => {
                let method = self.used_method(&merged, &granted.workspace_id).await?;
                merged.extra_writes.extend(method);
                self.grant_purchase(merged, granted).await
            }
            Some(step) => Box::pin(self.take(merged, step)).await,
            None => self.keep_news(&before, merged).await,
        }
    }

    /// Builds the write that chooses the method with which a person paid. A charge of the stored method chooses
    /// nothing.
    async fn used_method(
        self,
        merged: &Merged,
        workspace: &WorkspaceId,
    ) -> Result<Option<TransactWriteItem>, Fault> {
        let by_person =
            merged.purchase.as_ref().is_some_and(|stored| stored.collection() == Collection::Checkout);
        let Some(paid) = merged.payment.paid.as_ref().filter(|_| by_person) else { return Ok(None) };
        let Some(customer) = paid.customer.as_deref() else { return Ok(None) };
        let at = paid.at.unwrap_or(merged.payment.first_heard_at);
        let used = UsedMethod { customer, payment_method: paid.payment_method.as_deref(), at };
        self.store.payment_methods().write(workspace, used).await
    }

    /// Stores what is new in the payment if no step follows from it.
    async fn keep_news(self, before: &Payment, mut merged: Merged) -> Result<Progress, Fault> {
        if merged.payment != *before {
            if let Some(granted) = merged.payment.granted.clone() {
                let method = self.used_method(&merged, &granted.workspace_id).await?;
                merged.extra_writes.extend(method);
            }
            return self.keep(merged.payment, merged.extra_writes, Applied::Changed).await;
        }
        // An earlier delivery may have stopped before its close.
        if let Some(granted) = &merged.payment.granted {
            self.store.balances().settle_fence(&granted.workspace_id).await?;
        }
        // Reported at each redelivery: the first response, and the alarm with it, may have been lost.
        let unmatched = merged.payment.mismatch.filter(|_| merged.payment.is_unmatched());
        Ok(Progress::Done(unmatched.map_or(Applied::Unchanged, Applied::Unmatched)))
    }

    /// Grants what was bought. A pack adds to the prepaid credits, a subscription's period becomes an allocation.
    async fn grant_purchase(self, merged: Merged, granted: Granted) -> Result<Progress, Fault> {
        let Merged { payment, purchase, mut extra_writes, .. } = merged;
        let stored = purchase.ok_or(Corrupt::Attribute("purchase"))?;
        let purchase = &stored.purchase;
        let (amount, now) = (granted.credits, self.store.now());
        let grant_id = self.store.sources.new_id("gr");
        let is_pack = matches!(purchase.goods, Goods::Pack { .. });
        let granted = Granted { grant_id: Some(grant_id.clone()).filter(|_| !is_pack), ..granted };
        let after = PaymentStep::Grant(granted.clone()).taken(&payment).map_err(Corrupt::from)?;
        let paid_at = after.paid.as_ref().and_then(|paid| paid.at).unwrap_or(now);
        let paid =
            PaidWith { payment_id: &after.payment_id, at: paid_at, received_minor: granted.amount_minor };
        extra_writes.push(purchases::paid_write(&self.store.table, &granted.purchase_id, &paid)?);
        let (prefix, credits) = ("pay", amount.credits());
        if let Goods::Pack { pack, .. } = &purchase.goods {
            let (top_up_id, payment_id) = (purchase.purchase_id.clone(), after.payment_id.clone());
            let cause = Cause::TopUp { top_up_id, pack: pack.clone(), payment_id };
            let entry = PaymentEntry { prefix, cause, credits, state: EntryState::Complete };
            return self
                .settle(&granted, after, entry, &|now| Posting::top_up(amount, now), extra_writes)
                .await;
        }
        let read = self.store.subscriptions().get(&granted.workspace_id).await?;
        let payer = Payer { payment_id: &after.payment_id, grant_id: &grant_id };
        let (account, period) = match read.account.paid(purchase, payer, now) {
            Ok(paid) => paid,
            Err(not_awaited) => return self.keep_not_awaited(payment, &read, &stored, not_awaited).await,
        };
        extra_writes.push(subscription_item::write_of(
            &self.store.table,
            &granted.workspace_id,
            read.version,
            &account,
        )?);
        let allocation = allocation(&granted, &after, period, &grant_id, now);
        let runs_now = matches!(allocation.change, Change::Grant(_));
        let state = if runs_now { EntryState::Complete } else { EntryState::WaitsForClose };
        let entry = PaymentEntry { prefix, cause: allocation.cause, credits, state };
        let posting = |now| Posting::queue_change(allocation.change.clone(), now);
        self.settle(&granted, after, entry, &posting, extra_writes).await
    }

    /// Stores a payment of a purchase that the subscription no longer waits for.
    ///
    /// The mismatch is permanent, so the write requires the version of the account that was read. If the account
    /// has changed, the next attempt reads it again. A charge of the stored method is refunded; an operator decides
    /// about a checkout that a person has paid.
    async fn keep_not_awaited(
        self,
        payment: Payment,
        read: &subscription_item::VersionedAccount,
        stored: &StoredPurchase,
        not_awaited: NotAwaited,
    ) -> Result<Progress, Fault> {
        let mismatch = match not_awaited {
            NotAwaited::MovedOn => Mismatch::MovedOn,
            NotAwaited::Withdrawn => Mismatch::Withdrawn,
        };
        let workspace = &stored.purchase.workspace_id;
        let mut extra_writes =
            vec![subscription_item::write_of(&self.store.table, workspace, read.version, &read.account)?];
        if stored.collection() == Collection::OffSession {
            let refund = OwedRefund {
                refund_id: OwedRefund::unwanted_id(&payment.payment_id)?,
                workspace_id: workspace.clone(),
                payment_id: payment.payment_id.clone(),
                price: stored.purchase.price,
                amount_minor: None,
                reason: None,
                begun_at: self.store.now(),
            };
            extra_writes.push(owe_write(&self.store.table, &refund)?);
        }
        let payment = PaymentStep::KeepUnmatched(mismatch).taken(&payment).map_err(Corrupt::from)?;
        self.keep(payment, extra_writes, Applied::Unmatched(mismatch)).await
    }

    /// Takes a step that doesn't need the purchase: any but a grant.
    async fn take(self, merged: Merged, step: PaymentStep) -> Result<Progress, Fault> {
        let Merged { payment, extra_writes, reason, .. } = merged;
        let after = step.taken(&payment).map_err(Corrupt::from)?;
        match step {
            PaymentStep::KeepUnmatched(mismatch) => {
                self.keep(after, extra_writes, Applied::Unmatched(mismatch)).await
            }
            // `grant_purchase` takes this step.
            PaymentStep::Grant(_) => Err(Corrupt::Attribute("purchase").into()),
            PaymentStep::ClawBack(granted, amount) => {
                self.claw_back(&granted, amount, after, reason, extra_writes).await
            }
            PaymentStep::Reverse(granted, amount) => {
                self.return_credits(&granted, amount, after, reason, extra_writes).await
            }
            PaymentStep::ClawBackTo(granted, target) => {
                self.claw_back_to(&granted, target, &payment, reason, extra_writes).await
            }
        }
    }

    /// Writes the payment and the writes that belong to it, without a movement of credits.
    pub(crate) async fn keep(
        self,
        payment: Payment,
        mut extra_writes: Vec<TransactWriteItem>,
        applied: Applied,
    ) -> Result<Progress, Fault> {
        extra_writes.push(payment_item::write_of(&self.store.table, &next_version(payment))?);
        match self.store.transact(extra_writes).await? {
            TransactionOutcome::Written => Ok(Progress::Done(applied)),
            TransactionOutcome::Cancelled(_) | TransactionOutcome::Unknown(_) => Ok(Progress::Overtaken),
        }
    }

    /// Writes the payment, the balance and the ledger entry of a step in one transaction.
    pub(crate) async fn settle(
        self,
        granted: &Granted,
        payment: Payment,
        entry: PaymentEntry,
        build_posting: &(dyn Fn(Timestamp) -> Posting + Sync),
        mut extra_writes: Vec<TransactWriteItem>,
    ) -> Result<Progress, Fault> {
        extra_writes.push(payment_item::write_of(&self.store.table, &next_version(payment.clone()))?);
        let fenced = entry.state == EntryState::WaitsForClose
            || matches!(entry.cause, Cause::ClawBack { .. } | Cause::Allocation { .. });
        let order = PostingOrder {
            workspace: &granted.workspace_id,
            key: payment_key(granted, &payment, entry.prefix),
            fingerprint: None,
            entry_id: self.store.sources.new_id(entry.prefix),
            credits: entry.credits,
            cause: entry.cause,
            state: entry.state,
            debit: None,
            priced_with: None,
            build_posting,
            extra_writes,
        };
        match self.store.postings().post(order).await {
            Ok(_) => {
                if fenced {
                    self.store.balances().settle_fence(&granted.workspace_id).await?;
                }
                // An earlier event of its refund may require another step.
                let more = payment.next_step(None).map_err(Corrupt::from)?.is_some();
                Ok(if more { Progress::Stepped(Applied::Changed) } else { Progress::Done(Applied::Changed) })
            }
            Err(Unposted::Fault(fault)) => Err(fault),
            Err(Unposted::NoBalance | Unposted::Insufficient(_) | Unposted::OtherPrices(_)) => {
                Err(Corrupt::Attribute("balance").into())
            }
            Err(Unposted::ExtraConditionFailed | Unposted::KeyTaken(_)) => Ok(Progress::Overtaken),
        }
    }
}

/// The ledger entry of a step.
pub(crate) struct PaymentEntry {
    pub prefix: &'static str,
    pub cause: Cause,
    pub credits: Credits,
    /// The entry waits for a close if only the close can compute its amount.
    pub state: EntryState,
}

/// The change and the ledger entry's cause of a paid period.
struct Allocation {
    change: Change,
    cause: Cause,
}

/// Returns the key of a step's ledger entry. A payment grants once; its claw-backs and reversals are numbered.
pub(crate) fn payment_key(granted: &Granted, payment: &Payment, prefix: &str) -> ItemKey {
    let key = format!("payment#{}#{prefix}{}", payment.payment_id, payment.claws);
    ItemKey::ours(&granted.workspace_id, &key)
}

/// Builds the grant of a paid period. It runs at once, or from the period's first second if that was paid ahead.
fn allocation(
    granted: &Granted,
    payment: &Payment,
    paid: PaidPeriod,
    grant_id: &Id,
    now: Timestamp,
) -> Allocation {
    let PaidPeriod { subscription_id, period, tier, starts_at, expires_at } = paid;
    let (grant_id, amount) = (grant_id.clone(), granted.credits);
    let grant = ExpiringGrant {
        grant_id: grant_id.clone(),
        kind: GrantKind::Allocation,
        granted: amount,
        amount: amount.credits(),
        expires_at,
        clawed: Clawed::default(),
    };
    let change = if starts_at > now {
        let key = payment_key(granted, payment, "pay").pk;
        Change::Next(NextGrant { starts_at, key, grant })
    } else {
        Change::Grant(grant)
    };
    Allocation { change, cause: Cause::Allocation { grant_id, subscription_id, period, tier, expires_at } }
}

pub(crate) fn next_version(payment: Payment) -> Payment {
    Payment { version: payment.version.saturating_add(1), ..payment }
}
