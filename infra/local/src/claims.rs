//! Claims of mails after a restart. The invocations that held them ended with the process before.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::id::Id;
use credits_store::{Fault, Store};

use crate::mailbox::Mailbox;

/// The prefix of a mail's partition key.
const PREFIX: &str = "mail#";

/// Ends every open claim: the mail was sent if the mailbox has it; if not, the event that comes again sends it.
///
/// A claim lasts for two minutes, and Lambda tries an event again for three. The stack tries again at once, so a claim that
/// was left open would cost the mail.
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
                store.mail_sent(mail_id).await?;
            } else {
                store.release_mail(mail_id, &claim).await?;
            }
        }
        from = page.last_evaluated_key;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// The mail of an item, and its claim.
fn named(item: &HashMap<String, AttributeValue>) -> Option<(&str, Id)> {
    let text = |name: &str| Some(item.get(name)?.as_s().ok()?.as_str());
    text("pk")?.strip_prefix(PREFIX).zip(text("claim")?.parse().ok())
}
