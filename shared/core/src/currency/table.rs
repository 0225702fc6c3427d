//! The ISO 4217 minor unit of each currency, and Stripe's rule for charges in it.
//!
//! Sources:
//! - Stripe, "Supported currencies" (<https://docs.stripe.com/currencies>), as of September 2026: the presentment
//!   currencies of a US account, the zero-decimal currencies, the special cases ISK and UGX, the minimum charges, and
//!   the 12 digits of a card payment's amount.
//! - The same page for accounts in the United Arab Emirates (2023): BHD, JOD, KWD, OMR and TND have three decimals, and
//!   the last digit must be 0. The page of 2026 no longer mentions them.
//! - ISO 4217 list one, published on 2026-01-01: the digits of the minor unit.

/// The ISO 4217 minor unit of one currency, and Stripe's rule for charges in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrencyRow {
    pub code: &'static str,
    /// The fractional digits of the ISO 4217 minor unit.
    pub iso_digits: u32,
    /// `None` if Stripe doesn't charge the currency.
    pub charge: Option<ChargeRule>,
}

/// Stripe's rule for charges in one currency. Amounts are in minor units of ISO 4217.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChargeRule {
    /// The fractional digits of the unit in which Stripe's API takes an amount.
    pub stripe_digits: u32,
    /// Stripe charges only multiples of this amount.
    pub step_minor: u64,
    /// The published minimum charge, or one step where Stripe publishes none.
    pub minimum_minor: u64,
    /// The largest multiple of the step that has 12 digits in Stripe's unit.
    pub maximum_minor: u64,
}

impl CurrencyRow {
    const fn charged(code: &'static str, iso_digits: u32, charge: ChargeRule) -> Self {
        Self { code, iso_digits, charge: Some(charge) }
    }

    const fn minimum(self, minimum_minor: u64) -> Self {
        let charge = match self.charge {
            Some(charge) => Some(ChargeRule { minimum_minor, ..charge }),
            None => None,
        };
        Self { charge, ..self }
    }
}

const fn rule(stripe_digits: u32, step_minor: u64, maximum_minor: u64) -> ChargeRule {
    ChargeRule { stripe_digits, step_minor, minimum_minor: step_minor, maximum_minor }
}

const fn two_digits(code: &'static str) -> CurrencyRow {
    CurrencyRow::charged(code, 2, rule(2, 1, 999_999_999_999))
}

const fn no_digits(code: &'static str) -> CurrencyRow {
    CurrencyRow::charged(code, 0, rule(0, 1, 999_999_999_999))
}

/// Makes the row of a currency with three digits. Stripe requires the last of them to be 0.
const fn three_digits(code: &'static str) -> CurrencyRow {
    CurrencyRow::charged(code, 3, rule(3, 10, 999_999_999_990))
}

/// Makes the row of a currency that has only whole units in ISO 4217. Stripe requires two more digits, `00`.
const fn whole_units_in_hundredths(code: &'static str) -> CurrencyRow {
    CurrencyRow::charged(code, 0, rule(2, 1, 9_999_999_999))
}

/// Makes the row of a currency that has hundredths in ISO 4217. Stripe charges only whole units.
const fn hundredths_in_whole_units(code: &'static str) -> CurrencyRow {
    CurrencyRow::charged(code, 2, rule(0, 100, 99_999_999_999_900))
}

/// Makes the row of a currency that Stripe doesn't charge. It is listed only if its minor unit hasn't two digits.
const fn not_charged(code: &'static str, iso_digits: u32) -> CurrencyRow {
    CurrencyRow { code, iso_digits, charge: None }
}

/// Returns the row of a code in upper case; `None` if the currency has two digits and Stripe doesn't charge it.
pub(super) fn row(code: &str) -> Option<&'static CurrencyRow> {
    let found = TABLE.binary_search_by(|row| row.code.cmp(code));
    found.ok().and_then(|at| TABLE.get(at))
}

/// Sorted by code, because [`row`] uses a binary search.
pub(super) const TABLE: &[CurrencyRow] = &[
    two_digits("AED").minimum(200),
    two_digits("AFN"),
    two_digits("AMD"),
    two_digits("ANG"),
    two_digits("AOA"),
    two_digits("ARS").minimum(50),
    two_digits("AUD").minimum(50),
    two_digits("AWG"),
    two_digits("AZN"),
    two_digits("BAM"),
    two_digits("BBD"),
    two_digits("BDT"),
    three_digits("BHD"),
    no_digits("BIF"),
    two_digits("BMD"),
    two_digits("BND"),
    two_digits("BOB"),
    two_digits("BRL").minimum(50),
    two_digits("BSD"),
    two_digits("BWP"),
    two_digits("BYN"),
    two_digits("BZD"),
    two_digits("CAD").minimum(50),
    two_digits("CDF"),
    two_digits("CHF").minimum(50),
    not_charged("CLF", 4),
    no_digits("CLP"),
    two_digits("CNY"),
    two_digits("COP").minimum(50),
    two_digits("CRC"),
    two_digits("CVE"),
    two_digits("CZK").minimum(1_500),
    no_digits("DJF"),
    two_digits("DKK").minimum(250),
    two_digits("DOP"),
    two_digits("DZD"),
    two_digits("EGP"),
    two_digits("ETB"),
    two_digits("EUR").minimum(50),
    two_digits("FJD"),
    two_digits("FKP"),
    two_digits("GBP").minimum(30),
    two_digits("GEL"),
    two_digits("GIP"),
    two_digits("GMD"),
    no_digits("GNF"),
    two_digits("GTQ"),
    two_digits("GYD"),
    two_digits("HKD").minimum(400),
    two_digits("HNL"),
    two_digits("HTG"),
    two_digits("HUF").minimum(17_500),
    two_digits("IDR").minimum(50),
    two_digits("ILS").minimum(50),
    two_digits("INR").minimum(50),
    not_charged("IQD", 3),
    whole_units_in_hundredths("ISK"),
    two_digits("JMD"),
    three_digits("JOD"),
    no_digits("JPY").minimum(50),
    two_digits("KES"),
    two_digits("KGS"),
    two_digits("KHR"),
    no_digits("KMF"),
    no_digits("KRW").minimum(50),
    three_digits("KWD"),
    two_digits("KYD"),
    two_digits("KZT"),
    two_digits("LAK"),
    two_digits("LBP"),
    two_digits("LKR"),
    two_digits("LRD"),
    two_digits("LSL"),
    not_charged("LYD", 3),
    two_digits("MAD"),
    two_digits("MDL"),
    hundredths_in_whole_units("MGA"),
    two_digits("MKD"),
    two_digits("MMK"),
    two_digits("MNT"),
    two_digits("MOP"),
    two_digits("MUR"),
    two_digits("MVR"),
    two_digits("MWK"),
    two_digits("MXN").minimum(1_000),
    two_digits("MYR").minimum(200),
    two_digits("MZN"),
    two_digits("NAD"),
    two_digits("NGN"),
    two_digits("NIO"),
    two_digits("NOK").minimum(300),
    two_digits("NPR"),
    two_digits("NZD").minimum(50),
    three_digits("OMR"),
    two_digits("PAB"),
    two_digits("PEN"),
    two_digits("PGK"),
    two_digits("PHP").minimum(50),
    two_digits("PKR"),
    two_digits("PLN").minimum(200),
    no_digits("PYG"),
    two_digits("QAR"),
    two_digits("RON").minimum(200),
    two_digits("RSD"),
    two_digits("RUB").minimum(50),
    no_digits("RWF"),
    two_digits("SAR"),
    two_digits("SBD"),
    two_digits("SCR"),
    two_digits("SEK").minimum(300),
    two_digits("SGD").minimum(50),
    two_digits("SHP"),
    two_digits("SLE"),
    two_digits("SRD"),
    two_digits("SZL"),
    two_digits("THB").minimum(1_000),
    two_digits("TJS"),
    three_digits("TND"),
    two_digits("TRY"),
    two_digits("TTD"),
    two_digits("TWD"),
    two_digits("TZS"),
    two_digits("UAH"),
    whole_units_in_hundredths("UGX"),
    two_digits("USD").minimum(50),
    not_charged("UYI", 0),
    two_digits("UYU"),
    not_charged("UYW", 4),
    two_digits("UZS"),
    no_digits("VND"),
    no_digits("VUV"),
    two_digits("WST"),
    no_digits("XAF"),
    two_digits("XCD"),
    two_digits("XCG"),
    no_digits("XOF"),
    no_digits("XPF"),
    two_digits("YER"),
    two_digits("ZAR").minimum(50),
    two_digits("ZMW"),
];
