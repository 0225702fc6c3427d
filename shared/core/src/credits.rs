//! Credits: exact decimal quantities with at most six fractional digits, and checked arithmetic.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The maximum number of fractional digits of a quantity of credits (docs/api.md).
pub const FRACTION_DIGITS: u32 = 6;

/// The maximum number of integer digits of an amount in a request (docs/api.md).
pub const INTEGER_DIGITS: usize = 12;

/// A signed quantity of credits, exact to six fractional digits.
///
/// Used wherever a quantity may be zero or negative: a balance, a sum, a ledger entry. An [`Amount`] is always
/// positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(Decimal);

/// The error of a quantity that a decimal of 28 digits can't hold exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quantity of credits is out of range")]
pub struct OutOfRange;

/// Why a text is not a quantity of credits, or a quantity is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseCreditsError {
    /// The text has a sign, exponent, padding zero or another character that is not allowed.
    #[error("must be a plain decimal, such as \"3.4\", without padding zeros")]
    NotDecimal,
    /// The text has more than six fractional digits.
    #[error("must have at most 6 fractional digits")]
    TooPrecise,
    /// The text has more than twelve integer digits.
    #[error("must have at most 12 integer digits")]
    TooLarge,
    /// The quantity is zero or negative where it must be positive.
    #[error("must be more than zero")]
    NotPositive,
}

impl Credits {
    pub const ZERO: Self = Self(Decimal::ZERO);
    pub const ONE: Self = Self(Decimal::ONE);

    /// Makes a quantity from millionths of a credit. Fails if a decimal can't hold it exactly.
    pub fn from_micros(micros: i128) -> Result<Self, OutOfRange> {
        Decimal::try_from_i128_with_scale(micros, FRACTION_DIGITS).map(Self).map_err(|_| OutOfRange)
    }

    /// Parses a number as a database writes it, which may have an exponent or padding zeros.
    pub fn from_number(digits: &str) -> Result<Self, OutOfRange> {
        let parsed = Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits));
        parsed.map_or(Err(OutOfRange), |number| Self::exact(number.normalize()))
    }

    /// Returns the quantity in millionths of a credit.
    pub fn micros(self) -> Result<i128, OutOfRange> {
        if self.0.scale() > FRACTION_DIGITS {
            return Err(OutOfRange);
        }
        let mut scaled = self.0;
        scaled.rescale(FRACTION_DIGITS);
        if scaled.scale() == FRACTION_DIGITS { Ok(scaled.mantissa()) } else { Err(OutOfRange) }
    }

    /// Returns the sum of two quantities.
    pub fn plus(self, other: Self) -> Result<Self, OutOfRange> {
        self.0.checked_add(other.0).map_or(Err(OutOfRange), Self::exact)
    }

    /// Returns the quantity less another.
    pub fn minus(self, other: Self) -> Result<Self, OutOfRange> {
        self.0.checked_sub(other.0).map_or(Err(OutOfRange), Self::exact)
    }

    /// Returns the sum of many quantities.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Result<Self, OutOfRange> {
        parts.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// Returns a multiple of the quantity.
    pub fn times(self, count: u16) -> Result<Self, OutOfRange> {
        self.0.checked_mul(Decimal::from(count)).map_or(Err(OutOfRange), Self::exact)
    }

    /// Returns the quantity with the opposite sign.
    #[must_use]
    pub fn negated(self) -> Self {
        let mut flipped = self.0;
        flipped.set_sign_negative(self.0.is_sign_positive());
        Self(flipped)
    }

    /// Returns the quantity, or zero if it is negative.
    #[must_use]
    pub fn or_zero(self) -> Self {
        self.max(Self::ZERO)
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Returns the quantity times `numerator / denominator`, rounded down to six fractional digits.
    ///
    /// Used for partial refunds: rounding down favours the customer. The quantity must not be negative. Fails if
    /// `denominator` is zero.
    pub fn share(self, numerator: u64, denominator: u64) -> Result<Self, OutOfRange> {
        let whole = self.micros()?.checked_mul(i128::from(numerator)).ok_or(OutOfRange)?;
        Self::from_micros(whole.checked_div(i128::from(denominator)).ok_or(OutOfRange)?)
    }

    /// Makes a quantity of a decimal that has at most six fractional digits.
    ///
    /// `Decimal` rounds silently when its digits run out. A sum of credits must fail instead.
    fn exact(sum: Decimal) -> Result<Self, OutOfRange> {
        let credits = Self(sum);
        credits.micros().map(|_| credits)
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() { f.write_str("0") } else { write!(f, "{}", self.0.normalize()) }
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Credits {
    type Err = ParseCreditsError;

    fn from_str(text: &str) -> Result<Self, ParseCreditsError> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (integer, fraction) = match unsigned.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (unsigned, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(integer) || !fraction.is_none_or(digits) || (integer.len() > 1 && integer.starts_with('0'))
        {
            return Err(ParseCreditsError::NotDecimal);
        }
        if fraction.is_some_and(|fraction| fraction.len() > 6) {
            return Err(ParseCreditsError::TooPrecise);
        }
        if fraction.is_some_and(|fraction| fraction.ends_with('0')) {
            return Err(ParseCreditsError::NotDecimal);
        }
        let value = Decimal::from_str_exact(text).map_err(|_| ParseCreditsError::TooLarge)?;
        Self::exact(value).map_err(|_| ParseCreditsError::TooLarge)
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A positive quantity of credits: the price of a call, the size of a pack, a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Credits);

impl Amount {
    /// A millionth of a credit.
    pub const LEAST: Self = Self(Credits(Decimal::from_parts(1, 0, 0, false, FRACTION_DIGITS)));

    /// Makes an amount of a quantity. Fails at or below zero, and above twelve integer digits.
    pub fn new(credits: Credits) -> Result<Self, ParseCreditsError> {
        if credits <= Credits::ZERO {
            return Err(ParseCreditsError::NotPositive);
        }
        if credits.0 >= Decimal::from(1_000_000_000_000_u64) {
            return Err(ParseCreditsError::TooLarge);
        }
        Ok(Self(credits))
    }

    /// Returns the amount as a signed quantity.
    #[must_use]
    pub fn credits(self) -> Credits {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = ParseCreditsError;

    fn from_str(text: &str) -> Result<Self, ParseCreditsError> {
        let integer_digits = text.split('.').next().map_or(0, str::len);
        match text.parse() {
            Ok(credits) => Self::new(credits),
            Err(ParseCreditsError::NotDecimal) => Err(ParseCreditsError::NotDecimal),
            Err(_) if integer_digits > INTEGER_DIGITS => Err(ParseCreditsError::TooLarge),
            Err(refused) => Err(refused),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The price of a call: an [`Amount`], or zero if its rates come to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CallPrice(Credits);

impl CallPrice {
    pub const ZERO: Self = Self(Credits::ZERO);

    /// Makes a price of a quantity. Fails below zero, and above twelve integer digits.
    pub fn new(credits: Credits) -> Result<Self, ParseCreditsError> {
        if credits.is_zero() { Ok(Self::ZERO) } else { Amount::new(credits).map(Self::from) }
    }

    /// Returns the price as a signed quantity.
    #[must_use]
    pub fn credits(self) -> Credits {
        self.0
    }
}

impl From<Amount> for CallPrice {
    fn from(amount: Amount) -> Self {
        Self(amount.0)
    }
}

impl<'de> Deserialize<'de> for CallPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for CallPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallPrice {
    type Err = ParseCreditsError;

    fn from_str(text: &str) -> Result<Self, ParseCreditsError> {
        Self::new(text.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, CallPrice, Credits, ParseCreditsError};

    #[test]
    fn credits_are_plain_decimals_of_at_most_six_digits() {
        for good in ["0", "3.4", "-12.000001", "999999999999.999999", "1"] {
            assert_eq!(good.parse::<Credits>().map(|credits| credits.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "1.", ".5", "+1", "1e3", "01", "1.50", "0x1", " 1", "1_000", "٣", "--1", "NaN"]
        {
            assert_eq!(bad.parse::<Credits>(), Err(ParseCreditsError::NotDecimal), "{bad:?}");
        }
        assert_eq!("0.0000001".parse::<Credits>(), Err(ParseCreditsError::TooPrecise));
    }

    #[test]
    fn an_amount_is_positive_and_has_at_most_twelve_integer_digits() {
        assert_eq!("0".parse::<Amount>(), Err(ParseCreditsError::NotPositive));
        assert_eq!("-3".parse::<Amount>(), Err(ParseCreditsError::NotPositive));
        assert_eq!("1000000000000".parse::<Amount>(), Err(ParseCreditsError::TooLarge));
        assert_eq!(format!("1{}", "0".repeat(30)).parse::<Amount>(), Err(ParseCreditsError::TooLarge));
        assert!("999999999999.999999".parse::<Amount>().is_ok());
    }

    #[test]
    fn a_call_price_is_an_amount_or_zero() {
        assert_eq!("0".parse(), Ok(CallPrice::ZERO));
        assert_eq!("3.4".parse(), Ok(CallPrice::from("3.4".parse::<Amount>().unwrap())));
        assert_eq!("-3".parse::<CallPrice>(), Err(ParseCreditsError::NotPositive));
        assert_eq!("1000000000000".parse::<CallPrice>(), Err(ParseCreditsError::TooLarge));
    }

    #[test]
    fn sums_that_a_decimal_cannot_hold_exactly_are_refused() {
        let large = Credits::from_micros(70_000_000_000_000_000_000_000_000_000).expect("fits a decimal");
        assert!(large.plus(large).is_err());
        assert!(large.negated().minus(large).is_err());
    }

    #[test]
    fn share_is_rounded_down_and_a_full_share_is_exact() {
        let pack: Credits = "1000".parse().expect("a plain decimal");
        assert_eq!(pack.share(1, 3).expect("a third is in range").to_string(), "333.333333");
        assert_eq!(pack.share(999, 999), Ok(pack));
    }

    #[test]
    fn number_with_exponent_or_padding_zeros_is_parsed() {
        for (written, read) in [("1E3", "1000"), ("001.500", "1.5"), ("-2.5e-1", "-0.25"), ("0E+5", "0")] {
            assert_eq!(Credits::from_number(written).unwrap().to_string(), read, "{written}");
        }
        for bad in ["", "one", "1e-7", "1e40"] {
            assert!(Credits::from_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn too_many_integer_digits_are_reported_before_fractional() {
        assert_eq!("1000000000000.0000001".parse::<Amount>(), Err(ParseCreditsError::TooLarge));
        assert_eq!("999999999999.0000001".parse::<Amount>(), Err(ParseCreditsError::TooPrecise));
    }

    #[test]
    fn display_and_debug_show_the_plain_decimal() {
        let credits = Credits::from_micros(3_400_000).unwrap();
        assert_eq!((format!("{credits}"), format!("{credits:?}")), ("3.4".to_owned(), "3.4".to_owned()));
    }
}
