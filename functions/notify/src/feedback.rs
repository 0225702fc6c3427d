//! The events that SES publishes to `EventBridge` about mails: sent, bounced, or complained about.

use serde_json::Value;

/// The SES message tag whose value is the letter's `mail_id`.
pub(crate) const LETTER: &str = "mail_id";

/// Returns the `mail_id` of a mail that SES has accepted; `None` for any other event.
pub(crate) fn sent(event: &Value) -> Option<&str> {
    let sent = event["detail-type"] == "Email Sent";
    sent.then(|| event["detail"]["mail"]["tags"][LETTER][0].as_str()).flatten()
}

/// Returns the addresses that an event switches off, each with the reason.
pub(crate) fn addresses(event: &Value) -> Vec<(String, &'static str)> {
    let detail = &event["detail"];
    let (recipients, reason) = match event["detail-type"].as_str() {
        // Only a permanent bounce switches an address off. A transient one, for example of a full mailbox, does not.
        Some("Email Bounced") if detail["bounce"]["bounceType"] == "Permanent" => {
            (&detail["bounce"]["bouncedRecipients"], "bounce")
        }
        // The recipient moved the mail out of the spam folder.
        Some("Email Complaint Received") if detail["complaint"]["complaintFeedbackType"] == "not-spam" => {
            return Vec::new();
        }
        Some("Email Complaint Received") => (&detail["complaint"]["complainedRecipients"], "complaint"),
        _ => return Vec::new(),
    };
    let named = recipients.as_array().into_iter().flatten();
    named.filter_map(|recipient| Some((recipient["emailAddress"].as_str()?.to_owned(), reason))).collect()
}

#[cfg(test)]
mod tests {
    use super::addresses;
    use serde_json::json;

    #[test]
    fn permanent_bounces_and_complaints_switch_an_address_off() {
        let bounced = |kind: &str| {
            json!({ "source": "aws.ses", "detail-type": "Email Bounced", "detail": { "eventType": "Bounce",
                "bounce": { "bounceType": kind, "bouncedRecipients": [{ "emailAddress": "a@acme.example" }] } } })
        };
        assert_eq!(addresses(&bounced("Permanent")), [("a@acme.example".to_owned(), "bounce")]);
        assert!(addresses(&bounced("Transient")).is_empty());
        let complained = json!({ "source": "aws.ses", "detail-type": "Email Complaint Received", "detail": {
            "complaint": { "complainedRecipients": [{ "emailAddress": "b@acme.example" }] } } });
        assert_eq!(addresses(&complained), [("b@acme.example".to_owned(), "complaint")]);
    }
}
