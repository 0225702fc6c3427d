//! Refunds of a payment, each by Stripe's id and status.
//!
//! Stripe also reports a charge's cumulative refund. That figure counts while no event of a refund has come, or if it is newer
//! than all of them. Otherwise the refunds count that are on their way or done, and of the figure only what no known refund
//! explains.
//!
//! ```text
//! refunded = figure                              if no refund is known, or the figure is newer than every refund's event
//! refunded = Σ counted + (figure − Σ made by then)   otherwise, the bracket at least 0
//! ```

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a refund stands. It only moves on in this order: one that has succeeded may still fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The money is on its way.
    Pending,
    /// The payer has the money.
    Succeeded,
    /// It failed or was cancelled: the money stays with us.
    Failed,
}

/// One refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// Its amount in minor units of the payment's currency.
    pub amount_minor: u64,
    /// How it stands.
    pub status: RefundStatus,
    /// When Stripe made it.
    pub made_at: Option<Timestamp>,
}

/// A charge's cumulative refund, as an event has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeFigure {
    /// All refunds so far, in minor units.
    pub refunded_minor: u64,
    /// When the event was made.
    pub at: Option<Timestamp>,
}

/// All that is known of a payment's refunds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refunds {
    /// The refunds by Stripe's ids.
    pub by_id: BTreeMap<String, Refund>,
    /// When the latest event of a refund was made.
    pub latest_at: Option<Timestamp>,
    /// The newest cumulative figure.
    pub figure: Option<ChargeFigure>,
}

impl Refunds {
    /// Merges an event of a refund that was made at `at`.
    pub fn merge(&mut self, refund_id: &str, refund: Refund, at: Option<Timestamp>) {
        let known = self.by_id.entry(refund_id.to_owned()).or_insert(refund);
        known.status = known.status.max(refund.status);
        self.latest_at = self.latest_at.max(at);
    }

    /// Merges a charge's cumulative figure. Of two of the same second, the larger counts.
    pub fn merge_figure(&mut self, figure: ChargeFigure) {
        let rank = |figure: ChargeFigure| (figure.at, figure.refunded_minor);
        if self.figure.is_none_or(|known| rank(figure) > rank(known)) {
            self.figure = Some(figure);
        }
    }

    /// Returns what is refunded, or on its way, in minor units.
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

    /// Whether a refund is known to have failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.by_id.values().any(|refund| refund.status == RefundStatus::Failed)
    }
}
