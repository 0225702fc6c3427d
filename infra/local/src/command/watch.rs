//! `cargo local watch WORKSPACE`: shows the balance and the latest entries as they change (M3).

use std::io::{IsTerminal, Write};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::running::{Running, RunningError};

const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The number of ledger entries on the screen.
const ENTRIES: usize = 15;

/// The escape sequence that moves the cursor to the first line and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the workspace until the process ends. If stdout is not a terminal, each state is printed below the previous
/// one.
pub(crate) async fn watch(port: u16, workspace: &str) -> Result<(), RunningError> {
    let running = Running::at(port).await?;
    let path = format!("/v1/workspaces/{workspace}");
    let mut shown = None;
    loop {
        let balance = running.ask(Method::GET, &format!("{path}/balance"), None).await?;
        if shown.as_ref() != Some(&balance["version"]) {
            let ledger = running.ask(Method::GET, &format!("{path}/ledger?limit={ENTRIES}"), None).await?;
            let begin = if std::io::stdout().is_terminal() { CLEAR } else { "" };
            if writeln!(std::io::stdout(), "{begin}{}", screen(&balance, &ledger)).is_err() {
                // The reader of stdout has closed it.
                return Ok(());
            }
            shown = Some(balance["version"].clone());
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Renders a balance and the first page of its ledger.
fn screen(balance: &Value, ledger: &Value) -> String {
    let of = |name: &str| text(&balance[name]);
    let mut lines = vec![
        format!(
            "{}  {} credits to spend, {} this month",
            of("workspace_id"),
            of("spendable"),
            of("consumed_this_month")
        ),
        format!("  prepaid {}, held {}", of("prepaid"), of("held")),
    ];
    let subscription = &balance["subscription"];
    if subscription.is_object() {
        let of = |name: &str| text(&subscription[name]);
        let (tier, left, all) = (of("tier"), of("remaining"), of("allocation"));
        lines.push(format!("  {tier}: {left} of {all} left, renews {}", day(of("renews_at"))));
    }
    for grant in list(&balance["grants"]).iter().filter(|grant| grant["kind"] != "allocation") {
        let of = |name: &str| text(&grant[name]);
        let (kind, left, all) = (of("kind"), of("remaining"), of("granted"));
        lines.push(format!("  {kind}: {left} of {all} left, expires {}", day(of("expires_at"))));
    }
    let forecasts = list(&balance["forecast"]);
    if forecasts.iter().any(|forecast| forecast["status"] == "out_of_credits") {
        lines.push("  out of credits".to_owned());
    }
    for forecast in forecasts.iter().filter(|forecast| forecast["status"] == "runs_out") {
        let of = |name: &str| text(&forecast[name]);
        let pace = format!("{} a day over the last {} days", of("credits_per_day"), forecast["days"]);
        lines.push(format!("  runs out on {}, at {pace}", of("runs_out_on")));
    }
    lines.push(String::new());
    lines.extend(list(&ledger["entries"]).iter().map(line));
    lines.join("\n")
}

fn line(entry: &Value) -> String {
    let of = |name: &str| text(&entry[name]);
    let consumer = &entry["consumer"];
    let what = ["operation", "top_up_id", "grant_id", "payment_id", "month"].into_iter().map(of);
    let who = ["workflow_id", "feature", "user_id"].into_iter().map(|name| text(&consumer[name]));
    let words: Vec<&str> = what.chain(who).filter(|word| !word.is_empty()).collect();
    let at = of("at").split('.').next().unwrap_or_default().replace('T', " ");
    format!("{:<20} {:<18} {:>14}  {}", at.trim_end_matches('Z'), of("kind"), of("credits"), words.join(" "))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn day(instant: &str) -> &str {
    instant.split('T').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::screen;
    use serde_json::json;

    #[test]
    fn m03_the_screen_shows_balance_grants_and_latest_entries() {
        let balance = json!({
            "workspace_id": "acme", "spendable": "1204.5", "consumed_this_month": "95.5", "prepaid": "1000",
            "held": "0", "version": 7,
            "subscription": { "tier": "tier_2k", "remaining": "104.5", "allocation": "2000", "renews_at": "2026-12-01T00:00:00Z" },
            "grants": [
                { "kind": "allocation", "remaining": "104.5", "granted": "2000", "expires_at": "2026-12-01T00:00:00Z" },
                { "kind": "promotional", "remaining": "100", "granted": "250", "expires_at": "2026-12-24T00:00:00Z" },
            ],
            "forecast": [{ "days": 7, "credits_per_day": "100", "status": "runs_out", "runs_out_on": "2026-12-05" }],
        });
        let ledger = json!({ "entries": [
            { "kind": "debit", "credits": "-2.3", "at": "2026-11-23T18:04:11.5Z", "operation": "text.generate",
              "consumer": { "kind": "action", "feature": "assistant", "user_id": "ada" } },
            { "kind": "top_up", "credits": "1000", "at": "2026-11-23T18:00:00Z", "top_up_id": "top_1" },
        ] });
        let dry = json!({ "forecast": [{ "days": 7, "status": "out_of_credits" }, { "days": 28, "status": "out_of_credits" }] });
        assert_eq!(screen(&dry, &json!({})).matches("out of credits").count(), 1);
        insta::assert_snapshot!(screen(&balance, &ledger), @r"
        acme  1204.5 credits to spend, 95.5 this month
          prepaid 1000, held 0
          tier_2k: 104.5 of 2000 left, renews 2026-12-01
          promotional: 100 of 250 left, expires 2026-12-24
          runs out on 2026-12-05, at 100 a day over the last 7 days

        2026-11-23 18:04:11  debit                        -2.3  text.generate assistant ada
        2026-11-23 18:00:00  top_up                       1000  top_1
        ");
    }
}
