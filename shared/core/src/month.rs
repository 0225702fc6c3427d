//! Calendar months in UTC, the unit of consumption counters (M9).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many months of counters a debit removes from the balance item, counted back from the month before the last one.
///
/// This keeps the item small without a close. If no debit comes for longer than that, at most two counters for each
/// such pause stay until the next close removes them.
const RETIRED_BY_A_DEBIT: i32 = 3;

/// A calendar month in UTC, written `YYYY-MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(Date);

/// A text that is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a month such as 2026-11")]
pub struct InvalidMonth;

impl Month {
    /// Returns the month that contains an instant.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    /// Returns the month that ends at an instant, or the month that contains it.
    #[must_use]
    pub fn before(end: Timestamp) -> Self {
        Self::of(end.saturating_sub(jiff::SignedDuration::from_millis(1)).unwrap_or(end))
    }

    /// Returns the month's first instant.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.last().end()
    }

    /// Returns the month before.
    #[must_use]
    pub fn last(self) -> Self {
        self.back(1)
    }

    /// Returns the first instant of the month after.
    #[must_use]
    pub fn end(self) -> Timestamp {
        let next = self.0.saturating_add(jiff::Span::new().months(1));
        next.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }

    /// Returns the number of days.
    #[must_use]
    pub fn days(self) -> u64 {
        self.0.days_in_month().unsigned_abs().into()
    }

    /// Returns the months whose counters a debit of this month removes from the balance item: months before the last
    /// one, as many as one update expression can reasonably name.
    pub fn retired(self) -> impl Iterator<Item = Self> {
        (2_i32..)
            .take(usize::try_from(RETIRED_BY_A_DEBIT).unwrap_or_default())
            .map(move |months| self.back(months))
    }

    fn back(self, months: i32) -> Self {
        Self(self.0.saturating_sub(jiff::Span::new().months(months)))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        if text.len() != 7 {
            return Err(InvalidMonth);
        }
        let first: Date = format!("{text}-01").parse().map_err(|_| InvalidMonth)?;
        // No credits existed before the epoch, and the month before a month has to be valid, too.
        if first.year() >= 1970 { Ok(Self(first)) } else { Err(InvalidMonth) }
    }
}

#[cfg(test)]
mod tests {
    use super::Month;

    #[test]
    fn months_are_in_utc_and_roll_over_the_year() {
        let month = Month::of("2026-01-01T00:30:00+01:00".parse().expect("an instant"));
        assert_eq!(month.to_string(), "2025-12");
        assert_eq!(
            Month::of("2026-01-31T23:59:59Z".parse().expect("an instant")).last().to_string(),
            "2025-12"
        );
        let retired: Vec<String> =
            "2026-03".parse::<Month>().expect("a month").retired().map(|m| m.to_string()).collect();
        assert_eq!(retired, ["2026-01", "2025-12", "2025-11"]);
        assert!("2026-13".parse::<Month>().is_err() && "26-01".parse::<Month>().is_err());
    }

    #[test]
    fn month_lasts_until_the_first_instant_of_the_next() {
        let month: Month = "2026-12".parse().expect("a month");
        assert_eq!(month.start().to_string(), "2026-12-01T00:00:00Z");
        assert_eq!((month.end().to_string().as_str(), month.days()), ("2027-01-01T00:00:00Z", 31));
        assert_eq!(
            (Month::of(month.start()), Month::before(month.start()).to_string()),
            (month, "2026-11".into())
        );
    }
}
