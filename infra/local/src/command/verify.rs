//! `cargo local verify`: whether balances, ledgers and usage of a running stack agree.

use reqwest::Method;

use super::running::{Running, RunningError};

/// Verifies, and gives whether all agrees, and what to say.
pub(crate) async fn verify(port: u16) -> Result<(bool, String), RunningError> {
    let verified = Running::at(port).await?.ask(Method::POST, "/_local/verify", None).await?;
    let differences = verified["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!(
        "{} workspaces, {} months, {} ledger entries: ",
        verified["workspaces"], verified["months"], verified["entries"]
    );
    if differences.is_empty() {
        text.push_str("every ledger sums to its balance, and every month's usage is what its ledger says.");
        return Ok((true, text));
    }
    text.push_str("what differs is");
    for difference in differences {
        let said = |name: &str| difference[name].as_str().unwrap_or_default();
        let (workspace, month, of) = (said("workspace_id"), said("month"), said("of"));
        let (ledger, kept) = (said("ledger"), said("kept"));
        let line = format!("\n  {workspace} {month} {of}: the ledger says {ledger}, kept is {kept}");
        text.push_str(&line);
    }
    Ok((false, text))
}
