//! Rates: credits for one, a thousand or a million units, and the multipliers of prices (M2).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::credits::{Credits, ParseCreditsError};

/// A rate or a multiplier: 0 to 1,000,000 credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CreditRate(Credits);

/// The number of units for which a rate is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum Per {
    One,
    Thousand,
    Million,
}

/// A rate below zero or above 1,000,000, or one that is no decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    #[error("must be a rate of 0 to 1000000")]
    OutOfRange,
    #[error(transparent)]
    Decimal(#[from] ParseCreditsError),
}

/// A number of units for which no rate can be stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1, 1000 or 1000000")]
pub struct InvalidPer;

impl CreditRate {
    pub const ZERO: Self = Self(Credits::ZERO);
    pub const ONE: Self = Self(Credits::ONE);

    /// Makes a rate of a quantity. Refuses one outside 0 to 1,000,000.
    pub fn new(credits: Credits) -> Result<Self, InvalidRate> {
        let allowed = 0..=1_000_000_000_000_i128;
        match credits.micros() {
            Ok(micros) if allowed.contains(&micros) => Ok(Self(credits)),
            _ => Err(InvalidRate::OutOfRange),
        }
    }

    #[must_use]
    pub fn credits(self) -> Credits {
        self.0
    }

    pub(crate) fn one() -> Self {
        Self::ONE
    }

    pub(crate) fn micros(self) -> Option<u128> {
        u128::try_from(self.0.micros().ok()?).ok()
    }
}

impl Default for CreditRate {
    fn default() -> Self {
        Self::ZERO
    }
}

impl FromStr for CreditRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        Self::new(text.parse()?)
    }
}

impl<'de> Deserialize<'de> for CreditRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Per {
    /// Returns a million divided by the number of units.
    pub(crate) fn parts_of_a_million(self) -> u128 {
        match self {
            Self::One => 1_000_000,
            Self::Thousand => 1_000,
            Self::Million => 1,
        }
    }
}

impl TryFrom<u64> for Per {
    type Error = InvalidPer;

    fn try_from(units: u64) -> Result<Self, InvalidPer> {
        match units {
            1 => Ok(Self::One),
            1_000 => Ok(Self::Thousand),
            1_000_000 => Ok(Self::Million),
            _ => Err(InvalidPer),
        }
    }
}

impl From<Per> for u64 {
    fn from(per: Per) -> Self {
        match per {
            Per::One => 1,
            Per::Thousand => 1_000,
            Per::Million => 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CreditRate, InvalidPer, InvalidRate, Per};

    #[test]
    fn rates_are_0_to_1000000() {
        for valid in ["0", "0.000001", "1000000"] {
            assert_eq!(
                valid.parse::<CreditRate>().map(|rate| rate.credits().to_string()),
                Ok(valid.to_owned())
            );
        }
        for invalid in ["1000000.000001", "-1"] {
            assert_eq!(invalid.parse::<CreditRate>(), Err(InvalidRate::OutOfRange), "{invalid}");
        }
        for units in [1, 1_000, 1_000_000] {
            assert_eq!(Per::try_from(units).map(u64::from), Ok(units));
        }
        assert_eq!(Per::try_from(10), Err(InvalidPer));
    }
}
