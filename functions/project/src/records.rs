//! The records of a batch, each parsed once.

use credits_store::error::Corrupt;
use credits_store::stream::{ItemChange, Record, UnreadRecord};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::facts::{self, OutgoingEvent};

/// The `detail-type` of the event that reports a record that can't be read.
pub const UNREAD: &str = "RecordUnread";

/// A parsed record of a batch.
#[derive(Debug)]
pub(crate) struct ParsedRecord<'a> {
    raw: &'a Value,
    /// When the record was written, to the second; the epoch if the record can't be read.
    pub at: Timestamp,
    /// `None` if nothing follows from the write, or the record can't be read.
    pub written: Option<ItemChange>,
    /// The events that follow from the write.
    pub events: Vec<OutgoingEvent>,
    /// Why the record can't be read; `None` if it can.
    pub unread: Option<Unread>,
}

/// Why a record can't be read. A retry would fail again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// It is not a record of a DynamoDB stream.
    #[error("the record can't be read")]
    Record(#[from] UnreadRecord),
    /// An item in it does not have the store's format.
    #[error("the record's item can't be read")]
    Corrupt(#[from] Corrupt),
}

impl<'a> ParsedRecord<'a> {
    /// Parses a record of Lambda's event.
    pub fn read(raw: &'a Value) -> Self {
        let read = || {
            let record = Record::parse(raw)?;
            let written = record.read()?;
            let events = written.as_ref().map(facts::of).transpose().map_err(Corrupt::from)?;
            Ok((record.at, written, events.unwrap_or_default()))
        };
        match read() {
            Ok((at, written, events)) => Self { raw, at, written, events, unread: None },
            Err(unread) => {
                let (at, events) = (Timestamp::UNIX_EPOCH, Vec::new());
                Self { raw, at, written: None, events, unread: Some(unread) }
            }
        }
    }

    /// Returns the record's place in its shard.
    pub fn sequence_number(&self) -> String {
        self.raw["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the event that reports this record as unreadable: its ids, its key and the reason, but not its content.
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
    /// Returns the reason without any content of the items.
    pub fn reason(&self) -> String {
        match self {
            Self::Corrupt(corrupt) => corrupt.to_string(),
            why @ Self::Record(_) => why.to_string(),
        }
    }
}
