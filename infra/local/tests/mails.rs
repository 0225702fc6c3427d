//! A mail that was about to be sent when the process was killed is sent by the next one, once.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may calculate, unwrap and write to the table"
)]

use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use credits_local::{Options, Stack};
use reqwest::Client;
use serde_json::{Value, json};

async fn start(folder: &Path) -> Stack {
    drop(rustls::crypto::ring::default_provider().install_default());
    Stack::start(&Options { data: Some(folder.to_owned()), ..Options::default() }).await.unwrap()
}

/// The subjects of all mails, once nothing waits any more.
async fn subjects(stack: &Stack) -> Vec<String> {
    let (http, url) = (Client::new(), stack.url());
    http.post(format!("{url}/_local/drain")).send().await.unwrap();
    let mails: Value = http.get(format!("{url}/_local/mail")).send().await.unwrap().json().await.unwrap();
    let mails = mails.as_array().unwrap().iter();
    mails.map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
}

async fn buy(stack: &Stack) {
    let token = stack.token("*", "credits:spend credits:read credits:manage").unwrap();
    let profile = json!({ "name": "Acme", "plan": "team", "billing_email": "billing@acme.example" });
    let call = async |method: reqwest::Method, path: &str, body: &Value| {
        stack.call((method, path), &token, "key", Some(body)).await.unwrap()
    };
    assert_eq!(call(reqwest::Method::PUT, "/v1/workspaces/acme", &profile).await.0, 201);
    let pack = json!({ "pack": "pack_1k" });
    let (status, top_up) = call(reqwest::Method::POST, "/v1/workspaces/acme/top-ups", &pack).await;
    assert_eq!(status, 201, "{top_up}");
    assert!(stack.pay(top_up["checkout_id"].as_str().unwrap()).await);
}

/// Leaves the table and the stream as a kill does after a mail is claimed and before that is noted down.
async fn be_killed_while_sending(stack: Stack, folder: &Path) {
    let (client, table) = (stack.client(), stack.table().to_owned());
    let items = client.scan().table_name(&table).send().await.unwrap().items.unwrap();
    let mails = items.into_iter().filter(|item| item["pk"].as_s().unwrap().starts_with("mail#"));
    let claimed_until = stack.now().as_millisecond() + 120_000;
    let mut claimed = 0;
    for mut mail in mails {
        assert!(mail.remove("sent").is_some());
        mail.insert("claimed_until".to_owned(), AttributeValue::N(claimed_until.to_string()));
        client.put_item().table_name(&table).set_item(Some(mail)).send().await.unwrap();
        claimed += 1;
    }
    assert_eq!(claimed, 1);
    drop(stack);
    // The place in the stream is kept only behind what has been handled.
    std::fs::remove_file(folder.join("stream-iterator")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_sent_once_wherever_a_kill_meets_its_sender() {
    let folder = std::env::temp_dir().join(format!("ai-credits-mails-{}", std::process::id()));
    let stack = start(&folder).await;
    buy(&stack).await;
    let sent = subjects(&stack).await;
    assert_eq!(sent.len(), 1, "{sent:?}");

    // The mailbox has it, and its sender did not live to note that.
    be_killed_while_sending(stack, &folder).await;
    let stack = start(&folder).await;
    assert_eq!(subjects(&stack).await, sent, "it is not sent twice");

    // The mailbox does not have it.
    be_killed_while_sending(stack, &folder).await;
    std::fs::remove_file(folder.join("mail.jsonl")).unwrap();
    let stack = start(&folder).await;
    assert_eq!(subjects(&stack).await, sent, "it is not lost");
    drop(stack);
    std::fs::remove_dir_all(&folder).unwrap();
}
