//! Subscription requests of a person: subscribe, change the tier, cancel (M6, M7).

use credits_core::credits::Credits;
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::purchase::{Checkout, Goods, Purchase};
use credits_core::subscription::{PlanRule, Subscription, Terms, Upgrade};
use credits_core::subscription_account::{PaidAhead, RenewalStep, SubscriptionAccount};
use credits_core::tier_change::TierChange;
use credits_payments::provider::PaymentMethod;
use credits_store::Fault;
use credits_store::payments::purchases::CheckoutReason;
use credits_store::subscriptions::VersionedAccount;
use jiff::Timestamp;

use crate::billing::{Billing, BillingFault};
use crate::charge::ChargeEnd;

/// The maximum number of attempts of a change that concurrent callers invalidate.
const MAX_ROUNDS: usize = 8;

/// A request for a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierOrder {
    pub tier: Id,
    /// The maximum price that the caller expects to be charged now.
    pub expected_due_now: Option<Price>,
}

/// A subscription after a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscribed {
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

/// A preview of a tier: its terms, and what a request for it would charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPreview {
    pub terms: Terms,
    pub effective: Effective,
    pub due_now: Price,
    /// The credits that the charge now grants.
    pub credits_now: Credits,
    /// The price and time of the charge after that.
    pub next_charge: Option<(Price, Timestamp)>,
    /// The payment method that would be charged.
    pub method: Option<PaymentMethod>,
    /// The refund of a period that was paid ahead.
    pub refund: Option<Price>,
}

/// When a change of tier takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effective {
    Now,
    /// At the start of the next period.
    NextPeriod,
    /// After a person pays a checkout.
    Checkout,
}

/// The reason why a subscription request was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeRefusal {
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// Neither the catalogue nor the workspace's own terms have the tier.
    #[error("the tier does not exist")]
    UnknownTier,
    /// The workspace's plan allows no subscriptions (M7).
    #[error("the plan allows no subscriptions")]
    PlanForbids,
    /// The workspace has no subscription, and none is pending.
    #[error("the workspace has no subscription")]
    NoSubscription,
    /// The charge would exceed the caller's expected price or have another currency. Nothing was charged. Holds the
    /// price.
    #[error("the charge of {0} is above the expected price or in another currency")]
    PriceChanged(Price),
    /// The stored method was declined, and nothing has changed. Holds Stripe's reason.
    #[error("the payment method was declined")]
    Declined(String),
    #[error(transparent)]
    Fault(#[from] BillingFault),
}

impl From<Fault> for SubscribeRefusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.into())
    }
}

impl Billing {
    /// Subscribes to a tier or changes to it. An upgrade takes effect at once, a downgrade with the next period.
    pub async fn subscribe(
        &self,
        workspace: &WorkspaceId,
        order: &TierOrder,
    ) -> Result<Subscribed, SubscribeRefusal> {
        self.check_plan(workspace).await?;
        for _ in 0..MAX_ROUNDS {
            let read = self.settled(workspace).await?;
            let terms = self.terms_of(&read.account, &order.tier)?;
            if let Some(done) = self.carry_out(workspace, &read, &terms, order.expected_due_now).await? {
                self.expire_dropped(&read.account, &done.account).await;
                return Ok(done);
            }
        }
        Err(Fault::Contended.into())
    }

    /// Previews a subscription to a tier. Writes nothing.
    pub async fn preview(&self, workspace: &WorkspaceId, tier: &Id) -> Result<TierPreview, SubscribeRefusal> {
        self.check_plan(workspace).await?;
        let now = self.store.now();
        let account = self.store.subscriptions().get(workspace).await?.account.as_of(now);
        let terms = self.terms_of(&account, tier)?;
        let change = account.change_to(&terms, now).map_err(|sum| Fault::Corrupt(sum.into()))?;
        let method = self.stored_method(workspace).await?;
        let by_person = method.is_none() || account.action.is_some();
        let effective = match &change {
            TierChange::Keep => Effective::Now,
            TierChange::NextPeriod(_) | TierChange::InsteadOfPaidAhead(_) => Effective::NextPeriod,
            _ if by_person => Effective::Checkout,
            _ => Effective::Now,
        };
        let refund = match &change {
            TierChange::InsteadOfPaidAhead(_) => {
                account.without_paid_ahead(now).and_then(|(_, ahead)| total(&ahead))
            }
            _ => None,
        };
        let nothing = Price { amount_minor: 0, ..terms.price };
        Ok(TierPreview {
            effective,
            due_now: change.due_now().unwrap_or(nothing),
            credits_now: change.credits_now(),
            next_charge: change.next_charge(&account, now),
            method,
            refund,
            terms,
        })
    }

    /// Cancels the subscription at the end of what is paid, and refunds a period that was paid ahead. A failure of
    /// Stripe does not fail the request: the sweep completes what is left at Stripe.
    pub async fn unsubscribe(&self, workspace: &WorkspaceId) -> Result<Subscribed, SubscribeRefusal> {
        self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        for _ in 0..MAX_ROUNDS {
            let read = self.store.subscriptions().get(workspace).await?;
            let SubscriptionAccount { subscription, pending, charge, .. } = &read.account;
            if subscription.is_none() && pending.is_none() && charge.is_none() {
                return Err(SubscribeRefusal::NoSubscription);
            }
            let now = self.store.now();
            let (base, ahead) =
                read.account.without_paid_ahead(now).unwrap_or_else(|| (read.account.clone(), Vec::new()));
            let after = base.cancelled();
            if after == read.account || self.write_change(workspace, &read, &after, &ahead).await? {
                self.expire_dropped(&read.account, &after).await;
                self.refund_soon(workspace, &refund_ids(&ahead)).await;
                // If only a checkout or a charge was open, the response describes that.
                let shown = if after.subscription.is_some() { after.as_of(now) } else { read.account };
                let charging = self.charging(&shown).await?;
                let refunded = total(&ahead);
                return Ok(Subscribed { account: shown, charging, refunded, ..Subscribed::default() });
            }
        }
        Err(Fault::Contended.into())
    }

    /// Returns the workspace's subscription with the checkouts that wait for a person. Sends no request to Stripe.
    pub async fn subscription(&self, workspace: &WorkspaceId) -> Result<Subscribed, SubscribeRefusal> {
        self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        Ok(self.shown(workspace).await?)
    }

    async fn shown(&self, workspace: &WorkspaceId) -> Result<Subscribed, BillingFault> {
        let account = self.store.subscriptions().get(workspace).await?.account.as_of(self.store.now());
        let waiting = account
            .pending
            .as_ref()
            .filter(|pending| account.running().is_none() && pending.processing_since.is_none());
        let checkout = self.checkout_of(waiting.map(|pending| &pending.purchase_id)).await?;
        let action = self.checkout_of(account.action.as_ref().map(|action| &action.purchase_id)).await?;
        let charging = self.charging(&account).await?;
        Ok(Subscribed { account, checkout, action, charging, ..Subscribed::default() })
    }

    async fn checkout_of(&self, purchase_id: Option<&Id>) -> Result<Option<Checkout>, Fault> {
        let Some(purchase_id) = purchase_id else { return Ok(None) };
        Ok(self.store.purchases().get(purchase_id).await?.and_then(|stored| stored.checkout))
    }

    /// Returns the terms of a first period whose charge is open.
    async fn charging(&self, account: &SubscriptionAccount) -> Result<Option<Terms>, Fault> {
        let charge = account.charge.as_ref().filter(|_| account.running().is_none());
        let Some(charge) = charge else { return Ok(None) };
        let stored = self.store.purchases().get(&charge.purchase_id).await?;
        Ok(stored.and_then(|stored| match stored.purchase.goods {
            Goods::Period { period: 1, terms, .. } => Some(terms),
            Goods::Pack { .. } | Goods::Period { .. } | Goods::Upgrade { .. } => None,
        }))
    }

    async fn check_plan(&self, workspace: &WorkspaceId) -> Result<(), SubscribeRefusal> {
        let known =
            self.store.workspaces().get(workspace).await?.ok_or(SubscribeRefusal::WorkspaceNotFound)?;
        let allows = self.catalogue.allows_subscription(known.profile.plan);
        if allows { Ok(()) } else { Err(SubscribeRefusal::PlanForbids) }
    }

    /// Returns a tier's terms for this workspace: those of its subscription, or else the catalogue's.
    fn terms_of(&self, account: &SubscriptionAccount, tier: &Id) -> Result<Terms, SubscribeRefusal> {
        let kept = account.kept_terms(tier, self.store.now()).cloned();
        let sold = || self.catalogue.tier(tier).map(Terms::from);
        kept.or_else(sold).ok_or(SubscribeRefusal::UnknownTier)
    }

    /// Settles an open charge, ends a cancelled subscription whose period is over, and returns the account. So
    /// requests do not depend on a punctual sweep. A charge that is processing stays open.
    async fn settled(&self, workspace: &WorkspaceId) -> Result<VersionedAccount, SubscribeRefusal> {
        for _ in 0..MAX_ROUNDS {
            let read = self.store.subscriptions().get(workspace).await?;
            if let Some(charge) = read.account.unsettled_charge() {
                self.finish_open(charge).await?;
                continue;
            }
            let now = read.account.as_of(self.store.now());
            if now == read.account || !self.store.balances().close(workspace).await? {
                return Ok(read);
            }
            self.store.subscriptions().change(workspace, &read, &now).await?;
        }
        Err(Fault::Contended.into())
    }

    /// Carries out a request for these terms. Returns `None` if the account has changed since it was read.
    async fn carry_out(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        terms: &Terms,
        expected: Option<Price>,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        if read.account.is_being_paid() {
            // No other payment is requested meanwhile.
            return Ok(Some(self.shown(workspace).await?));
        }
        let now = self.store.now();
        let change = read.account.change_to(terms, now).map_err(|sum| Fault::Corrupt(sum.into()))?;
        check_expected(change.due_now(), expected)?;
        match change {
            TierChange::Keep => self.go_on(workspace, read, None).await,
            TierChange::NextPeriod(terms) => self.go_on(workspace, read, Some(terms)).await,
            TierChange::Start(terms) => self.start(workspace, read, &terms).await,
            TierChange::PayDue(terms) => {
                let running = read.account.running().ok_or(SubscribeRefusal::NoSubscription)?;
                let purchase = self.due_purchase(workspace, &read.account, running, &terms)?;
                self.pay(workspace, read, &purchase).await
            }
            TierChange::Upgrade(terms, upgrade) => {
                let running = read.account.running().ok_or(SubscribeRefusal::NoSubscription)?;
                let purchase = self.upgrade_purchase(workspace, &read.account, running, &terms, upgrade)?;
                self.pay(workspace, read, &purchase).await
            }
            TierChange::InsteadOfPaidAhead(terms) => self.replace_paid_ahead(workspace, read, &terms).await,
        }
    }

    async fn go_on(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        then: Option<Terms>,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        let account = read.account.going_on(then);
        let same = account == read.account;
        if same || self.store.subscriptions().change(workspace, read, &account).await? {
            return Ok(Some(self.shown(workspace).await?));
        }
        Ok(None)
    }

    async fn start(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        terms: &Terms,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        if let Some(method) = self.stored_method(workspace).await? {
            let purchase = self.first_period(workspace, &read.account, terms)?;
            let Some(end) = self.charge(read, &purchase, &method.stored).await? else { return Ok(None) };
            let done = self.after_charge(workspace, end, purchase.price).await?;
            return Ok(done.map(|done| Subscribed { created: true, ..done }));
        }
        let same = read.account.pending.as_ref().filter(|pending| pending.terms == *terms);
        let created = same.is_none();
        let pending = match same {
            Some(pending) => Some(pending.purchase_id.clone()),
            None => self.await_first_period(workspace, read, terms, CheckoutReason::Requested).await?,
        };
        let Some(purchase_id) = pending else { return Ok(None) };
        self.open_awaited(&purchase_id).await?;
        Ok(Some(Subscribed { created, ..self.shown(workspace).await? }))
    }

    /// Pays for a due period or an upgrade: by the stored method, or by a checkout if there is none or it needs the
    /// person.
    async fn pay(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        purchase: &Purchase,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        if let Some(action) = &read.account.action {
            let same = action.price == purchase.price && same_goods(&action.goods, &purchase.goods);
            let awaited = if same {
                Some(action.purchase_id.clone())
            } else {
                self.await_person(read, purchase, Clone::clone).await?
            };
            return self.after_asking(workspace, awaited).await;
        }
        let Some(method) = self.stored_method(workspace).await? else {
            let awaited = self.await_person(read, purchase, Clone::clone).await?;
            return self.after_asking(workspace, awaited).await;
        };
        let Some(end) = self.charge(read, purchase, &method.stored).await? else { return Ok(None) };
        self.after_charge(workspace, end, purchase.price).await
    }

    async fn after_asking(
        &self,
        workspace: &WorkspaceId,
        awaited: Option<Id>,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        let Some(purchase_id) = awaited else { return Ok(None) };
        self.open_awaited(&purchase_id).await?;
        Ok(Some(self.shown(workspace).await?))
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
        read: &VersionedAccount,
        terms: &Terms,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        let Some((back, ahead)) = read.account.without_paid_ahead(self.store.now()) else {
            return Ok(None);
        };
        let after = back.going_on(Some(terms.clone()));
        if !self.write_change(workspace, read, &after, &ahead).await? {
            return Ok(None);
        }
        self.refund_soon(workspace, &refund_ids(&ahead)).await;
        let due = self.store.subscriptions().get(workspace).await?;
        let mut charged = None;
        if let RenewalStep::Charge(goods) = due.account.step(self.store.now(), PlanRule::AllowsSubscriptions)
        {
            let end = self.charge_due(workspace, &due, goods).await?;
            charged = Some(terms.price).filter(|_| end == Some(ChargeEnd::Paid));
        }
        let refunded = total(&ahead);
        Ok(Some(Subscribed { charged, refunded, ..self.shown(workspace).await? }))
    }

    async fn write_change(
        &self,
        workspace: &WorkspaceId,
        read: &VersionedAccount,
        after: &SubscriptionAccount,
        ahead: &[PaidAhead],
    ) -> Result<bool, Fault> {
        if ahead.is_empty() {
            self.store.subscriptions().change(workspace, read, after).await
        } else {
            self.store.subscriptions().withdraw_paid_ahead(workspace, read, after, ahead).await
        }
    }

    async fn after_charge(
        &self,
        workspace: &WorkspaceId,
        end: ChargeEnd,
        price: Price,
    ) -> Result<Option<Subscribed>, SubscribeRefusal> {
        match end {
            ChargeEnd::Declined(reason) => Err(SubscribeRefusal::Declined(reason)),
            // The purchase is no longer wanted: the payment is refunded, and the change starts again.
            ChargeEnd::Unmatched => Ok(None),
            ChargeEnd::Processing | ChargeEnd::ActionRequired => Ok(Some(self.shown(workspace).await?)),
            ChargeEnd::Paid => Ok(Some(Subscribed { charged: Some(price), ..self.shown(workspace).await? })),
        }
    }

    /// Expires the checkouts that the account no longer waits for, if Stripe responds in time. The sweep expires the
    /// rest.
    async fn expire_dropped(&self, before: &SubscriptionAccount, after: &SubscriptionAccount) {
        let kept = |id: &&Id| !after.awaited_checkouts().any(|awaited| awaited == *id);
        let dropped: Vec<Id> = before.awaited_checkouts().filter(kept).cloned().collect();
        self.expire_soon(&dropped).await;
    }
}

/// Returns whether two purchases buy the same goods, whatever the credits of an upgrade, which depend on the time left.
fn same_goods(one: &Goods, other: &Goods) -> bool {
    match (one, other) {
        (Goods::Upgrade { period, terms, .. }, Goods::Upgrade { period: other_period, terms: other, .. }) => {
            period == other_period && terms == other
        }
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

fn total(ahead: &[PaidAhead]) -> Option<Price> {
    let sum = ahead.iter().fold(0_u64, |sum, paid| sum.saturating_add(paid.price.amount_minor));
    ahead.first().map(|paid| Price { amount_minor: sum, ..paid.price })
}
