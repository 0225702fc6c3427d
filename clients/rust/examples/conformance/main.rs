//! Plays the cases of `clients/conformance` with this client: `node clients/conformance/wire.js -- conformance`.

mod calls;
mod outcome;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ai_credits_client::{ApiKey, BoxError, Client, Outage, Retry};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use calls::Driver;

#[derive(Deserialize)]
struct Case {
    name: String,
    base_url: String,
    verdict_url: String,
    client: ClientOptions,
    calls: Vec<Value>,
}

#[derive(Deserialize)]
struct ClientOptions {
    deadline_ms: u64,
    attempt_timeout_ms: u64,
    first_pause_ms: u64,
    api_keys: Vec<String>,
    on_outage: OutageBehaviour,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutageBehaviour {
    Record,
    Raise,
}

/// The judge's answer.
#[derive(Deserialize)]
struct Judgement {
    passed: bool,
    problems: Vec<String>,
}

/// The outages of a case.
type Recorded = Arc<Mutex<Vec<Value>>>;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]
async fn main() -> Result<(), BoxError> {
    let wire = std::env::var("AI_CREDITS_WIRE")?;
    let mut running = JoinSet::new();
    // The client installs the TLS provider that any other user of reqwest needs, too.
    drop(Client::new(&wire, "")?);
    for case in reqwest::get(format!("{wire}/_cases")).await?.json::<Vec<Case>>().await? {
        running.spawn(played(case));
    }
    let mut failed = 0_u32;
    while let Some(ended) = running.join_next().await {
        let (name, judgement) = ended??;
        failed = failed.saturating_add(u32::from(!judgement.passed));
        judgement.problems.iter().for_each(|problem| eprintln!("{name}: {problem}"));
    }
    if failed > 0 { Err(format!("{failed} cases failed").into()) } else { Ok(()) }
}

/// Makes the calls of a case, and asks the judge about them.
async fn played(case: Case) -> Result<(String, Judgement), BoxError> {
    let outages = Recorded::default();
    let mut driver = Driver::new(client(&case.base_url, case.client, &outages)?);
    let mut calls = Vec::new();
    for call in &case.calls {
        calls.push(driver.outcome(call).await?);
    }
    // A case may leave a call open. Dropping it would settle it after the verdict.
    std::mem::forget(driver);
    let outages = std::mem::take(&mut *outages.lock().unwrap_or_else(PoisonError::into_inner));
    let verdict = json!({ "calls": calls, "outages": outages });
    let judgement = reqwest::Client::new().post(case.verdict_url).json(&verdict).send().await?;
    Ok((case.name, judgement.error_for_status()?.json().await?))
}

fn client(base_url: &str, options: ClientOptions, outages: &Recorded) -> Result<Client, BoxError> {
    let key = match <[String; 1]>::try_from(options.api_keys) {
        Ok([key]) => ApiKey::from(key),
        Err(keys) => in_turn(keys),
    };
    let retry = Retry {
        deadline: Duration::from_millis(options.deadline_ms),
        attempt_timeout: Duration::from_millis(options.attempt_timeout_ms),
        first_pause: Duration::from_millis(options.first_pause_ms),
    };
    let (recorded, behaviour) = (Arc::clone(outages), Arc::new(options.on_outage));
    let hook = move |outage: Outage| {
        let (recorded, behaviour) = (Arc::clone(&recorded), Arc::clone(&behaviour));
        async move {
            let Outage { method, path, order, idempotency_key, .. } = outage;
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push(json!({
                "method": method.as_str(), "path": path, "order": order, "idempotency_key": idempotency_key.as_str(),
                "error": "Unavailable",
            }));
            match *behaviour {
                OutageBehaviour::Record => Ok(()),
                OutageBehaviour::Raise => Err("the hook failed".into()),
            }
        }
    };
    Ok(Client::new(base_url, key)?.with_retry(retry).on_outage(hook))
}

/// Returns a key that is another one for each attempt, and the last one from then on.
fn in_turn(keys: Vec<String>) -> ApiKey {
    let keys = Mutex::new(keys.into_iter().rev().collect::<Vec<_>>());
    ApiKey::from_fn(move || {
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if keys.len() > 1 { keys.pop() } else { keys.last().cloned() };
        async { key.ok_or_else(|| "the case has no keys".into()) }
    })
}
