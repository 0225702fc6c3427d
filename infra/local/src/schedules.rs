//! The schedules of template.yaml: when each fires next, in UTC.

use jiff::{SignedDuration, Timestamp};

use crate::template_error::TemplateError;

/// A schedule that invokes a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The name of the function's binary.
    pub function: String,
    /// The function's input, as JSON.
    pub input: String,
    pub every: Every,
}

/// The firing times of a schedule: `first_minute` minutes after each multiple of `step_minutes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    first_minute: i64,
    step_minutes: i64,
}

impl Every {
    /// Parses `cron(M/S * * * ? *)` or `rate(S minutes)`. The template uses no other form.
    pub fn parse(expression: &str) -> Result<Self, TemplateError> {
        let cron = expression.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(" * * * ? *)"));
        let rate = expression.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(" minutes)"));
        let (first, step) = match (cron.and_then(|cron| cron.split_once('/')), rate) {
            (Some(parts), _) => parts,
            (None, Some(step)) => ("0", step),
            (None, None) => return Err(TemplateError::Missing("schedule that can be read")),
        };
        let whole = |text: &str| text.parse().map_err(|_| TemplateError::Missing("schedule's minutes"));
        Ok(Self { first_minute: whole(first)?, step_minutes: whole(step)? })
    }

    /// Returns the first firing after an instant.
    #[must_use]
    pub fn after(self, instant: Timestamp) -> Timestamp {
        let step = self.step_minutes.saturating_mul(60).max(60);
        let first = self.first_minute.saturating_mul(60);
        let past = instant.as_second().saturating_sub(first);
        let steps = past.div_euclid(step).saturating_add(1);
        let seconds = first.saturating_add(steps.saturating_mul(step));
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    /// Returns the first firing at or after an instant.
    #[must_use]
    pub fn at_or_after(self, instant: Timestamp) -> Timestamp {
        self.after(instant.saturating_sub(SignedDuration::from_millis(1)).unwrap_or(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::Every;
    use jiff::Timestamp;

    #[test]
    fn a_schedule_fires_at_its_minutes() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let every = Every::parse("cron(5/15 * * * ? *)").unwrap();
        assert_eq!(every.after(at("2026-11-23T09:04:59Z")), at("2026-11-23T09:05:00Z"));
        assert_eq!(every.after(at("2026-11-23T09:05:00Z")), at("2026-11-23T09:20:00Z"));
        assert_eq!(every.at_or_after(at("2026-11-23T09:05:00Z")), at("2026-11-23T09:05:00Z"));
        let every = Every::parse("rate(5 minutes)").unwrap();
        assert_eq!(every.after(at("2026-11-23T23:57:00Z")), at("2026-11-24T00:00:00Z"));
        assert!(Every::parse("rate(1 day)").is_err());
    }
}
