//! The stack's clock: the machine's clock plus an offset that `POST /_local/clock` increases.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use credits_aws::sources::{SystemClock, SystemRandomness};
use credits_store::{Clock, Sources};
use jiff::{SignedDuration, Timestamp};

use crate::folder;
use crate::stack_error::StackError;

/// The largest offset of the clock, in seconds: a hundred years.
const MAX_SECONDS: i64 = 100 * 366 * 24 * 60 * 60;

/// A clock that can be moved ahead. A stack with a folder keeps the offset in it.
#[derive(Debug)]
pub(crate) struct LocalClock {
    offset_millis: AtomicI64,
    file: Option<PathBuf>,
}

impl LocalClock {
    /// Opens the clock at the offset in its folder. Without one, it starts at `begins_at`, or else at the machine's
    /// time.
    pub fn open(folder: Option<&Path>, begins_at: Option<Timestamp>) -> Result<Arc<Self>, StackError> {
        let file = folder.map(|folder| folder.join("clock-offset-millis"));
        let kept = match &file {
            Some(file) if file.exists() => {
                let offset = std::fs::read_to_string(file)?.trim().parse();
                Some(offset.map_err(|_| StackError::Part("clock from its file"))?)
            }
            _ => None,
        };
        let begins = begins_at.map(|begins| begins.duration_since(SystemClock.now()).as_millis());
        let begins = begins.and_then(|offset| i64::try_from(offset).ok());
        Ok(Arc::new(Self { offset_millis: AtomicI64::new(kept.or(begins).unwrap_or(0)), file }))
    }

    /// Returns the time in this many seconds; `None` if that is in the past or more than a hundred years ahead of the
    /// machine's clock.
    pub fn ahead(&self, seconds: i64) -> Option<Timestamp> {
        let target = self.now().checked_add(SignedDuration::from_secs(seconds)).ok()?;
        let moved = target.duration_since(SystemClock.now()).as_secs();
        Some(target).filter(|_| seconds >= 0 && moved <= MAX_SECONDS)
    }

    /// Moves the clock ahead to an instant. An earlier instant changes nothing.
    pub fn move_to(&self, instant: Timestamp) -> Result<(), StackError> {
        let moved = instant.duration_since(SystemClock.now()).as_millis();
        let moved = i64::try_from(moved).unwrap_or(i64::MAX).max(self.offset_millis.load(Ordering::Acquire));
        if let Some(file) = &self.file {
            folder::keep(file, moved.to_string())?;
        }
        self.offset_millis.store(moved, Ordering::Release);
        Ok(())
    }

    /// Returns this clock with the machine's randomness, as the functions need them.
    pub fn sources(self: &Arc<Self>) -> Sources {
        let clock: Arc<dyn Clock> = Arc::<Self>::clone(self);
        Sources::new(clock, Arc::new(SystemRandomness))
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset_millis.load(Ordering::Acquire));
        SystemClock.now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }
}
