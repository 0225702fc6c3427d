//! `PUT` and `GET /v1/workspaces/{workspace_id}/alerts`: the low-balance alert and its recipients (M15).

use credits_core::alert::LowBalance;
use credits_core::credits::Amount;
use credits_runtime::fields::{Fields, mail_address, parsed, truth};
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
    let alert = fields.nested("low_balance", |alert| {
        let enabled = alert.required("enabled", truth);
        let (threshold, recipients) = if enabled == Some(false) {
            // They are optional while the alert is switched off.
            (alert.optional("threshold", parsed::<Amount>), alert.optional("recipients", addresses))
        } else {
            (alert.required("threshold", parsed::<Amount>), alert.required("recipients", addresses))
        };
        let recipients = recipients.unwrap_or_default();
        if enabled == Some(true) && recipients.is_empty() && alert.is_sound() {
            alert.refuse("recipients", "must have an address while the alert is on");
        }
        enabled.map(|enabled| LowBalance { enabled, threshold, recipients })
    });
    fields.finish(alert)
}

fn addresses(value: &Value) -> Result<Vec<String>, String> {
    let listed = value.as_array().ok_or("must be a list of e-mail addresses")?;
    if listed.len() > MAX_RECIPIENTS {
        return Err(format!("must be at most {MAX_RECIPIENTS} addresses"));
    }
    let (mut addresses, mut wrong): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (at, address) in listed.iter().enumerate() {
        match mail_address(address) {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(message) => wrong.push(format!("[{at}] {message}")),
        }
    }
    if wrong.is_empty() { Ok(addresses) } else { Err(wrong.join(", ")) }
}
