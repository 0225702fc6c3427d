//! Currencies and amounts, after <https://docs.stripe.com/currencies>. The stand-in has its own table, because it
//! checks the product's table.

use super::errors::StripeRefusal;

/// The currencies that Stripe charges.
const CURRENCIES: &str = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd \
     bwp byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd \
     hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt \
     mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr \
     sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer \
     zar zmw";

/// The smallest amount of a charge, in the currency's smallest unit.
const MINIMUMS: [(&str, u64); 24] = [
    ("usd", 50),
    ("aed", 200),
    ("aud", 50),
    ("bgn", 100),
    ("brl", 50),
    ("cad", 50),
    ("chf", 50),
    ("czk", 1_500),
    ("dkk", 250),
    ("eur", 50),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("inr", 50),
    ("jpy", 50),
    ("mxn", 1_000),
    ("myr", 200),
    ("nok", 300),
    ("nzd", 50),
    ("pln", 200),
    ("ron", 200),
    ("sek", 300),
    ("sgd", 50),
    ("thb", 1_000),
];

/// Currencies without decimals.
const ZERO_DECIMAL: [&str; 15] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];
/// Currencies with three decimals. The last digit of an amount must be 0.
const THREE_DECIMAL: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];
/// Currencies without decimals whose amounts Stripe nevertheless writes with two. Both digits must be 0.
const WHOLE_WITH_TWO_DECIMALS: [&str; 2] = ["isk", "ugx"];

/// Currencies in which an amount has at most eight digits.
const EIGHT_DIGITS: [&str; 8] = ["usd", "eur", "gbp", "chf", "aud", "cad", "nzd", "sgd"];
const MAX_EIGHT_DIGITS: u64 = 99_999_999;
const MAX_AMOUNT: u64 = 999_999_999_999;

/// The object that an amount belongs to. It decides the error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charging {
    /// The total of a checkout session.
    Checkout,
    /// A payment intent.
    Intent,
}

/// Refuses a currency that Stripe does not charge.
pub(super) fn check_currency(currency: &str, param: &str) -> Result<(), StripeRefusal> {
    if CURRENCIES.split_whitespace().any(|known| known == currency) {
        return Ok(());
    }
    let known = CURRENCIES.split_whitespace().collect::<Vec<_>>().join(", ");
    let message =
        format!("Invalid currency: {currency}. Stripe currently supports these currencies: {known}");
    Err(StripeRefusal::validation(message).param(param))
}

/// Refuses an amount that Stripe does not charge in this currency.
pub(super) fn check_amount(amount: u64, currency: &str, charging: Charging) -> Result<(), StripeRefusal> {
    check_granularity(amount, currency, charging)?;
    let least = MINIMUMS.iter().find(|(named, _)| *named == currency).map_or(1, |(_, least)| *least);
    if amount < least {
        let least = format!("{}{} {currency}", symbol(currency), in_major_units(least, currency));
        let refusal = StripeRefusal::execution(match charging {
            Charging::Checkout => {
                format!("The Checkout Session's total amount due must add up to at least {least}")
            }
            Charging::Intent => format!("Amount must be at least {least}"),
        });
        let refusal = refusal.code("amount_too_small");
        return Err(if charging == Charging::Intent { refusal.param("amount") } else { refusal });
    }
    let most = if EIGHT_DIGITS.contains(&currency) { MAX_EIGHT_DIGITS } else { MAX_AMOUNT };
    if amount > most {
        let most = format!("{}{} {currency}", symbol(currency), in_major_units(most, currency));
        let refusal = StripeRefusal::execution(format!("Amount must be no more than {most}"));
        return Err(refusal.code("amount_too_large").param("amount"));
    }
    Ok(())
}

fn check_granularity(amount: u64, currency: &str, charging: Charging) -> Result<(), StripeRefusal> {
    let step = if THREE_DECIMAL.contains(&currency) {
        10
    } else if WHOLE_WITH_TWO_DECIMALS.contains(&currency) {
        100
    } else {
        1
    };
    if amount.is_multiple_of(step) {
        return Ok(());
    }
    let currency = currency.to_uppercase();
    let message = format!("Invalid amount: {currency} amounts must be evenly divisible by {step}.");
    let param = match charging {
        Charging::Checkout => "line_items[0][price_data][unit_amount]",
        Charging::Intent => "amount",
    };
    Err(StripeRefusal::execution(message).code("parameter_invalid_integer").param(param))
}

/// Formats an amount for people, such as `$10.00` or `CHF 10.00`.
pub(super) fn priced(minor: u64, currency: &str) -> String {
    let amount = in_major_units(minor, currency);
    match symbol(currency) {
        "" => format!("{} {amount}", currency.to_uppercase()),
        symbol => format!("{symbol}{amount}"),
    }
}

/// Formats an amount with the currency's decimals.
pub(super) fn in_major_units(minor: u64, currency: &str) -> String {
    let decimals: usize = if ZERO_DECIMAL.contains(&currency) {
        return minor.to_string();
    } else if THREE_DECIMAL.contains(&currency) {
        3
    } else {
        2
    };
    let digits = format!("{minor:0>width$}", width = decimals.saturating_add(1));
    let (major, minor) = digits.split_at(digits.len().saturating_sub(decimals));
    format!("{major}.{minor}")
}

/// Returns the symbol that Stripe's messages put before an amount, or nothing.
pub(super) fn symbol(currency: &str) -> &'static str {
    match currency {
        "usd" => "$",
        "eur" => "€",
        "gbp" => "£",
        "jpy" => "¥",
        _ => "",
    }
}
