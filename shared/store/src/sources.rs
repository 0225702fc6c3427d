//! What the outside gives: the clock and randomness, passed in so that a simulation can give its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Debug;
use std::sync::Arc;

use credits_core::id::Id;
use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes, for ids and for jitter; nothing secret is made of them.
pub trait Randomness: Debug + Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// A clock and randomness.
#[derive(Debug, Clone)]
pub struct Sources {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

impl Sources {
    /// Takes a clock and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness }
    }

    /// The present instant, cut to the millisecond.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// A new id: a prefix that tells what it names, and a UUID of version 7, so that ids sort by time.
    #[must_use]
    pub fn new_id(&self, prefix: &str) -> Id {
        let text = format!("{prefix}_{}", self.new_uuid().simple());
        text.parse().unwrap_or_else(|_| unreachable!("a prefix and 32 hex digits are an id"))
    }

    /// A new id of 22 characters behind its prefix, for items that have to be short.
    #[must_use]
    pub fn new_short_id(&self, prefix: &str) -> Id {
        let text = format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(self.new_uuid()));
        text.parse().unwrap_or_else(|_| unreachable!("a prefix and 22 digits of base 64 are an id"))
    }

    /// When [`Self::new_id`] made an id; `None` for an id of another form.
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

    /// A number below `bound`, for jitter.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.randomness.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}
