//! Invoices: a month's commitment, and the use that it is billed for (M8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::agreement::Invoicing;
use crate::credits::{Credits, OutOfRange};
use crate::id::Id;
use crate::ledger::Entry;
use crate::month::Month;
use crate::price::Price;

/// The most that a month's use may come to by what is agreed, in minor units: a JSON reader's integers are exact up to
/// 2^53. A debt that claw-backs make larger still fits `u64`, which is 18,000 times this.
pub const MAX_INVOICE_MINOR: u64 = 1_000_000_000_000_000;

/// A price at which a month's use could come to more than an invoice can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{credits} credits at this price come to more than an invoice can say")]
pub struct InvoiceTooLarge {
    /// The most that could be invoiced.
    pub credits: Credits,
}

/// The line of what was used before the month of its invoice.
const EARLIER: &str = "Use before this month";

/// A month's invoice. Its lines and its total never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Names it within the workspace.
    pub invoice_id: Id,
    /// Its place in the seller's one series of numbers, such as `INV-2026-000123`; `None` until the sweep numbers it.
    #[serde(default)]
    pub number: Option<Id>,
    /// How it stands, as the operator says.
    #[serde(default)]
    pub status: InvoiceStatus,
    /// Its month.
    pub month: Month,
    /// What it is for.
    pub lines: Vec<Line>,
    /// The sum of its lines.
    pub total: Price,
    /// When it was made.
    pub issued_at: Timestamp,
    /// What the operator notes about its status.
    #[serde(default)]
    pub note: Option<String>,
}

/// How an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// It is to be paid.
    #[default]
    Open,
    /// It is paid.
    Paid,
    /// It is not to be paid. No credits move.
    Void,
}

impl Invoice {
    /// Makes the invoice of a month, without a number.
    pub(crate) fn of(
        month: Month,
        lines: Vec<Line>,
        total: Price,
        issued_at: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let invoice_id = format!("inv_{month}").parse().map_err(|_| OutOfRange)?;
        let (number, status, note) = (None, InvoiceStatus::Open, None);
        Ok(Self { invoice_id, number, status, month, lines, total, issued_at, note })
    }

    /// Whether the sweep has to number it. One that is void is never published, so it takes no number.
    #[must_use]
    pub fn awaits_number(&self) -> bool {
        self.number.is_none() && self.status != InvoiceStatus::Void
    }

    /// Gives it a place in the seller's series: a count from 1, behind the year in which it was issued.
    pub fn numbered(&self, count: u64) -> Result<Self, OutOfRange> {
        let year = self.issued_at.to_zoned(TimeZone::UTC).year();
        let number = format!("INV-{year:04}-{count:06}").parse().map_err(|_| OutOfRange)?;
        Ok(Self { number: Some(number), ..self.clone() })
    }

    /// Returns what the workspace owes or has paid by it, in minor units: nothing before it is numbered or when it is void.
    #[must_use]
    pub fn charged_minor(&self) -> u64 {
        let charges = self.number.is_some() && self.status != InvoiceStatus::Void;
        if charges { self.total.amount_minor } else { 0 }
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// An operation, or the commitment.
    pub description: String,
    /// How many credits.
    pub credits: Credits,
    /// What they cost, in minor units.
    #[serde(rename = "amount")]
    pub amount_minor: u64,
}

/// What of a month's use its invoice is for: the latest, as far as it comes to what was billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BilledUse {
    month: Month,
    left: Credits,
    by_operation: BTreeMap<String, Credits>,
}

impl BilledUse {
    /// What is to be explained: so many credits that a month's end has billed.
    #[must_use]
    pub fn of(month: Month, billed: Credits) -> Self {
        Self { month, left: billed, by_operation: BTreeMap::new() }
    }

    /// Takes the ledger's next entry, newest first, and says whether more are wanted.
    pub fn take(&mut self, entry: &Entry) -> Result<bool, OutOfRange> {
        if entry.at < self.month.start() {
            return Ok(false);
        }
        for (operation, spent) in entry.spent() {
            let part = spent.min(self.left);
            if !part.is_zero() {
                self.left = self.left.minus(part)?;
                let sum = self.by_operation.entry(operation.to_string()).or_default();
                *sum = sum.plus(part)?;
            }
        }
        Ok(!self.left.is_zero())
    }

    /// The use by operation; and what none of the month's explains, which was used before: until invoicing was agreed, or
    /// of credits that were refunded since.
    #[must_use]
    pub fn by_operation(mut self) -> BTreeMap<String, Credits> {
        if !self.left.is_zero() {
            self.by_operation.insert(EARLIER.to_owned(), self.left);
        }
        self.by_operation
    }
}

impl Invoicing {
    /// The lines of what was used beyond credits. The sum is rounded, half up, and each line is what it adds to the
    /// rounded sum, so that the lines add up.
    pub(crate) fn lines(self, used: &BTreeMap<String, Credits>) -> Result<Vec<Line>, OutOfRange> {
        let (mut lines, mut sum, mut told) = (Vec::new(), Credits::ZERO, 0_u64);
        for (description, credits) in used {
            sum = sum.plus(*credits)?;
            let amount = self.minor(sum)?;
            let amount_minor = amount.checked_sub(told).ok_or(OutOfRange)?;
            told = amount;
            lines.push(Line { description: description.clone(), credits: *credits, amount_minor });
        }
        Ok(lines)
    }

    /// Checks that an invoice can say what a debt costs: `round(price · debt) ≤ MAX_INVOICE_MINOR`.
    ///
    /// A month's debt is at most the credit limit, or what it was when the limit was lowered. An invoice that can't be
    /// written is stuck for good, so this is asked before a price or limit is agreed.
    pub fn check(self, debt: Credits) -> Result<(), InvoiceTooLarge> {
        match self.minor(debt) {
            Ok(amount) if amount <= MAX_INVOICE_MINOR => Ok(()),
            _ => Err(InvoiceTooLarge { credits: debt }),
        }
    }

    /// The price of so many credits in minor units, rounded half up.
    fn minor(self, credits: Credits) -> Result<u64, OutOfRange> {
        // Millionths of credits by millionths of the major unit.
        const ONE: i128 = 1_000_000_000_000;
        let minors = 10_i128.checked_pow(self.currency.minor_digits()).ok_or(OutOfRange)?;
        let price = i128::from(self.price_per_credit_micros).checked_mul(minors).ok_or(OutOfRange)?;
        let whole = credits.micros()?.checked_mul(price).ok_or(OutOfRange)?;
        let half_up = whole.checked_add(ONE / 2).and_then(|sum| sum.checked_div(ONE));
        u64::try_from(half_up.ok_or(OutOfRange)?).map_err(|_| OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{BilledUse, Invoice, InvoiceStatus, InvoiceTooLarge};
    use crate::agreement::Invoicing;
    use crate::consumer::Consumer;
    use crate::credits::Credits;
    use crate::ledger::{Cause, Entry};
    use crate::settlement::Settlement;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(time: &str, cause: Cause, credits: &str) -> Entry {
        let entry_id = "deb_1".parse().unwrap();
        Entry { entry_id, cause, credits: credits.parse().unwrap(), at: at(time) }
    }

    fn call(operation: &str) -> Cause {
        let consumer = Consumer::Action { feature: "chat".parse().unwrap(), user_id: "ada".parse().unwrap() };
        let (operation, rate_card) = (operation.parse().unwrap(), "2026-11-01".parse().unwrap());
        Cause::Debit { operation, model: None, units: None, rate_card, consumer }
    }

    fn settled(operations: [(&str, &str); 2]) -> Cause {
        let operations = operations.map(|(name, credits)| (name.parse().unwrap(), credits.parse().unwrap()));
        Cause::HoldSettled(Settlement {
            hold_ids: Vec::new(),
            rate_cards: [].into(),
            lines: 2,
            operations: operations.into(),
            content: Vec::new(),
        })
    }

    #[test]
    fn m08_a_price_is_refused_if_the_debt_does_not_fit_an_invoice() {
        let price = |price_per_credit_micros, currency: &str| Invoicing {
            price_per_credit_micros,
            currency: currency.parse().unwrap(),
        };
        let credits = |text: &str| text.parse::<Credits>().unwrap();
        // A million dollars a credit are 10^8 cents.
        let dear = price(1_000_000_000_000, "USD");
        assert_eq!(dear.check(credits("10000000")), Ok(()));
        let debt = credits("10000000.000001");
        assert_eq!(dear.check(debt), Err(InvoiceTooLarge { credits: debt }));
        assert!(price(1_000_000_000_000, "JPY").check(debt).is_ok(), "yen have no minor unit");
        assert!(dear.check(credits("999999999999.999999")).is_err(), "above u64");
        assert!(price(1_000_000, "USD").check(credits("999999999999.999999")).is_ok());
    }

    #[test]
    fn m08_a_number_is_of_the_sellers_series_and_of_the_year_of_issue() {
        let total = crate::price::Price { amount_minor: 5, currency: "USD".parse().unwrap() };
        let made =
            Invoice::of("2026-12".parse().unwrap(), Vec::new(), total, at("2027-01-01T00:05:00Z")).unwrap();
        assert!(made.awaits_number() && made.charged_minor() == 0);
        let numbered = made.numbered(123).unwrap();
        assert_eq!(numbered.number.as_ref().unwrap().as_str(), "INV-2027-000123");
        assert!(!numbered.awaits_number() && numbered.charged_minor() == 5);
        let void = Invoice { status: InvoiceStatus::Void, ..numbered };
        assert_eq!(void.charged_minor(), 0);
        assert!(!Invoice { number: None, ..void }.awaits_number(), "what is void takes no number");
    }

    #[test]
    fn m08_an_invoice_is_for_the_months_latest_calls_however_they_were_paid() {
        let mut used = BilledUse::of("2026-11".parse().unwrap(), "10".parse().unwrap());
        assert_eq!(used.take(&entry("2026-11-30T12:00:00Z", call("a"), "-2")), Ok(true));
        let holds = settled([("a", "1.5"), ("b", "3")]);
        assert_eq!(used.take(&entry("2026-11-20T12:00:00Z", holds, "-4.5")), Ok(true));
        let top_up = Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None };
        assert_eq!(used.take(&entry("2026-11-10T12:00:00Z", top_up, "-100")), Ok(true));
        let mut whole = used.clone();
        assert_eq!(whole.take(&entry("2026-11-01T00:00:00Z", call("c"), "-5")), Ok(false));
        let told = |used: BilledUse| -> Vec<(String, String)> {
            let name = |(operation, credits): (String, Credits)| (operation, credits.to_string());
            used.by_operation().into_iter().map(name).collect()
        };
        let pair = |(operation, credits): (&str, &str)| (operation.to_owned(), credits.to_owned());
        assert_eq!(told(whole), [("a", "3.5"), ("b", "3"), ("c", "3.5")].map(pair));
        // What was used the month before is not told as this month's.
        assert_eq!(used.take(&entry("2026-10-31T23:59:59Z", call("c"), "-5")), Ok(false));
        assert_eq!(told(used), [("Use before this month", "3.5"), ("a", "3.5"), ("b", "3")].map(pair));
    }
}
