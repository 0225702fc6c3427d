//! The one room that reads the real clock and real randomness.

use std::sync::Arc;

use credits_store::{Clock, Randomness, Sources};
use jiff::Timestamp;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the room that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        // Without the kernel's randomness two ids could be one, and a charge could pass for another's replay.
        getrandom::fill(bytes)
            .unwrap_or_else(|error| panic!("the operating system gives no randomness: {error}"));
    }
}

/// The sources of a deployed function.
#[must_use]
pub fn system() -> Sources {
    Sources::new(Arc::new(SystemClock), Arc::new(SystemRandomness))
}
