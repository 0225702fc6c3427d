//! Agreements with Enterprise workspaces: a credit limit, a monthly commitment, use that is invoiced, in any
//! combination (M8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::invoice::{Invoice, Line};
use crate::month::Month;
use crate::price::{Currency, Price};
use crate::subscription::AHEAD;

/// What is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// How far below zero the workspace may spend.
    pub credit_limit: Credits,
    /// What is granted each month, and invoiced whatever was used.
    pub commitment: Option<Commitment>,
    /// At which price use beyond credits is invoiced.
    pub invoicing: Option<Invoicing>,
}

/// A monthly commitment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// What each month starts with.
    pub monthly_credits: Amount,
    /// What a month costs.
    pub price: Price,
}

/// The price of use beyond credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoicing {
    /// In millionths of the currency's major unit.
    pub price_per_credit_micros: u64,
    /// The currency.
    pub currency: Currency,
}

/// An agreement with what has been done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What is agreed.
    pub agreement: Agreement,
    /// The month that is invoiced next.
    pub open: Month,
    /// Commitments that were granted and are not invoiced yet, by month.
    pub granted: BTreeMap<Month, Commitment>,
    /// How many invoices there are: the last one's number.
    pub invoices: u64,
    /// Whether the workspace has left Enterprise: it ends with the month that is open.
    pub ends: bool,
}

/// The month's commitment, which is not invoiced yet, was granted for another currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is owed already is in {0}")]
pub struct OtherCurrency(pub Currency);

/// What is to be done next about an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Grant a month's commitment.
    Grant(Month, Commitment),
    /// Invoice a month that has ended.
    Invoice(Month),
}

impl Agreement {
    /// Nothing agreed.
    #[must_use]
    pub fn none() -> Self {
        Self { credit_limit: Credits::ZERO, commitment: None, invoicing: None }
    }
}

impl Standing {
    /// An agreement that begins at an instant.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        let (agreement, open) = (Agreement::none(), Month::of(now));
        Self { agreement, open, granted: BTreeMap::new(), invoices: 0, ends: false }
    }

    /// What is agreed from an instant on. Where nothing was agreed or owed before, its first month is the one that runs:
    /// nothing of earlier months is invoiced by it. A commitment that was granted is invoiced in its own currency, and an
    /// invoice has one.
    pub fn agreed(&self, agreement: &Agreement, now: Timestamp) -> Result<Self, OtherCurrency> {
        let owed = self.granted.values().map(|commitment| commitment.price.currency);
        let invoiced = agreement.invoicing.map(|invoicing| invoicing.currency);
        if let Some(owed) = owed.into_iter().find(|owed| invoiced.is_some_and(|invoiced| invoiced != *owed)) {
            return Err(OtherCurrency(owed));
        }
        let open = if self.is_over() { self.open.max(Month::of(now)) } else { self.open };
        Ok(Self { agreement: agreement.clone(), open, ends: false, ..self.clone() })
    }

    /// When something has to be done about it.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let end = self.open.end();
        match &self.agreement.commitment {
            Some(_) if !self.granted.contains_key(&self.open) => Some(self.open.start()),
            Some(_) if !self.granted.contains_key(&Month::of(end)) => end.checked_sub(AHEAD).ok(),
            _ if self.is_over() => None,
            _ => Some(end),
        }
    }

    /// What is to be done next. A month that has ended is invoiced before a later one's commitment is granted, and a
    /// month that passed without a grant is not granted any more.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Step {
        let (end, month) = (self.open.end(), Month::of(now));
        if end <= now && !self.is_over() {
            return Step::Invoice(self.open);
        }
        let Some(commitment) = &self.agreement.commitment else { return Step::Wait };
        let next = Month::of(end);
        if !self.granted.contains_key(&month) && month >= self.open {
            return Step::Grant(month, commitment.clone());
        }
        if end.checked_sub(AHEAD).is_ok_and(|ahead| ahead <= now) && !self.granted.contains_key(&next) {
            return Step::Grant(next, commitment.clone());
        }
        Step::Wait
    }

    /// After a month's commitment was granted.
    #[must_use]
    pub fn with_grant(&self, month: Month, commitment: Commitment) -> Self {
        let mut granted = self.granted.clone();
        granted.insert(month, commitment);
        Self { granted, ..self.clone() }
    }

    /// After a month was invoiced, or found to have nothing to invoice.
    #[must_use]
    pub fn after_month(&self, month: Month, has_invoice: bool) -> Self {
        let mut granted = self.granted.clone();
        granted.remove(&month);
        let agreement = if self.ends { Agreement::none() } else { self.agreement.clone() };
        let invoices = self.invoices.saturating_add(u64::from(has_invoice));
        Self { agreement, open: Month::of(month.end()), granted, invoices, ends: self.ends }
    }

    /// After the workspace has left Enterprise: the month that is open is invoiced still, as it was agreed.
    #[must_use]
    pub fn ended(&self) -> Self {
        let agreement = Agreement { credit_limit: Credits::ZERO, commitment: None, ..self.agreement.clone() };
        Self { agreement, ends: true, ..self.clone() }
    }

    /// The invoice of a month, if there is anything to invoice: the commitment that was granted, and what was used
    /// beyond credits, by operation.
    pub fn invoice(
        &self,
        month: Month,
        used: &BTreeMap<String, Credits>,
        now: Timestamp,
    ) -> Result<Option<Invoice>, OutOfRange> {
        let commitment = self.granted.get(&month);
        let mut lines: Vec<Line> = commitment.map(Line::of_commitment).into_iter().collect();
        if let Some(invoicing) = self.agreement.invoicing {
            lines.extend(invoicing.lines(used)?);
        }
        let currency = self.agreement.invoicing.map(|invoicing| invoicing.currency);
        let currency = currency.or(commitment.map(|commitment| commitment.price.currency));
        let (Some(currency), false) = (currency, lines.is_empty()) else { return Ok(None) };
        let total = lines.iter().try_fold(0_u64, |sum, line| sum.checked_add(line.amount_minor));
        let number = self.invoices.saturating_add(1);
        let invoice_id = format!("INV-{number:06}").parse().map_err(|_| OutOfRange)?;
        let total = Price { amount_minor: total.ok_or(OutOfRange)?, currency };
        Ok(Some(Invoice { invoice_id, month, lines, total, issued_at: now }))
    }

    /// Whether nothing is agreed or owed any more.
    fn is_over(&self) -> bool {
        let nothing = self.agreement.commitment.is_none() && self.agreement.invoicing.is_none();
        nothing && self.granted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Agreement, Commitment, Invoicing, OtherCurrency, Standing, Step};
    use crate::price::Price;
    use jiff::Timestamp;
    use std::collections::BTreeMap;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn commitment() -> Commitment {
        let price = Price { amount_minor: 50_000, currency: "USD".parse().unwrap() };
        Commitment { monthly_credits: "5000".parse().unwrap(), price }
    }

    fn standing(now: &str) -> Standing {
        let invoicing = Invoicing { price_per_credit_micros: 8_333, currency: "USD".parse().unwrap() };
        let agreement = Agreement {
            credit_limit: "1000".parse().unwrap(),
            commitment: Some(commitment()),
            invoicing: Some(invoicing),
        };
        Standing { agreement, ..Standing::begun(at(now)) }
    }

    #[test]
    fn m08_a_commitment_is_granted_at_once_and_then_ahead_of_each_month() {
        let standing = standing("2026-11-23T12:00:00Z");
        let november = "2026-11".parse().unwrap();
        assert_eq!(standing.step(at("2026-11-23T12:00:00Z")), Step::Grant(november, commitment()));
        let standing = standing.with_grant(november, commitment());
        assert_eq!(standing.next_due(), Some(at("2026-11-30T23:00:00Z")));
        assert_eq!(standing.step(at("2026-11-30T22:59:59Z")), Step::Wait);
        let december = "2026-12".parse().unwrap();
        assert_eq!(standing.step(at("2026-11-30T23:00:00Z")), Step::Grant(december, commitment()));
        let standing = standing.with_grant(december, commitment());
        assert_eq!(standing.next_due(), Some(at("2026-12-01T00:00:00Z")));
        assert_eq!(standing.step(at("2026-12-01T00:00:00Z")), Step::Invoice(november));
        let standing = standing.after_month(november, true);
        assert_eq!((standing.step(at("2026-12-01T00:00:00Z")), standing.invoices), (Step::Wait, 1));
    }

    #[test]
    fn m08_an_invoices_lines_add_up_to_its_total_and_to_what_was_used() {
        let month = "2026-11".parse().unwrap();
        let standing = standing("2026-11-23T12:00:00Z").with_grant(month, commitment());
        let used: BTreeMap<_, _> = [("a", "0.5"), ("b", "0.7"), ("c", "1.000001")]
            .map(|(operation, credits)| (operation.to_owned(), credits.parse().unwrap()))
            .into();
        let invoice = standing.invoice(month, &used, at("2026-12-01T00:05:00Z")).unwrap().unwrap();
        let amounts: Vec<u64> = invoice.lines.iter().map(|line| line.amount_minor).collect();
        // 2.200001 credits at 0.8333 cents each are 1.83 cents.
        assert_eq!((amounts, invoice.total.amount_minor), (vec![50_000, 0, 1, 1], 50_002));
        assert_eq!(invoice.invoice_id.as_str(), "INV-000001");
    }

    #[test]
    fn m08_a_month_without_commitment_or_use_beyond_credits_has_no_invoice() {
        let standing = standing("2026-11-23T12:00:00Z");
        let month = "2026-11".parse().unwrap();
        assert_eq!(standing.invoice(month, &BTreeMap::new(), at("2026-12-01T00:05:00Z")), Ok(None));
        let ended = standing.ended().after_month(month, false);
        assert_eq!((ended.next_due(), ended.step(at("2027-12-01T00:05:00Z"))), (None, Step::Wait));
    }

    #[test]
    fn m08_what_was_never_granted_is_due_since_the_month_began() {
        assert_eq!(standing("2026-11-23T12:00:00Z").next_due(), Some(at("2026-11-01T00:00:00Z")));
    }

    #[test]
    fn m08_who_leaves_enterprise_owes_the_open_month_and_has_no_limit_or_commitment_any_more() {
        let left = standing("2026-11-23T12:00:00Z").ended();
        let invoicing = Some(Invoicing { price_per_credit_micros: 8_333, currency: "USD".parse().unwrap() });
        assert_eq!(left.agreement, Agreement { invoicing, ..Agreement::none() });
        assert!(left.ends);
        assert_eq!(left.step(at("2026-12-01T00:00:00Z")), Step::Invoice("2026-11".parse().unwrap()));
    }

    #[test]
    fn m08_a_month_ends_with_an_invoice_while_anything_at_all_is_agreed_or_owed() {
        let (november, end) = ("2026-11".parse().unwrap(), at("2026-12-01T00:00:00Z"));
        let whole = standing("2026-11-23T12:00:00Z").with_grant(november, commitment());
        let of = |commitment, invoicing| {
            let agreement = Agreement { commitment, invoicing, ..Agreement::none() };
            Standing { agreement, ..whole.clone() }
        };
        let owed = of(None, None);
        assert_eq!((owed.step(end), owed.next_due()), (Step::Invoice(november), Some(end)));
        let used = of(None, whole.agreement.invoicing).after_month(november, true);
        assert_eq!(used.next_due(), Some(at("2027-01-01T00:00:00Z")));
        let committed = of(Some(commitment()), None).after_month(november, true);
        assert_eq!(committed.step(at("2027-01-01T00:00:00Z")), Step::Invoice("2026-12".parse().unwrap()));
        let nothing = owed.after_month(november, true);
        assert_eq!((nothing.step(at("2027-01-01T00:00:00Z")), nothing.next_due()), (Step::Wait, None));
    }

    #[test]
    fn m08_what_is_agreed_after_nothing_was_begins_with_the_month_that_runs() {
        let limit = Agreement { credit_limit: "500".parse().unwrap(), ..Agreement::none() };
        let limited =
            Standing::begun(at("2026-08-23T12:00:00Z")).agreed(&limit, at("2026-08-23T12:00:00Z")).unwrap();
        assert_eq!(limited.next_due(), None);
        let agreement = standing("2026-11-23T12:00:00Z").agreement;
        let invoiced = limited.agreed(&agreement, at("2026-11-23T12:00:00Z")).unwrap();
        assert_eq!(invoiced.open, "2026-11".parse().unwrap());
        // What is agreed anew while something runs leaves its month as it is.
        assert_eq!(invoiced.agreed(&agreement, at("2026-12-01T00:00:01Z")).unwrap().open, invoiced.open);
        let back = invoiced
            .ended()
            .after_month(invoiced.open, true)
            .agreed(&limit, at("2026-11-30T23:59:59Z"))
            .unwrap();
        assert_eq!((back.open, back.ends), ("2026-12".parse().unwrap(), false));
    }

    #[test]
    fn m08_what_is_owed_already_keeps_the_invoice_in_its_currency() {
        let (november, now) = ("2026-11".parse().unwrap(), at("2026-11-23T12:00:00Z"));
        let standing = standing("2026-11-23T12:00:00Z").with_grant(november, commitment());
        let euros = Invoicing { price_per_credit_micros: 1, currency: "EUR".parse().unwrap() };
        let other = Agreement { invoicing: Some(euros), ..Agreement::none() };
        assert_eq!(standing.agreed(&other, now), Err(OtherCurrency("USD".parse().unwrap())));
        assert!(standing.agreed(&Agreement::none(), now).is_ok());
        assert!(standing.after_month(november, true).agreed(&other, now).is_ok());
    }
}
