//! Mails, claimed by the event that they report, so that one event makes one mail; and addresses that get no mails.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::Id;
use jiff::SignedDuration;

use crate::error::Fault;
use crate::table::Store;
use crate::table::attribute::{Reader, instant, text, time_to_live};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};
use crate::table::transaction::{Reason, TransactionOutcome};

/// How long a claim lasts: longer than an invocation, so the owner of an expired claim has stopped.
const CLAIM_LASTS: SignedDuration = SignedDuration::from_mins(2);

/// How long a sent mail is remembered: much longer than any queue redelivers.
pub(crate) const MAIL_RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The result of claiming a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailClaim {
    /// The caller sends it, under this claim.
    Ours(Id),
    /// It was sent before.
    Sent,
    /// Another invocation is sending it.
    Busy,
}

/// Records of mails.
#[derive(Debug, Clone, Copy)]
pub struct MailStore<'a> {
    pub(crate) store: &'a Store,
}

impl MailStore<'_> {
    /// Claims a mail, so that no other invocation sends it.
    ///
    /// DynamoDB's clock times the claims, since the clocks of two functions may differ by more than a claim lasts.
    pub async fn claim(self, mail_id: &str) -> Result<MailClaim, Fault> {
        let (key, claim) = (ItemKey::mail(mail_id), self.store.sources.new_id("claim"));
        let mut attempts = self.store.attempts();
        loop {
            let (_, now) = self.store.get_dated(&key).await?;
            let until = now.checked_add(CLAIM_LASTS).unwrap_or(now);
            // A released claim counts as none, and so does one whose owner has stopped.
            let write = Expression::new()
                .set("claim", text(claim.as_str()))
                .set("claimed_until", instant(until))
                .set("ttl", time_to_live(now, MAIL_RETENTION))
                .when_absent("sent")
                .when_absent_or("claimed_until", "<", instant(now));
            let outcome = self.store.transact(vec![write.update(&self.store.table, &key)?]).await?;
            match outcome {
                TransactionOutcome::Written => return Ok(MailClaim::Ours(claim)),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match reasons.first() {
                    Some(Reason::Condition(Some(item))) if item.contains_key("sent") => {
                        return Ok(MailClaim::Sent);
                    }
                    Some(Reason::Condition(Some(item))) => {
                        // The claim is this call's if the response to an earlier attempt was lost.
                        let ours = Reader(item).optional_text("claim") == Some(claim.as_str());
                        return Ok(if ours { MailClaim::Ours(claim) } else { MailClaim::Busy });
                    }
                    _ => attempts.retry_after_conflict().await?,
                },
            }
        }
    }

    /// Records that a claimed mail was sent.
    pub async fn sent(self, mail_id: &str) -> Result<(), Fault> {
        let now = self.store.now();
        let sent = Expression::new().set("sent", instant(now)).set("ttl", time_to_live(now, MAIL_RETENTION));
        self.store.update_unless_changed(sent, &ItemKey::mail(mail_id)).await
    }

    /// Releases a claim, so that the next attempt need not wait for its end.
    pub async fn release(self, mail_id: &str, claim: &Id) -> Result<(), Fault> {
        let ours = Expression::new().remove("claimed_until").when("claim", "=", text(claim.as_str()));
        self.store.update_unless_changed(ours, &ItemKey::mail(mail_id)).await
    }

    /// Stops mails to an address, because they bounce or its owner has complained.
    pub async fn switch_off_address(self, address: &str, reason: &'static str) -> Result<(), Fault> {
        let off = Expression::new().set("reason", text(reason)).set("since", instant(self.store.now()));
        self.store.update_unless_changed(off, &ItemKey::address(address)).await
    }

    /// Returns whether mails to an address are stopped.
    pub async fn is_switched_off(self, address: &str) -> Result<bool, Fault> {
        Ok(self.store.get(&ItemKey::address(address)).await?.is_some())
    }

    /// Builds the write that records an event as counted. It belongs in the transaction that counts the event, and its
    /// condition fails if the event was counted before.
    pub(crate) fn fact_write(self, event_id: &str, role: &str) -> Result<TransactWriteItem, Fault> {
        let fact = Expression::new()
            .set("role", text(role))
            .set("ttl", time_to_live(self.store.now(), MAIL_RETENTION))
            .when_absent(PK);
        Ok(fact.update(&self.store.table, &ItemKey::fact(event_id))?)
    }
}
