//! The forecast: the day on which credits run out at the pace of the last days (M3, M17).

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

/// The numbers of days over which the pace is taken.
pub const PACES: [u16; 2] = [7, 28];

/// The number of days that a forecast looks ahead.
const FURTHEST_DAYS: u16 = 366;

/// The input of a forecast: past consumption, the balance and the grants to come.
#[derive(Debug, Clone)]
pub struct ForecastInput<'a> {
    /// The consumption of each day, in UTC.
    pub days: &'a BTreeMap<Date, Credits>,
    /// When the workspace was created.
    pub since: Timestamp,
    pub balance: &'a Balance,
    /// The monthly grants to come: periods of a subscription, a commitment.
    pub renewals: &'a [Renewing],
}

/// Credits that are granted each month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewing {
    /// When they are granted next.
    pub at: Timestamp,
    pub monthly_credits: Amount,
}

/// What becomes of the credits at a given pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing is left now.
    OutOfCredits,
    /// The credits run out on this day.
    RunsOutOn(Date),
    /// The credits last for a year or more.
    Lasts,
}

/// A forecast at one pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The number of whole days over which the pace was taken. A new workspace has fewer than were asked for.
    pub days: u16,
    /// The average consumption of a day.
    pub credits_per_day: Credits,
    pub outlook: Outlook,
}

impl ForecastInput<'_> {
    /// Returns the forecast at the pace of the last `days` whole days; `None` before the first day has ended.
    ///
    /// If nothing is left now, the outlook is [`Outlook::OutOfCredits`] at any pace, even if credits are renewed later.
    /// Otherwise the forecast counts expiries and renewals on the way. Today is left out of the pace, because it would
    /// look slow in the morning.
    pub fn forecast(&self, now: Timestamp, days: u16) -> Result<Option<Forecast>, OutOfRange> {
        let (today, first) = (day_of(now), day_of(self.since));
        let window = (1..=days)
            .map_while(|back| today.checked_sub(Span::new().days(back)).ok())
            .take_while(|day| *day >= first);
        let taken: Vec<Credits> =
            window.map(|day| self.days.get(&day).copied().unwrap_or_default()).collect();
        let Some(count) = u16::try_from(taken.len()).ok().filter(|count| *count > 0) else { return Ok(None) };
        let pace = Credits::sum(taken)?.share(1, count.into())?;
        Ok(Some(Forecast { days: count, credits_per_day: pace, outlook: self.outlook(now, pace)? }))
    }

    fn outlook(&self, now: Timestamp, pace: Credits) -> Result<Outlook, OutOfRange> {
        let mut left = self.balance.waterfall()?;
        if left.total()?.plus(self.balance.credit_limit)? <= Credits::ZERO {
            return Ok(Outlook::OutOfCredits);
        }
        if pace.is_zero() {
            return Ok(Outlook::Lasts);
        }
        let mut renewals = self.renewals.to_vec();
        for ahead in 0..FURTHEST_DAYS {
            let Ok(at) =
                now.checked_add(jiff::SignedDuration::from_hours(24_i64.saturating_mul(ahead.into())))
            else {
                return Ok(Outlook::Lasts);
            };
            left.expire(at);
            for renewal in &mut renewals {
                while renewal.at <= at {
                    let Some(ends_at) = a_month_after(renewal.at) else { return Ok(Outlook::Lasts) };
                    left.join(&allocation(renewal.monthly_credits, ends_at))?;
                    renewal.at = ends_at;
                }
            }
            left = Waterfall::run_down(&left.grants, left.prepaid, pace)?;
            if left.total()?.plus(self.balance.credit_limit)? <= Credits::ZERO {
                return Ok(Outlook::RunsOutOn(day_of(at)));
            }
        }
        Ok(Outlook::Lasts)
    }
}

fn a_month_after(at: Timestamp) -> Option<Timestamp> {
    Some(at.to_zoned(TimeZone::UTC).checked_add(Span::new().months(1)).ok()?.timestamp())
}

fn allocation(monthly: Amount, expires_at: Timestamp) -> ExpiringGrant {
    let grant_id: Id = "forecast".parse().unwrap_or_else(|_| unreachable!("`forecast` is a valid id"));
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

    use super::{Forecast, ForecastInput, Outlook, Renewing};
    use crate::balance::Balance;
    use crate::credits::Credits;

    /// Returns a forecast after a consumption of `pace` on each day since the 10th.
    fn at_pace(pace: &str, prepaid: &str, renewal: Option<(&str, &str)>, days: u16) -> Forecast {
        let day = |day: i8| jiff::civil::date(2026, 11, day);
        let days_taken: BTreeMap<_, _> = (10..23).map(|d| (day(d), pace.parse().unwrap())).collect();
        let prepaid: Credits = prepaid.parse().unwrap();
        let balance = Balance { prepaid, spendable: prepaid, ..Balance::default() };
        let renewing = |(at, credits): (&str, &str)| Renewing {
            at: at.parse().unwrap(),
            monthly_credits: credits.parse().unwrap(),
        };
        let renewals: Vec<Renewing> = renewal.map(renewing).into_iter().collect();
        let since = "2026-11-01T08:00:00Z".parse().unwrap();
        let known = ForecastInput { days: &days_taken, since, balance: &balance, renewals: &renewals };
        known.forecast("2026-11-23T12:00:00Z".parse().unwrap(), days).unwrap().unwrap()
    }

    fn forecast(prepaid: &str, renewal: Option<(&str, &str)>, days: u16) -> Forecast {
        at_pace("10", prepaid, renewal, days)
    }

    fn on(month: i8, day: i8) -> Outlook {
        Outlook::RunsOutOn(jiff::civil::date(2026, month, day))
    }

    #[test]
    fn m03_credits_run_out_on_the_day_that_follows_from_the_pace() {
        let seven = forecast("100", None, 7);
        assert_eq!((seven.days, seven.credits_per_day.to_string().as_str()), (7, "10"));
        assert_eq!(seven.outlook, on(12, 2));
        // 130 credits over the 22 whole days since the workspace was created.
        let all = forecast("100", None, 28);
        assert_eq!((all.days, all.credits_per_day.to_string().as_str()), (22, "5.90909"));
        assert_eq!(all.outlook, on(12, 9));
    }

    #[test]
    fn m03_zero_or_less_is_out_of_credits_at_any_pace() {
        for owned in ["0", "-20"] {
            for pace in ["0", "10"] {
                for renewal in [None, Some(("2026-11-30T00:00:00Z", "400"))] {
                    let outlook = at_pace(pace, owned, renewal, 7).outlook;
                    assert_eq!(outlook, Outlook::OutOfCredits, "{owned} at {pace} with {renewal:?}");
                }
            }
        }
        assert_eq!(at_pace("0", "0.000001", None, 7).outlook, Outlook::Lasts);
        assert_eq!(forecast("0.000001", None, 7).outlook, on(11, 23));
    }

    #[test]
    fn renewal_that_covers_the_pace_lasts_and_less_runs_out_later() {
        assert_eq!(forecast("100", Some(("2026-11-30T00:00:00Z", "400")), 7).outlook, Outlook::Lasts);
        let scarce = forecast("100", Some(("2026-11-30T00:00:00Z", "250")), 7).outlook;
        let Outlook::RunsOutOn(day) = scarce else { panic!("{scarce:?}") };
        assert!(day > jiff::civil::date(2026, 12, 20), "{day}");
    }

    #[test]
    fn no_forecast_before_a_whole_day_has_passed() {
        let balance = Balance::default();
        let since = "2026-11-23T08:00:00Z".parse().unwrap();
        let known = ForecastInput { days: &BTreeMap::new(), since, balance: &balance, renewals: &[] };
        assert_eq!(known.forecast("2026-11-23T23:00:00Z".parse().unwrap(), 7).unwrap(), None);
    }
}
