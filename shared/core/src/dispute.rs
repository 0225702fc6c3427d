//! Disputes of a payment.
//!
//! An inquiry withholds no money, but may become a dispute. A lost dispute may be won on appeal, and a won one may be
//! lost. So the newest event counts, by Stripe's clock.

use jiff::Timestamp;

use crate::price::{Currency, Price};

/// The state of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStatus {
    /// The payment was only asked about: no money has moved.
    Inquiry,
    /// The money is withheld.
    Open,
    /// The money was returned.
    Won,
    /// The money is gone.
    Lost,
}

/// A dispute, as its newest event states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// The disputed amount in minor units.
    pub amount_minor: u64,
    /// The currency of that amount. `None` if the event states none: it is the payment's currency.
    pub currency: Option<Currency>,
    /// What Stripe's balance transactions state as withheld, if they are all in one currency.
    pub withheld: Option<Price>,
    pub status: DisputeStatus,
    /// When Stripe made the event.
    pub at: Option<Timestamp>,
}

impl DisputeStatus {
    /// Returns whether the money is withheld or gone.
    #[must_use]
    pub fn is_withheld(self) -> bool {
        matches!(self, Self::Open | Self::Lost)
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Won | Self::Lost)
    }
}

impl Dispute {
    /// Merges an event. The newer one counts.
    ///
    /// Of two events of the same second, the later state counts: an inquiry comes first, then an open dispute, then its
    /// end. Of two ends, the one that arrived last counts.
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

    /// Returns what the dispute withholds of a payment, in minor units of the payment's currency.
    ///
    /// An amount in another currency counts as what Stripe's balance transactions state in the payment's currency, or
    /// else as the whole payment.
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
