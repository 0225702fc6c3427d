//! The text that `cargo local` prints: the address, the page, a token, and three example calls.

use axum::http::Method;
use serde_json::json;

use crate::demo::WORKSPACE;
use crate::{Stack, StackError};

/// Creates the demo workspace as the hub would, and returns a token for all workspaces. A workspace that an earlier
/// start created stays unchanged.
pub(crate) async fn open_workspace(stack: &Stack) -> Result<String, StackError> {
    let token = stack.token("*", "credits:spend credits:read credits:manage credits:refund")?;
    let path = format!("/v1/workspaces/{WORKSPACE}");
    if stack.call((Method::GET, &path), &token, "-", None).await?.0 == 200 {
        return Ok(token);
    }
    let profile = json!({ "name": "Demo", "plan": "team", "billing_email": "billing@demo.example" });
    match stack.call((Method::PUT, &path), &token, "-", Some(&profile)).await? {
        (201, _) => Ok(token),
        _ => Err(StackError::Part("demo workspace")),
    }
}

/// Returns the text that `cargo local` prints once the stack serves. README.md quotes it.
pub(crate) fn text(stack: &Stack, token: &str) -> Result<String, StackError> {
    let url = stack.url();
    let owner = stack.token(WORKSPACE, "credits:read credits:manage")?;
    let call = |path: &str, key: &str, body: &str| {
        format!(
            "curl -s {url}/v1/workspaces/{WORKSPACE}/{path} -H \"Authorization: Bearer $TOKEN\" \
             -H 'Content-Type: application/json' -H 'Idempotency-Key: {key}' -d '{body}'"
        )
    };
    let top_up = call("top-ups", "top-up-1", r#"{"pack":"pack_1k"}"#);
    let consumer = r#""consumer":{"kind":"action","feature":"assistant","user_id":"ada"}"#;
    let units = |output: u32| format!(r#""units":{{"input_tokens":1200,"output_tokens":{output}}}"#);
    let debit = format!(r#"{{"operation":"text.generate",{},{consumer}}}"#, units(800));
    let dear = format!(r#"{{"operation":"reasoning.chain","model":"large",{},{consumer}}}"#, units(900_000));
    Ok(format!(
        "AI Credits is running at {url}\n\n\
         Workspace \"{WORKSPACE}\" is there to try things in. Its owner's page:\n\n\
         {url}/settings/ai-credits#token={owner}\n\n\
         A token for all workspaces:\n\n\
         export TOKEN={token}\n\n\
         1. Buy 1,000 credits, and play the payer; the provider's signed webhook puts them in the balance:\n\n\
         {top_up} | grep -o 'cs_[0-9a-f]*' | head -1 | xargs -I% curl -s {url}/_local/checkouts/%/pay \
         -d '{{\"outcome\":\"succeeded\"}}'\n\n\
         2. An AI call draws credits, priced by the rate card:\n\n\
         {}\n\n\
         3. A call that the balance doesn't cover is refused, and nothing is taken:\n\n\
         {}\n\n\
         See it live: cargo local watch {WORKSPACE} --port {}, the page, or the index of mails, events and payments: {url}/\n\
         Ctrl-C stops it.",
        call("debits", "call-1", &debit),
        call("debits", "call-2", &dear),
        stack.port(),
    ))
}
