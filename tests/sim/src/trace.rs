//! The trace: one line for each call, fault and commit. The same seed gives the same bytes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use credits_store::Clock;
use model::VirtualClock;

/// The lines of a run.
#[derive(Debug)]
pub struct SimTrace {
    clock: VirtualClock,
    lines: Mutex<Vec<String>>,
}

impl SimTrace {
    /// Creates an empty trace.
    #[must_use]
    pub fn new(clock: VirtualClock) -> Self {
        Self { clock, lines: Mutex::default() }
    }

    /// Adds a line with the current time.
    pub fn line(&self, text: &str) {
        self.lines.lock().unwrap().push(format!("{:.3} {text}", self.clock.now()));
    }

    /// Returns all lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Returns a hash of all lines.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.lines.lock().unwrap().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}
