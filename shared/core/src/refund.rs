//! Refunds of a payment, by Stripe's id and status.
//!
//! Stripe also reports a charge's cumulative refund. That figure counts while no event of a refund has come, or if it
//! is newer than all of them. Otherwise the refunds that are pending or succeeded count. Of the figure, only the part
//! that no known refund explains is added.
//!
//! ```text
//! refunded = figure                                  if no refund is known, or the figure is newer than each event
//! refunded = Σ counted + (figure − Σ made by then)   otherwise, the bracket at least 0
//! ```

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The status of a refund. It changes only in this order: a refund that has succeeded may still fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The money is on its way.
    Pending,
    /// The payer has the money.
    Succeeded,
    /// The refund failed or was cancelled: the seller keeps the money.
    Failed,
}

/// One refund of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// In minor units of the payment's currency.
    pub amount_minor: u64,
    pub status: RefundStatus,
    /// When Stripe made the refund.
    pub made_at: Option<Timestamp>,
}

/// A charge's cumulative refund, as an event states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeFigure {
    /// The sum of all refunds so far, in minor units.
    pub refunded_minor: u64,
    /// When Stripe made the event.
    pub at: Option<Timestamp>,
}

/// Everything that is known about a payment's refunds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refunds {
    /// By Stripe's ids.
    pub by_id: BTreeMap<String, Refund>,
    /// When Stripe made the latest event of a refund.
    pub latest_at: Option<Timestamp>,
    /// The newest cumulative figure.
    pub figure: Option<ChargeFigure>,
}

impl Refunds {
    /// Merges an event of a refund that Stripe made at `at`.
    pub fn merge(&mut self, refund_id: &str, refund: Refund, at: Option<Timestamp>) {
        let known = self.by_id.entry(refund_id.to_owned()).or_insert(refund);
        known.status = known.status.max(refund.status);
        self.latest_at = self.latest_at.max(at);
    }

    /// Merges a charge's cumulative figure. Of two from the same second, the larger one counts.
    pub fn merge_figure(&mut self, figure: ChargeFigure) {
        let rank = |figure: ChargeFigure| (figure.at, figure.refunded_minor);
        if self.figure.is_none_or(|known| rank(figure) > rank(known)) {
            self.figure = Some(figure);
        }
    }

    /// Returns the amount that is refunded or on its way, in minor units.
    #[must_use]
    pub fn total_minor(&self) -> u64 {
        let sum = |of: &dyn Fn(&&Refund) -> bool| {
            self.by_id.values().filter(of).fold(0_u64, |sum, refund| sum.saturating_add(refund.amount_minor))
        };
        let counted = sum(&|refund| refund.status != RefundStatus::Failed);
        let Some(figure) = self.figure else { return counted };
        if self.by_id.is_empty() || figure.at > self.latest_at {
            return figure.refunded_minor;
        }
        let made_by_then = |refund: &&Refund| match (refund.made_at, figure.at) {
            (Some(made_at), Some(at)) => made_at <= at,
            _ => true,
        };
        counted.saturating_add(figure.refunded_minor.saturating_sub(sum(&made_by_then)))
    }

    /// Returns whether a refund is known to have failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.by_id.values().any(|refund| refund.status == RefundStatus::Failed)
    }
}
