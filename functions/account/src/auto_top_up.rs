//! `PUT` and `GET /v1/workspaces/{workspace_id}/auto-top-up`: the settings by which a low balance buys a pack (M5).

use credits_billing::BillingFault;
use credits_core::auto_top_up::{
    AutoTopUp, AutoTopUpSettings, DEFAULT_MONTHLY_LIMIT, MonthlyLimit, MonthlyTopUps,
};
use credits_core::catalogue::{Catalogue, Pack};
use credits_core::claw_back::ClawBackReason;
use credits_core::credits::Amount;
use credits_core::id::{Id, WorkspaceId};
use credits_core::month::Month;
use credits_runtime::fields::{Fields, count, parsed, truth};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use serde::Serialize;
use serde_json::Value;

use crate::Account;
use crate::payment_method::MethodBody;

/// The highest monthly limit, in packs.
const MAX_TOP_UPS: u64 = 1_000;

#[derive(Debug, Serialize)]
struct AutoTopUpBody {
    #[serde(flatten)]
    settings: AutoTopUpSettings,
    status: AutoTopUpStatus,
    paused_reason: Option<PausedReason>,
    declines: u64,
    bought_this_month: MonthlyTopUps,
    card_stored: bool,
    payment_method: Option<MethodBody>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AutoTopUpStatus {
    On,
    Off,
    /// It buys nothing until a person switches it on again.
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum PausedReason {
    Refund,
    Dispute,
    /// The payment method was declined three times in a row.
    Declined,
}

/// Returns the status, and the reason if it is paused.
fn status_of(kept: &AutoTopUp) -> (AutoTopUpStatus, Option<PausedReason>) {
    let reason = match kept.paused {
        Some(ClawBackReason::Refund) => Some(PausedReason::Refund),
        Some(ClawBackReason::Dispute) => Some(PausedReason::Dispute),
        None => kept.gave_up.then_some(PausedReason::Declined),
    };
    let status = match (reason, kept.settings.enabled) {
        (Some(_), _) => AutoTopUpStatus::Paused,
        (None, true) => AutoTopUpStatus::On,
        (None, false) => AutoTopUpStatus::Off,
    };
    (status, reason)
}

impl Account {
    pub(crate) async fn put_auto_top_up(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let settings = read_settings(&call.json()?, &self.catalogue)?;
        let (kept, first) = store.auto_top_ups().set(&workspace, &settings).await?;
        let body = self.auto_top_up_body(call, store, &workspace, kept).await?;
        Ok(if first { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn auto_top_up(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let kept = store.auto_top_ups().get(&workspace).await?.map(|read| read.kept);
        let kept = kept.unwrap_or_else(|| AutoTopUp::set(AutoTopUpSettings::off(), None, store.now()));
        Ok(Answer::ok(&self.auto_top_up_body(call, store, &workspace, kept).await?))
    }

    /// Returns the settings with the payment method that they charge. If Stripe does not answer, the method is absent.
    async fn auto_top_up_body(
        &self,
        call: &Call,
        store: &Store,
        workspace: &WorkspaceId,
        kept: AutoTopUp,
    ) -> Result<AutoTopUpBody, Problem> {
        let bought_this_month = kept.bought_in(Month::of(store.now()));
        let shown = self.billing(call, store).await?.stored_method(workspace).await;
        let (card_stored, payment_method) = match shown {
            Ok(method) => (method.is_some(), method.map(MethodBody::from)),
            Err(BillingFault::Provider(error)) => {
                tracing::warn!(%workspace, %error, "the stored payment method is not shown");
                (store.payment_methods().customer(workspace).await?.is_some(), None)
            }
            Err(BillingFault::Store(fault)) => return Err(fault.into()),
        };
        let (status, paused_reason) = status_of(&kept);
        let (settings, declines) = (kept.settings, kept.declines);
        Ok(AutoTopUpBody {
            settings,
            status,
            paused_reason,
            declines,
            bought_this_month,
            card_stored,
            payment_method,
        })
    }
}

fn read_settings(body: &Value, catalogue: &Catalogue) -> Result<AutoTopUpSettings, Problem> {
    let mut fields = Fields::of(body)?;
    let enabled = fields.required("enabled", truth);
    let (threshold, pack) = if enabled == Some(false) {
        // They are optional while it is switched off.
        (fields.optional("threshold", parsed::<Amount>), fields.optional("pack", parsed::<Id>))
    } else {
        (fields.required("threshold", parsed::<Amount>), fields.required("pack", parsed::<Id>))
    };
    let limit = fields.optional("monthly_limit", read_limit);
    let monthly_limit = limit.or((enabled == Some(true)).then_some(DEFAULT_MONTHLY_LIMIT));
    if let Some(pack) = &pack {
        match catalogue.pack(pack) {
            Some(sold) => check_against(&mut fields, sold, threshold, monthly_limit),
            None => fields.refuse("pack", "is not a pack of the catalogue"),
        }
    }
    fields.finish(enabled.map(|enabled| AutoTopUpSettings { enabled, threshold, pack, monthly_limit }))
}

/// Checks that one pack lifts an empty balance above the threshold and fits the monthly limit.
fn check_against(
    fields: &mut Fields<'_>,
    pack: &Pack,
    threshold: Option<Amount>,
    limit: Option<MonthlyLimit>,
) {
    if threshold.is_some_and(|threshold| threshold >= pack.credits) {
        let said = format!("must be below the pack's {} credits, or the balance could", pack.credits);
        fields.refuse("threshold", format!("{said} be at or below it after a top-up"));
    }
    if let Some(MonthlyLimit::Credits(most)) = limit
        && most < pack.credits
    {
        fields.refuse("monthly_limit", format!("must be at least the pack's {} credits", pack.credits));
    }
}

fn read_limit(value: &Value) -> Result<MonthlyLimit, String> {
    if value.is_string() {
        return parsed::<Amount>(value).map(MonthlyLimit::Credits);
    }
    let said = || format!("must be a number of top-ups, 1 to {MAX_TOP_UPS}, or an amount of credits");
    let top_ups = count(value, MAX_TOP_UPS).ok().filter(|top_ups| *top_ups > 0);
    top_ups.map(MonthlyLimit::TopUps).ok_or_else(said)
}
