//! The stand-in for SES: a mailbox that accepts `SendEmail`. A stack with a folder keeps the mails in a file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use credits_store::Clock;
use credits_store::error::Chain;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{StackError, folder};

/// The tag that carries a mail's id.
const MAIL_ID: &str = "mail_id";

/// An accepted mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub to: Vec<String>,
    from: String,
    pub subject: String,
    text: String,
    pub html: String,
    pub at: Timestamp,
    /// The id that the sender gave the mail in a tag.
    #[serde(rename = "mail_id", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Debug)]
pub struct Mailbox {
    file: Option<PathBuf>,
    kept: Mutex<MailboxState>,
}

#[derive(Debug, Default)]
struct MailboxState {
    mails: Vec<Mail>,
    /// How many of the next mails are throttled, as SES does above its sending rate.
    refusals: u64,
    /// How many of the next mails are accepted without an answer.
    silences: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail {
    from_email_address: String,
    destination: Destination,
    content: Content,
    #[serde(default)]
    email_tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    to_addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    simple: Simple,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Simple {
    subject: Text,
    body: Body,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    text: Text,
    html: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Text {
    data: String,
}

/// Why a mail is not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The sending rate is exceeded.
    TooFast,
    /// The body is not a `SendEmail` request.
    Unread(serde_json::Error),
}

/// An accepted mail, for the answer.
#[derive(Debug)]
pub struct Taken {
    /// The mail's tags, in the form of SES's events.
    pub tags: Value,
    /// Whether the sender gets an answer.
    pub answered: bool,
}

impl Mailbox {
    /// Opens the mailbox with the mails in its folder.
    pub fn open(folder: Option<&Path>) -> Result<Self, StackError> {
        let file = folder.map(|folder| folder.join("mail.jsonl"));
        let lines = file.as_deref().map(folder::whole_lines).transpose()?.unwrap_or_default();
        let mails = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
        Ok(Self { file, kept: Mutex::new(MailboxState { mails, ..MailboxState::default() }) })
    }

    /// Handles `SendEmail`.
    pub fn take(&self, body: &[u8], clock: &dyn Clock) -> Result<Taken, Refused> {
        let mut kept = self.kept();
        if kept.refusals > 0 {
            kept.refusals = kept.refusals.saturating_sub(1);
            return Err(Refused::TooFast);
        }
        let sent: SendEmail = serde_json::from_slice(body).map_err(Refused::Unread)?;
        let Simple { subject, body } = sent.content.simple;
        let mail = Mail {
            to: sent.destination.to_addresses,
            from: sent.from_email_address,
            subject: subject.data,
            text: body.text.data,
            html: body.html.data,
            at: clock.now(),
            id: sent.email_tags.iter().find(|tag| tag.name == MAIL_ID).map(|tag| tag.value.clone()),
        };
        self.keep(&mail);
        kept.mails.push(mail);
        let answered = kept.silences == 0;
        kept.silences = kept.silences.saturating_sub(1);
        let tags = sent.email_tags.into_iter().map(|tag| (tag.name, json!([tag.value])));
        Ok(Taken { tags: tags.collect(), answered })
    }

    /// Returns whether a mail with this id was accepted.
    pub fn has(&self, mail_id: &str) -> bool {
        self.kept().mails.iter().any(|mail| mail.id.as_deref() == Some(mail_id))
    }

    /// Returns all mails, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        self.kept().mails.clone()
    }

    /// Throttles this many of the next mails.
    pub fn refuse(&self, count: u64) {
        self.kept().refusals = count;
    }

    /// Accepts this many of the next mails without an answer.
    pub fn be_silent(&self, count: u64) {
        self.kept().silences = count;
    }

    /// Appends a mail to the file, as one line.
    fn keep(&self, mail: &Mail) {
        let Some(file) = &self.file else { return };
        let line = serde_json::to_string(mail).map_err(StackError::from);
        if let Err(error) = line.and_then(|line| Ok(folder::add_line(file, &line)?)) {
            tracing::error!(error = %Chain(&error), "could not write the mail to its file");
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, MailboxState> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
