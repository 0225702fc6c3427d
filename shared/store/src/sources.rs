//! Inputs from outside: the clock and randomness. They are passed in, so that a simulation can supply its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Debug;
use std::sync::Arc;

use credits_core::id::Id;
use jiff::Timestamp;

/// A clock.
pub trait Clock: Debug + Send + Sync {
    /// Returns the present instant.
    fn now(&self) -> Timestamp;
}

/// A source of random bytes for ids and jitter. Nothing secret is made of them.
pub trait Randomness: Debug + Send + Sync {
    /// Fills the buffer with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// A clock and a source of randomness.
#[derive(Debug, Clone)]
pub struct Sources {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

impl Sources {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness }
    }

    /// Returns the present instant, truncated to the millisecond.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Creates an id: a prefix that names its kind, and a UUID of version 7, so that ids sort by time.
    #[must_use]
    pub fn new_id(&self, prefix: &str) -> Id {
        let text = format!("{prefix}_{}", self.new_uuid().simple());
        text.parse().unwrap_or_else(|_| unreachable!("a prefix and 32 hex digits form a valid id"))
    }

    /// Creates an id with 22 characters after its prefix, for items that have to be short.
    #[must_use]
    pub fn new_short_id(&self, prefix: &str) -> Id {
        let text = format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(self.new_uuid()));
        text.parse().unwrap_or_else(|_| unreachable!("a prefix and 22 base64 digits form a valid id"))
    }

    /// Returns when [`Self::new_id`] created an id; `None` for an id of another form.
    #[must_use]
    pub fn made_at(id: &Id) -> Option<Timestamp> {
        let (_, uuid) = id.as_str().rsplit_once('_')?;
        let (seconds, nanos) = uuid::Uuid::try_parse(uuid).ok()?.get_timestamp()?.to_unix();
        Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
    }

    fn new_uuid(&self) -> uuid::Uuid {
        let mut random = [0; 10];
        self.randomness.fill(&mut random);
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Returns a number below `bound`, for jitter.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.randomness.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}
