//! Retries: how long a call is tried, and the pauses between its attempts.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest pause between two attempts, unless `Retry-After` asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The timeouts of a call and the pauses between its attempts. The number of attempts has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The time for a call with its retries. A retry whose pause would end after it is not made.
    pub deadline: Duration,
    /// The timeout of one attempt. The service takes at most 28 seconds for a call, while it charges a card.
    pub attempt_timeout: Duration,
    /// The upper bound of the first pause. It doubles with each attempt, up to 2 seconds. The pause itself is random,
    /// so that clients that failed together do not retry together.
    pub first_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(100),
        }
    }
}

impl Retry {
    /// Returns the pause after a number of attempts: exponential backoff with full jitter, and at least `retry_after`.
    pub(crate) fn pause(&self, attempts: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(doubled).min(MAX_PAUSE);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        // Without a random number, wait for the upper bound.
        let drawn = getrandom::u64().ok().and_then(|drawn| drawn.checked_rem(micros));
        drawn.map_or(longest, Duration::from_micros).max(retry_after.unwrap_or_default())
    }
}

/// Reads `Retry-After`: seconds, or an HTTP date. One that is neither is ignored.
#[expect(clippy::disallowed_methods, reason = "an HTTP date is compared with the clock of this machine")]
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::{MAX_PAUSE, Retry, retry_after};

    #[test]
    fn pauses_grow_to_a_limit_that_retry_after_exceeds() {
        let retry = Retry::default();
        for attempts in 1..40 {
            let longest = MAX_PAUSE.min(retry.first_pause.saturating_mul(1 << (attempts - 1).min(20)));
            assert!(retry.pause(attempts, None) <= longest, "{attempts}");
        }
        let draws: std::collections::BTreeSet<Duration> = (0..20).map(|_| retry.pause(9, None)).collect();
        assert!(draws.len() > 1, "the pause is random");
        assert_eq!(retry.pause(1, Some(Duration::from_mins(1))), Duration::from_mins(1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an HTTP date is compared with the clock of this machine")]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]))
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        for ignored in ["soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "18446744073709551616"] {
            assert_eq!(of(ignored), None, "{ignored}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
        assert!(of(&date).is_some_and(|pause| pause > Duration::from_mins(59)), "{date}");
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
