//! Agreements with Enterprise workspaces: a credit limit, a monthly commitment and invoiced use beyond credits, in any
//! combination (M8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Credits, OutOfRange};
use crate::invoice::{Invoice, InvoiceLine};
use crate::month::Month;
use crate::portion::Portion;
use crate::price::{Currency, Price};
use crate::subscription::AHEAD;
use crate::usage::day_of;

pub use crate::invoice::Invoicing;
pub use crate::portion::Commitment;

/// The terms agreed with an Enterprise workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// How far below zero the workspace may spend.
    pub credit_limit: Credits,
    /// Granted each month, and invoiced even if the credits are not used.
    pub commitment: Option<Commitment>,
    /// The price at which use beyond credits is invoiced.
    pub invoicing: Option<Invoicing>,
}

/// An agreement with the state of its grants and invoices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStanding")]
pub struct AgreementState {
    pub agreement: Agreement,
    /// When the commitment was first agreed: its first month starts on that day. `None` without a commitment.
    pub committed_at: Option<Timestamp>,
    /// The month that is invoiced next.
    pub open: Month,
    /// Granted portions of commitments that are not invoiced yet, by month, in the order of their days.
    pub portions: BTreeMap<Month, Vec<Portion>>,
    /// The number of portions granted so far, which is the number of the latest one.
    pub grants: u64,
    /// The number of invoices made so far.
    pub invoices: u64,
    /// Whether the workspace has left Enterprise. The agreement then ends with the open month.
    pub ends: bool,
}

/// A standing in the form of any version that has stored one.
#[derive(Deserialize)]
struct StoredStanding {
    agreement: Agreement,
    committed_at: Option<Timestamp>,
    open: Month,
    #[serde(default)]
    portions: BTreeMap<Month, Vec<Portion>>,
    /// The grants of an older version, which granted whole months only.
    #[serde(default)]
    granted: BTreeMap<Month, Commitment>,
    #[serde(default)]
    grants: u64,
    invoices: u64,
    ends: bool,
}

impl From<StoredStanding> for AgreementState {
    fn from(stored: StoredStanding) -> Self {
        let StoredStanding { agreement, committed_at, open, mut portions, granted, grants, invoices, ends } =
            stored;
        for (month, commitment) in granted {
            portions.entry(month).or_default().push(Portion::from(1, month, commitment, 0));
        }
        Self { agreement, committed_at, open, portions, grants, invoices, ends }
    }
}

/// The error of terms in another currency than a commitment that is not invoiced yet. An invoice has one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a commitment that is not invoiced yet is in {owed}")]
pub struct OtherCurrency {
    /// The currency of the commitment that is not invoiced yet.
    pub owed: Currency,
    /// The new term that is in another currency.
    pub refused: Priced,
}

/// A term of an agreement that has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priced {
    Commitment,
    /// The price of use beyond credits.
    Invoicing,
}

/// The next step for an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgreementStep {
    /// Nothing is due.
    Wait,
    /// Take back the excess of a portion that ended before its month.
    TakeBack(Month, Portion),
    Grant(Month, Portion),
    /// Invoice a month that has ended.
    Invoice(Month),
}

impl Agreement {
    /// Returns an agreement without terms: no credit limit, commitment or invoicing.
    #[must_use]
    pub fn none() -> Self {
        Self { credit_limit: Credits::ZERO, commitment: None, invoicing: None }
    }
}

impl AgreementState {
    /// Returns the state of an agreement that begins at `now`, still without terms.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        Self {
            agreement: Agreement::none(),
            committed_at: None,
            open: Month::of(now),
            portions: BTreeMap::new(),
            grants: 0,
            invoices: 0,
            ends: false,
        }
    }

    /// Replaces the terms from `now` on.
    ///
    /// If nothing was agreed or owed before, the running month is the first one: earlier months are not invoiced.
    ///
    /// A commitment starts and ends on the day of the change. If a commitment continues with other terms, they apply
    /// from the next month.
    ///
    /// Fails if an invoice would get two currencies: a granted commitment is invoiced in its own currency.
    pub fn agreed(&self, agreement: &Agreement, now: Timestamp) -> Result<Self, OtherCurrency> {
        let open = if self.is_over() { self.open.max(Month::of(now)) } else { self.open };
        let after = Self { open, ends: false, ..self.with_terms(agreement.clone(), now) };
        after.check_currency(Month::of(now))?;
        Ok(after)
    }

    /// Returns the state after the workspace left Enterprise. The open month is still invoiced as agreed.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Self {
        let agreement = Agreement { credit_limit: Credits::ZERO, commitment: None, ..self.agreement.clone() };
        Self { ends: true, ..self.with_terms(agreement, now) }
    }

    /// Replaces the agreement. A changed commitment is withdrawn from later months for which it is already granted. A
    /// commitment that ends is in force until the end of today.
    fn with_terms(&self, agreement: Agreement, now: Timestamp) -> Self {
        let (before, after) = (&self.agreement.commitment, &agreement.commitment);
        let (month, today) = (Month::of(now), day_of_month(now));
        let mut portions = self.portions.clone();
        if before != after {
            for portion in portions.range_mut(month..).filter(|(of, _)| **of > month).flat_map(|(_, of)| of) {
                portion.last_day = 0;
            }
        }
        if after.is_none() {
            let running = portions.get_mut(&month).into_iter().flatten();
            running.filter(|portion| !portion.has_ended_early(month)).for_each(|portion| portion.end(today));
        }
        let committed_at = match (before, after) {
            (None, Some(_)) => Some(now),
            (Some(_), Some(_)) => self.committed_at,
            (_, None) => None,
        };
        Self { agreement, committed_at, portions, ..self.clone() }
    }

    fn check_currency(&self, month: Month) -> Result<(), OtherCurrency> {
        let of = |(month, portions): (&Month, &Vec<Portion>)| {
            let owed = portions.iter().filter(|portion| !portion.is_withdrawn());
            owed.map(|portion| (*month, portion.commitment.price.currency)).collect::<Vec<_>>()
        };
        let owed: Vec<(Month, Currency)> = self.portions.iter().flat_map(of).collect();
        let other = |currency: Currency, refused, month: Option<Month>| {
            let differs =
                owed.iter().find(|(of, owed)| *owed != currency && month.is_none_or(|month| *of == month));
            differs.map_or(Ok(()), |(_, owed)| Err(OtherCurrency { owed: *owed, refused }))
        };
        if let Some(invoicing) = self.agreement.invoicing {
            other(invoicing.currency, Priced::Invoicing, None)?;
        }
        match &self.agreement.commitment {
            Some(commitment) if self.missing(month).is_some() => {
                other(commitment.price.currency, Priced::Commitment, Some(month))
            }
            _ => Ok(()),
        }
    }

    /// Returns when the sweep has to take the next step; `None` if nothing is agreed or owed.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let end = self.open.end();
        if self.pending().is_some() || self.missing(self.open).is_some() {
            return Some(self.open.start());
        }
        if self.missing(Month::of(end)).is_some() {
            return end.checked_sub(AHEAD).ok();
        }
        Some(end).filter(|_| !self.is_over())
    }

    /// Returns the next step. A month that has ended is invoiced before the commitment of a later month is granted. A
    /// month that passed without a grant is not granted any more.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> AgreementStep {
        if let Some((month, portion)) = self.pending() {
            return AgreementStep::TakeBack(month, portion.clone());
        }
        let (end, month) = (self.open.end(), Month::of(now));
        if end <= now && !self.is_over() {
            return AgreementStep::Invoice(self.open);
        }
        let ahead = end.checked_sub(AHEAD).is_ok_and(|ahead| ahead <= now);
        let months =
            [Some(month).filter(|month| *month >= self.open), Some(Month::of(end)).filter(|_| ahead)];
        let grant = months.into_iter().flatten().find_map(|month| Some((month, self.missing(month)?)));
        grant.map_or(AgreementStep::Wait, |(month, portion)| AgreementStep::Grant(month, portion))
    }

    /// Returns the first portion that ended early and whose excess is not taken back yet.
    fn pending(&self) -> Option<(Month, &Portion)> {
        let all = self.portions.iter().flat_map(|(month, of)| of.iter().map(|portion| (*month, portion)));
        let mut pending =
            all.filter(|(month, portion)| portion.has_ended_early(*month) && !portion.taken_back);
        pending.next()
    }

    /// Returns the portion of a month that is still to be granted: the days that no portion covers, from the
    /// commitment's first day on.
    fn missing(&self, month: Month) -> Option<Portion> {
        let commitment = self.agreement.commitment.clone()?;
        let began = self.committed_at.map(|at| (Month::of(at), day_of_month(at)));
        let first = match began {
            Some((began, _)) if began > month => return None,
            Some((began, day)) if began == month => day,
            _ => 1,
        };
        let covered = self.portions.get(&month).into_iter().flatten().map(|portion| portion.last_day).max();
        let first = first.max(covered.unwrap_or(0).saturating_add(1));
        let number = self.grants.saturating_add(1);
        (first <= month.days()).then(|| Portion::from(first, month, commitment, number))
    }

    /// Returns the state after a month's portion was granted.
    #[must_use]
    pub fn with_grant(&self, month: Month, portion: Portion) -> Self {
        let (mut portions, grants) = (self.portions.clone(), portion.number);
        portions.entry(month).or_default().push(portion);
        Self { portions, grants, ..self.clone() }
    }

    /// Returns the state after the excess of a portion was taken back. A withdrawn portion is removed, so it is not
    /// invoiced.
    #[must_use]
    pub fn with_taken_back(&self, month: Month, number: u64) -> Self {
        let mut portions = self.portions.clone();
        if let Some(of_month) = portions.get_mut(&month) {
            of_month.retain(|portion| portion.number != number || !portion.is_withdrawn());
            let ended = of_month.iter_mut().filter(|portion| portion.number == number);
            ended.for_each(|portion| portion.taken_back = true);
        }
        portions.retain(|_, of_month| !of_month.is_empty());
        Self { portions, ..self.clone() }
    }

    /// Returns the state after a month was invoiced.
    #[must_use]
    pub fn after_invoice(&self, month: Month) -> Self {
        Self { invoices: self.invoices.saturating_add(1), ..self.after_month(month) }
    }

    /// Returns the state after a month that had nothing to invoice.
    #[must_use]
    pub fn after_month(&self, month: Month) -> Self {
        let mut portions = self.portions.clone();
        portions.remove(&month);
        let agreement = if self.ends { Agreement::none() } else { self.agreement.clone() };
        Self { agreement, open: Month::of(month.end()), portions, ..self.clone() }
    }

    /// Returns the portions of a month that are to be invoiced.
    pub fn portions_of(&self, month: Month) -> impl Iterator<Item = &Portion> {
        self.portions.get(&month).into_iter().flatten()
    }

    /// Returns the invoice of a month; `None` if it has no lines.
    ///
    /// The invoice charges for the portions of the commitment and for use beyond credits. `taken_back` states the
    /// credits that early ends have taken back, by the number of the portion. `used` states use beyond credits, by
    /// operation.
    pub fn invoice(
        &self,
        month: Month,
        taken_back: &BTreeMap<u64, Credits>,
        used: &BTreeMap<String, Credits>,
        now: Timestamp,
    ) -> Result<Option<Invoice>, OutOfRange> {
        let taken = |portion: &Portion| taken_back.get(&portion.number).copied().unwrap_or_default();
        let committed = self.portions_of(month).map(|portion| portion.line(month, taken(portion)));
        let mut lines = committed.collect::<Result<Vec<InvoiceLine>, OutOfRange>>()?;
        if let Some(invoicing) = self.agreement.invoicing {
            lines.extend(invoicing.lines(used)?);
        }
        let currency = self.agreement.invoicing.map(|invoicing| invoicing.currency);
        let committed = self.portions_of(month).next();
        let currency = currency.or(committed.map(|portion| portion.commitment.price.currency));
        let (Some(currency), false) = (currency, lines.is_empty()) else { return Ok(None) };
        let total = lines.iter().try_fold(0_u64, |sum, line| sum.checked_add(line.amount_minor));
        let total = Price { amount_minor: total.ok_or(OutOfRange)?, currency };
        Ok(Some(Invoice::of(month, lines, total, now)?))
    }

    /// Returns whether no commitment and no invoicing is agreed, and no portion is left to invoice.
    fn is_over(&self) -> bool {
        let nothing = self.agreement.commitment.is_none() && self.agreement.invoicing.is_none();
        nothing && self.portions.is_empty()
    }
}

fn day_of_month(at: Timestamp) -> u64 {
    day_of(at).day().unsigned_abs().into()
}
