//! The reader of the table's stream. As Lambda's poller, it delivers records in order, and repeats a batch that failed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use credits_store::Clock;
use dynoxide::actions::get_records::GetRecordsRequest;
use dynoxide::actions::get_shard_iterator::{decode_shard_iterator, encode_shard_iterator};
use dynoxide::streams::shard_id;
use serde_json::{Value, json};

use crate::clock::LocalClock;
use crate::database::{TABLE, trim_stream};
use crate::{StackError, folder};

/// The largest number of records in a batch, as in template.yaml.
const BATCH: usize = 1_000;

/// A reader of the stream with its position. A stack with a folder keeps the position in a file.
pub(crate) struct Stream {
    database: Option<dynoxide::Database>,
    file: Option<PathBuf>,
    iterator: Mutex<String>,
    /// Whether delivery is switched off.
    held: bool,
}

/// A batch of records, and the position after it.
#[derive(Debug)]
pub(crate) struct RecordBatch {
    pub records: Vec<Value>,
    next: String,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("iterator", &self.iterator).finish_non_exhaustive()
    }
}

impl Stream {
    pub fn open(
        database: Option<dynoxide::Database>,
        folder: Option<&Path>,
        held: bool,
    ) -> Result<Self, StackError> {
        let file = folder.map(|folder| folder.join("stream-iterator"));
        let kept = match &file {
            Some(file) if file.exists() => Some(std::fs::read_to_string(file)?),
            _ => None,
        };
        if let Some((folder, (_, _, position))) = folder.zip(kept.as_deref().and_then(decode_shard_iterator))
        {
            trim_stream(&folder.join("table.db"), position)?;
        }
        let iterator = kept.unwrap_or_else(|| encode_shard_iterator(TABLE, &shard_id(TABLE), 0));
        Ok(Self { database, file, iterator: Mutex::new(iterator), held })
    }

    /// Returns the next batch; `None` if there are no records or delivery is switched off.
    pub fn next(&self, clock: &LocalClock) -> Option<RecordBatch> {
        if self.held {
            return None;
        }
        let iterator = self.iterator.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.read(iterator, clock)
    }

    /// Returns a batch of records after a position, or from the beginning, and the position after it. It ignores and
    /// keeps the reader's own position.
    pub fn from(&self, place: Option<String>, clock: &LocalClock) -> Option<(Vec<Value>, String)> {
        let place = place.unwrap_or_else(|| encode_shard_iterator(TABLE, &shard_id(TABLE), 0));
        self.read(place, clock).map(|batch| (batch.records, batch.next))
    }

    fn read(&self, shard_iterator: String, clock: &LocalClock) -> Option<RecordBatch> {
        let read =
            self.database.as_ref()?.get_records(GetRecordsRequest { shard_iterator, limit: Some(BATCH) });
        let read = read.inspect_err(|error| tracing::error!(%error, "could not read the stream")).ok()?;
        let next = read.next_shard_iterator.filter(|_| !read.records.is_empty())?;
        let mut records = Vec::new();
        for record in &read.records {
            let mut record = json!(record);
            // The database dates records with the machine's clock. The stack's clock may be ahead of it.
            record["dynamodb"]["ApproximateCreationDateTime"] = json!(clock.now().as_second());
            records.push(record);
        }
        Some(RecordBatch { records, next })
    }

    /// Moves the position behind a processed batch.
    pub fn go_on(&self, batch: RecordBatch) {
        if let Some(file) = &self.file
            && let Err(error) = folder::keep(file, &batch.next)
        {
            tracing::error!(%error, "could not write the stream's position to its file");
        }
        *self.iterator.lock().unwrap_or_else(PoisonError::into_inner) = batch.next;
    }
}
