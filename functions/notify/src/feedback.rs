//! What SES tells of mails: that it has taken one, that one did not arrive, or was not wanted (SES event publishing to
//! `EventBridge`).

use serde_json::Value;

/// The tag of a mail that names the letter in it.
pub(crate) const LETTER: &str = "mail_id";

/// The letter that SES has taken.
pub(crate) fn sent(event: &Value) -> Option<&str> {
    let sent = event["detail-type"] == "Email Sent";
    sent.then(|| event["detail"]["mail"]["tags"][LETTER][0].as_str()).flatten()
}

/// The addresses that an event switches off, each with the reason.
pub(crate) fn addresses(event: &Value) -> Vec<(String, &'static str)> {
    let detail = &event["detail"];
    let (recipients, reason) = match event["detail-type"].as_str() {
        // A transient bounce, such as of a full mailbox, may pass.
        Some("Email Bounced") if detail["bounce"]["bounceType"] == "Permanent" => {
            (&detail["bounce"]["bouncedRecipients"], "bounce")
        }
        // Somebody took it out of the spam folder.
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
    fn a_permanent_bounce_and_a_complaint_switch_an_address_off_and_a_passing_bounce_does_not() {
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
