//! The records of a batch, each read once.

use credits_store::error::Corrupt;
use credits_store::stream::{Record, UnreadRecord, Written};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::facts::{self, Told};

/// The `detail-type` of a record that can't be read.
pub const UNREAD: &str = "RecordUnread";

/// A record of a batch, with what was written, if anything follows from it.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    raw: &'a Value,
    /// When it was written, to the second.
    pub at: Timestamp,
    /// What was written; `None` if nothing follows from it, or it can't be read.
    pub written: Option<Written>,
    /// The facts that follow from it.
    pub facts: Vec<Told>,
    /// Why it can't be read.
    pub unread: Option<Unread>,
}

/// Why a record can't be read, and never will be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// It is no record of the stream.
    #[error("the record can't be read")]
    Record(#[from] UnreadRecord),
    /// An item in it is not as we write it.
    #[error("the record's item can't be read")]
    Corrupt(#[from] Corrupt),
}

impl<'a> Known<'a> {
    /// Reads a record of Lambda's event.
    pub fn read(raw: &'a Value) -> Self {
        let read = || {
            let record = Record::parse(raw)?;
            let written = record.read()?;
            let facts = written.as_ref().map(facts::of).transpose().map_err(Corrupt::from)?;
            Ok((record.at, written, facts.unwrap_or_default()))
        };
        match read() {
            Ok((at, written, facts)) => Self { raw, at, written, facts, unread: None },
            Err(unread) => {
                let (at, facts) = (Timestamp::UNIX_EPOCH, Vec::new());
                Self { raw, at, written: None, facts, unread: Some(unread) }
            }
        }
    }

    /// Its place in its shard.
    pub fn sequence_number(&self) -> String {
        self.raw["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned()
    }

    /// What is told of a record that can't be read: which one, and why, and nothing of what is in it.
    pub fn laid_aside(&self, why: &Unread) -> Value {
        json!({
            "event_id": format!("unread-{}", self.raw["eventID"].as_str().unwrap_or_default()),
            "record_id": self.raw["eventID"],
            "keys": self.raw["dynamodb"]["Keys"],
            "sequence_number": self.raw["dynamodb"]["SequenceNumber"],
            "reason": why.reason(),
        })
    }
}

impl Unread {
    /// Why, without what its items hold.
    pub fn reason(&self) -> String {
        match self {
            Self::Corrupt(corrupt) => corrupt.to_string(),
            why @ Self::Record(_) => why.to_string(),
        }
    }
}
