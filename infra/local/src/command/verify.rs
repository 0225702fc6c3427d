//! `cargo local verify`: checks that a running stack's balances, ledgers and usage agree.

use reqwest::Method;

use super::running::{Running, RunningError};

/// Verifies the stack. Returns whether everything agrees, and the text to print.
pub(crate) async fn verify(port: u16) -> Result<(bool, String), RunningError> {
    let verified = Running::at(port).await?.ask(Method::POST, "/_local/verify", None).await?;
    let differences = verified["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!(
        "{} workspaces, {} months, {} ledger entries: ",
        verified["workspaces"], verified["months"], verified["entries"]
    );
    if differences.is_empty() {
        text.push_str("every ledger sums to its balance, and every month's usage matches its ledger.");
        return Ok((true, text));
    }
    text.push_str("differences:");
    for difference in differences {
        let said = |name: &str| difference[name].as_str().unwrap_or_default();
        let (workspace, month, of) = (said("workspace_id"), said("month"), said("of"));
        let (ledger, kept) = (said("ledger"), said("kept"));
        let line = format!("\n  {workspace} {month} {of}: ledger {ledger}, stored {kept}");
        text.push_str(&line);
    }
    Ok((false, text))
}
