//! When to try again, and when to stop.

use std::time::Duration;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Times and tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often a call is tried at most.
    pub most_tries: u32,
    /// How long one try may take. The longest that a call takes on our side is 28 seconds, while a card is charged.
    pub try_timeout: Duration,
    /// The longest first pause; each further one may be twice as long. How long it really is, is drawn by lot, so that
    /// clients that failed together don't come back together.
    pub first_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { most_tries: 5, try_timeout: Duration::from_secs(10), first_pause: Duration::from_millis(100) }
    }
}

impl Retry {
    /// The pause after so many tries: full jitter, and no shorter than the answer asked for.
    pub(crate) fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(doubled).min(LONGEST_PAUSE);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        // Without randomness it waits the longest.
        let drawn = getrandom::u64().ok().and_then(|drawn| drawn.checked_rem(micros));
        let pause = drawn.map_or(longest, Duration::from_micros);
        pause.max(asked.unwrap_or_default().min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST_PAUSE, Retry};

    #[test]
    fn pauses_grow_to_a_limit_and_are_no_shorter_than_asked_for() {
        let retry = Retry::default();
        for tries in 1..40 {
            let longest = LONGEST_PAUSE.min(retry.first_pause.saturating_mul(1 << (tries - 1).min(20)));
            assert!(retry.pause(tries, None) <= longest, "{tries}");
        }
        let asked = Duration::from_secs(1);
        assert!(retry.pause(1, Some(asked)) >= asked);
        assert!(
            retry.pause(1, Some(Duration::MAX)) <= LONGEST_PAUSE,
            "no answer may stop the client for good"
        );
    }
}
