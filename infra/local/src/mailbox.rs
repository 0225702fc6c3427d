//! The stand-in of SES: a mailbox that takes what `SendEmail` sends, in a file where the stack has a folder.

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

/// A mail that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// To whom.
    pub to: Vec<String>,
    from: String,
    /// What it is about.
    pub subject: String,
    text: String,
    /// Its HTML.
    pub html: String,
    at: Timestamp,
    /// The id that its sender knows it by.
    #[serde(rename = "mail_id", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// The mailbox.
#[derive(Debug)]
pub struct Mailbox {
    file: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    mails: Vec<Mail>,
    /// How many of the next mails are refused, as SES does when it is asked too fast.
    refusals: u64,
    /// How many of the next mails are taken without an answer.
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

/// Why a mail is not taken.
#[derive(Debug)]
pub enum Refused {
    /// They come too fast.
    TooFast,
    /// It is not what `SendEmail` takes.
    Unread(serde_json::Error),
}

/// A mail that was taken.
#[derive(Debug)]
pub struct Taken {
    /// Its tags, as SES's events have them.
    pub tags: Value,
    /// Whether its sender is told.
    pub answered: bool,
}

impl Mailbox {
    /// Opens the mailbox, with the mails that its folder kept.
    pub fn open(folder: Option<&Path>) -> Result<Self, StackError> {
        let file = folder.map(|folder| folder.join("mail.jsonl"));
        let lines = file.as_deref().map(folder::whole_lines).transpose()?.unwrap_or_default();
        let mails = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
        Ok(Self { file, kept: Mutex::new(Kept { mails, ..Kept::default() }) })
    }

    /// `SendEmail`
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

    /// Whether a mail of this id was taken.
    pub fn has(&self, mail_id: &str) -> bool {
        self.kept().mails.iter().any(|mail| mail.id.as_deref() == Some(mail_id))
    }

    /// All mails, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        self.kept().mails.clone()
    }

    /// Refuses so many of the next mails.
    pub fn refuse(&self, count: u64) {
        self.kept().refusals = count;
    }

    /// Takes so many of the next mails without an answer.
    pub fn be_silent(&self, count: u64) {
        self.kept().silences = count;
    }

    /// Keeps a mail in a line of its own.
    fn keep(&self, mail: &Mail) {
        let Some(file) = &self.file else { return };
        let line = serde_json::to_string(mail).map_err(StackError::from);
        if let Err(error) = line.and_then(|line| Ok(folder::add_line(file, &line)?)) {
            tracing::error!(error = %Chain(&error), "the mailbox could not be kept");
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
