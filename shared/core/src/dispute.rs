//! Disputes of a payment.
//!
//! An inquiry takes nothing. It may escalate, and a dispute that was lost may be won on appeal, or the other way round: the
//! newest event counts, by Stripe's clock.

use jiff::Timestamp;

use crate::price::{Currency, Price};

/// How a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStatus {
    /// Only asked about: no money has moved.
    Inquiry,
    /// The money is withheld.
    Open,
    /// The money came back.
    Won,
    /// The money is gone.
    Lost,
}

/// One dispute, as its newest event has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// Its amount in minor units.
    pub amount_minor: u64,
    /// The currency of that amount; `None` where the event does not say: the payment's.
    pub currency: Option<Currency>,
    /// What Stripe's balance transactions name as withheld, where they are of one currency.
    pub withheld: Option<Price>,
    /// How it stands.
    pub status: DisputeStatus,
    /// When the event was made.
    pub at: Option<Timestamp>,
}

impl DisputeStatus {
    /// Whether the money is withheld, or gone.
    #[must_use]
    pub fn is_withheld(self) -> bool {
        matches!(self, Self::Open | Self::Lost)
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Won | Self::Lost)
    }
}

impl Dispute {
    /// Merges an event. Of two of the same second, an end counts before what comes before an end, and of two ends the one that
    /// came later.
    pub fn merge(&mut self, news: Self) {
        let goes_on = match (self.status, news.status) {
            (_, DisputeStatus::Won | DisputeStatus::Lost) => true,
            (known, DisputeStatus::Open) => !known.has_ended(),
            (known, DisputeStatus::Inquiry) => known == DisputeStatus::Inquiry,
        };
        if news.at > self.at || (news.at == self.at && goes_on) {
            *self = news;
        }
    }

    /// Returns what it withholds of a payment, in minor units of the payment's currency. An amount in another currency counts as
    /// what Stripe's balance transaction names in the payment's, or as all of it.
    #[must_use]
    pub fn withheld_minor(&self, paid: Price) -> u64 {
        if !self.status.is_withheld() {
            return 0;
        }
        if self.currency.is_none_or(|currency| currency == paid.currency) {
            return self.amount_minor;
        }
        let named = self.withheld.filter(|withheld| withheld.currency == paid.currency);
        named.map_or(paid.amount_minor, |withheld| withheld.amount_minor)
    }
}
