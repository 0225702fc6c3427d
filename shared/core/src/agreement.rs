//! Agreements with Enterprise workspaces: a credit limit, a monthly commitment, use that is invoiced, in any
//! combination (M8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::{Amount, Credits, OutOfRange};
use crate::invoice::{Invoice, Line};
use crate::month::Month;
use crate::portion::Portion;
use crate::price::{Currency, Price};
use crate::subscription::AHEAD;
use crate::usage::day_of;

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
#[serde(from = "StoredStanding")]
pub struct Standing {
    /// What is agreed.
    pub agreement: Agreement,
    /// When the commitment was agreed, if it is newer than the open month.
    pub committed_at: Option<Timestamp>,
    /// The month that is invoiced next.
    pub open: Month,
    /// Portions of commitments that were granted and are not invoiced yet, by month, in the order of their days.
    pub portions: BTreeMap<Month, Vec<Portion>>,
    /// How many portions were granted: the last one's number.
    pub grants: u64,
    /// How many invoices the workspace has.
    pub invoices: u64,
    /// Whether the workspace has left Enterprise: it ends with the month that is open.
    pub ends: bool,
}

/// A standing as any version has stored it.
#[derive(Deserialize)]
struct StoredStanding {
    agreement: Agreement,
    committed_at: Option<Timestamp>,
    open: Month,
    #[serde(default)]
    portions: BTreeMap<Month, Vec<Portion>>,
    /// What an older version granted: whole months alone.
    #[serde(default)]
    granted: BTreeMap<Month, Commitment>,
    #[serde(default)]
    grants: u64,
    invoices: u64,
    ends: bool,
}

impl From<StoredStanding> for Standing {
    fn from(stored: StoredStanding) -> Self {
        let StoredStanding { agreement, committed_at, open, mut portions, granted, grants, invoices, ends } =
            stored;
        for (month, commitment) in granted {
            portions.entry(month).or_default().push(Portion::from(1, month, commitment, 0));
        }
        Self { agreement, committed_at, open, portions, grants, invoices, ends }
    }
}

/// A commitment of the month that is not invoiced yet is in another currency, and an invoice has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is owed already is in {owed}")]
pub struct OtherCurrency {
    /// The currency of what is owed.
    pub owed: Currency,
    /// What is agreed in another one.
    pub refused: Priced,
}

/// What of an agreement has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priced {
    /// The commitment.
    Commitment,
    /// Use beyond credits.
    Invoicing,
}

/// What is to be done next about an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Take back what the early end of a month's portion leaves over.
    TakeBack(Month, Portion),
    /// Grant a month's portion.
    Grant(Month, Portion),
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

    /// What is agreed from an instant on. Where nothing was agreed or owed before, its first month is the one that runs:
    /// nothing of earlier months is invoiced by it. A commitment that was granted is invoiced in its own currency, and an
    /// invoice has one.
    ///
    /// A commitment starts and ends on the day of the change. Other terms of one that goes on hold from the next month.
    pub fn agreed(&self, agreement: &Agreement, now: Timestamp) -> Result<Self, OtherCurrency> {
        let open = if self.is_over() { self.open.max(Month::of(now)) } else { self.open };
        let after = Self { open, ends: false, ..self.with_terms(agreement.clone(), now) };
        after.check_currency(Month::of(now))?;
        Ok(after)
    }

    /// After the workspace has left Enterprise: the month that is open is invoiced still, as it was agreed.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Self {
        let agreement = Agreement { credit_limit: Credits::ZERO, commitment: None, ..self.agreement.clone() };
        Self { ends: true, ..self.with_terms(agreement, now) }
    }

    /// Replaces the agreement. A commitment that has changed is withdrawn from later months, for which it may be granted
    /// already; one that has ended is in force for today at last.
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

    /// When something has to be done about it.
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

    /// What is to be done next. A month that has ended is invoiced before a later one's commitment is granted, and a
    /// month that passed without a grant is not granted any more.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Step {
        if let Some((month, portion)) = self.pending() {
            return Step::TakeBack(month, portion.clone());
        }
        let (end, month) = (self.open.end(), Month::of(now));
        if end <= now && !self.is_over() {
            return Step::Invoice(self.open);
        }
        let ahead = end.checked_sub(AHEAD).is_ok_and(|ahead| ahead <= now);
        let months =
            [Some(month).filter(|month| *month >= self.open), Some(Month::of(end)).filter(|_| ahead)];
        let grant = months.into_iter().flatten().find_map(|month| Some((month, self.missing(month)?)));
        grant.map_or(Step::Wait, |(month, portion)| Step::Grant(month, portion))
    }

    /// The first portion whose early end has not taken back what it leaves over.
    fn pending(&self) -> Option<(Month, &Portion)> {
        let all = self.portions.iter().flat_map(|(month, of)| of.iter().map(|portion| (*month, portion)));
        let mut pending =
            all.filter(|(month, portion)| portion.has_ended_early(*month) && !portion.taken_back);
        pending.next()
    }

    /// The portion of a month that is to be granted: the days from the commitment's first on that no portion covers.
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

    /// After a month's portion was granted.
    #[must_use]
    pub fn with_grant(&self, month: Month, portion: Portion) -> Self {
        let (mut portions, grants) = (self.portions.clone(), portion.number);
        portions.entry(month).or_default().push(portion);
        Self { portions, grants, ..self.clone() }
    }

    /// After what a portion leaves over was taken back. One that was withdrawn is not invoiced.
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

    /// After a month was invoiced, or found to have nothing to invoice.
    #[must_use]
    pub fn after_month(&self, month: Month, has_invoice: bool) -> Self {
        let mut portions = self.portions.clone();
        portions.remove(&month);
        let agreement = if self.ends { Agreement::none() } else { self.agreement.clone() };
        let invoices = self.invoices.saturating_add(u64::from(has_invoice));
        Self { agreement, open: Month::of(month.end()), portions, invoices, ..self.clone() }
    }

    /// The portions of a month that are invoiced.
    pub fn portions_of(&self, month: Month) -> impl Iterator<Item = &Portion> {
        self.portions.get(&month).into_iter().flatten()
    }

    /// The invoice of a month, if there is anything to invoice: what was committed, less what early ends have taken back
    /// (by the portions' numbers), and what was used beyond credits, by operation.
    pub fn invoice(
        &self,
        month: Month,
        taken_back: &BTreeMap<u64, Credits>,
        used: &BTreeMap<String, Credits>,
        now: Timestamp,
    ) -> Result<Option<Invoice>, OutOfRange> {
        let taken = |portion: &Portion| taken_back.get(&portion.number).copied().unwrap_or_default();
        let committed = self.portions_of(month).map(|portion| portion.line(month, taken(portion)));
        let mut lines = committed.collect::<Result<Vec<Line>, OutOfRange>>()?;
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

    /// Whether nothing is agreed or owed any more.
    fn is_over(&self) -> bool {
        let nothing = self.agreement.commitment.is_none() && self.agreement.invoicing.is_none();
        nothing && self.portions.is_empty()
    }
}

fn day_of_month(at: Timestamp) -> u64 {
    day_of(at).day().unsigned_abs().into()
}
