//! `GET /v1/workspaces/{workspace_id}/balance`: the credits by kind, this month's consumption and a forecast (M3, M9).

use std::collections::BTreeMap;

use credits_core::balance::Balance;
use credits_core::credits::{Amount, Credits, OutOfRange};
use credits_core::forecast::{Forecast, ForecastInput, Outlook, PACES, Renewing};
use credits_core::grant::GrantKind;
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_core::subscription::Subscription;
use credits_core::waterfall::Waterfall;
use credits_core::workspace::{Plan, Workspace};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::{Fault, Store};
use jiff::Timestamp;
use serde::Serialize;

use crate::Account;
use crate::usage::days_of;

#[derive(Debug, Serialize)]
struct BalanceBody {
    workspace_id: WorkspaceId,
    available: Credits,
    held: Credits,
    spendable: Credits,
    credit_limit: Credits,
    /// Whether the workspace is out of credits: all are spent, or a call was refused and next to nothing is left.
    exhausted: bool,
    prepaid: Credits,
    subscription: Option<SubscriptionPart>,
    grants: Vec<RunningGrantBody>,
    consumed_this_month: Credits,
    /// Forecasts at the pace of the last 7 and 28 days; empty before the workspace's first whole day has ended.
    forecast: Vec<ForecastBody>,
    version: u64,
    as_of: Timestamp,
}

#[derive(Debug, Serialize)]
struct ForecastBody {
    days: u16,
    credits_per_day: Credits,
    /// `out_of_credits`, `runs_out` or `lasts`.
    status: &'static str,
    /// The day in UTC; absent unless the status is `runs_out`.
    runs_out_on: Option<jiff::civil::Date>,
}

/// The running subscription's share of the balance.
#[derive(Debug, Serialize)]
struct SubscriptionPart {
    tier: Id,
    allocation: Credits,
    remaining: Credits,
    renews_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct RunningGrantBody {
    grant_id: Id,
    kind: GrantKind,
    granted: Amount,
    remaining: Credits,
    expires_at: Timestamp,
}

impl Account {
    pub(crate) async fn balance(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let now = store.now();
        let (balance, enrolled, known, usage) = tokio::try_join!(
            store.balances().get(&workspace),
            store.subscriptions().get(&workspace),
            store.workspaces().get(&workspace),
            store.usage().between(&workspace, Month::of(now).last(), Month::of(now)),
        )?;
        let (balance, known) = balance.zip(known).ok_or_else(Problem::workspace_not_found)?;
        let account = enrolled.account.as_of(now);
        let running = account.running();
        let days: BTreeMap<_, _> = usage.values().flat_map(days_of).collect();
        let renewals = renewals(store, &known, running, now).await?;
        let seen =
            ForecastInput { days: &days, since: known.created_at, balance: &balance, renewals: &renewals };
        let body = forecasts(&seen, now)
            .and_then(|forecast| BalanceBody::of(workspace, (&balance, forecast), running, now));
        Ok(Answer::ok(&body.map_err(|sum| Fault::Corrupt(sum.into()))?))
    }
}

/// Returns the credits that are granted each month: the subscription's allocation, and the agreement's commitment.
async fn renewals(
    store: &Store,
    workspace: &Workspace,
    running: Option<&Subscription>,
    now: Timestamp,
) -> Result<Vec<Renewing>, Fault> {
    let renewing = running.filter(|running| !running.cancel_at_period_end).map(|running| Renewing {
        at: running.end_of(running.current(now).0),
        monthly_credits: running.next_terms().monthly_credits,
    });
    let agreed = match workspace.profile.plan {
        Plan::Enterprise => store.agreements().get(&workspace.workspace_id).await?,
        _ => None,
    };
    let committed = agreed.and_then(|agreed| agreed.commitment);
    let committed =
        committed.map(|it| Renewing { at: Month::of(now).end(), monthly_credits: it.monthly_credits });
    Ok(renewing.into_iter().chain(committed).collect())
}

fn forecasts(seen: &ForecastInput<'_>, now: Timestamp) -> Result<Vec<ForecastBody>, OutOfRange> {
    let mut bodies = Vec::new();
    for days in PACES {
        bodies.extend(seen.forecast(now, days)?.map(|forecast| ForecastBody::of(days, &forecast)));
    }
    Ok(bodies)
}

impl ForecastBody {
    fn of(days: u16, forecast: &Forecast) -> Self {
        let (status, runs_out_on) = match forecast.outlook {
            Outlook::OutOfCredits => ("out_of_credits", None),
            Outlook::RunsOutOn(day) => ("runs_out", Some(day)),
            Outlook::Lasts => ("lasts", None),
        };
        Self { days, credits_per_day: forecast.credits_per_day, status, runs_out_on }
    }
}

impl BalanceBody {
    fn of(
        workspace_id: WorkspaceId,
        (balance, forecast): (&Balance, Vec<ForecastBody>),
        running: Option<&Subscription>,
        as_of: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let left = balance.waterfall()?;
        let subscription = running.map(|running| SubscriptionPart::of(running, &left, as_of)).transpose()?;
        let grants = left.grants.into_iter().map(|grant| RunningGrantBody {
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
            exhausted: balance.is_exhausted()?,
            prepaid: left.prepaid,
            subscription,
            grants: grants.collect(),
            consumed_this_month: balance.consumed_in(Month::of(as_of)),
            forecast,
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
