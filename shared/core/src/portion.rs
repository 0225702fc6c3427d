//! Portions of commitments: the days of a month on which a commitment is in force (M8).
//!
//! A month has `D` days in UTC. A commitment has `C` credits and a price of `P` minor units a month. If it is in force
//! on `d` of the days, the first and the last included, it grants and costs:
//!
//! ```text
//! credits(d) = C · d / D    rounded up to a millionth of a credit
//! price(d)   = P · d / D    rounded half up to a minor unit
//! ```
//!
//! All `g` days up to the month's end are granted at once. If the commitment ends earlier, after `d` of them, the
//! unused credits beyond `credits(d)` are taken back. The used credits beyond `credits(d)` are charged. If `K` credits
//! were kept:
//!
//! ```text
//! K      = credits(g) − taken back,    so credits(d) ≤ K ≤ credits(g)
//! amount = price(d)                                           if K = credits(d)
//! amount = P · K / C, at least price(d), at most price(g)     otherwise, rounded half up
//! ```

use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::invoice::InvoiceLine;
use crate::month::Month;
use crate::price::Price;

/// A monthly commitment: credits that are granted each month at a fixed price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    pub monthly_credits: Amount,
    /// The price of a whole month.
    pub price: Price,
}

/// The days of a month on which a commitment is in force. Its grant is for the days up to the month's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// The terms of the grant.
    pub commitment: Commitment,
    /// Distinguishes the workspace's grants of commitments, from 1; 0 for a grant by an older version.
    pub number: u64,
    /// The first day of the month on which the commitment is in force, from 1.
    pub first_day: u64,
    /// The last day on which it is in force; 0 if the portion was withdrawn before the month began.
    pub last_day: u64,
    /// Whether the excess of an early end was taken back.
    pub taken_back: bool,
}

impl Portion {
    /// Creates the portion from a day to the month's end.
    #[must_use]
    pub fn from(first_day: u64, month: Month, commitment: Commitment, number: u64) -> Self {
        Self { commitment, number, first_day, last_day: month.days(), taken_back: false }
    }

    /// Returns whether the portion ended before its month did.
    #[must_use]
    pub fn has_ended_early(&self, month: Month) -> bool {
        self.last_day < month.days()
    }

    /// Returns whether the portion was withdrawn before its month began.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.last_day == 0
    }

    /// Ends the portion with a day. It is in force on its first day at least.
    pub fn end(&mut self, day: u64) {
        self.last_day = day.max(self.first_day);
    }

    /// Returns the credits that the portion grants.
    pub fn granted(&self, month: Month) -> Result<Amount, OutOfRange> {
        let credits = self.credits(days(self.first_day, month.days()), month)?;
        Amount::new(credits).map_err(|_| OutOfRange)
    }

    /// Returns the credits that an early end takes back if they are unused; `None` if it takes nothing.
    pub fn excess(&self, month: Month) -> Result<Option<Amount>, OutOfRange> {
        let kept = self.credits(days(self.first_day, self.last_day), month)?;
        Ok(Amount::new(self.granted(month)?.credits().minus(kept)?).ok())
    }

    /// Returns the line of the month's invoice. `taken_back` is the credits that the early end has taken back.
    pub fn line(&self, month: Month, taken_back: Credits) -> Result<InvoiceLine, OutOfRange> {
        let (granted, whole) = (self.granted(month)?.credits(), month.days());
        let kept = granted.minus(taken_back)?;
        let in_force = days(self.first_day, self.last_day);
        let least = self.price(in_force.into(), whole.into())?;
        let amount_minor = if kept == self.credits(in_force, month)? {
            least
        } else {
            let monthly = self.commitment.monthly_credits.credits();
            let used = self.price(micros(kept)?, micros(monthly)?)?;
            used.max(least).min(self.price(days(self.first_day, whole).into(), whole.into())?)
        };
        Ok(InvoiceLine { description: self.description(month), credits: kept, amount_minor })
    }

    /// Returns the text of the invoice's line, which lists the days unless they are the whole month.
    #[must_use]
    pub fn description(&self, month: Month) -> String {
        let (first, last, whole) = (self.first_day, self.last_day, month.days());
        if first == 1 && last == whole {
            return "Monthly commitment".to_owned();
        }
        format!("Monthly commitment, days {first} to {last} of {whole}")
    }

    fn credits(&self, in_force: u64, month: Month) -> Result<Credits, OutOfRange> {
        let (monthly, whole) = (self.commitment.monthly_credits.credits(), month.days());
        // A share is rounded down, so the difference is rounded up.
        monthly.minus(monthly.share(whole.saturating_sub(in_force), whole)?)
    }

    /// Returns `part / whole` of a month's price, rounded half up.
    fn price(&self, part: u128, whole: u128) -> Result<u64, OutOfRange> {
        let doubled = u128::from(self.commitment.price.amount_minor).checked_mul(part);
        let doubled = doubled.and_then(|product| product.checked_mul(2)?.checked_add(whole));
        let rounded = doubled.zip(whole.checked_mul(2)).and_then(|(sum, twice)| sum.checked_div(twice));
        u64::try_from(rounded.ok_or(OutOfRange)?).map_err(|_| OutOfRange)
    }
}

fn days(first: u64, last: u64) -> u64 {
    last.saturating_add(1).saturating_sub(first)
}

fn micros(credits: Credits) -> Result<u128, OutOfRange> {
    u128::try_from(credits.micros()?).map_err(|_| OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::{Commitment, Portion};
    use crate::credits::{Amount, Credits};
    use crate::month::Month;
    use crate::price::Price;

    fn november() -> Month {
        "2026-11".parse().unwrap()
    }

    fn portion(credits: &str, amount_minor: u64, first_day: u64) -> Portion {
        let price = Price { amount_minor, currency: "USD".parse().unwrap() };
        let commitment = Commitment { monthly_credits: credits.parse().unwrap(), price };
        Portion::from(first_day, november(), commitment, 1)
    }

    fn ended(credits: &str, amount_minor: u64, first_day: u64, last_day: u64) -> Portion {
        let mut portion = portion(credits, amount_minor, first_day);
        portion.end(last_day);
        portion
    }

    fn line(portion: &Portion, taken_back: &str) -> (String, String, u64) {
        let line = portion.line(november(), taken_back.parse().unwrap()).unwrap();
        (line.description, line.credits.to_string(), line.amount_minor)
    }

    #[test]
    fn m08_whole_month_grants_and_costs_the_agreed_terms() {
        let whole = portion("5000", 50_000, 1);
        assert_eq!(whole.granted(november()).unwrap().to_string(), "5000");
        assert_eq!(line(&whole, "0"), ("Monthly commitment".to_owned(), "5000".to_owned(), 50_000));
        assert_eq!(whole.excess(november()).unwrap(), None);
    }

    #[test]
    fn m08_commitment_that_starts_within_a_month_is_prorated() {
        let late = portion("1000", 1_000, 24);
        // 7 of 30 days: 233.333333… credits are rounded up, 233.33… cents half up.
        assert_eq!(late.granted(november()).unwrap().to_string(), "233.333334");
        let text = "Monthly commitment, days 24 to 30 of 30";
        assert_eq!(line(&late, "0"), (text.to_owned(), "233.333334".to_owned(), 233));
        let last = portion("0.000001", 15, 30);
        assert_eq!(
            (last.granted(november()).unwrap().to_string().as_str(), line(&last, "0").2),
            ("0.000001", 1)
        );
    }

    #[test]
    fn m08_commitment_that_ends_within_a_month_keeps_its_days() {
        let left = ended("3000", 6_000, 1, 10);
        assert_eq!(left.excess(november()).unwrap().unwrap().to_string(), "2000");
        let text = "Monthly commitment, days 1 to 10 of 30";
        assert_eq!(line(&left, "2000"), (text.to_owned(), "1000".to_owned(), 2_000));
        let one_day = ended("3000", 6_000, 20, 20);
        assert_eq!(one_day.excess(november()).unwrap().unwrap().to_string(), "1000");
        assert_eq!(line(&one_day, "1000").2, 200);
    }

    #[test]
    fn m08_credits_used_beyond_the_days_are_charged() {
        let left = ended("3000", 6_000, 1, 10);
        // 2,500 credits were used, so only 500 of the 2,000 excess credits were left.
        assert_eq!(line(&left, "500"), (left.description(november()), "2500".to_owned(), 5_000));
        assert_eq!(line(&left, "0").2, 6_000);
    }

    /// For each pair of days and each use, the amount is at least the days' price and at most the grant's, and grows
    /// with use.
    #[test]
    fn m08_amount_is_between_the_prices_of_its_days_and_its_grant() {
        for (first, last) in (1..=30).flat_map(|first| (first..=30).map(move |last| (first, last))) {
            let portion = ended("7.000003", 1_001, first, last);
            let granted = portion.granted(november()).unwrap().credits();
            let excess = portion.excess(november()).unwrap().map_or(Credits::ZERO, Amount::credits);
            let least = line(&portion, &excess.to_string()).2;
            assert_eq!(least, (2 * 1_001 * (last - first + 1) + 30) / 60, "{first} to {last}");
            let mut before = least;
            for part in (0..=10).rev() {
                let taken = excess.share(part, 10).unwrap();
                let amount = portion.line(november(), taken).unwrap().amount_minor;
                assert!(amount >= before, "{first} to {last}: {amount} after {before}");
                before = amount;
            }
            assert_eq!(before, (2 * 1_001 * (31 - first) + 30) / 60, "all {granted} credits were used");
        }
    }
}
