//! Mail claims after a restart: the invocations that held them ended with the previous process.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::Id;
use credits_store::{Fault, Store};

use crate::mailbox::Mailbox;

/// The prefix of a mail item's partition key.
const PREFIX: &str = "mail#";

/// Ends every open claim. A mail that the mailbox has is marked as sent. Any other claim is released, and the
/// redelivered event sends the mail.
///
/// A claim lasts two minutes, and Lambda retries an event for three. The stack retries at once, so a claim left open
/// would lose the mail.
pub(crate) async fn end_all(
    (client, table): (&Client, &str),
    store: &Store,
    mailbox: &Mailbox,
) -> Result<(), Fault> {
    let mut from = None;
    loop {
        let page = client
            .scan()
            .table_name(table)
            .filter_expression(
                "begins_with(#pk, :mail) AND attribute_exists(#until) AND attribute_not_exists(#sent)",
            )
            .expression_attribute_names("#pk", "pk")
            .expression_attribute_names("#until", "claimed_until")
            .expression_attribute_names("#sent", "sent")
            .expression_attribute_values(":mail", AttributeValue::S(PREFIX.to_owned()))
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| Fault::Unavailable(Box::new(error.into())))?;
        for (mail_id, claim) in page.items().iter().filter_map(named) {
            if mailbox.has(mail_id) {
                store.mails().sent(mail_id).await?;
            } else {
                store.mails().release(mail_id, &claim).await?;
            }
        }
        from = page.last_evaluated_key;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Returns the id of an item's mail, and its claim.
fn named(item: &HashMap<String, AttributeValue>) -> Option<(&str, Id)> {
    let text = |name: &str| Some(item.get(name)?.as_s().ok()?.as_str());
    text("pk")?.strip_prefix(PREFIX).zip(text("claim")?.parse().ok())
}
