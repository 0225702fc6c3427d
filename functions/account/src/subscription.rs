//! `PUT`, `GET` and `DELETE /v1/workspaces/{workspace_id}/subscription`, and `POST …/subscription/preview`:
//! subscriptions, which allocate a tier's credits on each billing date (M6, M7).

use credits_billing::preview::{Effective, TierPreview};
use credits_billing::subscribe::TierOrder;
use credits_billing::subscription_view::SubscriptionView;
use credits_core::credits::{Amount, Credits};
use credits_core::id::{Id, WorkspaceId};
use credits_core::price::{Currency, Price};
use credits_core::purchase::Checkout;
use credits_core::subscription::{Status, Subscription, Terms};
use credits_core::subscription_account::{Pending, SubscriptionAccount};
use credits_runtime::fields::{Fields, count, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Account;
use crate::payment_method::MethodBody;

/// The largest amount that a call may expect, in minor units. More can't be charged in any currency.
const MAX_AMOUNT_MINOR: u64 = 999_999_999_999;

#[derive(Debug, Serialize)]
struct SubscriptionBody {
    subscription_id: Option<Id>,
    tier: Id,
    monthly_credits: Amount,
    price: Price,
    status: Status,
    period: u64,
    current_period_start: Option<Timestamp>,
    renews_at: Option<Timestamp>,
    cancel_at_period_end: bool,
    /// The tier from the next period on, if it differs.
    next_tier: Option<Id>,
    /// When a declined charge is retried.
    next_attempt_at: Option<Timestamp>,
    /// The number of periods without a charge, because no sweep renewed the subscription while they ran.
    skipped_periods: u64,
    next_charge: Option<NextChargeBody>,
    payment_action: Option<Checkout>,
    pending_payment: Option<&'static str>,
    /// The amount that this call charged.
    charged: Option<Price>,
    /// The amount that this call refunds for a period that was paid ahead.
    refunded: Option<Price>,
    #[serde(flatten)]
    checkout: Option<Checkout>,
}

#[derive(Debug, Serialize)]
struct NextChargeBody {
    #[serde(flatten)]
    price: Price,
    at: Timestamp,
    credits: Amount,
}

#[derive(Debug, Serialize)]
struct PreviewBody {
    tier: Id,
    effective: EffectiveBody,
    due_now: Price,
    credits_now: Credits,
    next_charge: Option<PreviewedCharge>,
    payment_method: Option<MethodBody>,
    refund: Option<Price>,
}

#[derive(Debug, Serialize)]
struct PreviewedCharge {
    #[serde(flatten)]
    price: Price,
    at: Timestamp,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum EffectiveBody {
    Now,
    NextPeriod,
    Checkout,
}

impl Account {
    pub(crate) async fn subscribe(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let order = self.read_order(store, &workspace, &call.json()?).await?;
        let view = self.billing(call, store).await?.subscribe(&workspace, &order).await?;
        let created = view.created;
        let body = self.subscription_body(view)?;
        Ok(if created { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn preview(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let body = call.json()?;
        let mut fields = Fields::of(&body)?;
        let tier = fields.required("tier", parsed::<Id>);
        let tier = fields.finish(tier)?;
        let preview = self.billing(call, store).await?.preview(&workspace, &tier).await?;
        Ok(Answer::ok(&PreviewBody::from(preview)))
    }

    pub(crate) async fn subscription(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let view = self.billing(call, store).await?.subscription(&workspace).await?;
        let allows = self.plan_allows(store, &workspace).await?;
        let mut body = self.subscription_body(view)?;
        if body.status == Status::Active && !allows {
            // If the plan has no subscriptions any more, the subscription ends with its period.
            body.cancel_at_period_end = true;
            body.next_charge = None;
        }
        Ok(Answer::ok(&body))
    }

    pub(crate) async fn unsubscribe(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let view = self.billing(call, store).await?.unsubscribe(&workspace).await?;
        let mut body = self.subscription_body(view)?;
        if body.status == Status::Pending {
            body.status = Status::Cancelled;
        }
        Ok(Answer::ok(&body))
    }

    /// Reads the tier, which must be in the catalogue or in the workspace's own subscription, and the expected charge.
    async fn read_order(
        &self,
        store: &Store,
        workspace: &WorkspaceId,
        body: &Value,
    ) -> Result<TierOrder, Problem> {
        let mut fields = Fields::of(body)?;
        let tier = fields.required("tier", parsed::<Id>);
        let expected_due_now = fields.nested("expected_due_now", read_price);
        if let Some(tier) = tier.as_ref().filter(|tier| self.catalogue.tier(tier).is_none()) {
            let account = store.subscriptions().get(workspace).await?.account;
            if account.kept_terms(tier, store.now()).is_none() {
                fields.refuse("tier", "is not a tier of the catalogue");
            }
        }
        fields.finish(tier.map(|tier| TierOrder { tier, expected_due_now }))
    }

    async fn plan_allows(&self, store: &Store, workspace: &WorkspaceId) -> Result<bool, Problem> {
        let known = store.workspaces().get(workspace).await?;
        Ok(known.is_some_and(|known| self.catalogue.allows_subscription(known.profile.plan)))
    }

    fn subscription_body(&self, view: SubscriptionView) -> Result<SubscriptionBody, Problem> {
        let SubscriptionView { account, checkout, action, charging, charged, refunded, .. } = view;
        let now = self.store.now();
        let SubscriptionAccount { subscription, pending, charge, .. } = account;
        let running = subscription.as_ref().filter(|subscription| subscription.is_running());
        let processing = charge.is_some() || pending.as_ref().is_some_and(|it| it.processing_since.is_some());
        let body = match (running, pending, charging, &subscription) {
            (Some(running), ..) => SubscriptionBody::of(running, now),
            (None, Some(Pending { terms, .. }), ..) | (None, None, Some(terms), _) => {
                SubscriptionBody { checkout: checkout.clone(), ..SubscriptionBody::pending(terms) }
            }
            (None, None, None, Some(ended)) => SubscriptionBody::of(ended, now),
            (None, None, None, None) => return Err(Problem::not_found()),
        };
        let waits_for_payer = running.is_none() && body.status == Status::Pending;
        Ok(SubscriptionBody {
            payment_action: action.or(checkout.filter(|_| waits_for_payer)),
            pending_payment: processing.then_some("processing"),
            charged,
            refunded,
            ..body
        })
    }
}

fn read_price(fields: &mut Fields<'_>) -> Option<Price> {
    let amount_minor = fields.required("amount", |value| count(value, MAX_AMOUNT_MINOR));
    let currency = fields.required("currency", parsed::<Currency>);
    amount_minor.zip(currency).map(|(amount_minor, currency)| Price { amount_minor, currency })
}

impl SubscriptionBody {
    fn of(subscription: &Subscription, now: Timestamp) -> Self {
        let (period, terms) = subscription.current(now);
        let paid_ahead = Some(&subscription.terms).filter(|_| period != subscription.period);
        let next = subscription.then.as_ref().or(paid_ahead).filter(|next| next.tier != terms.tier);
        let renews_at = Some(subscription.end_of(period)).filter(|_| subscription.is_running());
        let retries = subscription.declines.filter(|_| subscription.status == Status::PastDue);
        // A period that is over and not renewed is past due, even before the sweep records it.
        let over = subscription.status == Status::Active && now >= subscription.end_of(subscription.period);
        let status = if over { Status::PastDue } else { subscription.status };
        let next_charge = subscription.next_charge().map(|(terms, at)| NextChargeBody {
            price: terms.price,
            at: at.max(now),
            credits: terms.monthly_credits,
        });
        Self {
            subscription_id: Some(subscription.subscription_id.clone()),
            status,
            period,
            current_period_start: Some(subscription.start_of(period)),
            renews_at,
            cancel_at_period_end: subscription.cancel_at_period_end,
            next_tier: next.map(|next| next.tier.clone()),
            next_attempt_at: retries.map(|declines| declines.next_at),
            skipped_periods: subscription.skipped,
            next_charge,
            ..Self::pending(terms.clone())
        }
    }

    fn pending(terms: Terms) -> Self {
        let Terms { tier, monthly_credits, price } = terms;
        Self {
            subscription_id: None,
            tier,
            monthly_credits,
            price,
            status: Status::Pending,
            period: 1,
            current_period_start: None,
            renews_at: None,
            cancel_at_period_end: false,
            next_tier: None,
            next_attempt_at: None,
            skipped_periods: 0,
            next_charge: None,
            payment_action: None,
            pending_payment: None,
            charged: None,
            refunded: None,
            checkout: None,
        }
    }
}

impl From<TierPreview> for PreviewBody {
    fn from(preview: TierPreview) -> Self {
        let effective = match preview.effective {
            Effective::Now => EffectiveBody::Now,
            Effective::NextPeriod => EffectiveBody::NextPeriod,
            Effective::Checkout => EffectiveBody::Checkout,
        };
        Self {
            tier: preview.terms.tier,
            effective,
            due_now: preview.due_now,
            credits_now: preview.credits_now,
            next_charge: preview.next_charge.map(|(price, at)| PreviewedCharge { price, at }),
            payment_method: preview.method.map(MethodBody::from),
            refund: preview.refund,
        }
    }
}
