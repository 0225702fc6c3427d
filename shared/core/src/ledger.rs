//! Ledger entries: permanent records of each movement of credits and its cause.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, PricedCall};
use crate::claw_back::ClawBackReason;
use crate::consumer::Consumer;
use crate::credits::{Credits, OutOfRange};
use crate::debit_refund::DebitRefund;
use crate::grant::GrantKind;
use crate::hold::Settlement;
use crate::id::{Id, Name};
use crate::metadata::Metadata;
use crate::month::Month;
use crate::own_prices::PricedWith;
use crate::rate_card::PriceVersion;
use crate::units::Units;

/// The cause of a movement of credits. The variant is the entry's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// An AI call.
    Debit {
        operation: Name,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<Name>,
        /// Absent if the caller has priced the call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        units: Option<Units>,
        /// The version of the rate card.
        rate_card: Name,
        /// The version of the workspace's own prices; `None` without any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pricing: Option<u64>,
        consumer: Consumer,
        #[serde(default, skip_serializing_if = "Metadata::is_empty")]
        metadata: Metadata,
        /// What was refunded of it since; `None` if nothing was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refunded: Option<Credits>,
    },
    /// Several AI calls in one posting (M4). It is stored as a `debit`; the store recognizes it by its stored lines.
    #[serde(rename(serialize = "debit"), skip_deserializing)]
    Batch(Batch),
    /// The captures of holds that have ended (M4).
    HoldSettled(Settlement),
    /// The refund of a debit, of a call of a batch, or of a capture.
    DebitRefund(DebitRefund),
    /// A paid pack (M5).
    TopUp {
        top_up_id: Id,
        pack: Id,
        /// Stripe's id of the payment.
        payment_id: String,
    },
    /// A grant by the operator, or a portion of a commitment.
    Grant {
        grant_id: Id,
        grant_kind: GrantKind,
        /// `None` if the grant does not expire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        reason: String,
    },
    /// A subscription's period (M6), or the credits that an upgrade adds to it.
    Allocation {
        grant_id: Id,
        subscription_id: Id,
        /// The number of the subscription's period, from 1.
        period: u64,
        tier: Id,
        /// When the unspent rest expires.
        expires_at: Timestamp,
    },
    /// The unspent rest of grants that expired.
    Expiry {
        grant_ids: Vec<Id>,
        /// Holds that released credits of these grants after they had expired.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hold_ids: Vec<Id>,
    },
    /// The unspent rest of a grant that was voided.
    Void { grant_id: Id, reason: String },
    /// Credits taken back because a payment was refunded or disputed.
    ClawBack {
        /// Stripe's id of the payment.
        payment_id: String,
        /// Absent in entries that were written before the reason was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// Credits returned because a dispute was won or a refund failed.
    ClawBackReversed {
        /// Stripe's id of the payment.
        payment_id: String,
        /// The reason of the claw-back; absent in entries that were written before it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// Use beyond credits that was billed (M8).
    Invoiced {
        /// The month of the use.
        month: Month,
    },
}

impl Cause {
    /// Returns the cause of a debit of one call.
    #[must_use]
    pub fn debit(call: PricedCall, priced_by: PriceVersion) -> Self {
        let PriceVersion { rate_card, pricing } = priced_by.of_call(&call);
        let PricedCall { operation, model, units, consumer, metadata, .. } = call;
        Self::Debit { operation, model, units, rate_card, pricing, consumer, metadata, refunded: None }
    }

    /// Returns the prices that a debit's calls were priced with; `None` if their caller has priced all of them.
    #[must_use]
    pub fn priced_with(&self) -> Option<PricedWith> {
        match self {
            Self::Debit { units: Some(_), pricing, .. } => Some((*pricing).into()),
            Self::Batch(batch) => {
                batch.content.iter().any(|line| line.units.is_some()).then(|| batch.pricing.into())
            }
            _ => None,
        }
    }

    /// Returns the entry's kind.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Debit { .. } | Self::Batch(_) => EntryKind::Debit,
            Self::HoldSettled(_) => EntryKind::HoldSettled,
            Self::DebitRefund(_) => EntryKind::DebitRefund,
            Self::TopUp { .. } => EntryKind::TopUp,
            Self::Grant { .. } => EntryKind::Grant,
            Self::Allocation { .. } => EntryKind::Allocation,
            Self::Expiry { .. } => EntryKind::Expiry,
            Self::Void { .. } => EntryKind::Void,
            Self::ClawBack { .. } => EntryKind::ClawBack,
            Self::ClawBackReversed { .. } => EntryKind::ClawBackReversed,
            Self::Invoiced { .. } => EntryKind::Invoiced,
        }
    }
}

/// The kind of an entry: the name of its [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Debit,
    HoldSettled,
    DebitRefund,
    TopUp,
    Allocation,
    Grant,
    Expiry,
    Void,
    ClawBack,
    ClawBackReversed,
    Invoiced,
}

impl EntryKind {
    /// All kinds with their names in `infra/openapi.json`, which the ledger's filter accepts.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Debit, "debit"),
        (Self::HoldSettled, "hold_settled"),
        (Self::DebitRefund, "debit_refund"),
        (Self::TopUp, "top_up"),
        (Self::Allocation, "allocation"),
        (Self::Grant, "grant"),
        (Self::Expiry, "expiry"),
        (Self::Void, "void"),
        (Self::ClawBack, "claw_back"),
        (Self::ClawBackReversed, "claw_back_reversed"),
        (Self::Invoiced, "invoiced"),
    ];

    /// Returns the kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find_map(|(kind, name)| (kind == self).then_some(name)).unwrap_or_default()
    }
}

impl std::str::FromStr for EntryKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find_map(|(kind, name)| (name == text).then_some(kind)).ok_or(UnknownKind)
    }
}

/// The error for a name that is no kind of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", EntryKind::ALL.map(|(_, name)| name).join(", "))]
pub struct UnknownKind;

/// An entry of a workspace's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The id of the debit or of the grant, or one that the store has made.
    pub entry_id: Id,
    #[serde(flatten)]
    pub cause: Cause,
    /// Positive if credits were added, negative if they were taken.
    pub credits: Credits,
    pub at: Timestamp,
}

impl Entry {
    /// Returns the number of AI calls that the entry debits.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let calls = match &self.cause {
            Cause::Debit { .. } => 1,
            Cause::Batch(batch) => batch.lines,
            Cause::HoldSettled(settlement) => settlement.lines,
            _ => 0,
        };
        u64::try_from(calls).unwrap_or(u64::MAX)
    }

    /// Returns the credits that its calls consumed, less what was refunded of them since; zero for every other kind of entry.
    pub fn consumed(&self) -> Result<Credits, OutOfRange> {
        let refunded = match &self.cause {
            Cause::Debit { refunded, .. } => refunded.unwrap_or_default(),
            Cause::Batch(Batch { refunded, .. }) | Cause::HoldSettled(Settlement { refunded, .. }) => {
                Credits::sum(refunded.iter().map(|line| line.credits))?
            }
            _ => return Ok(Credits::ZERO),
        };
        self.credits.negated().minus(refunded)
    }

    /// Returns the month whose usage the entry changes.
    #[must_use]
    pub fn usage_month(&self) -> Month {
        match &self.cause {
            Cause::DebitRefund(refund) => Month::of(refund.debited_at),
            _ => Month::of(self.at),
        }
    }

    /// Returns the credits that AI calls spent, by operation, less what was refunded of them since. Returns none for every
    /// other kind of entry.
    pub fn spent(&self) -> Result<Vec<(&Name, Credits)>, OutOfRange> {
        let (operations, refunded) = match &self.cause {
            Cause::Debit { operation, refunded, .. } => {
                let spent = self.credits.negated().minus(refunded.unwrap_or_default())?;
                return Ok(vec![(operation, spent)]);
            }
            Cause::Batch(Batch { operations, refunded, .. })
            | Cause::HoldSettled(Settlement { operations, refunded, .. }) => (operations, refunded),
            _ => return Ok(Vec::new()),
        };
        let mut spent = Vec::with_capacity(operations.len());
        for (operation, credits) in operations {
            let refunded = refunded.iter().filter(|line| line.operation == *operation);
            spent.push((operation, credits.minus(Credits::sum(refunded.map(|line| line.credits))?)?));
        }
        Ok(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, EntryKind};

    #[test]
    fn m10_kind_is_serialized_by_its_name() {
        for (kind, name) in EntryKind::ALL {
            assert_eq!(kind.name(), name);
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
            assert_eq!(name.parse(), Ok(kind));
        }
    }

    #[test]
    fn m10_cause_is_tagged_with_its_kind() {
        let month = "2026-11".parse().unwrap();
        for cause in
            [Cause::Invoiced { month }, Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None }]
        {
            assert_eq!(serde_json::to_value(&cause).unwrap()["kind"], cause.kind().name());
        }
    }
}
