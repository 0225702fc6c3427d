//! Monthly invoices of commitments and of use beyond credits (M8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::credits::{Credits, OutOfRange};
use crate::id::Id;
use crate::ledger::Entry;
use crate::month::Month;
use crate::price::{Currency, Price};

/// The price of use beyond credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoicing {
    /// In millionths of the currency's major unit.
    pub price_per_credit_micros: u64,
    pub currency: Currency,
}

/// The largest amount that an agreement may allow for a month's use, in minor units.
///
/// A JSON reader's integers are exact up to 2^53. A debt that claw-backs make larger still fits `u64`, whose maximum is
/// 18,000 times this amount.
pub const MAX_INVOICE_MINOR: u64 = 1_000_000_000_000_000;

/// A price at which the invoice of a month's use could exceed [`MAX_INVOICE_MINOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{credits} credits at this price exceed the largest amount of an invoice")]
pub struct InvoiceTooLarge {
    /// The largest debt that could be invoiced.
    pub credits: Credits,
}

/// The description of the line for use before the invoice's month.
const EARLIER: &str = "Use before this month";

/// A month's invoice. Its lines and its total never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Unique within the workspace: `inv_` and the month.
    pub invoice_id: Id,
    /// A place in the seller's one series of numbers, such as `INV-2026-000123`; `None` until the sweep assigns it.
    #[serde(default)]
    pub number: Option<Id>,
    /// Set by the operator.
    #[serde(default)]
    pub status: InvoiceStatus,
    pub month: Month,
    /// The portions of commitments and the use beyond credits.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines.
    pub total: Price,
    pub issued_at: Timestamp,
    /// The operator's note about the status.
    #[serde(default)]
    pub note: Option<String>,
}

/// The status of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// The workspace has to pay it.
    #[default]
    Open,
    /// The operator has marked it as paid.
    Paid,
    /// The workspace does not have to pay it. Voiding moves no credits.
    Void,
}

impl Invoice {
    /// Creates the invoice of a month, without a number.
    pub(crate) fn of(
        month: Month,
        lines: Vec<InvoiceLine>,
        total: Price,
        issued_at: Timestamp,
    ) -> Result<Self, OutOfRange> {
        let invoice_id = format!("inv_{month}").parse().map_err(|_| OutOfRange)?;
        let (number, status, note) = (None, InvoiceStatus::Open, None);
        Ok(Self { invoice_id, number, status, month, lines, total, issued_at, note })
    }

    /// Returns whether the sweep has to assign a number. An invoice that is void before that is never published and
    /// takes no number.
    #[must_use]
    pub fn awaits_number(&self) -> bool {
        self.number.is_none() && self.status != InvoiceStatus::Void
    }

    /// Assigns the number `count` of the seller's series, behind the year of issue in UTC. Counts start at 1.
    pub fn numbered(&self, count: u64) -> Result<Self, OutOfRange> {
        let year = self.issued_at.to_zoned(TimeZone::UTC).year();
        let number = format!("INV-{year:04}-{count:06}").parse().map_err(|_| OutOfRange)?;
        Ok(Self { number: Some(number), ..self.clone() })
    }

    /// Returns the amount that the invoice charges, in minor units: 0 before it is numbered and while it is void.
    #[must_use]
    pub fn charged_minor(&self) -> u64 {
        let charges = self.number.is_some() && self.status != InvoiceStatus::Void;
        if charges { self.total.amount_minor } else { 0 }
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// The operation's name, or a text for a commitment or for earlier use.
    pub description: String,
    pub credits: Credits,
    /// In minor units of the invoice's currency.
    #[serde(rename = "amount")]
    pub amount_minor: u64,
}

/// The part of a month's use that an invoice bills: the latest calls, up to the credits that were billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BilledUse {
    month: Month,
    left: Credits,
    by_operation: BTreeMap<String, Credits>,
}

impl BilledUse {
    /// Starts with the credits that the month's end has billed, and with no calls.
    #[must_use]
    pub fn of(month: Month, billed: Credits) -> Self {
        Self { month, left: billed, by_operation: BTreeMap::new() }
    }

    /// Counts the ledger's next entry, newest first, and returns whether earlier entries are needed.
    pub fn take(&mut self, entry: &Entry) -> Result<bool, OutOfRange> {
        if entry.at < self.month.start() {
            return Ok(false);
        }
        for (operation, spent) in entry.spent()? {
            let part = spent.min(self.left);
            if !part.is_zero() {
                self.left = self.left.minus(part)?;
                let sum = self.by_operation.entry(operation.to_string()).or_default();
                *sum = sum.plus(part)?;
            }
        }
        Ok(!self.left.is_zero())
    }

    /// Returns the billed use by operation.
    ///
    /// Credits that no call of the month explains were used earlier: before invoicing was agreed, or out of credits
    /// that were refunded since.
    #[must_use]
    pub fn by_operation(mut self) -> BTreeMap<String, Credits> {
        if !self.left.is_zero() {
            self.by_operation.insert(EARLIER.to_owned(), self.left);
        }
        self.by_operation
    }
}

impl Invoicing {
    /// Returns the lines of use beyond credits.
    ///
    /// The running sum is rounded half up, and each line charges what it adds to the rounded sum. So the lines add up
    /// to the total.
    pub(crate) fn lines(self, used: &BTreeMap<String, Credits>) -> Result<Vec<InvoiceLine>, OutOfRange> {
        let (mut lines, mut sum, mut told) = (Vec::new(), Credits::ZERO, 0_u64);
        for (description, credits) in used {
            sum = sum.plus(*credits)?;
            let amount = self.minor(sum)?;
            let amount_minor = amount.checked_sub(told).ok_or(OutOfRange)?;
            told = amount;
            lines.push(InvoiceLine { description: description.clone(), credits: *credits, amount_minor });
        }
        Ok(lines)
    }

    /// Checks that an invoice can state the cost of a debt: `round(price · debt) ≤ MAX_INVOICE_MINOR`.
    ///
    /// A month's debt is at most the credit limit, or what it was when the limit was lowered. A month whose invoice
    /// can't be written is stuck for good, so the store checks this before a price or a limit is agreed.
    pub fn check(self, debt: Credits) -> Result<(), InvoiceTooLarge> {
        match self.minor(debt) {
            Ok(amount) if amount <= MAX_INVOICE_MINOR => Ok(()),
            _ => Err(InvoiceTooLarge { credits: debt }),
        }
    }

    /// Returns the price of credits in minor units, rounded half up.
    fn minor(self, credits: Credits) -> Result<u64, OutOfRange> {
        // Millionths of a credit times millionths of the major unit.
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

    use super::{BilledUse, Invoice, InvoiceStatus, InvoiceTooLarge, Invoicing};
    use crate::batch::PricedCall;
    use crate::consumer::Consumer;
    use crate::credits::Credits;
    use crate::hold::Settlement;
    use crate::ledger::{Cause, Entry};
    use crate::rate_card::PriceVersion;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(time: &str, cause: Cause, credits: &str) -> Entry {
        let entry_id = "deb_1".parse().unwrap();
        Entry { entry_id, cause, credits: credits.parse().unwrap(), at: at(time) }
    }

    fn call(operation: &str) -> Cause {
        let consumer = Consumer::Action { feature: "chat".parse().unwrap(), user_id: "ada".parse().unwrap() };
        let call = PricedCall::stated(operation.parse().unwrap(), consumer, "1".parse().unwrap());
        Cause::debit(call, PriceVersion::of("2026-11-01".parse().unwrap()))
    }

    fn settled(operations: [(&str, &str); 2]) -> Cause {
        let operations = operations.map(|(name, credits)| (name.parse().unwrap(), credits.parse().unwrap()));
        Cause::HoldSettled(Settlement {
            hold_ids: Vec::new(),
            rate_cards: [].into(),
            pricing: [].into(),
            lines: 2,
            operations: operations.into(),
            uncollected: None,
            refunded: Vec::new(),
            paid_by_expired: None,
            line_metadata: Vec::new(),
            content: Vec::new(),
        })
    }

    #[test]
    fn m08_price_is_refused_if_the_debt_exceeds_an_invoice() {
        let price = |price_per_credit_micros, currency: &str| Invoicing {
            price_per_credit_micros,
            currency: currency.parse().unwrap(),
        };
        let credits = |text: &str| text.parse::<Credits>().unwrap();
        // A million dollars per credit are 10^8 cents.
        let dear = price(1_000_000_000_000, "USD");
        assert_eq!(dear.check(credits("10000000")), Ok(()));
        let debt = credits("10000000.000001");
        assert_eq!(dear.check(debt), Err(InvoiceTooLarge { credits: debt }));
        assert!(price(1_000_000_000_000, "JPY").check(debt).is_ok(), "yen have no minor unit");
        assert!(dear.check(credits("999999999999.999999")).is_err(), "above u64");
        assert!(price(1_000_000, "USD").check(credits("999999999999.999999")).is_ok());
    }

    #[test]
    fn m08_invoice_number_has_the_count_and_the_year_of_issue() {
        let total = crate::price::Price { amount_minor: 5, currency: "USD".parse().unwrap() };
        let made =
            Invoice::of("2026-12".parse().unwrap(), Vec::new(), total, at("2027-01-01T00:05:00Z")).unwrap();
        assert!(made.awaits_number() && made.charged_minor() == 0);
        let numbered = made.numbered(123).unwrap();
        assert_eq!(numbered.number.as_ref().unwrap().as_str(), "INV-2027-000123");
        assert!(!numbered.awaits_number() && numbered.charged_minor() == 5);
        let void = Invoice { status: InvoiceStatus::Void, ..numbered };
        assert_eq!(void.charged_minor(), 0);
        assert!(!Invoice { number: None, ..void }.awaits_number(), "a void invoice takes no number");
    }

    #[test]
    fn m08_invoice_bills_the_months_latest_calls() {
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
        // Use in the month before is not listed as this month's.
        assert_eq!(used.take(&entry("2026-10-31T23:59:59Z", call("c"), "-5")), Ok(false));
        assert_eq!(told(used), [("Use before this month", "3.5"), ("a", "3.5"), ("b", "3")].map(pair));
    }
}
