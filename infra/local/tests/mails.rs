//! A kill while a mail is being sent: the restarted stack sends the mail once.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests may calculate, unwrap and write to the table"
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

/// Processes all waiting work, and returns the subjects of all mails.
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

/// Sets the table and the stream to the state of a kill after a mail's claim and before the mail is marked as sent.
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
    // The stack keeps the stream's position only after it has processed the records.
    std::fs::remove_file(folder.join("stream-iterator")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_neither_loses_nor_repeats_a_mail() {
    let folder = std::env::temp_dir().join(format!("ai-credits-mails-{}", std::process::id()));
    let stack = start(&folder).await;
    buy(&stack).await;
    let sent = subjects(&stack).await;
    assert_eq!(sent.len(), 1, "{sent:?}");

    // The mailbox has the mail, but the mail is not marked as sent.
    be_killed_while_sending(stack, &folder).await;
    let stack = start(&folder).await;
    assert_eq!(subjects(&stack).await, sent, "the mail is sent once");

    // The mailbox does not have the mail.
    be_killed_while_sending(stack, &folder).await;
    std::fs::remove_file(folder.join("mail.jsonl")).unwrap();
    let stack = start(&folder).await;
    assert_eq!(subjects(&stack).await, sent, "the mail is not lost");
    drop(stack);
    std::fs::remove_dir_all(&folder).unwrap();
}
