//! The table's stream, read as Lambda's poller does: in order, and again from where it was not worked off.

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

/// How many records an invocation gets, as in template.yaml.
const BATCH: usize = 1_000;

/// Where the reading has got to; in a file where the stack has a folder.
pub(crate) struct Stream {
    database: Option<dynoxide::Database>,
    file: Option<PathBuf>,
    iterator: Mutex<String>,
    /// Whether nothing is handed over.
    held: bool,
}

/// Records, and where the reading goes on once they are worked off.
#[derive(Debug)]
pub(crate) struct Batch {
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

    /// The next records, if there are any.
    pub fn next(&self, clock: &LocalClock) -> Option<Batch> {
        if self.held {
            return None;
        }
        let iterator = self.iterator.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.read(iterator, clock)
    }

    /// A batch of records from a place on, or from the beginning, whatever has been worked off; and the place after it.
    pub fn from(&self, place: Option<String>, clock: &LocalClock) -> Option<(Vec<Value>, String)> {
        let place = place.unwrap_or_else(|| encode_shard_iterator(TABLE, &shard_id(TABLE), 0));
        self.read(place, clock).map(|batch| (batch.records, batch.next))
    }

    fn read(&self, shard_iterator: String, clock: &LocalClock) -> Option<Batch> {
        let read =
            self.database.as_ref()?.get_records(GetRecordsRequest { shard_iterator, limit: Some(BATCH) });
        let read = read.inspect_err(|error| tracing::error!(%error, "the stream can't be read")).ok()?;
        let next = read.next_shard_iterator.filter(|_| !read.records.is_empty())?;
        let mut records = Vec::new();
        for record in &read.records {
            let mut record = json!(record);
            // The database has the machine's clock, and the stack one of its own.
            record["dynamodb"]["ApproximateCreationDateTime"] = json!(clock.now().as_second());
            records.push(record);
        }
        Some(Batch { records, next })
    }

    /// Goes on behind a batch that is worked off.
    pub fn go_on(&self, batch: Batch) {
        if let Some(file) = &self.file
            && let Err(error) = folder::keep(file, &batch.next)
        {
            tracing::error!(%error, "the stream's place could not be kept");
        }
        *self.iterator.lock().unwrap_or_else(PoisonError::into_inner) = batch.next;
    }
}
