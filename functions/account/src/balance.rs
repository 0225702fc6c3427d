//! `GET /v1/workspaces/{workspace_id}/balance`: what there is, of what, and what this month took (M3, M9).

use credits_core::balance::Balance;
use credits_core::credits::{Amount, Credits, OutOfRange};
use credits_core::grant::GrantKind;
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_core::subscription::Subscription;
use credits_core::waterfall::Waterfall;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Fault;
use jiff::Timestamp;
use serde::Serialize;

use crate::Account;

#[derive(Debug, Serialize)]
struct BalanceBody {
    workspace_id: WorkspaceId,
    available: Credits,
    held: Credits,
    spendable: Credits,
    credit_limit: Credits,
    prepaid: Credits,
    subscription: Option<SubscriptionPart>,
    grants: Vec<GrantBody>,
    consumed_this_month: Credits,
    version: u64,
    as_of: Timestamp,
}

/// The subscription's share of the balance; null where none runs.
#[derive(Debug, Serialize)]
struct SubscriptionPart {
    tier: Id,
    allocation: Credits,
    remaining: Credits,
    renews_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct GrantBody {
    grant_id: Id,
    kind: GrantKind,
    granted: Amount,
    remaining: Credits,
    expires_at: Timestamp,
}

impl Account {
    pub(crate) async fn balance(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let store = self.store.until(call.deadline());
        let (balance, enrolled) = tokio::try_join!(store.balance(&workspace), store.enrolment(&workspace))?;
        let balance = balance.ok_or_else(Problem::workspace_not_found)?;
        let body = BalanceBody::of(workspace, &balance, enrolled.enrolment.running(), store.now());
        Ok(Answer::ok(&body.map_err(|sum| Fault::Corrupt(sum.into()))?))
    }
}

impl BalanceBody {
    fn of(
        workspace_id: WorkspaceId,
        balance: &Balance,
        running: Option<&Subscription>,
        as_of: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let left = balance.waterfall()?;
        let subscription = running.map(|running| SubscriptionPart::of(running, &left, as_of)).transpose()?;
        let grants = left.grants.into_iter().map(|grant| GrantBody {
            grant_id: grant.grant_id,
            kind: grant.kind,
            granted: grant.granted,
            remaining: grant.amount,
            expires_at: grant.expires_at,
        });
        Ok(Self {
            workspace_id,
            available: balance.available()?,
            held: balance.all_held()?,
            spendable: balance.spendable,
            credit_limit: balance.credit_limit,
            prepaid: left.prepaid,
            subscription,
            grants: grants.collect(),
            consumed_this_month: balance.consumed_in(Month::of(as_of)),
            version: balance.version,
            as_of,
        })
    }
}

impl SubscriptionPart {
    fn of(running: &Subscription, left: &Waterfall, now: Timestamp) -> Result<Self, OutOfRange> {
        let (period, terms) = running.current(now);
        let allocations = left.grants.iter().filter(|grant| grant.kind == GrantKind::Allocation);
        let (granted, remaining): (Vec<_>, Vec<_>) =
            allocations.map(|grant| (grant.granted.credits(), grant.amount)).unzip();
        Ok(Self {
            tier: terms.tier.clone(),
            allocation: Credits::sum(granted)?,
            remaining: Credits::sum(remaining)?,
            renews_at: running.end_of(period),
        })
    }
}
