//! `PUT`, `GET` and `DELETE /v1/workspaces/{workspace_id}/subscription`: a month's credits on each billing date (M6, M7).

use credits_billing::subscribe::Subscribed;
use credits_core::catalogue::Tier;
use credits_core::credits::Amount;
use credits_core::enrolment::{Enrolment, Pending};
use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::purchase::Checkout;
use credits_core::subscription::{Status, Subscription, Terms};
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

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
    /// The tier from the next period on, where it is another.
    next_tier: Option<Id>,
    /// When a declined charge is tried again.
    next_attempt_at: Option<Timestamp>,
    /// How many periods passed without a charge, since nothing renewed the subscription while they ran.
    skipped_periods: u64,
    #[serde(flatten)]
    checkout: Option<Checkout>,
}

impl Account {
    pub(crate) async fn subscribe(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let body = call.json()?;
        let tier = self.read_tier(&body)?;
        let subscribed = self.billing(call).await?.subscribe(&workspace, tier).await?;
        let created = subscribed.created;
        let body = self.subscription_body(subscribed)?;
        Ok(if created { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn subscription(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let subscribed = self.billing(call).await?.subscription(&workspace).await?;
        let allows = self.plan_allows(call, &workspace).await?;
        let mut body = self.subscription_body(subscribed)?;
        // A plan without subscriptions ends it with its period.
        body.cancel_at_period_end |= body.status == Status::Active && !allows;
        Ok(Answer::ok(&body))
    }

    pub(crate) async fn unsubscribe(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let subscribed = self.billing(call).await?.unsubscribe(&workspace).await?;
        let mut body = self.subscription_body(subscribed)?;
        if body.status == Status::Pending {
            body.status = Status::Cancelled;
        }
        Ok(Answer::ok(&body))
    }

    fn read_tier(&self, body: &Value) -> Result<&Tier, Problem> {
        let mut fields = Fields::of(body)?;
        let id = fields.required("tier", parsed::<Id>);
        let sound = fields.is_sound();
        let tier = id.and_then(|id| self.catalogue.tier(&id));
        if sound && tier.is_none() {
            fields.refuse("tier", "is not a tier of the catalogue");
        }
        fields.finish(tier)
    }

    async fn plan_allows(
        &self,
        call: &Call,
        workspace: &credits_core::id::WorkspaceId,
    ) -> Result<bool, Problem> {
        let known = self.store.until(call.deadline()).workspace(workspace).await?;
        Ok(known.is_some_and(|known| self.catalogue.allows_subscription(known.profile.plan)))
    }

    fn subscription_body(&self, subscribed: Subscribed) -> Result<SubscriptionBody, Problem> {
        let Subscribed { enrolment, checkout, .. } = subscribed;
        let now = self.store.now();
        if let Some(running) = enrolment.running() {
            return Ok(SubscriptionBody::of(running, now));
        }
        let Enrolment { subscription, pending, .. } = enrolment;
        match (pending, subscription) {
            (Some(pending), _) => Ok(SubscriptionBody::pending(pending, checkout)),
            (None, Some(ended)) => Ok(SubscriptionBody::of(&ended, now)),
            (None, None) => Err(Problem::not_found()),
        }
    }
}

impl SubscriptionBody {
    fn of(subscription: &Subscription, now: Timestamp) -> Self {
        let (period, terms) = subscription.current(now);
        let paid_ahead = Some(&subscription.terms).filter(|_| period != subscription.period);
        let next = subscription.then.as_ref().or(paid_ahead).filter(|next| next.tier != terms.tier);
        let renews_at = Some(subscription.end_of(period)).filter(|_| subscription.is_running());
        let retries = subscription.declines.filter(|_| subscription.status == Status::PastDue);
        Self {
            subscription_id: Some(subscription.subscription_id.clone()),
            tier: terms.tier.clone(),
            monthly_credits: terms.monthly_credits,
            price: terms.price,
            status: subscription.status,
            period,
            current_period_start: Some(subscription.start_of(period)),
            renews_at,
            cancel_at_period_end: subscription.cancel_at_period_end,
            next_tier: next.map(|next| next.tier.clone()),
            next_attempt_at: retries.map(|declines| declines.next_at),
            skipped_periods: subscription.skipped,
            checkout: None,
        }
    }

    fn pending(pending: Pending, checkout: Option<Checkout>) -> Self {
        let Terms { tier, monthly_credits, price } = pending.terms;
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
            checkout,
        }
    }
}
