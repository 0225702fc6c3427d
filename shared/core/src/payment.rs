//! A payment at the provider, and what our side of it must come to, however and in whatever order it is told.
//!
//! Everything the provider says is merged into one [`Payment`], and [`Payment::next_step`] compares what was done with
//! what ought to be: the merge doesn't mind repetition or order, so neither do the credits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::credits::{Amount, Credits, OutOfRange};
use crate::dispute::{Dispute, DisputeStatus};
use crate::id::{Id, WorkspaceId};
use crate::planted::{Slip, slips};
use crate::price::{Currency, Price};
use crate::purchase::Purchase;
use crate::refund::{ChargeFigure, Refund, Refunds};

/// What one event says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It succeeded.
    Paid(Paid),
    /// It was attempted: it is processing, or has failed and may be tried again.
    Attempted(Attempted),
    /// A refund of it was made, or stands otherwise than before.
    Refund {
        /// Stripe's id of the refund.
        refund_id: String,
        /// The refund.
        refund: Refund,
        /// When the event was made.
        at: Option<Timestamp>,
    },
    /// Its charge's cumulative refund.
    Figure(ChargeFigure),
    /// A dispute of it was opened, or stands otherwise than before.
    Disputed {
        /// Which dispute.
        dispute_id: String,
        /// The dispute.
        dispute: Dispute,
    },
    /// Its receipt can be read at this address.
    Receipt(String),
}

/// A payment that succeeded, and what it says it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// What was received, in minor units: with tax, less discounts.
    pub amount_minor: u64,
    /// What a checkout asked for before tax and discounts, in minor units; `None` if only the amount is known.
    pub subtotal_minor: Option<u64>,
    /// In which currency.
    pub currency: Currency,
    /// What it names.
    pub named: Named,
    /// Stripe's id of the customer, whose payment method may be charged again.
    pub customer: Option<String>,
    /// Stripe's id of the payment method that paid.
    pub payment_method: Option<String>,
    /// When the event that says so was made.
    pub at: Option<Timestamp>,
    /// Which of Stripe's objects says so.
    pub source: PaidSource,
}

/// What a payment says it is for. Texts from outside, not looked at before they are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// The purchase.
    pub purchase_id: Option<String>,
    /// The workspace.
    pub workspace_id: Option<String>,
}

/// Which of Stripe's objects says that a payment succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaidSource {
    /// A Checkout Session, which knows its price before tax and discounts.
    Session,
    /// A `PaymentIntent`, which knows what was received and no more.
    Intent,
}

/// An attempt at a payment that has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// How it stands.
    pub status: AttemptStatus,
    /// Its amount, in minor units.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: Currency,
    /// What it names.
    pub named: Named,
}

/// How an attempt at a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStatus {
    /// A bank debit is on its way.
    Processing,
    /// It was declined, or the bank debit failed.
    Failed,
}

/// The purchase that a payment names, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Bought<'a> {
    /// The purchase.
    pub purchase: &'a Purchase,
    /// The payment that paid it, if one did.
    pub paid_by: Option<&'a str>,
    /// How it is paid.
    pub collection: Collection,
}

/// How a purchase is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// By a person on Stripe's page, to whose price tax may be added and discounts applied.
    Checkout,
    /// By a charge of the stored method.
    OffSession,
}

/// What a payment is for, once its purchase was found: how it is listed for its workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// The workspace that bought.
    pub workspace_id: WorkspaceId,
    /// What the payer read.
    pub description: String,
    /// What it grants.
    pub credits: Amount,
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
    /// For how much money, in minor units: what was received.
    pub amount_minor: u64,
    /// The id of the expiring grant that it became; `None` for a pack.
    pub grant_id: Option<Id>,
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
    /// The purchase was cancelled or replaced before it was paid. This is for good, too.
    #[error("purchase_withdrawn")]
    Withdrawn,
}

/// How an operator has dealt with a payment that fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its credits were granted by hand.
    Granted,
    /// It was refunded.
    Refunded,
    /// Nothing is to be done.
    Ignored,
}

/// What an operator has said about a payment that fits nothing. It stands for good: no later event grants the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What was done.
    pub resolution: Resolution,
    /// Why, in the operator's words.
    pub note: String,
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
    /// The latest attempt, while it has not succeeded.
    pub attempted: Option<Attempted>,
    /// What it is for, once that was found.
    pub sale: Option<Sale>,
    /// Where its receipt can be read.
    pub receipt_url: Option<String>,
    /// What it granted.
    pub granted: Option<Granted>,
    /// Why it granted nothing.
    pub mismatch: Option<Mismatch>,
    /// How an operator has dealt with the mismatch.
    pub resolved: Option<Resolved>,
    /// Its refunds.
    pub refunds: Refunds,
    /// Its disputes.
    pub disputes: BTreeMap<String, Dispute>,
    /// What of its credits refunds and disputes were last worked out to come to.
    pub clawed: Credits,
    /// How many claw-backs and reversals there were: their entries' names.
    pub claws: u64,
    /// Whether its grant was withdrawn before it began, and a refund is owed: then neither refund nor dispute moves credits.
    pub is_withdrawn: bool,
    /// One up at every write; zero before the first.
    pub version: u64,
}

/// How a payment stands, as its workspace sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// A bank debit is on its way.
    Processing,
    /// It is paid.
    Succeeded,
    /// It was declined, or the bank debit failed.
    Failed,
    /// All of it was refunded.
    Refunded,
    /// A part of it was refunded.
    PartiallyRefunded,
    /// A dispute of it is open, or was lost.
    Disputed,
}

/// What has to be done next, so that our side becomes what it ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Grant the purchase's credits.
    Grant(Granted),
    /// Take credits of a pack back.
    ClawBack(Granted, Amount),
    /// Return credits of a pack: a refund failed, or a dispute was won.
    Reverse(Granted, Amount),
    /// Take back or return credits of an expiring grant, until so much of it is taken back in all.
    ClawBackTo(Granted, Credits),
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
            attempted: None,
            sale: None,
            receipt_url: None,
            granted: None,
            mismatch: None,
            resolved: None,
            refunds: Refunds::default(),
            disputes: BTreeMap::new(),
            clawed: Credits::ZERO,
            claws: 0,
            is_withdrawn: false,
            version: 0,
        }
    }

    /// Merges what an event says. Repetition and order make no difference once the payment has granted.
    pub fn merge(&mut self, news: &News) {
        match news {
            News::Paid(paid) => self.merge_paid(paid),
            News::Attempted(attempted) => {
                // Failed is final for this attempt; only success, or another attempt's failure, comes after it.
                let failed = self.attempted.as_ref().is_some_and(|it| it.status == AttemptStatus::Failed);
                if self.paid.is_none() && !(failed && attempted.status == AttemptStatus::Processing) {
                    self.attempted = Some(attempted.clone());
                }
            }
            News::Refund { refund_id, refund, at } => self.refunds.merge(refund_id, *refund, *at),
            News::Figure(figure) => self.refunds.merge_figure(*figure),
            News::Disputed { dispute_id, dispute } => {
                self.disputes.entry(dispute_id.clone()).or_insert(*dispute).merge(*dispute);
            }
            News::Receipt(url) => self.receipt_url = Some(url.clone()),
        }
    }

    /// Two events say that a payment succeeded, in any order. What a session says counts before what a `PaymentIntent` says,
    /// and what names a purchase before what names none; what granted stays. Either alone may know who paid, and how.
    fn merge_paid(&mut self, paid: &Paid) {
        self.attempted = None;
        let Some(known) = self.paid.take() else {
            self.paid = Some(paid.clone());
            return;
        };
        let names_more = (paid.named.purchase_id.is_some(), paid.source == PaidSource::Session)
            >= (known.named.purchase_id.is_some(), known.source == PaidSource::Session);
        let stays = self.granted.is_some() || !names_more;
        let base = if stays { &known } else { paid };
        self.paid = Some(Paid {
            customer: known.customer.clone().or_else(|| paid.customer.clone()),
            payment_method: known.payment_method.clone().or_else(|| paid.payment_method.clone()),
            at: known.at.or(paid.at),
            ..base.clone()
        });
    }

    /// Stripe's id of the customer who paid, if it is known.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        self.paid.as_ref()?.customer.as_deref()
    }

    /// Whether a dispute is open or lost.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.disputes.values().any(|dispute| dispute.status.is_withheld())
    }

    /// Returns the workspace and the payment method of a payment that has a dispute which is open or lost.
    #[must_use]
    pub fn disputed_method(&self) -> Option<(&WorkspaceId, &str)> {
        let workspace = &self.sale.as_ref().filter(|_| self.is_disputed())?.workspace_id;
        Some((workspace, self.paid.as_ref()?.payment_method.as_deref()?))
    }

    /// The purchase that the payment names, if the name could be one.
    #[must_use]
    pub fn named_purchase(&self) -> Option<Id> {
        let paid = self.paid.as_ref().map(|paid| &paid.named);
        let named = paid.or(self.attempted.as_ref().map(|attempted| &attempted.named))?;
        named.purchase_id.as_deref()?.parse().ok()
    }

    /// What it is for, if the purchase that it names is of the workspace that it names.
    #[must_use]
    pub fn sale_of(&self, bought: Option<Bought<'_>>) -> Option<Sale> {
        let purchase = bought?.purchase;
        let named = self.paid.as_ref().map(|paid| &paid.named);
        let named = named.or(self.attempted.as_ref().map(|attempted| &attempted.named))?;
        let of_it = named.workspace_id.as_deref().is_none_or(|named| named == purchase.workspace_id.as_str());
        of_it.then(|| Sale {
            workspace_id: purchase.workspace_id.clone(),
            description: purchase.goods.description(),
            credits: purchase.goods.credits(),
        })
    }

    /// What has to be done next; `None` once everything is as it ought to be. `bought` is the purchase that the payment names.
    pub fn next_step(&self, bought: Option<Bought<'_>>) -> Result<Option<Step>, OutOfRange> {
        if let Some(granted) = &self.granted {
            return self.next_claw(granted);
        }
        if self.resolved.is_some() {
            return Ok(None);
        }
        let Some(paid) = &self.paid else { return Ok(None) };
        if bought.is_some_and(|bought| paid.waits_for_session(bought)) {
            return Ok(None);
        }
        Ok(match self.fit(paid, bought) {
            Ok(granted) => Some(Step::Grant(granted)),
            Err(mismatch) if self.mismatch == Some(mismatch) => None,
            Err(mismatch) => Some(Step::KeepUnmatched(mismatch)),
        })
    }

    /// What was paid, or is attempted to be paid; `None` while neither is known.
    #[must_use]
    pub fn amount(&self) -> Option<Price> {
        let paid = self.paid.as_ref().map(|paid| (paid.amount_minor, paid.currency));
        let attempted = self.attempted.as_ref().map(|it| (it.amount_minor, it.currency));
        let (amount_minor, currency) = paid.or(attempted)?;
        Some(Price { amount_minor, currency })
    }

    /// How it stands; `None` while only a refund or a dispute is known.
    #[must_use]
    pub fn status(&self) -> Option<PaymentStatus> {
        let Some(paid) = &self.paid else {
            return self.attempted.as_ref().map(|attempted| match attempted.status {
                AttemptStatus::Processing => PaymentStatus::Processing,
                AttemptStatus::Failed => PaymentStatus::Failed,
            });
        };
        let refunded_minor = self.refunded_minor();
        Some(if self.disputes.values().any(|dispute| dispute.status.is_withheld()) {
            PaymentStatus::Disputed
        } else if refunded_minor == 0 {
            PaymentStatus::Succeeded
        } else if refunded_minor < paid.amount_minor {
            PaymentStatus::PartiallyRefunded
        } else {
            PaymentStatus::Refunded
        })
    }

    /// Returns what is refunded, on its way or owed, in minor units.
    #[must_use]
    pub fn refunded_minor(&self) -> u64 {
        let paid = self.paid.as_ref().map_or(0, |paid| paid.amount_minor);
        let is_owed = self.is_withdrawn && !self.refunds.has_failed();
        if is_owed { paid } else { self.refunds.total_minor().min(paid) }
    }

    /// Returns what can still be refunded; `None` if nothing was paid.
    #[must_use]
    pub fn refundable(&self) -> Option<Price> {
        let paid = self.paid.as_ref()?;
        let amount_minor = paid.amount_minor.saturating_sub(self.refunded_minor());
        Some(Price { amount_minor, currency: paid.currency })
    }

    /// Returns what the payer has back, or will have, in minor units: refunds and lost disputes.
    #[must_use]
    pub fn paid_back_minor(&self) -> u64 {
        let Some(paid) = self.amount().filter(|_| self.paid.is_some()) else { return 0 };
        let lost = self.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Lost);
        let lost = lost.map(|dispute| dispute.withheld_minor(paid));
        lost.fold(self.refunded_minor(), u64::saturating_add).min(paid.amount_minor)
    }

    /// Whether all of it was refunded.
    #[must_use]
    pub fn is_refunded_whole(&self) -> bool {
        self.status() == Some(PaymentStatus::Refunded)
    }

    /// Whether an operator still has to look at it: it paid, fits nothing, is not resolved, and has not been refunded whole.
    #[must_use]
    pub fn is_unmatched(&self) -> bool {
        let paid = self.paid.as_ref().map_or(0, |paid| paid.amount_minor);
        let open = self.mismatch.is_some() && self.granted.is_none() && self.resolved.is_none();
        open && self.refunded_minor() < paid
    }

    fn fit(&self, paid: &Paid, bought: Option<Bought<'_>>) -> Result<Granted, Mismatch> {
        if paid.named.purchase_id.is_none() {
            return Err(Mismatch::NoReference);
        }
        // What it was for has passed for good: no later event may start it.
        if let Some(passed @ (Mismatch::MovedOn | Mismatch::Withdrawn)) = self.mismatch {
            return Err(passed);
        }
        let Bought { purchase, paid_by, .. } = bought.ok_or(Mismatch::UnknownTopUp)?;
        let named = paid.named.workspace_id.as_deref();
        if named.is_some_and(|named| named != purchase.workspace_id.as_str()) {
            return Err(Mismatch::Workspace);
        }
        if paid.currency != purchase.price.currency {
            return Err(Mismatch::Currency);
        }
        if paid.asked_minor() != purchase.price.amount_minor {
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
            grant_id: None,
        })
    }

    /// Returns what refunds and disputes come to of the credits that were granted, rounded down, and never more than all.
    fn clawed_target(&self, granted: &Granted) -> Result<Credits, OutOfRange> {
        let Some(Paid { currency, .. }) = self.paid else { return Ok(Credits::ZERO) };
        let paid = Price { amount_minor: granted.amount_minor, currency };
        let withheld = self.disputes.values().map(|dispute| match dispute.status {
            DisputeStatus::Won if slips(Slip::WonIsLost) => dispute.amount_minor,
            DisputeStatus::Inquiry if slips(Slip::InquiryWithholds) => dispute.amount_minor,
            _ => dispute.withheld_minor(paid),
        });
        let refunded = if slips(Slip::FailedRefundCounts) {
            self.refunds.by_id.values().map(|refund| refund.amount_minor).sum()
        } else {
            self.refunds.total_minor()
        };
        let gone = withheld.fold(refunded, u64::saturating_add);
        // Nothing was received with a discount of 100 %, so nothing can be refunded.
        let received = granted.amount_minor.max(1);
        let target = granted.credits.credits().share(gone.min(granted.amount_minor), received)?;
        if slips(Slip::ClawedUp) && gone > 0 { target.plus(Credits::from_micros(1)?) } else { Ok(target) }
    }

    /// What refunds and disputes come to, less what was worked out before.
    fn next_claw(&self, granted: &Granted) -> Result<Option<Step>, OutOfRange> {
        if self.is_withdrawn {
            return Ok(None);
        }
        let target = self.clawed_target(granted)?;
        if granted.grant_id.is_some() {
            return Ok((target != self.clawed).then(|| Step::ClawBackTo(granted.clone(), target)));
        }
        let missing = target.minus(self.clawed)?;
        Ok(match (Amount::new(missing), Amount::new(missing.negated())) {
            (Ok(amount), _) => Some(Step::ClawBack(granted.clone(), amount)),
            (_, Ok(amount)) => Some(Step::Reverse(granted.clone(), amount)),
            _ => None,
        })
    }
}

impl Paid {
    /// What was asked for before tax and discounts, in minor units.
    #[must_use]
    pub fn asked_minor(&self) -> u64 {
        self.subtotal_minor.unwrap_or(self.amount_minor)
    }

    /// Whether only its checkout's session can say if it fits: a `PaymentIntent` of another amount than the price may be
    /// that with tax, or less a discount.
    fn waits_for_session(&self, bought: Bought<'_>) -> bool {
        self.source == PaidSource::Intent
            && bought.collection == Collection::Checkout
            && self.currency == bought.purchase.price.currency
            && self.amount_minor != bought.purchase.price.amount_minor
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
            Self::ClawBackTo(_, target) => next.clawed = *target,
            Self::KeepUnmatched(mismatch) => next.mismatch = Some(*mismatch),
        }
        if matches!(self, Self::ClawBack(..) | Self::Reverse(..) | Self::ClawBackTo(..)) {
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
            Self::Withdrawn,
        ]
        .into_iter()
        .find(|mismatch| mismatch.to_string() == text)
        .ok_or(())
    }
}
