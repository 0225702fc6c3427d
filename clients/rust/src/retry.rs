//! Retries: the attempts of a call and the pauses between them.

use std::time::Duration;

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The timeouts and attempts of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The maximum number of attempts, the first included.
    pub most_tries: u32,
    /// The timeout of one attempt. The service takes at most 28 seconds for a call, while it charges a card.
    pub try_timeout: Duration,
    /// The upper bound of the first pause. It doubles with each attempt, up to 2 seconds. The pause itself is random,
    /// so that clients that failed together do not retry together.
    pub first_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { most_tries: 5, try_timeout: Duration::from_secs(10), first_pause: Duration::from_millis(100) }
    }
}

impl Retry {
    /// Returns the pause after `tries` attempts: exponential backoff with full jitter, and at least what `Retry-After`
    /// asks for, up to [`MAX_PAUSE`].
    pub(crate) fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(doubled).min(MAX_PAUSE);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        // Without a random number, wait for the upper bound.
        let drawn = getrandom::u64().ok().and_then(|drawn| drawn.checked_rem(micros));
        let pause = drawn.map_or(longest, Duration::from_micros);
        pause.max(asked.unwrap_or_default().min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_PAUSE, Retry};

    #[test]
    fn pauses_grow_to_a_limit_and_respect_retry_after() {
        let retry = Retry::default();
        for tries in 1..40 {
            let longest = MAX_PAUSE.min(retry.first_pause.saturating_mul(1 << (tries - 1).min(20)));
            assert!(retry.pause(tries, None) <= longest, "{tries}");
        }
        let asked = Duration::from_secs(1);
        assert!(retry.pause(1, Some(asked)) >= asked);
        assert!(
            retry.pause(1, Some(Duration::MAX)) <= MAX_PAUSE,
            "`Retry-After` can't exceed the longest pause"
        );
    }
}
