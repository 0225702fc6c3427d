//! Ledger entries: every movement of credits, with its cause, for good.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::claw_back::ClawBackReason;
use crate::consumer::Consumer;
use crate::credits::Credits;
use crate::grant::GrantKind;
use crate::id::{Id, Name};
use crate::month::Month;
use crate::rate_card::Units;
use crate::settlement::Settlement;

/// Why credits moved; its kind is the ledger entry's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// An AI call.
    Debit {
        /// What was called.
        operation: Name,
        /// By which model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<Name>,
        /// What it used; absent where the caller had priced it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        units: Option<Units>,
        /// The version of the prices.
        rate_card: Name,
        /// Who spent.
        consumer: Consumer,
    },
    /// Several AI calls in one posting (M4). Reading tells it from one call by its lines.
    #[serde(rename(serialize = "debit"), skip_deserializing)]
    Batch(Batch),
    /// What was captured of holds, now that they have ended (M4).
    HoldSettled(Settlement),
    /// A paid pack (M5).
    TopUp {
        /// Which top-up.
        top_up_id: Id,
        /// Which pack.
        pack: Id,
        /// Which payment.
        payment_id: String,
    },
    /// A grant by the operator or a subscription.
    Grant {
        /// Which grant.
        grant_id: Id,
        /// Of what sort.
        grant_kind: GrantKind,
        /// Until when, if it has an end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        /// Why.
        reason: String,
    },
    /// A subscription's month (M6), or what an upgrade adds to it.
    Allocation {
        /// Which grant.
        grant_id: Id,
        /// Of which subscription.
        subscription_id: Id,
        /// Which of its periods, from 1.
        period: u64,
        /// At which tier.
        tier: Id,
        /// When the rest of it is gone.
        expires_at: Timestamp,
    },
    /// What was left of grants when they expired.
    Expiry {
        /// Which grants.
        grant_ids: Vec<Id>,
        /// Which holds gave it back too late.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hold_ids: Vec<Id>,
    },
    /// What was left of a grant when it was voided.
    Void {
        /// Which grant.
        grant_id: Id,
        /// Why.
        reason: String,
    },
    /// A refund or dispute of a payment.
    ClawBack {
        /// Which payment.
        payment_id: String,
        /// Which of both; absent in entries of before it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// A claw-back that was undone: a dispute was won, or a refund failed.
    ClawBackReversed {
        /// Which payment.
        payment_id: String,
        /// What had taken the credits back; absent in entries of before it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// Use beyond credits, billed (M8).
    Invoiced {
        /// The month in which it was used.
        month: Month,
    },
}

impl Cause {
    /// Its kind, as API.md names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Debit { .. } | Self::Batch(_) => "debit",
            Self::HoldSettled(_) => "hold_settled",
            Self::TopUp { .. } => "top_up",
            Self::Grant { .. } => "grant",
            Self::Allocation { .. } => "allocation",
            Self::Expiry { .. } => "expiry",
            Self::Void { .. } => "void",
            Self::ClawBack { .. } => "claw_back",
            Self::ClawBackReversed { .. } => "claw_back_reversed",
            Self::Invoiced { .. } => "invoiced",
        }
    }
}

/// The kinds of entry that API.md names, as a filter takes them.
pub const KINDS: [&str; 10] = [
    "debit",
    "hold_settled",
    "top_up",
    "allocation",
    "grant",
    "expiry",
    "void",
    "claw_back",
    "claw_back_reversed",
    "invoiced",
];

/// One line of a workspace's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its id: the debit's, the grant's, or one of our own.
    pub entry_id: Id,
    /// Why it was written.
    #[serde(flatten)]
    pub cause: Cause,
    /// What it added, or below zero what it took.
    pub credits: Credits,
    /// When.
    pub at: Timestamp,
}

impl Entry {
    /// What AI calls have spent, by operation; nothing where it is no use at all.
    #[must_use]
    pub fn spent(&self) -> Vec<(&Name, Credits)> {
        match &self.cause {
            Cause::Debit { operation, .. } => vec![(operation, self.credits.negated())],
            Cause::Batch(Batch { operations, .. }) | Cause::HoldSettled(Settlement { operations, .. }) => {
                operations.iter().map(|(operation, credits)| (operation, *credits)).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, KINDS};

    #[test]
    fn m10_an_entry_is_of_a_kind_that_a_filter_takes_and_that_it_is_written_with() {
        let month = "2026-11".parse().unwrap();
        for (cause, kind) in [
            (Cause::Invoiced { month }, "invoiced"),
            (Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None }, "claw_back"),
        ] {
            assert_eq!(cause.kind(), kind);
            assert_eq!(serde_json::to_value(&cause).unwrap()["kind"], kind);
            assert!(KINDS.contains(&kind));
        }
    }
}
