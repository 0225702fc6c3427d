//! A clock that follows tokio's clock, which may be paused, and randomness from a seed.

use std::sync::atomic::{AtomicU64, Ordering};

use credits_store::{Clock, Randomness};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A virtual clock: an initial instant plus the time that tokio's clock has advanced since.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    began: Instant,
    at: Timestamp,
}

impl VirtualClock {
    /// Creates a clock that starts at an instant.
    #[must_use]
    pub fn at(instant: &str) -> Self {
        Self { began: Instant::now(), at: instant.parse().unwrap() }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.at + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }
}

/// A generator of numbers from a seed (`SplitMix64`).
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Returns the next number.
    pub fn next(&self) -> u64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        let mut mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `least` to `most`, both included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

/// A source of ids and jitter from a seed.
#[derive(Debug)]
pub struct Seeded(Dice);

impl Seeded {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(Dice::of(seed))
    }
}

impl Randomness for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}
