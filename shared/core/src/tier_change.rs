//! Changes of tier: the one calculation that a preview shows and a change carries out (M6).

use jiff::Timestamp;

use crate::credits::{Credits, OutOfRange};
use crate::id::Id;
use crate::price::Price;
use crate::subscription::{Status, Subscription, Terms, Upgrade, months_after};
use crate::subscription_account::SubscriptionAccount;

/// The effect of a request for a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TierChange {
    /// The subscription keeps its terms. A cancellation or a planned change is undone.
    Keep,
    /// A new subscription starts with its first period.
    Start(Terms),
    /// The due period is charged at these terms.
    PayDue(Terms),
    /// The paid period is upgraded for the rest of its time.
    Upgrade(Terms, Upgrade),
    /// The next period begins at these terms, and nothing is charged now.
    NextPeriod(Terms),
    /// The period that was paid ahead is refunded and charged again at these terms.
    ReplacePaidAhead(Terms),
}

impl TierChange {
    /// Returns the amount charged now; `None` if nothing is charged.
    #[must_use]
    pub fn due_now(&self) -> Option<Price> {
        match self {
            Self::Keep | Self::NextPeriod(_) => None,
            Self::Start(terms) | Self::PayDue(terms) | Self::ReplacePaidAhead(terms) => Some(terms.price),
            Self::Upgrade(terms, upgrade) => {
                Some(Price { amount_minor: upgrade.amount_minor, ..terms.price })
            }
        }
    }
}

impl TierChange {
    /// Returns the credits that the charge made now adds.
    #[must_use]
    pub fn credits_now(&self) -> Credits {
        match self {
            Self::Keep | Self::NextPeriod(_) => Credits::ZERO,
            Self::Start(terms) | Self::PayDue(terms) | Self::ReplacePaidAhead(terms) => {
                terms.monthly_credits.credits()
            }
            Self::Upgrade(_, upgrade) => upgrade.credits.credits(),
        }
    }

    /// Returns the charge that follows once this change is carried out.
    #[must_use]
    pub fn next_charge(&self, account: &SubscriptionAccount, now: Timestamp) -> Option<(Price, Timestamp)> {
        match (self, account.running()) {
            (Self::Start(terms), _) => Some((terms.price, months_after(now, 1))),
            (Self::PayDue(terms), Some(running)) => {
                let due = running.period.saturating_add(1).max(running.period_at(now));
                Some((terms.price, running.end_of(due)))
            }
            (Self::Upgrade(terms, _) | Self::NextPeriod(terms) | Self::ReplacePaidAhead(terms), Some(it)) => {
                Some((terms.price, it.end_of(it.period)))
            }
            (Self::Keep, Some(running)) => Some((running.terms.price, running.end_of(running.period))),
            (_, None) => None,
        }
    }
}

impl SubscriptionAccount {
    /// Returns the terms that a tier keeps for this workspace, whatever the catalogue says now.
    ///
    /// These are the terms of a subscription that runs at the tier, is planned, or waits for its checkout. Returns
    /// `None` if the catalogue decides.
    #[must_use]
    pub fn kept_terms(&self, tier: &Id, now: Timestamp) -> Option<&Terms> {
        let running = self.running();
        let kept = running.map(|it| [Some(it.current(now).1), Some(&it.terms), it.then.as_ref()]);
        let pending = self.pending.as_ref().filter(|_| running.is_none()).map(|pending| &pending.terms);
        kept.into_iter().flatten().flatten().chain(pending).find(|terms| terms.tier == *tier)
    }

    /// Returns the effect of a request for these terms.
    pub fn change_to(&self, wanted: &Terms, now: Timestamp) -> Result<TierChange, OutOfRange> {
        let Some(running) = self.running() else { return Ok(TierChange::Start(wanted.clone())) };
        if running.status == Status::PastDue {
            return Ok(TierChange::PayDue(wanted.clone()));
        }
        if running.terms == *wanted {
            return Ok(TierChange::Keep);
        }
        if running.is_upgrade(wanted) {
            let upgrade = running.upgrade(wanted, now)?;
            return Ok(match upgrade {
                Some(upgrade) => TierChange::Upgrade(wanted.clone(), upgrade),
                None => TierChange::NextPeriod(wanted.clone()),
            });
        }
        let refundable = running.is_paid_ahead(now) && !running.paid_ahead.is_empty();
        Ok(if refundable {
            TierChange::ReplacePaidAhead(wanted.clone())
        } else {
            TierChange::NextPeriod(wanted.clone())
        })
    }

    /// Returns the account with `next_terms` from the next period on, and without a cancellation.
    ///
    /// With `None` the current terms stay. An upgrade that waits for a person is dropped.
    #[must_use]
    pub fn keep_running(&self, next_terms: Option<Terms>) -> Self {
        let Some(running) = self.running() else { return self.clone() };
        let then = next_terms.filter(|terms| *terms != running.terms);
        let changed = Subscription { then, cancel_at_period_end: false, ..running.clone() };
        Self { action: None, ..self.with(changed) }
    }
}

impl Subscription {
    /// Returns the terms and the time of the next charge; `None` if the subscription ends with its period.
    ///
    /// The time of a renewal is the period's end. The sweep charges for it up to an hour before.
    #[must_use]
    pub fn next_charge(&self) -> Option<(&Terms, Timestamp)> {
        if !self.is_running() || self.cancel_at_period_end {
            return None;
        }
        let at = match self.declines.filter(|_| self.status == Status::PastDue) {
            Some(declines) => declines.next_at,
            None => self.end_of(self.period),
        };
        Some((self.next_terms(), at))
    }
}
