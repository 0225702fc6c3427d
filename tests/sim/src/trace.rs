//! The trace: one line for each call, fault and commit, the same for the same seed, byte for byte.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use credits_store::Clock;
use model::VirtualClock;

/// The lines so far.
#[derive(Debug)]
pub struct Trace {
    clock: VirtualClock,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    /// An empty one.
    #[must_use]
    pub fn new(clock: VirtualClock) -> Self {
        Self { clock, lines: Mutex::default() }
    }

    /// Adds a line, with the instant.
    pub fn line(&self, text: &str) {
        self.lines.lock().unwrap().push(format!("{:.3} {text}", self.clock.now()));
    }

    /// All lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// What tells two traces apart in a line.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.lines.lock().unwrap().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}
