//! A payment at the provider, and what our side of it must come to, however and in whatever order it is told.
//!
//! Everything the provider says is merged into one [`Payment`], and [`Payment::next_step`] compares what was done with
//! what ought to be: the merge doesn't mind repetition or order, so neither do the credits.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::credits::{Amount, Credits, OutOfRange};
use crate::id::{Id, WorkspaceId};
use crate::planted::{Slip, slips};
use crate::price::Currency;
use crate::purchase::Purchase;

/// What one event tells of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It succeeded.
    Paid(Paid),
    /// So much of it has been refunded by now, in all.
    Refunded {
        /// The provider's cumulative figure, in minor units.
        refunded_minor: u64,
    },
    /// A dispute of it was opened, or has ended.
    Disputed {
        /// Which dispute.
        dispute_id: String,
        /// Its amount in minor units, and how it stands.
        dispute: Dispute,
    },
}

/// A payment that succeeded, and what it says it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// What was paid, in minor units.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: Currency,
    /// Which purchase it names. A text from outside, not looked at before it is looked up.
    pub purchase_id: Option<String>,
    /// Which workspace it names, likewise.
    pub workspace_id: Option<String>,
    /// The provider's id of the customer, whose card may be charged again.
    pub customer: Option<String>,
}

/// How a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// Its amount in minor units.
    pub amount_minor: u64,
    /// Open, won or lost.
    pub status: DisputeStatus,
}

/// The course of a dispute. It ends once; what ended doesn't open again, whatever arrives late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// What a payment granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// To whom.
    pub workspace_id: WorkspaceId,
    /// For which purchase.
    pub purchase_id: Id,
    /// How much.
    pub credits: Amount,
    /// For how much money, in minor units.
    pub amount_minor: u64,
}

/// Why a payment fits nothing of ours. It is kept, shown and alarmed, never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It names no purchase.
    #[error("no_reference")]
    NoReference,
    /// It names a purchase that doesn't exist.
    #[error("unknown_top_up")]
    UnknownTopUp,
    /// The purchase is another workspace's.
    #[error("workspace_mismatch")]
    Workspace,
    /// Another amount was paid than the purchase costs.
    #[error("amount_mismatch")]
    Amount,
    /// Another currency was paid than the purchase costs.
    #[error("currency_mismatch")]
    Currency,
    /// The purchase was paid by another payment.
    #[error("top_up_already_paid")]
    AlreadyPaid,
    /// The subscription that it was for has moved on: another is running, or the period is paid. This is for good, so
    /// that a refund months later, when nothing runs any more, does not start it.
    #[error("subscription_moved_on")]
    MovedOn,
}

/// A payment, as far as it has been told, and what has been done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id of it.
    pub payment_id: String,
    /// When it was first heard of.
    pub first_heard_at: Timestamp,
    /// What it paid, once it succeeded.
    pub paid: Option<Paid>,
    /// What it granted.
    pub granted: Option<Granted>,
    /// Why it granted nothing.
    pub mismatch: Option<Mismatch>,
    /// The largest cumulative refund that was told, in minor units.
    pub refunded_minor: u64,
    /// Its disputes.
    pub disputes: BTreeMap<String, Dispute>,
    /// What was clawed back so far.
    pub clawed: Credits,
    /// How many claw-backs and reversals there were: their entries' names.
    pub claws: u64,
    /// One up at every write; zero before the first.
    pub version: u64,
}

/// What has to be done next, so that our side becomes what it ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Grant the purchase's credits.
    Grant(Granted),
    /// Take credits back.
    ClawBack(Granted, Amount),
    /// Give back what was clawed too much: a dispute was won.
    Reverse(Granted, Amount),
    /// Keep it among the unmatched.
    KeepUnmatched(Mismatch),
}

impl Payment {
    /// A payment of which nothing is known yet.
    #[must_use]
    pub fn unheard_of(payment_id: &str, now: Timestamp) -> Self {
        Self {
            payment_id: payment_id.to_owned(),
            first_heard_at: now,
            paid: None,
            granted: None,
            mismatch: None,
            refunded_minor: 0,
            disputes: BTreeMap::new(),
            clawed: Credits::ZERO,
            claws: 0,
            version: 0,
        }
    }

    /// Merges what an event tells. Repetition and order make no difference once the payment has granted.
    pub fn hear(&mut self, news: &News) {
        match news {
            News::Paid(paid) => self.hear_paid(paid),
            News::Refunded { refunded_minor } => {
                self.refunded_minor = self.refunded_minor.max(*refunded_minor);
            }
            News::Disputed { dispute_id, dispute } => {
                let known = self.disputes.entry(dispute_id.clone()).or_insert(*dispute);
                if dispute.status > known.status && known.status < DisputeStatus::Won {
                    *known = *dispute;
                }
            }
        }
    }

    /// A payment is told by two events, in any order. What the first says stands once it has granted, and what names a
    /// purchase is not forgotten for what names none; but who paid may be told by either of them alone.
    fn hear_paid(&mut self, paid: &Paid) {
        let names_more = paid.purchase_id.is_some() || self.named_purchase().is_none();
        let customer = self.customer().or(paid.customer.as_deref()).map(str::to_owned);
        let known = self.paid.take().filter(|_| self.granted.is_some() || !names_more);
        self.paid = Some(Paid { customer, ..known.unwrap_or_else(|| paid.clone()) });
    }

    /// The provider's id of the customer who paid, if it was told.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        self.paid.as_ref()?.customer.as_deref()
    }

    /// The purchase that the payment names, if the name could be one.
    #[must_use]
    pub fn named_purchase(&self) -> Option<Id> {
        self.paid.as_ref()?.purchase_id.as_deref()?.parse().ok()
    }

    /// What has to be done next; `None` once all is as it ought to be. `bought` is the purchase that the payment names,
    /// with the payment that paid it, if one did.
    pub fn next_step(&self, bought: Option<(&Purchase, Option<&str>)>) -> Result<Option<Step>, OutOfRange> {
        if let Some(granted) = &self.granted {
            return self.next_claw(granted);
        }
        let Some(paid) = &self.paid else { return Ok(None) };
        Ok(match self.fit(paid, bought) {
            Ok(granted) => Some(Step::Grant(granted)),
            Err(mismatch) if self.mismatch == Some(mismatch) => None,
            Err(mismatch) => Some(Step::KeepUnmatched(mismatch)),
        })
    }

    /// Whether an operator still has to look at it: it paid, fits nothing, and has not been refunded whole.
    #[must_use]
    pub fn is_unmatched(&self) -> bool {
        let paid = self.paid.as_ref().map_or(0, |paid| paid.amount_minor);
        self.mismatch.is_some() && self.granted.is_none() && self.refunded_minor < paid
    }

    fn fit(&self, paid: &Paid, bought: Option<(&Purchase, Option<&str>)>) -> Result<Granted, Mismatch> {
        if paid.purchase_id.is_none() {
            return Err(Mismatch::NoReference);
        }
        // What it was for has passed for good: nothing that is told later may start it.
        if self.mismatch == Some(Mismatch::MovedOn) {
            return Err(Mismatch::MovedOn);
        }
        let (purchase, paid_by) = bought.ok_or(Mismatch::UnknownTopUp)?;
        if paid.workspace_id.as_deref().is_some_and(|named| named != purchase.workspace_id.as_str()) {
            return Err(Mismatch::Workspace);
        }
        if paid.currency != purchase.price.currency {
            return Err(Mismatch::Currency);
        }
        if paid.amount_minor != purchase.price.amount_minor {
            return Err(Mismatch::Amount);
        }
        if paid_by.is_some_and(|payment_id| *payment_id != self.payment_id) {
            return Err(Mismatch::AlreadyPaid);
        }
        Ok(Granted {
            workspace_id: purchase.workspace_id.clone(),
            purchase_id: purchase.purchase_id.clone(),
            credits: purchase.goods.credits(),
            amount_minor: paid.amount_minor,
        })
    }

    /// What is refunded or in dispute is the target, capped at the grant, less what was clawed before.
    fn next_claw(&self, granted: &Granted) -> Result<Option<Step>, OutOfRange> {
        let withheld = |dispute: &&Dispute| {
            matches!(dispute.status, DisputeStatus::Open | DisputeStatus::Lost)
                || (slips(Slip::WonIsLost) && dispute.status == DisputeStatus::Won)
        };
        let disputed = self.disputes.values().filter(withheld);
        let gone =
            disputed.fold(self.refunded_minor, |sum, dispute| sum.saturating_add(dispute.amount_minor));
        let target = granted.credits.credits().share(gone.min(granted.amount_minor), granted.amount_minor)?;
        let target =
            if slips(Slip::ClawedUp) && gone > 0 { target.plus(Credits::from_micros(1)?)? } else { target };
        let missing = target.minus(self.clawed)?;
        Ok(match (Amount::new(missing), Amount::new(missing.negated())) {
            (Ok(amount), _) => Some(Step::ClawBack(granted.clone(), amount)),
            (_, Ok(amount)) => Some(Step::Reverse(granted.clone(), amount)),
            _ => None,
        })
    }
}

impl Step {
    /// The payment after the step.
    pub fn taken(&self, payment: &Payment) -> Result<Payment, OutOfRange> {
        let mut next = payment.clone();
        match self {
            Self::Grant(granted) => {
                next.granted = Some(granted.clone());
                next.mismatch = None;
            }
            Self::ClawBack(_, amount) => next.clawed = next.clawed.plus(amount.credits())?,
            Self::Reverse(_, amount) => next.clawed = next.clawed.minus(amount.credits())?,
            Self::KeepUnmatched(mismatch) => next.mismatch = Some(*mismatch),
        }
        if matches!(self, Self::ClawBack(..) | Self::Reverse(..)) {
            next.claws = next.claws.saturating_add(1);
        }
        Ok(next)
    }
}

impl std::str::FromStr for Mismatch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            Self::NoReference,
            Self::UnknownTopUp,
            Self::Workspace,
            Self::Amount,
            Self::Currency,
            Self::AlreadyPaid,
            Self::MovedOn,
        ]
        .into_iter()
        .find(|mismatch| mismatch.to_string() == text)
        .ok_or(())
    }
}
