//! The forecast: at the pace of the last days, the day on which credits run out (M3, M17).

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::balance::Balance;
use crate::claw_back::Clawed;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, GrantKind};
use crate::id::Id;
use crate::usage::day_of;
use crate::waterfall::Waterfall;

/// Over how many days the pace is taken.
pub const PACES: [u16; 2] = [7, 28];

/// How many days ahead a forecast looks.
const FURTHEST_DAYS: u16 = 366;

/// What is known of the days before, and of what is to come.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// What was consumed on each day, in UTC.
    pub days: &'a BTreeMap<Date, Credits>,
    /// When the workspace was made.
    pub since: Timestamp,
    /// The balance.
    pub balance: &'a Balance,
    /// When the subscription renews, and with how much; `None` where none does.
    pub renewal: Option<(Timestamp, Amount)>,
}

/// A forecast at one pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Over how many whole days the pace was taken: at most those that the workspace has seen.
    pub days: u16,
    /// What a day took.
    pub credits_per_day: Credits,
    /// The day on which credits run out; `None` where they last for a year or more.
    pub runs_out_on: Option<Date>,
}

impl Known<'_> {
    /// The forecast at the pace of the last whole days; `None` before the first of them has ended.
    ///
    /// What expires on the way is gone, and what the subscription renews is there. Today is left out of the pace, which
    /// would look slow in the morning.
    pub fn forecast(&self, now: Timestamp, days: u16) -> Result<Option<Forecast>, OutOfRange> {
        let (today, first) = (day_of(now), day_of(self.since));
        let window = (1..=days)
            .map_while(|back| today.checked_sub(Span::new().days(back)).ok())
            .take_while(|day| *day >= first);
        let taken: Vec<Credits> =
            window.map(|day| self.days.get(&day).copied().unwrap_or_default()).collect();
        let Some(count) = u16::try_from(taken.len()).ok().filter(|count| *count > 0) else { return Ok(None) };
        let pace = Credits::sum(taken)?.share(1, count.into())?;
        let runs_out_on = if pace.is_zero() { None } else { self.runs_out(now, pace)? };
        Ok(Some(Forecast { days: count, credits_per_day: pace, runs_out_on }))
    }

    fn runs_out(&self, now: Timestamp, pace: Credits) -> Result<Option<Date>, OutOfRange> {
        let mut left = self.balance.waterfall()?;
        let mut renewal = self.renewal;
        for ahead in 0..FURTHEST_DAYS {
            let Ok(at) =
                now.checked_add(jiff::SignedDuration::from_hours(24_i64.saturating_mul(ahead.into())))
            else {
                return Ok(None);
            };
            left.expire(at);
            while let Some((renews_at, monthly)) = renewal.filter(|(renews_at, _)| *renews_at <= at) {
                let Some(ends_at) = a_month_after(renews_at) else { return Ok(None) };
                left.join(&allocation(monthly, ends_at))?;
                renewal = Some((ends_at, monthly));
            }
            left = Waterfall::run_down(&left.grants, left.prepaid, pace)?;
            if left.total()?.plus(self.balance.credit_limit)? <= Credits::ZERO {
                return Ok(Some(day_of(at)));
            }
        }
        Ok(None)
    }
}

fn a_month_after(at: Timestamp) -> Option<Timestamp> {
    Some(at.to_zoned(TimeZone::UTC).checked_add(Span::new().months(1)).ok()?.timestamp())
}

fn allocation(monthly: Amount, expires_at: Timestamp) -> ExpiringGrant {
    let grant_id: Id = "forecast".parse().unwrap_or_else(|_| unreachable!("it is an id"));
    let amount = monthly.credits();
    ExpiringGrant {
        grant_id,
        kind: GrantKind::Allocation,
        granted: monthly,
        amount,
        expires_at,
        clawed: Clawed::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Forecast, Known};
    use crate::balance::Balance;

    fn forecast(prepaid: &str, renewal: Option<(&str, &str)>, days: u16) -> Option<Forecast> {
        let amount = |credits: &str| credits.parse::<crate::credits::Amount>().unwrap();
        let day = |day: i8| jiff::civil::date(2026, 11, day);
        let days_taken: BTreeMap<_, _> = (10..23).map(|d| (day(d), "10".parse().unwrap())).collect();
        let prepaid = amount(prepaid).credits();
        let balance = Balance { prepaid, spendable: prepaid, ..Balance::default() };
        let renewal = renewal.map(|(at, credits)| (at.parse().unwrap(), amount(credits)));
        let since = "2026-11-01T08:00:00Z".parse().unwrap();
        let known = Known { days: &days_taken, since, balance: &balance, renewal };
        known.forecast("2026-11-23T12:00:00Z".parse().unwrap(), days).unwrap()
    }

    #[test]
    fn m03_credits_run_out_on_the_day_that_the_pace_says() {
        let seven = forecast("100", None, 7).unwrap();
        assert_eq!((seven.days, seven.credits_per_day.to_string().as_str()), (7, "10"));
        assert_eq!(seven.runs_out_on, Some(jiff::civil::date(2026, 12, 2)));
        // 130 over the 22 whole days that there were.
        let all = forecast("100", None, 28).unwrap();
        assert_eq!((all.days, all.credits_per_day.to_string().as_str()), (22, "5.90909"));
        assert_eq!(all.runs_out_on, Some(jiff::civil::date(2026, 12, 9)));
    }

    #[test]
    fn a_subscription_that_covers_the_pace_never_runs_out_and_one_that_does_not_lasts_longer() {
        assert_eq!(forecast("100", Some(("2026-11-30T00:00:00Z", "400")), 7).unwrap().runs_out_on, None);
        let scarce = forecast("100", Some(("2026-11-30T00:00:00Z", "250")), 7).unwrap().runs_out_on;
        assert!(scarce > Some(jiff::civil::date(2026, 12, 20)), "{scarce:?}");
    }

    #[test]
    fn there_is_no_forecast_before_a_day_has_ended() {
        let balance = Balance::default();
        let since = "2026-11-23T08:00:00Z".parse().unwrap();
        let known = Known { days: &BTreeMap::new(), since, balance: &balance, renewal: None };
        assert_eq!(known.forecast("2026-11-23T23:00:00Z".parse().unwrap(), 7).unwrap(), None);
    }
}
