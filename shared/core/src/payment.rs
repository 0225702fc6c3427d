//! Payments at Stripe: what events report about them, and the steps that follow.
//!
//! [`Payment::merge`] merges each event into one [`Payment`], in whatever order and however often Stripe delivers it.
//! [`Payment::next_step`] compares what was done with what the payment calls for. The result of a merge depends neither
//! on order nor on repetition, so the credits don't either.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::credits::{Amount, Credits, OutOfRange};
use crate::dispute::{Dispute, DisputeStatus};
use crate::id::{Id, WorkspaceId};
use crate::price::Price;
use crate::purchase::Purchase;
use crate::refund::Refunds;

pub use crate::payment_news::{AttemptStatus, Attempted, MetadataIds, News, Paid, PaidSource};

/// The stored purchase that a payment names.
#[derive(Debug, Clone, Copy)]
pub struct NamedPurchase<'a> {
    pub purchase: &'a Purchase,
    /// The id of the payment that paid the purchase, if one did.
    pub paid_by: Option<&'a str>,
    pub collection: Collection,
}

/// The way in which a purchase is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// A person pays on Stripe's page, which may add tax to the price and apply discounts.
    Checkout,
    /// Stripe charges the stored payment method while the customer is absent.
    OffSession,
}

/// The purchase behind a payment, as the workspace's list of payments shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub workspace_id: WorkspaceId,
    /// The text that the payer reads.
    pub description: String,
    /// The credits that the purchase grants.
    pub credits: Amount,
}

/// Credits that a payment has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub workspace_id: WorkspaceId,
    pub purchase_id: Id,
    pub credits: Amount,
    /// The amount received for them, in minor units.
    pub amount_minor: u64,
    /// The id of the expiring grant; `None` for a pack.
    pub grant_id: Option<Id>,
}

/// The reason why a payment matches no purchase. Such a payment is kept, listed and alarmed, never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The payment names no purchase.
    #[error("no_reference")]
    NoReference,
    /// The payment names a purchase that doesn't exist.
    #[error("unknown_top_up")]
    UnknownTopUp,
    /// The purchase belongs to another workspace.
    #[error("workspace_mismatch")]
    Workspace,
    /// The amount paid differs from the purchase's price.
    #[error("amount_mismatch")]
    Amount,
    /// The currency paid differs from that of the purchase's price.
    #[error("currency_mismatch")]
    Currency,
    /// Another payment has paid the purchase.
    #[error("top_up_already_paid")]
    AlreadyPaid,
    /// The subscription has moved on: another one is running, or the period is paid.
    ///
    /// This mismatch is final. Otherwise a refund months later could start the period, once no subscription is running.
    #[error("subscription_moved_on")]
    MovedOn,
    /// The purchase was cancelled or replaced before it was paid. This mismatch is final, too.
    #[error("purchase_withdrawn")]
    Withdrawn,
}

/// The way in which an operator has resolved an unmatched payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The operator has granted the credits by hand.
    Granted,
    /// The payment was refunded.
    Refunded,
    /// No action is needed.
    Ignored,
}

/// An operator's resolution of an unmatched payment. It is final: no later event grants the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub resolution: Resolution,
    /// The reason, in the operator's words.
    pub note: String,
}

/// A payment: what events have reported about it, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Stripe's id of the payment.
    pub payment_id: String,
    /// When the first event about the payment arrived.
    pub first_heard_at: Timestamp,
    /// Set once the payment has succeeded.
    pub paid: Option<Paid>,
    /// The latest attempt; `None` once the payment has succeeded.
    pub attempted: Option<Attempted>,
    /// Set once the purchase was found.
    pub sale: Option<Sale>,
    pub receipt_url: Option<String>,
    pub granted: Option<Granted>,
    /// The reason why the payment granted nothing.
    pub mismatch: Option<Mismatch>,
    /// The operator's resolution of the mismatch.
    pub resolved: Option<Resolved>,
    pub refunds: Refunds,
    /// By Stripe's ids.
    pub disputes: BTreeMap<String, Dispute>,
    /// The credits that refunds and disputes take back, as of the last step.
    pub clawed: Credits,
    /// The number of claw-backs and reversals, which names their ledger entries.
    pub claws: u64,
    /// Whether the grant was withdrawn before it began, and a refund is owed. Then refunds and disputes move no
    /// credits.
    pub is_withdrawn: bool,
    /// Incremented by each write; 0 before the first.
    pub version: u64,
}

/// The status of a payment, as its workspace sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// A bank debit is processing.
    Processing,
    Succeeded,
    /// The attempt was declined, or the bank debit failed.
    Failed,
    /// All of the payment was refunded.
    Refunded,
    /// A part of the payment was refunded.
    PartiallyRefunded,
    /// A dispute is open or was lost.
    Disputed,
}

/// The next action that a payment calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStep {
    /// Grant the purchase's credits.
    Grant(Granted),
    /// Take back credits of a pack.
    ClawBack(Granted, Amount),
    /// Return credits of a pack, because a refund failed or a dispute was won.
    Reverse(Granted, Amount),
    /// Take back or return credits of an expiring grant, until the total taken back is this amount.
    ClawBackTo(Granted, Credits),
    /// Keep the payment among the unmatched ones.
    KeepUnmatched(Mismatch),
}

impl Payment {
    /// Creates a payment about which nothing is known yet.
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

    /// Merges what an event reports. Repetition and order make no difference once the payment has granted.
    pub fn merge(&mut self, news: &News) {
        match news {
            News::Paid(paid) => self.merge_paid(paid),
            News::Attempted(attempted) => {
                // `Failed` is final for one attempt. Only a success or another attempt's failure comes after it.
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

    /// Merges one of the two events that report a success, which come in any order.
    ///
    /// An event that names a purchase takes precedence over one that names none; then a session over a `PaymentIntent`.
    /// What the grant was based on stays. Either event alone may know the customer and the payment method.
    fn merge_paid(&mut self, paid: &Paid) {
        self.attempted = None;
        let Some(known) = self.paid.take() else {
            self.paid = Some(paid.clone());
            return;
        };
        let names_more = (paid.ids.purchase_id.is_some(), paid.source == PaidSource::Session)
            >= (known.ids.purchase_id.is_some(), known.source == PaidSource::Session);
        let stays = self.granted.is_some() || !names_more;
        let base = if stays { &known } else { paid };
        self.paid = Some(Paid {
            customer: known.customer.clone().or_else(|| paid.customer.clone()),
            payment_method: known.payment_method.clone().or_else(|| paid.payment_method.clone()),
            at: known.at.or(paid.at),
            ..base.clone()
        });
    }

    /// Returns Stripe's id of the customer who paid, if it is known.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        self.paid.as_ref()?.customer.as_deref()
    }

    /// Returns whether a dispute is open or lost.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.disputes.values().any(|dispute| dispute.status.is_withheld())
    }

    /// Returns the workspace and the payment method of a payment with an open or lost dispute.
    #[must_use]
    pub fn disputed_method(&self) -> Option<(&WorkspaceId, &str)> {
        let workspace = &self.sale.as_ref().filter(|_| self.is_disputed())?.workspace_id;
        Some((workspace, self.paid.as_ref()?.payment_method.as_deref()?))
    }

    /// Returns the purchase that the payment names, if the name is a valid id.
    #[must_use]
    pub fn named_purchase(&self) -> Option<Id> {
        let paid = self.paid.as_ref().map(|paid| &paid.ids);
        let ids = paid.or(self.attempted.as_ref().map(|attempted| &attempted.ids))?;
        ids.purchase_id.as_deref()?.parse().ok()
    }

    /// Returns the sale; `None` without a purchase, or if the payment names a workspace other than the purchase's.
    #[must_use]
    pub fn sale_of(&self, bought: Option<NamedPurchase<'_>>) -> Option<Sale> {
        let purchase = bought?.purchase;
        let paid = self.paid.as_ref().map(|paid| &paid.ids);
        let ids = paid.or(self.attempted.as_ref().map(|attempted| &attempted.ids))?;
        let of_it = ids.workspace_id.as_deref().is_none_or(|named| named == purchase.workspace_id.as_str());
        of_it.then(|| Sale {
            workspace_id: purchase.workspace_id.clone(),
            description: purchase.goods.description(),
            credits: purchase.goods.credits(),
        })
    }

    /// Returns the next step; `None` if nothing is left to do. `bought` is the purchase that the payment names.
    pub fn next_step(&self, bought: Option<NamedPurchase<'_>>) -> Result<Option<PaymentStep>, OutOfRange> {
        if let Some(granted) = &self.granted {
            return self.next_claw(granted);
        }
        if self.resolved.is_some() {
            return Ok(None);
        }
        let Some(paid) = &self.paid else { return Ok(None) };
        if bought.is_some_and(|bought| waits_for_session(paid, bought)) {
            return Ok(None);
        }
        Ok(match self.fit(paid, bought) {
            Ok(granted) => Some(PaymentStep::Grant(granted)),
            Err(mismatch) if self.mismatch == Some(mismatch) => None,
            Err(mismatch) => Some(PaymentStep::KeepUnmatched(mismatch)),
        })
    }

    /// Returns the amount that was paid or attempted; `None` while neither is known.
    #[must_use]
    pub fn amount(&self) -> Option<Price> {
        let paid = self.paid.as_ref().map(|paid| (paid.amount_minor, paid.currency));
        let attempted = self.attempted.as_ref().map(|it| (it.amount_minor, it.currency));
        let (amount_minor, currency) = paid.or(attempted)?;
        Some(Price { amount_minor, currency })
    }

    /// Returns the status; `None` while only a refund or a dispute is known.
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

    /// Returns the amount that is refunded, on its way or owed, in minor units.
    #[must_use]
    pub fn refunded_minor(&self) -> u64 {
        let paid = self.paid.as_ref().map_or(0, |paid| paid.amount_minor);
        let is_owed = self.is_withdrawn && !self.refunds.has_failed();
        if is_owed { paid } else { self.refunds.total_minor().min(paid) }
    }

    /// Returns the amount that can still be refunded; `None` if nothing was paid.
    #[must_use]
    pub fn refundable(&self) -> Option<Price> {
        let paid = self.paid.as_ref()?;
        let amount_minor = paid.amount_minor.saturating_sub(self.refunded_minor());
        Some(Price { amount_minor, currency: paid.currency })
    }

    /// Returns the amount that the payer has back or will have back, in minor units: refunds and lost disputes.
    #[must_use]
    pub fn paid_back_minor(&self) -> u64 {
        let Some(paid) = self.amount().filter(|_| self.paid.is_some()) else { return 0 };
        let lost = self.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Lost);
        let lost = lost.map(|dispute| dispute.withheld_minor(paid));
        lost.fold(self.refunded_minor(), u64::saturating_add).min(paid.amount_minor)
    }

    /// Returns whether all of the payment was refunded, and no dispute is open or lost.
    #[must_use]
    pub fn is_refunded_whole(&self) -> bool {
        self.status() == Some(PaymentStatus::Refunded)
    }

    /// Returns whether an operator still has to handle the payment: it is paid and unmatched, not resolved, and not
    /// fully refunded.
    #[must_use]
    pub fn is_unmatched(&self) -> bool {
        let paid = self.paid.as_ref().map_or(0, |paid| paid.amount_minor);
        let open = self.mismatch.is_some() && self.granted.is_none() && self.resolved.is_none();
        open && self.refunded_minor() < paid
    }

    fn fit(&self, paid: &Paid, bought: Option<NamedPurchase<'_>>) -> Result<Granted, Mismatch> {
        if paid.ids.purchase_id.is_none() {
            return Err(Mismatch::NoReference);
        }
        // The purchase is obsolete for good: no later event may fulfil it.
        if let Some(passed @ (Mismatch::MovedOn | Mismatch::Withdrawn)) = self.mismatch {
            return Err(passed);
        }
        let NamedPurchase { purchase, paid_by, .. } = bought.ok_or(Mismatch::UnknownTopUp)?;
        let named = paid.ids.workspace_id.as_deref();
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

    /// Returns the credits that refunds and disputes take back, rounded down and at most all that were granted.
    fn clawed_target(&self, granted: &Granted) -> Result<Credits, OutOfRange> {
        let Some(Paid { currency, .. }) = self.paid else { return Ok(Credits::ZERO) };
        let paid = Price { amount_minor: granted.amount_minor, currency };
        let withheld = self.disputes.values().map(|dispute| dispute.withheld_minor(paid));
        let gone = withheld.fold(self.refunds.total_minor(), u64::saturating_add);
        // A discount of 100 % leaves nothing received and nothing to refund. The divisor must not be 0.
        let received = granted.amount_minor.max(1);
        granted.credits.credits().share(gone.min(granted.amount_minor), received)
    }

    /// Returns the step from the credits taken back so far to those that refunds and disputes call for.
    fn next_claw(&self, granted: &Granted) -> Result<Option<PaymentStep>, OutOfRange> {
        if self.is_withdrawn {
            return Ok(None);
        }
        let target = self.clawed_target(granted)?;
        if granted.grant_id.is_some() {
            return Ok((target != self.clawed).then(|| PaymentStep::ClawBackTo(granted.clone(), target)));
        }
        let missing = target.minus(self.clawed)?;
        Ok(match (Amount::new(missing), Amount::new(missing.negated())) {
            (Ok(amount), _) => Some(PaymentStep::ClawBack(granted.clone(), amount)),
            (_, Ok(amount)) => Some(PaymentStep::Reverse(granted.clone(), amount)),
            _ => None,
        })
    }
}

/// Returns whether the payment has to wait for its checkout's session.
///
/// If the amount of a `PaymentIntent` differs from the price, it may include tax or a discount, which only the
/// session states.
fn waits_for_session(paid: &Paid, bought: NamedPurchase<'_>) -> bool {
    paid.source == PaidSource::Intent
        && bought.collection == Collection::Checkout
        && paid.currency == bought.purchase.price.currency
        && paid.amount_minor != bought.purchase.price.amount_minor
}

impl PaymentStep {
    /// Returns the payment after the step.
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
