//! `PUT` and `GET /v1/workspaces/{workspace_id}/alerts`: the low-balance alert (M15), expiry notices, and their recipients.

use credits_core::alert::{AlertSettings, LowBalance, LowThreshold, MAX_THRESHOLDS};
use credits_core::credits::Amount;
use credits_core::expiry::{DEFAULT_DAYS, ExpirySettings, MAX_DAYS, MAX_NOTICES};
use credits_runtime::fields::{Fields, count, mail_address, parsed, truth};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use credits_store::alerts::AlertChange;
use serde_json::Value;

use crate::Account;

/// The maximum number of addresses that one alert goes to.
const MAX_RECIPIENTS: usize = 20;

impl Account {
    pub(crate) async fn put_alerts(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let change = read_alerts(&call.json()?)?;
        let (settings, first) = store.alerts().set(&workspace, &change).await?;
        Ok(if first { Answer::created(&settings) } else { Answer::ok(&settings) })
    }

    pub(crate) async fn alerts(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let settings = store.alerts().get(&workspace).await?.unwrap_or_else(AlertSettings::off);
        Ok(Answer::ok(&settings))
    }
}

fn read_alerts(body: &Value) -> Result<AlertChange, Problem> {
    let mut fields = Fields::of(body)?;
    if fields.present("low_balance").is_none() {
        fields.refuse("low_balance", "is required");
    }
    let low_balance = fields.nested("low_balance", read_low_balance);
    let expiry = fields.nested("expiry", read_expiry);
    fields.finish(low_balance.map(|low_balance| AlertChange { low_balance, expiry }))
}

fn read_expiry(notices: &mut Fields<'_>) -> Option<ExpirySettings> {
    let enabled = notices.required("enabled", truth);
    let days = match notices.present("days") {
        Some(_) => read_days(notices),
        None => DEFAULT_DAYS.to_vec(),
    };
    let recipients = read_recipients(notices, enabled != Some(false));
    enabled.map(|enabled| ExpirySettings { enabled, days, recipients })
}

fn read_days(notices: &mut Fields<'_>) -> Vec<u16> {
    let Some(days) = notices.values("days", MAX_NOTICES, day) else { return Vec::new() };
    if days.is_empty() {
        notices.refuse("days", format!("must be 1 to {MAX_NOTICES} numbers of days"));
    }
    for (place, day) in days.iter().enumerate() {
        if days.iter().take(place).any(|earlier| earlier == day) {
            notices.refuse(&format!("days.{place}"), "must not occur twice");
        }
    }
    days
}

fn day(value: &Value) -> Result<u16, String> {
    let said = || format!("must be a whole number from 1 to {MAX_DAYS}");
    let days = count(value, MAX_DAYS.into()).map_err(|_| said())?;
    u16::try_from(days).ok().filter(|days| *days > 0).ok_or_else(said)
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
