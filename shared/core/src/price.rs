//! Prices in money, and which of them Stripe can charge.
//!
//! A price is an integer in minor units of ISO 4217. So is every amount in the API, the catalogue and the table. Only
//! requests to Stripe and data from Stripe use Stripe's unit. [`Price::provider_amount`] and [`Price::from_provider`]
//! convert.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::currency::{Currency, InvalidCurrency};

/// An amount of money, such as the price of a pack or a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// In minor units of ISO 4217: cents for USD, whole shillings for UGX.
    #[serde(rename = "amount")]
    pub amount_minor: u64,
    pub currency: Currency,
}

/// The reason why Stripe can't charge a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchargeable {
    /// The currency is not among those that Stripe charges.
    #[error("Stripe does not charge {0}")]
    Currency(Currency),
    /// The price is below the minimum charge of its currency.
    #[error("{price} is below Stripe's minimum charge of {minimum}")]
    BelowMinimum {
        price: Price,
        /// The smallest price that Stripe charges in this currency.
        minimum: Price,
    },
    /// The price is not a multiple of the currency's step.
    #[error("{price} is not a multiple of {step}, as Stripe requires")]
    NotAMultiple {
        price: Price,
        /// Stripe charges multiples of this price.
        step: Price,
    },
    /// The price is above the maximum charge of its currency.
    #[error("{price} is above Stripe's maximum charge of {maximum}")]
    AboveMaximum {
        price: Price,
        /// The largest price that Stripe charges in this currency.
        maximum: Price,
    },
}

/// An amount from Stripe that is not a `u64` of ISO 4217 minor units, such as half an ISK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Stripe's amount {amount} in {currency} is not a whole number of ISO 4217 minor units")]
pub struct UnreadableAmount {
    /// In Stripe's unit.
    pub amount: u64,
    pub currency: Currency,
}

impl Price {
    /// Checks that Stripe can charge the price.
    pub fn check_chargeable(&self) -> Result<(), Unchargeable> {
        self.provider_amount().map(drop)
    }

    /// Returns the integer that Stripe's API takes for the price: 3700000 for 37,000 UGX, 370 for 370.00 MGA.
    pub fn provider_amount(&self) -> Result<u64, Unchargeable> {
        let (price, currency) = (*self, self.currency);
        let rule = currency.charge_rule().ok_or(Unchargeable::Currency(currency))?;
        let of = |amount_minor| Self { amount_minor, currency };
        if price.amount_minor < rule.minimum_minor {
            return Err(Unchargeable::BelowMinimum { price, minimum: of(rule.minimum_minor) });
        }
        if price.amount_minor > rule.maximum_minor {
            return Err(Unchargeable::AboveMaximum { price, maximum: of(rule.maximum_minor) });
        }
        price.provider_refund()
    }

    /// Returns the integer that Stripe's API takes for a refund of the price, which may be below the minimum charge.
    pub fn provider_refund(&self) -> Result<u64, Unchargeable> {
        let (price, currency) = (*self, self.currency);
        let rule = currency.charge_rule().ok_or(Unchargeable::Currency(currency))?;
        Some(price.amount_minor)
            .filter(|amount_minor| amount_minor.is_multiple_of(rule.step_minor))
            .and_then(|amount_minor| rescaled(amount_minor, currency.minor_digits(), rule.stripe_digits))
            .ok_or(Unchargeable::NotAMultiple {
                price,
                step: Self { amount_minor: rule.step_minor, currency },
            })
    }

    /// Returns the price that Stripe states as `amount`.
    ///
    /// An amount in a currency that Stripe no longer charges, such as a refund in BGN, is read in ISO 4217 minor units.
    /// Stripe's unit is that of ISO 4217 unless the currency's charge rule names another one.
    pub fn from_provider(amount: u64, currency: Currency) -> Result<Self, UnreadableAmount> {
        let iso_digits = currency.minor_digits();
        let stripe_digits = currency.charge_rule().map_or(iso_digits, |rule| rule.stripe_digits);
        let amount_minor = rescaled(amount, stripe_digits, iso_digits);
        let amount_minor = amount_minor.ok_or(UnreadableAmount { amount, currency })?;
        Ok(Self { amount_minor, currency })
    }
}

/// Converts between units of different digits; `None` if the result is not whole, or above `u64::MAX`.
fn rescaled(amount: u64, from_digits: u32, to_digits: u32) -> Option<u64> {
    let factor = 10_u64.checked_pow(from_digits.abs_diff(to_digits))?;
    if to_digits >= from_digits {
        return amount.checked_mul(factor);
    }
    amount.checked_div(factor).filter(|_| amount.is_multiple_of(factor))
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

#[cfg(test)]
mod tests {
    use super::{Price, UnreadableAmount};

    fn price(code: &str, amount_minor: u64) -> Price {
        Price { amount_minor, currency: code.parse().unwrap() }
    }

    #[test]
    fn price_is_displayed_in_the_digits_of_its_currency() {
        for (code, amount_minor, text) in [
            ("usd", 1_600, "USD 16.00"),
            ("JPY", 1_600, "JPY 1600"),
            ("kwd", 1_605, "KWD 1.605"),
            ("UGX", 37_000, "UGX 37000"),
            ("MGA", 37_000, "MGA 370.00"),
            ("CLF", 12_345, "CLF 1.2345"),
        ] {
            assert_eq!(price(code, amount_minor).to_string(), text);
        }
    }

    #[test]
    fn unchargeable_price_names_the_reason_and_the_limit() {
        for (code, amount_minor, reason) in [
            ("HUF", 10_000, "HUF 100.00 is below Stripe's minimum charge of HUF 175.00"),
            ("CZK", 1_499, "CZK 14.99 is below Stripe's minimum charge of CZK 15.00"),
            ("USD", 49, "USD 0.49 is below Stripe's minimum charge of USD 0.50"),
            ("MGA", 99, "MGA 0.99 is below Stripe's minimum charge of MGA 1.00"),
            ("UGX", 0, "UGX 0 is below Stripe's minimum charge of UGX 1"),
            ("KWD", 1_605, "KWD 1.605 is not a multiple of KWD 0.010, as Stripe requires"),
            ("MGA", 37_050, "MGA 370.50 is not a multiple of MGA 1.00, as Stripe requires"),
            ("IQD", 1_000, "Stripe does not charge IQD"),
            ("ZZZ", 1_000, "Stripe does not charge ZZZ"),
            ("ISK", 10_000_000_000, "ISK 10000000000 is above Stripe's maximum charge of ISK 9999999999"),
        ] {
            let refused = price(code, amount_minor).check_chargeable().unwrap_err();
            assert_eq!(refused.to_string(), reason);
        }
    }

    #[test]
    fn stripe_amount_between_minor_units_is_an_error() {
        let currency = "ISK".parse().unwrap();
        let unreadable = Price::from_provider(550, currency).unwrap_err();
        assert_eq!(unreadable, UnreadableAmount { amount: 550, currency });
        assert_eq!(
            unreadable.to_string(),
            "Stripe's amount 550 in ISK is not a whole number of ISO 4217 minor units"
        );
        assert!(Price::from_provider(u64::MAX, "MGA".parse().unwrap()).is_err(), "too large");
    }

    #[test]
    fn refund_in_a_currency_no_longer_charged_is_in_iso_units() {
        let lev = "BGN".parse().unwrap();
        assert_eq!(Price::from_provider(1_600, lev), Ok(price("BGN", 1_600)));
        assert!(price("BGN", 1_600).check_chargeable().is_err());
    }
}
