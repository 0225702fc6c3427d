//! Events: what the rest of the world is told of committed facts, on an `EventBridge` bus.
//!
//! The table's stream is the outbox: an event is made of what was written and of nothing else, so nothing is told that
//! was rolled back, and nothing that was committed goes untold. Each has a JSON Schema under `infra/events/`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::auto_top_up::TopUpLimit;
use crate::claw_back::ClawBackReason;
use crate::credits::{Amount, Credits};
use crate::id::{Id, WorkspaceId};
use crate::invoice::Line;
use crate::month::Month;
use crate::price::Price;
use crate::run::Trigger;

/// The source that our events name on the bus.
pub const SOURCE: &str = "ai-credits";

/// A fact, with what every event has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Names the fact: a redelivery repeats it.
    pub event_id: String,
    /// Whose it is; absent where a payment names no workspace of ours.
    pub workspace_id: Option<WorkspaceId>,
    /// The balance's version: of the write itself where the fact is the balance's own, else as it stood when the event
    /// was made, which is that of the fact or a later one.
    pub version: u64,
    /// When it was so.
    pub at: Timestamp,
    /// What it is.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What has happened; its name is the event's `detail-type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fact {
    /// Credits joined a balance.
    CreditsAdded {
        /// The ledger entry.
        entry_id: Id,
        /// The entry's kind: `top_up`, `allocation`, `grant` or `claw_back_reversed`.
        kind: String,
        /// How many.
        credits: Credits,
        /// What can be spent now; absent in events of before it was published.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        available: Option<Credits>,
        /// What had taken them back, if they are given back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// A refund or dispute of a payment took credits back (M5).
    CreditsClawedBack {
        /// The ledger entry.
        entry_id: Id,
        /// Stripe's id of the payment.
        payment_id: String,
        /// Which of both; absent for an entry of before it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
        /// How many credits were taken, above zero.
        credits: Credits,
        /// What can be spent now; below zero it is debt, which the credits that are added next pay first.
        available: Option<Credits>,
    },
    /// What a workspace owns fell to its alert's threshold or below, or the alert was switched on there (M15).
    CreditsLow {
        /// The threshold.
        threshold: Amount,
        /// What can be spent of what is owned.
        available: Credits,
        /// What open holds keep of it; zero in events of before this was told.
        #[serde(default)]
        held: Credits,
    },
    /// Automatic top-up has to buy a pack: the balance is at or below the threshold, or a refused call needs more. Published at
    /// most once a batch of the stream.
    TopUpWanted {
        /// The threshold.
        threshold: Amount,
        /// What is left.
        available: Option<Credits>,
    },
    /// A limit keeps automatic top-up from buying what is wanted (M5).
    AutoTopUpLimited {
        /// What it would buy.
        pack: Id,
        /// Which limit.
        limit: TopUpLimit,
        /// When it may buy again.
        until: Timestamp,
    },
    /// Automatic top-up has charged by settings without a monthly limit, as an older version made them. Published once.
    AutoTopUpUnlimited {
        /// What it buys.
        pack: Id,
    },
    /// Automatic top-up has switched itself off (M5).
    AutoTopUpSwitchedOff {
        /// What it bought.
        pack: Id,
        /// How many charges in a row were declined.
        declines: u64,
    },
    /// A workspace is out of credits: all are spent, or a call was refused with less than 1 % of the last addition left.
    CreditsExhausted {
        /// What can be spent; below zero within a credit limit or after a claw-back.
        available: Credits,
        /// What open holds keep; zero in events of before this was told.
        #[serde(default)]
        held: Credits,
    },
    /// A run failed for want of credits (M12).
    RunFailed {
        /// The run.
        run_id: Id,
        /// The workflow that it is of.
        workflow_id: Id,
        /// What had started it.
        trigger: Trigger,
        /// The step that was refused.
        step_id: Id,
        /// What it would have cost.
        required: Amount,
        /// What could be spent.
        available: Credits,
    },
    /// A period of a subscription was paid, the first included (M6).
    SubscriptionRenewed {
        /// Which subscription.
        subscription_id: Id,
        /// At which tier.
        tier: Id,
        /// What the period starts with.
        monthly_credits: Amount,
        /// Which period, from 1.
        period: u64,
        /// When it begins.
        period_start: Timestamp,
        /// When the next one begins.
        renews_at: Timestamp,
        /// How many periods before it nobody was charged for, since nothing renewed the subscription while they ran.
        skipped_periods: u64,
    },
    /// A charge of a subscription was declined (M6).
    RenewalFailed {
        /// Which subscription.
        subscription_id: Id,
        /// At which tier.
        tier: Id,
        /// What a period costs.
        price: Price,
        /// How many declines there were for this period.
        declines: u64,
        /// When it is tried again.
        next_attempt_at: Timestamp,
    },
    /// A subscription has ended (M6).
    SubscriptionCancelled {
        /// Which subscription.
        subscription_id: Id,
        /// At which tier.
        tier: Id,
        /// Why.
        reason: EndReason,
    },
    /// A month's invoice was numbered (M8).
    InvoiceReady {
        /// Which invoice of the workspace.
        invoice_id: Id,
        /// Its place in the seller's series of numbers.
        number: Id,
        /// Of which month.
        month: Month,
        /// What it is for: the commitment, and use beyond credits by operation.
        lines: Vec<Line>,
        /// What it comes to.
        total: Price,
    },
    /// A payment fits nothing of ours, and waits for an operator.
    PaymentUnmatched {
        /// The provider's id of it.
        payment_id: String,
        /// What was paid.
        price: Price,
        /// Why it fits nothing.
        reason: String,
    },
    /// A person has to authenticate or pay by a checkout, because the stored payment method could not be charged without
    /// them.
    PaymentActionRequired {
        /// What is bought: the checkout's purchase.
        purchase_id: Id,
        /// What the payer reads.
        description: String,
        /// What it costs.
        price: Price,
        /// Where to pay, for 24 hours.
        checkout_url: String,
    },
    /// Something was paid: what a receipt tells.
    PaymentReceived {
        /// What was bought.
        purchase_id: Id,
        /// The provider's id of the payment.
        payment_id: String,
        /// What the payer reads.
        description: String,
        /// What it granted.
        credits: Amount,
        /// What was paid.
        price: Price,
    },
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The charge was declined until the last try.
    PaymentFailed,
    /// It was cancelled, or the plan has no subscriptions any more.
    Cancelled,
}

impl Fact {
    /// Adds what the workspace can spend by now to a fact of an item that does not say it.
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

    /// Its name, which is the event's `detail-type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreditsAdded { .. } => "CreditsAdded",
            Self::CreditsClawedBack { .. } => "CreditsClawedBack",
            Self::CreditsLow { .. } => "CreditsLow",
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
    fn an_event_is_named_after_its_fact() {
        let (threshold, available) = ("100".parse().unwrap(), "7".parse().unwrap());
        let held = available;
        assert_eq!(Fact::CreditsLow { threshold, available, held }.name(), "CreditsLow");
        assert_eq!(Fact::CreditsExhausted { available, held }.name(), "CreditsExhausted");
    }
}
