//! The real clock and randomness: the only module that reads either.

use std::sync::Arc;

use credits_store::{Clock, Randomness, Sources};
use jiff::Timestamp;

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The operating system's random number generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this module reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness two ids could be equal, and a charge could count as a replay of another.
        getrandom::fill(bytes)
            .unwrap_or_else(|error| panic!("the operating system returned no randomness: {error}"));
    }
}

/// Returns the clock and randomness of a deployed function.
#[must_use]
pub fn system() -> Sources {
    Sources::new(Arc::new(SystemClock), Arc::new(SystemRandomness))
}
