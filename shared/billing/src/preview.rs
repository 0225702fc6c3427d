//! Previews of tiers: what a request for a tier would charge (M6).

use credits_core::credits::Credits;
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::Price;
use credits_core::subscription::Terms;
use credits_core::tier_change::TierChange;
use credits_payments::provider::PaymentMethod;
use credits_store::Fault;
use jiff::Timestamp;

use crate::billing::Billing;
use crate::subscribe::{SubscribeRefusal, total};

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

impl Billing {
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
            TierChange::NextPeriod(_) | TierChange::ReplacePaidAhead(_) => Effective::NextPeriod,
            _ if by_person => Effective::Checkout,
            _ => Effective::Now,
        };
        let refund = match &change {
            TierChange::ReplacePaidAhead(_) => {
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
}
