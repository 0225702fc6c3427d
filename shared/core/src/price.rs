//! Prices in money: integer minor units with an ISO 4217 code.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// An ISO 4217 code in capitals; read without regard to case, since payment providers write it small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// A text that is not a currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a three-letter ISO 4217 code")]
pub struct InvalidCurrency;

/// What a pack or a tier costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// In minor units of the currency: cents, for dollars.
    #[serde(rename = "amount")]
    pub amount_minor: u64,
    /// The currency.
    pub currency: Currency,
}

impl Currency {
    /// The code in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::str::FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match text.as_bytes() {
            [a, b, c] if text.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase(), c.to_ascii_uppercase()]))
            }
            _ => Err(InvalidCurrency),
        }
    }
}

impl Currency {
    /// How many digits its minor unit has (ISO 4217): two, but for the few that have none or three.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        const NONE: [&str; 16] = [
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ];
        const THREE: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
        match self.as_str() {
            code if NONE.contains(&code) => 0,
            code if THREE.contains(&code) => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.minor_digits();
        let amount = rust_decimal::Decimal::try_from_i128_with_scale(self.amount_minor.into(), digits);
        match amount {
            Ok(amount) => write!(f, "{} {amount}", self.currency),
            Err(_) => write!(f, "{} {} minor units", self.currency, self.amount_minor),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Price;

    #[test]
    fn a_price_reads_in_its_currencys_own_digits() {
        let read =
            |amount_minor, code: &str| Price { amount_minor, currency: code.parse().unwrap() }.to_string();
        assert_eq!(read(1600, "usd"), "USD 16.00");
        assert_eq!(read(1600, "JPY"), "JPY 1600");
        assert_eq!(read(1605, "kwd"), "KWD 1.605");
    }

    #[test]
    fn a_currency_is_three_letters_of_the_alphabet() {
        assert!("eur".parse::<super::Currency>().is_ok());
        for bad in ["eu", "euro", "e1r", "e r", ""] {
            assert!(bad.parse::<super::Currency>().is_err(), "{bad:?}");
        }
    }
}
