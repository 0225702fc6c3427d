//! Exact conversion of a provider's cost to credits.

use credits_core::credit_rate::{CreditRate, Per};
use credits_core::credits::Credits;
use rust_decimal::Decimal;

/// The factor from costs to credits: `markup ÷ credit`. Both are above zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    pub markup: Decimal,
    /// The price of a credit in the currency of the costs.
    pub credit: Decimal,
}

/// Why a cost has no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Inconvertible {
    #[error("has too many digits for an exact calculation")]
    TooManyDigits,
    #[error("is above 0, but comes to a rate that rounds to 0 credits")]
    RoundsToZero,
    #[error("comes to a rate above 1000000 credits")]
    TooLarge,
}

impl Conversion {
    /// Returns the credits for a cost, rounded half up to six digits. The cost must not be negative.
    ///
    /// Calculates in integers, because a product of decimals would be rounded silently after 28 digits.
    pub(crate) fn rate(self, cost: Decimal) -> Result<CreditRate, Inconvertible> {
        let micros = self.micros(cost).ok_or(Inconvertible::TooManyDigits)?;
        if micros == 0 && !cost.is_zero() {
            return Err(Inconvertible::RoundsToZero);
        }
        let credits = i128::try_from(micros).ok().and_then(|micros| Credits::from_micros(micros).ok());
        credits.and_then(|credits| CreditRate::new(credits).ok()).ok_or(Inconvertible::TooLarge)
    }

    fn micros(self, cost: Decimal) -> Option<u128> {
        let [cost, markup, credit] = [cost, self.markup, self.credit].map(|number| number.normalize());
        let [cost_digits, markup_digits, credit_digits] =
            [cost, markup, credit].map(|number| u128::try_from(number.mantissa()));
        let raised = credit.scale().checked_add(credits_core::credits::FRACTION_DIGITS)?;
        let lowered = cost.scale().checked_add(markup.scale())?;
        let numerator = cost_digits
            .ok()?
            .checked_mul(markup_digits.ok()?)?
            .checked_mul(power_of_ten(raised.saturating_sub(lowered))?)?;
        let denominator = credit_digits.ok()?.checked_mul(power_of_ten(lowered.saturating_sub(raised))?)?;
        // ⌊n/d + 1/2⌋ = ⌊(2n + d) / 2d⌋
        numerator.checked_mul(2)?.checked_add(denominator)?.checked_div(denominator.checked_mul(2)?)
    }
}

/// Returns the cost of `per` units from that of one; `None` if a decimal can't hold it.
pub(crate) fn cost_of_many(cost: Decimal, per: Per) -> Option<Decimal> {
    times_power_of_ten(cost, i32::try_from(u64::from(per).ilog10()).ok()?)
}

/// Parses a number of JSON exactly; `None` if a decimal can't hold it.
pub(crate) fn parse_number(text: &str) -> Option<Decimal> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    times_power_of_ten(Decimal::from_str_exact(digits).ok()?, exponent.parse().ok()?)
}

fn times_power_of_ten(number: Decimal, exponent: i32) -> Option<Decimal> {
    let mut number = number.normalize();
    let scale = i32::try_from(number.scale()).ok()?.checked_sub(exponent)?;
    if number.is_zero() {
        Some(Decimal::ZERO)
    } else if let Ok(scale) = u32::try_from(scale) {
        number.set_scale(scale).ok()?;
        Some(number.normalize())
    } else {
        let factor = i128::try_from(power_of_ten(scale.unsigned_abs())?).ok()?;
        Decimal::try_from_i128_with_scale(number.mantissa().checked_mul(factor)?, 0).ok()
    }
}

fn power_of_ten(exponent: u32) -> Option<u128> {
    10_u128.checked_pow(exponent)
}

#[cfg(test)]
mod tests {
    use credits_core::credit_rate::{CreditRate, Per};
    use rust_decimal::Decimal;

    use super::{Conversion, Inconvertible, cost_of_many, parse_number};

    fn number(text: &str) -> Decimal {
        parse_number(text).unwrap()
    }

    fn rate(cost: &str, markup: &str, credit: &str) -> Result<CreditRate, Inconvertible> {
        Conversion { markup: number(markup), credit: number(credit) }.rate(number(cost))
    }

    #[test]
    fn numbers_are_parsed_from_their_text() {
        for (text, expected) in [
            ("1.5e-07", "0.00000015"),
            ("1.5E-7", "0.00000015"),
            ("1e+3", "1000"),
            ("12.50e1", "125"),
            ("0.060", "0.06"),
            ("0e-99", "0"),
            ("-0.0", "0"),
            ("7", "7"),
            // A float of 64 bits would round the last digits.
            ("0.1234567890123456789012345678", "0.1234567890123456789012345678"),
        ] {
            assert_eq!(number(text).to_string(), expected, "{text}");
        }
        for text in ["1e-29", "1e29", "0.12345678901234567890123456789", "1e9999999999", "", "NaN"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn cost_of_many_units_is_exact() {
        assert_eq!(cost_of_many(number("1.5e-07"), Per::Million), Some(number("0.15")));
        assert_eq!(cost_of_many(number("0.04"), Per::One), Some(number("0.04")));
        assert_eq!(cost_of_many(number("1e28"), Per::Thousand), None);
    }

    #[test]
    fn rate_is_exact_and_rounded_half_up_once() {
        for (cost, markup, credit, credits) in [
            ("0.15", "1.4", "0.01", "21"),
            ("0", "1.4", "0.01", "0"),
            ("0.0000005", "1", "1", "0.000001"),
            ("0.0000014999999", "1", "1", "0.000001"),
            ("0.0000015", "1", "1", "0.000002"),
            // A third and two thirds never end.
            ("1", "1", "3", "0.333333"),
            ("2", "1", "3", "0.666667"),
            ("1000000", "1", "1", "1000000"),
            ("1000000.0000004", "1", "1", "1000000"),
        ] {
            assert_eq!(rate(cost, markup, credit), Ok(credits.parse().unwrap()), "{cost} {markup} {credit}");
        }
        assert_eq!(rate("0.00000049", "1", "1"), Err(Inconvertible::RoundsToZero));
        assert_eq!(rate("1000000.0000005", "1", "1"), Err(Inconvertible::TooLarge));
        assert_eq!(rate("1e20", "1", "1"), Err(Inconvertible::TooLarge));
        let many = "0.1234567890123456789012345678";
        assert_eq!(rate(many, many, "1"), Err(Inconvertible::TooManyDigits));
    }
}
