//! Currencies: their ISO 4217 codes and minor units, and what Stripe charges in them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

mod table;

pub(crate) use table::ChargeRule;

/// An ISO 4217 code in upper case. Parsing accepts lower case too, which Stripe writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The error of a text that is not a currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a three-letter ISO 4217 code")]
pub struct InvalidCurrency;

impl Currency {
    /// Returns the code in upper case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the number of digits of the ISO 4217 minor unit: two for most currencies, and for unknown codes.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        table::row(self.as_str()).map_or(2, |row| row.iso_digits)
    }

    /// Returns Stripe's rule for charges in this currency; `None` if Stripe doesn't charge it.
    pub(crate) fn charge_rule(self) -> Option<ChargeRule> {
        table::row(self.as_str()).and_then(|row| row.charge)
    }

    /// Returns the largest amount up to `amount_minor` that Stripe charges; `None` if that is below the minimum charge.
    ///
    /// Both amounts are in ISO 4217 minor units. In KWD, 1605 (1.605 dinars) becomes 1600; in HUF, 17499 is below the
    /// minimum charge of 17500.
    #[must_use]
    pub fn round_down_to_chargeable(self, amount_minor: u64) -> Option<u64> {
        let rule = self.charge_rule()?;
        let amount_minor = amount_minor.min(rule.maximum_minor);
        let rest = amount_minor.checked_rem(rule.step_minor)?;
        amount_minor.checked_sub(rest).filter(|amount_minor| *amount_minor >= rule.minimum_minor)
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
    use proptest::prelude::*;

    use super::table::{ChargeRule, TABLE};
    use super::{Currency, InvalidCurrency};
    use crate::price::{Price, Unchargeable};

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    fn price(code: &str, amount_minor: u64) -> Price {
        Price { amount_minor, currency: currency(code) }
    }

    /// Every currency that Stripe charges, with its rule.
    fn charged() -> Vec<(Currency, ChargeRule)> {
        TABLE.iter().filter_map(|row| Some((currency(row.code), row.charge?))).collect()
    }

    #[test]
    fn currency_is_three_ascii_letters() {
        assert_eq!("eur".parse::<Currency>().unwrap().as_str(), "EUR");
        for bad in ["eu", "euro", "e1r", "e r", ""] {
            assert_eq!(bad.parse::<Currency>(), Err(InvalidCurrency), "{bad:?}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_each_code_once() {
        assert!(TABLE.iter().zip(&TABLE[1..]).all(|(row, next)| row.code < next.code));
        assert_eq!(charged().len(), 135);
    }

    #[test]
    fn minor_digits_follow_iso_4217_and_not_stripe() {
        for (code, digits) in [
            ("USD", 2),
            ("JPY", 0),
            ("ISK", 0),
            ("UGX", 0),
            ("MGA", 2),
            ("KWD", 3),
            ("IQD", 3),
            ("CLF", 4),
            ("HUF", 2),
            ("TWD", 2),
            ("ALL", 2),
            ("ZZZ", 2),
        ] {
            assert_eq!(currency(code).minor_digits(), digits, "{code}");
        }
    }

    #[test]
    fn stripes_unit_differs_from_isos_in_three_currencies() {
        let differs =
            TABLE.iter().filter(|row| row.charge.is_some_and(|it| it.stripe_digits != row.iso_digits));
        assert_eq!(differs.map(|row| row.code).collect::<Vec<_>>(), ["ISK", "MGA", "UGX"]);
    }

    #[test]
    fn each_limit_is_a_multiple_of_the_step_that_stripe_takes() {
        for (currency, rule) in charged() {
            let amount = |amount_minor| Price { amount_minor, currency }.provider_amount();
            assert!(amount(rule.minimum_minor).is_ok_and(|amount| amount > 0), "{currency}");
            assert!(
                amount(rule.maximum_minor).is_ok_and(|amount| amount.to_string().len() == 12),
                "{currency}"
            );
            let above = amount(rule.maximum_minor + rule.step_minor);
            assert!(matches!(above, Err(Unchargeable::AboveMaximum { .. })), "{currency}");
            let below = amount(rule.minimum_minor - 1);
            assert!(matches!(below, Err(Unchargeable::BelowMinimum { .. })), "{currency}");
        }
    }

    #[test]
    fn an_amount_is_rounded_down_to_what_stripe_charges() {
        for (code, amount_minor, rounded) in [
            ("USD", 2_700, Some(2_700)),
            ("USD", 49, None),
            ("KWD", 1_605, Some(1_600)),
            ("KWD", 9, None),
            ("MGA", 37_099, Some(37_000)),
            ("MGA", 99, None),
            ("UGX", 1, Some(1)),
            ("HUF", 17_499, None),
            ("HUF", 17_500, Some(17_500)),
            ("CZK", 1_499, None),
            ("JPY", 50, Some(50)),
            ("ISK", u64::MAX, Some(9_999_999_999)),
            ("IQD", 1_000_000, None),
            ("EUR", 0, None),
            ("TRY", 0, None),
        ] {
            let found = currency(code).round_down_to_chargeable(amount_minor);
            assert_eq!(found, rounded, "{code} {amount_minor}");
        }
    }

    proptest! {
        #[test]
        fn chargeable_amount_survives_the_round_trip_to_stripe(
            (currency, _) in prop::sample::select(charged()),
            amount_minor in prop_oneof![0..1_000_000_u64, 0..200_000_000_000_000_u64],
        ) {
            if let Some(rounded) = currency.round_down_to_chargeable(amount_minor) {
                prop_assert!(rounded <= amount_minor);
                let price = Price { amount_minor: rounded, currency };
                let sent = price.provider_amount().unwrap();
                prop_assert_eq!(Price::from_provider(sent, currency), Ok(price));
            }
        }

        #[test]
        fn amount_is_chargeable_exactly_if_rounding_keeps_it(
            (currency, _) in prop::sample::select(charged()),
            amount_minor in prop_oneof![0..1_000_000_u64, 0..200_000_000_000_000_u64],
        ) {
            let kept = currency.round_down_to_chargeable(amount_minor) == Some(amount_minor);
            prop_assert_eq!(Price { amount_minor, currency }.check_chargeable().is_ok(), kept);
        }

        #[test]
        fn readable_stripe_amount_survives_the_round_trip(
            (currency, _) in prop::sample::select(charged()),
            amount in 0..1_000_000_000_000_u64,
        ) {
            let sent = Price::from_provider(amount, currency).ok().and_then(|it| it.provider_amount().ok());
            prop_assert!(sent.is_none_or(|sent| sent == amount));
        }
    }

    #[test]
    fn each_special_currency_is_sent_in_stripes_unit() {
        for (code, amount_minor, sent) in [
            ("USD", 1_600, 1_600),
            ("JPY", 1_600, 1_600),
            ("UGX", 37_000, 3_700_000),
            ("ISK", 37_000, 3_700_000),
            ("MGA", 37_000, 370),
            ("KWD", 1_600, 1_600),
            ("HUF", 17_545, 17_545),
            ("TWD", 80_045, 80_045),
        ] {
            let price = price(code, amount_minor);
            assert_eq!(price.provider_amount(), Ok(sent), "{code}");
            assert_eq!(Price::from_provider(sent, price.currency), Ok(price), "{code}");
        }
    }
}
