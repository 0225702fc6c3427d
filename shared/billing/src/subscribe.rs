//! Subscription requests of a person: subscribe, change the tier, cancel (M6, M7).

use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::purchase::{Goods, Purchase};
use credits_core::subscription::{PlanRule, Subscription, Terms, Upgrade};
use credits_core::subscription_account::{PaidAhead, RenewalStep, SubscriptionAccount};
use credits_core::tier_change::TierChange;
use credits_store::Fault;
use credits_store::error::Corrupt;
use credits_store::payments::purchases::CheckoutReason;
use credits_store::subscriptions::VersionedAccount;

use crate::billing::{Billing, BillingFault};
use crate::charge::ChargeEnd;
use crate::subscription_view::SubscriptionView;

pub use crate::subscribe_refusal::SubscribeRefusal;

/// The maximum number of attempts of a change that concurrent callers invalidate.
const MAX_ROUNDS: usize = 8;

/// A request for a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierOrder {
    pub tier: Id,
    /// The highest price that this request may charge now, in its currency; `None` accepts any. A request that would charge
    /// more, or in another currency, is refused with [`SubscribeRefusal::PriceChanged`].
    pub expected_due_now: Option<Price>,
}

impl Billing {
    /// Subscribes to a tier or changes to it. An upgrade takes effect at once, a downgrade with the next period.
    pub async fn subscribe(
        &self,
        workspace: &WorkspaceId,
        order: &TierOrder,
    ) -> Result<SubscriptionView, SubscribeRefusal> {
        self.check_plan(workspace).await?;
        for _ in 0..MAX_ROUNDS {
            let stored = self.settle_and_read(workspace).await?;
            let terms = self.terms_of(&stored.account, &order.tier)?;
            if let Some(done) = self.carry_out(workspace, &stored, &terms, order.expected_due_now).await? {
                self.expire_dropped(&stored.account, &done.account).await;
                return Ok(done);
            }
        }
        Err(Fault::Contended.into())
    }

    /// Cancels the subscription at the end of what is paid, and refunds a period that was paid ahead. A failure of
    /// Stripe does not fail the request: the sweep completes what is left at Stripe.
    pub async fn unsubscribe(&self, workspace: &WorkspaceId) -> Result<SubscriptionView, SubscribeRefusal> {
        self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        for _ in 0..MAX_ROUNDS {
            let stored = self.store.subscriptions().get(workspace).await?;
            let SubscriptionAccount { subscription, pending, charge, .. } = &stored.account;
            if subscription.is_none() && pending.is_none() && charge.is_none() {
                return Err(SubscribeRefusal::NoSubscription);
            }
            let now = self.store.now();
            let (base, ahead) = stored
                .account
                .without_paid_ahead(now)
                .unwrap_or_else(|| (stored.account.clone(), Vec::new()));
            let after = base.cancelled();
            if after == stored.account || self.write_change(workspace, &stored, &after, &ahead).await? {
                self.expire_dropped(&stored.account, &after).await;
                self.refund_soon(workspace, &refund_ids(&ahead)).await;
                // If only a checkout or a charge was open, the response describes that.
                let account = if after.subscription.is_some() { after.as_of(now) } else { stored.account };
                let charging = self.charging(&account).await?;
                let refunded = total(&ahead);
                return Ok(SubscriptionView { account, charging, refunded, ..SubscriptionView::default() });
            }
        }
        Err(Fault::Contended.into())
    }

    pub(crate) async fn check_plan(&self, workspace: &WorkspaceId) -> Result<(), SubscribeRefusal> {
        let known =
            self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        let allows = self.catalogue.allows_subscription(known.profile.plan);
        if allows { Ok(()) } else { Err(SubscribeRefusal::PlanForbids) }
    }

    /// Returns a tier's terms for this workspace: those of its subscription, or else the catalogue's.
    pub(crate) fn terms_of(
        &self,
        account: &SubscriptionAccount,
        tier: &Id,
    ) -> Result<Terms, SubscribeRefusal> {
        let kept = account.kept_terms(tier, self.store.now()).cloned();
        let sold = || self.catalogue.tier(tier).map(Terms::from);
        kept.or_else(sold).ok_or(SubscribeRefusal::UnknownTier)
    }

    /// Settles an open charge, ends a cancelled subscription whose period is over, and returns the stored account. So
    /// requests do not depend on a punctual sweep. A charge that is processing stays open.
    async fn settle_and_read(&self, workspace: &WorkspaceId) -> Result<VersionedAccount, SubscribeRefusal> {
        for _ in 0..MAX_ROUNDS {
            let stored = self.store.subscriptions().get(workspace).await?;
            // A charge that is processing is not among these, so this does not repeat for it.
            if let Some(charge) = stored.account.unsettled_charge() {
                self.finish_open(charge).await?;
                continue;
            }
            let current = stored.account.as_of(self.store.now());
            if current == stored.account {
                return Ok(stored);
            }
            // The period's credits expire before the subscription ends, as in the sweep. If the balance is still due
            // after the close, this clock is ahead of DynamoDB's, and the subscription has not ended yet.
            if !self.store.balances().close(workspace).await? {
                return Ok(stored);
            }
            // The next round reads the result, whether this call or another one has written it.
            self.store.subscriptions().change(workspace, &stored, &current).await?;
        }
        Err(Fault::Contended.into())
    }

    /// Carries out a request for these terms. Returns `None` if the account has changed since it was read, so that the
    /// caller starts again.
    async fn carry_out(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        terms: &Terms,
        expected: Option<Price>,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        if stored.account.is_being_paid() {
            // No other payment is requested meanwhile.
            return Ok(Some(self.view(workspace).await?));
        }
        let now = self.store.now();
        let change = stored.account.change_to(terms, now).map_err(|sum| Fault::Corrupt(sum.into()))?;
        check_expected(change.due_now(), expected)?;
        match change {
            TierChange::Keep => self.keep_running(workspace, stored, None).await,
            TierChange::NextPeriod(terms) => self.keep_running(workspace, stored, Some(terms)).await,
            TierChange::Start(terms) => self.start(workspace, stored, &terms).await,
            TierChange::PayDue(terms) => {
                let running = running(&stored.account)?;
                let purchase = self.due_purchase(workspace, &stored.account, running, &terms)?;
                self.pay(workspace, stored, &purchase).await
            }
            TierChange::Upgrade(terms, upgrade) => {
                let running = running(&stored.account)?;
                let purchase = self.upgrade_purchase(workspace, &stored.account, running, &terms, upgrade)?;
                self.pay(workspace, stored, &purchase).await
            }
            TierChange::ReplacePaidAhead(terms) => self.replace_paid_ahead(workspace, stored, &terms).await,
        }
    }

    /// Keeps the subscription running, without a cancellation. `next_terms` are those from the next period on; `None`
    /// keeps the current ones.
    async fn keep_running(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        next_terms: Option<Terms>,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        let account = stored.account.keep_running(next_terms);
        let is_unchanged = account == stored.account;
        if is_unchanged || self.store.subscriptions().change(workspace, stored, &account).await? {
            return Ok(Some(self.view(workspace).await?));
        }
        Ok(None)
    }

    async fn start(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        terms: &Terms,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        if let Some(method) = self.stored_method(workspace).await? {
            let purchase = self.first_period(workspace, &stored.account, terms)?;
            let Some(end) = self.charge(stored, &purchase, &method.stored).await? else { return Ok(None) };
            let done = self.after_charge(workspace, end, purchase.price).await?;
            return Ok(done.map(|done| SubscriptionView { created: true, ..done }));
        }
        let same = stored.account.pending.as_ref().filter(|pending| pending.terms == *terms);
        let created = same.is_none();
        let pending = match same {
            Some(pending) => Some(pending.purchase_id.clone()),
            None => self.await_first_period(workspace, stored, terms, CheckoutReason::Requested).await?,
        };
        let Some(purchase_id) = pending else { return Ok(None) };
        self.open_checkout_of(&purchase_id).await?;
        Ok(Some(SubscriptionView { created, ..self.view(workspace).await? }))
    }

    /// Pays for a due period or an upgrade: by the stored method, or by a checkout if there is none or it needs the
    /// person.
    async fn pay(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        purchase: &Purchase,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        // `request_checkout` stores the checkout with the account that this function returns. A person's request counts no
        // decline, so the account stays as it is.
        let keep_account = SubscriptionAccount::clone;
        if let Some(action) = &stored.account.action {
            let same = action.price == purchase.price && same_goods(&action.goods, &purchase.goods);
            let requested = if same {
                Some(action.purchase_id.clone())
            } else {
                self.request_checkout(stored, purchase, keep_account).await?
            };
            return self.open_checkout_and_view(workspace, requested).await;
        }
        let Some(method) = self.stored_method(workspace).await? else {
            let requested = self.request_checkout(stored, purchase, keep_account).await?;
            return self.open_checkout_and_view(workspace, requested).await;
        };
        let Some(end) = self.charge(stored, purchase, &method.stored).await? else { return Ok(None) };
        self.after_charge(workspace, end, purchase.price).await
    }

    /// Opens the requested checkout, if the request was stored, and returns the view with it.
    async fn open_checkout_and_view(
        &self,
        workspace: &WorkspaceId,
        requested: Option<Id>,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        let Some(purchase_id) = requested else { return Ok(None) };
        self.open_checkout_of(&purchase_id).await?;
        Ok(Some(self.view(workspace).await?))
    }

    fn upgrade_purchase(
        &self,
        workspace: &WorkspaceId,
        account: &SubscriptionAccount,
        running: &Subscription,
        terms: &Terms,
        upgrade: Upgrade,
    ) -> Result<Purchase, BillingFault> {
        let (subscription_id, period) = (running.subscription_id.clone(), running.period);
        let price = Price { amount_minor: upgrade.amount_minor, ..terms.price };
        let (terms, credits) = (terms.clone(), upgrade.credits);
        let goods = Goods::Upgrade { subscription_id, period, terms, credits };
        let id = self.purchase_name(account, &goods)?;
        Ok(self.purchase_of(workspace, id, goods, price))
    }

    /// Refunds the period that was paid ahead, and charges for it at other terms.
    async fn replace_paid_ahead(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        terms: &Terms,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        let Some((base, ahead)) = stored.account.without_paid_ahead(self.store.now()) else {
            return Ok(None);
        };
        let after = base.keep_running(Some(terms.clone()));
        if !self.write_change(workspace, stored, &after, &ahead).await? {
            return Ok(None);
        }
        self.refund_soon(workspace, &refund_ids(&ahead)).await;
        let due = self.store.subscriptions().get(workspace).await?;
        let mut charged = None;
        // `subscribe` has checked that the plan allows subscriptions. A decline is no failure of the request: the tier has
        // changed, and the sweep retries the charge.
        if let RenewalStep::Charge(goods) = due.account.step(self.store.now(), PlanRule::AllowsSubscriptions)
        {
            let end = self.charge_due(workspace, &due, goods).await?;
            charged = Some(terms.price).filter(|_| end == Some(ChargeEnd::Paid));
        }
        let refunded = total(&ahead);
        Ok(Some(SubscriptionView { charged, refunded, ..self.view(workspace).await? }))
    }

    async fn write_change(
        &self,
        workspace: &WorkspaceId,
        stored: &VersionedAccount,
        after: &SubscriptionAccount,
        ahead: &[PaidAhead],
    ) -> Result<bool, Fault> {
        if ahead.is_empty() {
            self.store.subscriptions().change(workspace, stored, after).await
        } else {
            self.store.subscriptions().withdraw_paid_ahead(workspace, stored, after, ahead).await
        }
    }

    async fn after_charge(
        &self,
        workspace: &WorkspaceId,
        end: ChargeEnd,
        price: Price,
    ) -> Result<Option<SubscriptionView>, SubscribeRefusal> {
        match end {
            ChargeEnd::Declined(reason) => Err(SubscribeRefusal::Declined(reason)),
            // The purchase is no longer wanted: the payment is refunded, and the change starts again.
            ChargeEnd::Unmatched => Ok(None),
            ChargeEnd::Processing | ChargeEnd::ActionRequired => Ok(Some(self.view(workspace).await?)),
            ChargeEnd::Paid => {
                Ok(Some(SubscriptionView { charged: Some(price), ..self.view(workspace).await? }))
            }
        }
    }

    /// Expires the checkouts that the account no longer waits for, if Stripe responds in time. The sweep expires the
    /// rest.
    async fn expire_dropped(&self, before: &SubscriptionAccount, after: &SubscriptionAccount) {
        let is_dropped = |id: &&Id| !after.awaited_checkouts().any(|awaited| awaited == *id);
        let dropped: Vec<Id> = before.awaited_checkouts().filter(is_dropped).cloned().collect();
        self.expire_soon(&dropped).await;
    }
}

/// Returns whether two purchases buy the same goods. Ignores the credits of an upgrade, which depend on the time left.
fn same_goods(one: &Goods, other: &Goods) -> bool {
    match (one, other) {
        (
            Goods::Upgrade { subscription_id, period, terms, credits: _ },
            Goods::Upgrade {
                subscription_id: other_id,
                period: other_period,
                terms: other_terms,
                credits: _,
            },
        ) => (subscription_id, period, terms) == (other_id, other_period, other_terms),
        _ => one == other,
    }
}

fn check_expected(due: Option<Price>, expected: Option<Price>) -> Result<(), SubscribeRefusal> {
    match (due, expected) {
        (Some(due), Some(expected))
            if due.currency != expected.currency || due.amount_minor > expected.amount_minor =>
        {
            Err(SubscribeRefusal::PriceChanged(due))
        }
        _ => Ok(()),
    }
}

fn refund_ids(ahead: &[PaidAhead]) -> Vec<Id> {
    ahead.iter().map(PaidAhead::refund_id).collect()
}

/// Returns the sum of what was paid ahead, for the response. All payments of a period have the first one's currency, since
/// an upgrade keeps it, and a sum beyond `u64` can't be charged.
pub(crate) fn total(ahead: &[PaidAhead]) -> Option<Price> {
    let sum = ahead.iter().fold(0_u64, |sum, paid| sum.saturating_add(paid.price.amount_minor));
    ahead.first().map(|paid| Price { amount_minor: sum, ..paid.price })
}

/// Returns the running subscription, which the changes of its tier presuppose.
fn running(account: &SubscriptionAccount) -> Result<&Subscription, Fault> {
    account.running().ok_or_else(|| Corrupt::Attribute("subscription").into())
}

#[cfg(test)]
mod tests {
    use credits_core::price::Price;
    use credits_core::purchase::Goods;
    use credits_core::subscription::Terms;

    use super::same_goods;

    #[test]
    fn upgrades_of_two_subscriptions_are_not_the_same_goods() {
        let upgrade = |subscription_id: &str, credits: &str| Goods::Upgrade {
            subscription_id: subscription_id.parse().unwrap(),
            period: 1,
            terms: Terms {
                tier: "pro".parse().unwrap(),
                monthly_credits: "10".parse().unwrap(),
                price: Price { amount_minor: 900, currency: "usd".parse().unwrap() },
            },
            credits: credits.parse().unwrap(),
        };
        assert!(same_goods(&upgrade("sub_1", "5"), &upgrade("sub_1", "4")));
        assert!(!same_goods(&upgrade("sub_1", "5"), &upgrade("sub_2", "5")));
    }
}
