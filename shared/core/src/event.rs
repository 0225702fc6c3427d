//! Events: committed facts that are published on an `EventBridge` bus.
//!
//! The table's stream is the outbox: each event is made from what was written, and from nothing else. So every
//! committed fact is published, and nothing that was rolled back is. Each event has a JSON Schema under
//! `infra/events/`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::auto_top_up::TopUpLimit;
use crate::claw_back::ClawBackReason;
use crate::credits::{Amount, CallPrice, Credits};
use crate::id::{Id, WorkspaceId};
use crate::invoice::InvoiceLine;
use crate::ledger::EntryKind;
use crate::month::Month;
use crate::price::Price;
use crate::run::Trigger;

/// The source of our events on the bus.
pub const SOURCE: &str = "ai-credits";

/// A fact with the fields that every event has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Identifies the fact: a redelivery repeats it.
    pub event_id: String,
    /// `None` if a payment names no workspace of ours.
    pub workspace_id: Option<WorkspaceId>,
    /// The version of the balance. For a fact about the balance itself, it is the version of that write. Otherwise it
    /// is the version at which the event was made, which may be later than the fact.
    pub version: u64,
    /// When the fact happened.
    pub at: Timestamp,
    #[serde(flatten)]
    pub fact: Fact,
}

/// A committed fact. The variant's name is the event's `detail-type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fact {
    /// Credits were added to a balance.
    CreditsAdded {
        /// The ledger entry.
        entry_id: Id,
        /// The entry's kind: `top_up`, `allocation`, `grant` or `claw_back_reversed`.
        kind: EntryKind,
        credits: Credits,
        /// The available credits now; absent in events from before this field.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        available: Option<Credits>,
        /// Why the credits had been taken back, if they are returned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// A refund or dispute of a payment took credits back (M5).
    CreditsClawedBack {
        /// The ledger entry.
        entry_id: Id,
        /// Stripe's id of the payment.
        payment_id: String,
        /// Absent for ledger entries from before the reason was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
        /// The credits that were taken back, above zero.
        credits: Credits,
        /// The available credits now. Below zero they are debt, which the next credits that are added pay first.
        available: Option<Credits>,
    },
    /// A call cost more than its hold and the balance covered, and its settlement took what they had. Nobody pays the rest.
    CreditsUncollected {
        /// The entry of the settlement.
        entry_id: Id,
        hold_ids: Vec<Id>,
        /// The credits that nobody pays.
        credits: Amount,
    },
    /// What a workspace owns fell to a threshold of its alert or below, or the alert was switched on there (M15).
    CreditsLow {
        threshold: Amount,
        /// Whether the same write has crossed a smaller threshold too. Only the event of the smallest is mailed.
        #[serde(default)]
        crossed_smaller: bool,
        /// The credits that can be spent of those that are owned.
        available: Credits,
        /// The credits in open holds; zero in events from before this field.
        #[serde(default)]
        held: Credits,
    },
    /// Credits expire in some days.
    CreditsExpiring {
        /// What is left of the grants that end then.
        credits: Amount,
        expires_at: Timestamp,
        /// The configured number of days before the end.
        days: u16,
    },
    /// Automatic top-up has to buy a pack: the balance is at or below the threshold, or a refused call needs more.
    /// Published at most once in a batch of the stream.
    TopUpWanted { threshold: Amount, available: Option<Credits> },
    /// A limit keeps automatic top-up from buying a wanted pack (M5).
    AutoTopUpLimited {
        pack: Id,
        limit: TopUpLimit,
        /// When automatic top-up may buy again.
        until: Timestamp,
    },
    /// Automatic top-up has charged without a monthly limit, under settings of an older version. Published once.
    AutoTopUpUnlimited { pack: Id },
    /// Automatic top-up has switched itself off (M5).
    AutoTopUpSwitchedOff {
        pack: Id,
        /// The number of declined charges in a row.
        declines: u64,
    },
    /// A workspace is out of credits: all are spent, or a call was refused with less than 1 % of the latest addition
    /// left.
    CreditsExhausted {
        /// The available credits: below zero within a credit limit or after a claw-back.
        available: Credits,
        /// The credits in open holds; zero in events from before this field.
        #[serde(default)]
        held: Credits,
    },
    /// A run failed because of insufficient credits (M12).
    RunFailed {
        run_id: Id,
        workflow_id: Id,
        /// What started the run.
        trigger: Trigger,
        /// The step whose call was refused.
        step_id: Id,
        /// The price of the refused call.
        required: CallPrice,
        available: Credits,
    },
    /// A period of a subscription was paid, including the first one (M6).
    SubscriptionRenewed {
        subscription_id: Id,
        tier: Id,
        monthly_credits: Amount,
        /// The number of the period, from 1.
        period: u64,
        period_start: Timestamp,
        /// When the next period begins.
        renews_at: Timestamp,
        /// The number of earlier periods without a charge, because nothing renewed the subscription while they ran.
        skipped_periods: u64,
    },
    /// A charge of a subscription was declined (M6).
    RenewalFailed {
        subscription_id: Id,
        tier: Id,
        /// The price of a period.
        price: Price,
        /// The number of declines for this period so far.
        declines: u64,
        next_attempt_at: Timestamp,
    },
    /// A subscription has ended (M6).
    SubscriptionCancelled { subscription_id: Id, tier: Id, reason: EndReason },
    /// A month's invoice received its number (M8).
    InvoiceReady {
        /// The invoice within the workspace.
        invoice_id: Id,
        /// The number in the seller's series.
        number: Id,
        month: Month,
        /// The commitment, and use beyond credits by operation.
        lines: Vec<InvoiceLine>,
        total: Price,
    },
    /// A payment matches nothing of ours, and waits for an operator.
    PaymentUnmatched {
        /// Stripe's id of the payment.
        payment_id: String,
        /// The amount paid.
        price: Price,
        /// Why the payment matches nothing.
        reason: String,
    },
    /// A person has to authenticate or pay by a checkout, because the stored payment method could not be charged
    /// otherwise.
    PaymentActionRequired {
        /// The purchase with the checkout.
        purchase_id: Id,
        /// The text that the payer reads.
        description: String,
        price: Price,
        /// The page to pay on, valid for 24 hours.
        checkout_url: String,
    },
    /// A payment was received. The receipt states these fields.
    PaymentReceived {
        purchase_id: Id,
        /// Stripe's id of the payment.
        payment_id: String,
        /// The text that the payer reads.
        description: String,
        /// The credits that the payment granted.
        credits: Amount,
        /// The amount paid.
        price: Price,
    },
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A charge was declined at its last retry.
    PaymentFailed,
    /// The subscription was cancelled, or the plan has no subscriptions any more.
    Cancelled,
}

impl Fact {
    /// Adds the available credits to a fact whose item does not state them.
    #[must_use]
    pub fn with_available(mut self, now: Credits) -> Self {
        if let Self::CreditsAdded { available, .. }
        | Self::CreditsClawedBack { available, .. }
        | Self::TopUpWanted { available, .. } = &mut self
        {
            *available = Some(now);
        }
        self
    }

    /// Returns the fact's name, which is the event's `detail-type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreditsAdded { .. } => "CreditsAdded",
            Self::CreditsClawedBack { .. } => "CreditsClawedBack",
            Self::CreditsUncollected { .. } => "CreditsUncollected",
            Self::CreditsLow { .. } => "CreditsLow",
            Self::CreditsExpiring { .. } => "CreditsExpiring",
            Self::TopUpWanted { .. } => "TopUpWanted",
            Self::AutoTopUpLimited { .. } => "AutoTopUpLimited",
            Self::AutoTopUpUnlimited { .. } => "AutoTopUpUnlimited",
            Self::AutoTopUpSwitchedOff { .. } => "AutoTopUpSwitchedOff",
            Self::CreditsExhausted { .. } => "CreditsExhausted",
            Self::RunFailed { .. } => "RunFailed",
            Self::SubscriptionRenewed { .. } => "SubscriptionRenewed",
            Self::RenewalFailed { .. } => "RenewalFailed",
            Self::SubscriptionCancelled { .. } => "SubscriptionCancelled",
            Self::InvoiceReady { .. } => "InvoiceReady",
            Self::PaymentUnmatched { .. } => "PaymentUnmatched",
            Self::PaymentActionRequired { .. } => "PaymentActionRequired",
            Self::PaymentReceived { .. } => "PaymentReceived",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fact;

    #[test]
    fn event_is_named_after_its_fact() {
        let (threshold, available) = ("100".parse().unwrap(), "7".parse().unwrap());
        let held = available;
        assert_eq!(
            Fact::CreditsLow { threshold, crossed_smaller: false, available, held }.name(),
            "CreditsLow"
        );
        assert_eq!(Fact::CreditsExhausted { available, held }.name(), "CreditsExhausted");
    }
}
