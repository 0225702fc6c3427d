//! A paid purchase of a subscription: what it starts, renews or upgrades.

use jiff::Timestamp;

use super::{NotAwaited, PaidAhead, PaidPeriod, Payer, SubscriptionAccount};
use crate::id::Id;
use crate::purchase::{Goods, Purchase};
use crate::subscription::{Status, Subscription, Terms};

impl SubscriptionAccount {
    /// Returns the account after one of its purchases was paid, and the grant that the payment buys.
    pub fn paid(
        &self,
        purchase: &Purchase,
        payer: Payer<'_>,
        now: Timestamp,
    ) -> Result<(Self, PaidPeriod), NotAwaited> {
        self.check_awaited(purchase)?;
        let subscription = match &purchase.goods {
            Goods::Pack { .. } => return Err(NotAwaited::MovedOn),
            Goods::Period { subscription_id, period: 1, terms } => {
                self.started(subscription_id, terms, now)?
            }
            Goods::Period { subscription_id, period, terms } => {
                self.renewed(subscription_id, *period, terms, now)?
            }
            Goods::Upgrade { subscription_id, period, terms, .. } => {
                self.upgraded(subscription_id, *period, terms, now)?
            }
        };
        let start = subscription.start_of(subscription.period);
        let upgrade = matches!(purchase.goods, Goods::Upgrade { .. });
        let paid = PaidPeriod {
            subscription_id: subscription.subscription_id.clone(),
            period: subscription.period,
            tier: subscription.terms.tier.clone(),
            starts_at: if upgrade { now.max(start) } else { start },
            expires_at: subscription.end_of(subscription.period),
        };
        let mut paid_ahead = subscription.paid_ahead.clone();
        if paid.starts_at > now {
            let (payment_id, grant_id) = (payer.payment_id.to_owned(), payer.grant_id.clone());
            paid_ahead.push(PaidAhead { payment_id, grant_id, price: purchase.price });
        }
        let after = self.without(&purchase.purchase_id);
        Ok((after.with(Subscription { paid_ahead, ..subscription }), paid))
    }

    fn check_awaited(&self, purchase: &Purchase) -> Result<(), NotAwaited> {
        let id = &purchase.purchase_id;
        let charged = self.open_charge(id);
        let awaited = match charged {
            Some(charge) => !charge.withdrawn,
            None => self.awaited_checkouts().any(|awaited| awaited == id),
        };
        match (awaited, self.running()) {
            (true, _) => Ok(()),
            (false, Some(_)) if charged.is_none() => Err(NotAwaited::MovedOn),
            (false, _) => Err(NotAwaited::Withdrawn),
        }
    }

    fn started(
        &self,
        subscription_id: &Id,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Subscription, NotAwaited> {
        if self.running().is_some() {
            return Err(NotAwaited::MovedOn);
        }
        Ok(Subscription {
            subscription_id: subscription_id.clone(),
            anchor: Timestamp::from_second(now.as_second()).unwrap_or(now),
            period: 1,
            terms: terms.clone(),
            before: None,
            paid_ahead: Vec::new(),
            then: None,
            status: Status::Active,
            cancel_at_period_end: false,
            declines: None,
            skipped: 0,
            upgrades: 0,
        })
    }

    fn renewed(
        &self,
        subscription_id: &Id,
        period: u64,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Subscription, NotAwaited> {
        let old = self
            .running()
            .filter(|old| old.subscription_id == *subscription_id)
            .ok_or(NotAwaited::MovedOn)?;
        if period <= old.period {
            return Err(NotAwaited::MovedOn);
        }
        // A charge whose outcome arrives after its month has passed pays for the running month.
        let period = period.max(old.period_at(now));
        let ahead = now < old.start_of(period);
        let passed = period.saturating_sub(old.period).saturating_sub(1);
        Ok(Subscription {
            period,
            terms: terms.clone(),
            before: ahead.then(|| old.terms.clone()),
            paid_ahead: Vec::new(),
            then: None,
            status: Status::Active,
            declines: None,
            skipped: old.skipped.saturating_add(passed),
            ..old.clone()
        })
    }

    fn upgraded(
        &self,
        subscription_id: &Id,
        period: u64,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Subscription, NotAwaited> {
        let fits = |old: &&Subscription| {
            old.subscription_id == *subscription_id && old.period == period && now < old.end_of(period)
        };
        let old = self.running().filter(fits).ok_or(NotAwaited::MovedOn)?;
        Ok(Subscription {
            terms: terms.clone(),
            then: None,
            cancel_at_period_end: false,
            upgrades: old.upgrades.saturating_add(1),
            ..old.clone()
        })
    }
}
