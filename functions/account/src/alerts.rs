//! `PUT` and `GET /v1/workspaces/{workspace_id}/alerts`: the low-balance alert and its recipients (M15).

use credits_core::alert::{LowBalance, LowThreshold, MAX_THRESHOLDS};
use credits_core::credits::Amount;
use credits_runtime::fields::{Fields, count, mail_address, parsed, truth};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

/// The maximum number of addresses that one alert goes to.
const MAX_RECIPIENTS: usize = 20;

#[derive(Debug, Serialize)]
struct AlertsBody {
    low_balance: LowBalance,
}

impl Account {
    pub(crate) async fn put_alerts(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let low_balance = read_alerts(&call.json()?)?;
        let first = store.alerts().set(&workspace, &low_balance).await?;
        let body = AlertsBody { low_balance };
        Ok(if first { Answer::created(&body) } else { Answer::ok(&body) })
    }

    pub(crate) async fn alerts(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let low_balance = store.alerts().get(&workspace).await?.unwrap_or_else(LowBalance::off);
        Ok(Answer::ok(&AlertsBody { low_balance }))
    }
}

fn read_alerts(body: &Value) -> Result<LowBalance, Problem> {
    let mut fields = Fields::of(body)?;
    if fields.present("low_balance").is_none() {
        fields.refuse("low_balance", "is required");
    }
    let low_balance = fields.nested("low_balance", read_low_balance);
    fields.finish(low_balance)
}

/// Reads the low-balance alert. Thresholds and recipients are optional while it is switched off.
fn read_low_balance(alert: &mut Fields<'_>) -> Option<LowBalance> {
    let enabled = alert.required("enabled", truth);
    let is_on = enabled != Some(false);
    let lists_none = alert.present("thresholds").is_none_or(|listed| *listed == Value::Array(Vec::new()));
    if is_on && lists_none && alert.present("threshold").is_none() {
        alert.refuse("threshold", "is required, unless there are thresholds");
    }
    let threshold = alert.optional("threshold", parsed::<Amount>);
    let thresholds = alert.optional_list("thresholds", MAX_THRESHOLDS, read_threshold).unwrap_or_default();
    refuse_excess(alert, threshold, &thresholds);
    let recipients = read_recipients(alert, is_on);
    enabled.map(|enabled| LowBalance { enabled, threshold, thresholds, recipients })
}

fn read_threshold(fields: &mut Fields<'_>) -> Option<LowThreshold> {
    let credits = fields.optional("credits", parsed::<Amount>);
    let percent = fields.optional("percent_of_allocation", percentage);
    match (fields.present("credits"), fields.present("percent_of_allocation")) {
        (Some(_), Some(_)) => {
            fields.refuse("percent_of_allocation", "must be absent if there is an amount in credits");
            None
        }
        (None, None) => {
            fields.refuse("credits", "is required, unless there is percent_of_allocation");
            None
        }
        _ => credits.map(LowThreshold::Credits).or(percent.map(LowThreshold::PercentOfAllocation)),
    }
}

fn percentage(value: &Value) -> Result<u8, String> {
    let said = || "must be a whole number from 1 to 100".to_owned();
    let percent = count(value, 100).map_err(|_| said())?;
    u8::try_from(percent).ok().filter(|percent| *percent > 0).ok_or_else(said)
}

/// Refuses thresholds that occur twice, and more than the maximum number in all.
fn refuse_excess(alert: &mut Fields<'_>, threshold: Option<Amount>, thresholds: &[LowThreshold]) {
    let mut seen: Vec<LowThreshold> = threshold.map(LowThreshold::Credits).into_iter().collect();
    if seen.len().saturating_add(thresholds.len()) > MAX_THRESHOLDS {
        alert.refuse("thresholds", format!("must be at most {MAX_THRESHOLDS} together with threshold"));
    }
    for (place, threshold) in thresholds.iter().enumerate() {
        if seen.contains(threshold) {
            alert.refuse(&format!("thresholds.{place}"), "must not occur twice");
        }
        seen.push(*threshold);
    }
}

/// Reads the addresses that an alert goes to. While it is switched on, there must be one.
fn read_recipients(alert: &mut Fields<'_>, is_on: bool) -> Vec<String> {
    if alert.present("recipients").is_none() {
        if is_on {
            alert.refuse("recipients", "is required");
        }
        return Vec::new();
    }
    let Some(read) = alert.values("recipients", MAX_RECIPIENTS, mail_address) else { return Vec::new() };
    if is_on && read.is_empty() {
        alert.refuse("recipients", "must have an address while the alert is on");
    }
    let mut recipients = Vec::new();
    for address in read {
        if !recipients.contains(&address) {
            recipients.push(address);
        }
    }
    recipients
}
