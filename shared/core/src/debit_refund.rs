//! Refunds of debits: credits of a call that failed return as they were paid (M2).
//!
//! Let `r` be the refund of a debit in the epoch `e`, and `E` the balance's present epoch.
//!
//! - `e = E`: the debit is as if it had been smaller: `used' = used − r`, `spendable' = spendable + r`.
//! - `e < E`: the close of `e` has recorded how its use `U` was paid: `U = Σ paid(g) + prepaid`. Of each grant `g` returns
//!   `⌊r · paid(g) / U⌋`, and the rest as prepaid credits. The record then has what is left of each part, so all refunds
//!   of an epoch together return to a source at most what it has paid.
//! - A grant that runs gets its part back. The part of a grant that has ended, and of a capture that expired credits paid,
//!   returns as a grant until the end of the present period, or for 30 days.
//!
//! So the workspace owns exactly `r` more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::balance::Balance;
use crate::batch::PricedCall;
use crate::change::{Change, QueuedChange};
use crate::claw_back::Clawed;
use crate::credits::{Amount, Credits, OutOfRange};
use crate::grant::{ExpiringGrant, GrantKind};
use crate::id::{Id, Name};
use crate::month::Month;
use crate::posting::{Condition, Movement, Posting, UsageMark};
use crate::waterfall::Waterfall;

/// How long returned credits of an ended grant last, if no period runs.
const RETURNED_LAST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why a debit is refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DebitRefundReason {
    /// The provider of the model failed.
    ProviderError,
    Timeout,
    Cancelled,
    /// The answer was not good enough.
    Quality,
    /// The call was debited twice.
    Duplicate,
    Other,
}

impl DebitRefundReason {
    /// All reasons with their names in the API.
    pub const ALL: [(&'static str, Self); 6] = [
        ("provider_error", Self::ProviderError),
        ("timeout", Self::Timeout),
        ("cancelled", Self::Cancelled),
        ("quality", Self::Quality),
        ("duplicate", Self::Duplicate),
        ("other", Self::Other),
    ];

    /// Returns the reason's name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find_map(|(name, reason)| (reason == self).then_some(name)).unwrap_or_default()
    }
}

/// The refund that a ledger entry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebitRefund {
    /// The debit's id, or the hold's if the calls were captured from one.
    pub debit_id: Id,
    /// The index of the refunded call of a batch; `None` if all its calls were meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The refunded capture of a hold; `None` if all its captures were meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_id: Option<Id>,
    pub reason: DebitRefundReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When the debit was posted. Usage of its month goes down.
    pub debited_at: Timestamp,
    /// What can still be refunded of the calls that were meant.
    pub refundable: Credits,
    /// The number of refunded calls.
    pub lines: usize,
    /// The credits refunded of each operation.
    pub operations: BTreeMap<Name, Credits>,
    /// The refunded calls, each with what was refunded of it. The list of the ledger omits them.
    #[serde(skip)]
    pub content: Vec<PricedCall>,
}

/// What was refunded of a call of a batch or a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundedLine {
    /// The index of the call.
    pub line: usize,
    pub operation: Name,
    pub credits: Credits,
}

/// How the use of an epoch was paid, less what was refunded since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochPayment {
    pub epoch: u64,
    /// When the epoch was closed. Its debits are older.
    pub closed_at: Timestamp,
    /// In the order of spending.
    pub grants: Vec<PaidByGrant>,
    /// Includes debt.
    pub prepaid: Credits,
}

/// The part that a grant paid, or gets back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidByGrant {
    pub grant_id: Id,
    pub kind: GrantKind,
    pub granted: Amount,
    pub expires_at: Timestamp,
    pub credits: Credits,
}

/// Credits that return to where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReturnedCredits {
    /// To these grants, if they still run.
    pub grants: Vec<PaidByGrant>,
    pub prepaid: Credits,
    /// Paid by credits that have expired.
    pub expired: Credits,
}

/// The effect of a refund on the balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundMovement {
    pub refund_id: Id,
    pub debited_at: Timestamp,
    /// The part that the present epoch has used.
    pub of_epoch: Credits,
    pub returned: ReturnedCredits,
}

impl EpochPayment {
    /// Returns how a balance's use was paid, as its close finds it; `None` if nothing was used.
    pub(crate) fn of(
        balance: &Balance,
        run_down: &Waterfall,
        closed_at: Timestamp,
    ) -> Result<Option<Self>, OutOfRange> {
        if balance.used <= Credits::ZERO {
            return Ok(None);
        }
        let mut grants = Vec::new();
        for grant in &run_down.grants {
            let before = balance.grants.iter().find(|before| before.grant_id == grant.grant_id);
            let credits = before.map_or(Credits::ZERO, |before| before.amount).minus(grant.amount)?;
            if credits > Credits::ZERO {
                grants.push(PaidByGrant {
                    grant_id: grant.grant_id.clone(),
                    kind: grant.kind,
                    granted: grant.granted,
                    expires_at: grant.expires_at,
                    credits,
                });
            }
        }
        let prepaid = balance.prepaid.minus(run_down.prepaid)?;
        Ok(Some(Self { epoch: balance.epoch, closed_at, grants, prepaid }))
    }

    /// Splits a refund by how the epoch was paid. Returns the parts, and the record less them. What exceeds the record
    /// returns as prepaid credits.
    pub fn split(&self, refund: Amount) -> Result<(ReturnedCredits, Self), OutOfRange> {
        let used = Credits::sum(self.grants.iter().map(|paid| paid.credits))?.plus(self.prepaid)?;
        let of_epoch = refund.credits().min(used.or_zero());
        let mut left = of_epoch;
        let mut parts = Vec::with_capacity(self.grants.len());
        for paid in &self.grants {
            let part = proportion(paid.credits, of_epoch, used)?;
            left = left.minus(part)?;
            parts.push(part);
        }
        let mut prepaid = left.min(self.prepaid.or_zero());
        left = left.minus(prepaid)?;
        // The fractions that were rounded down, if the prepaid part does not take them.
        for (paid, part) in self.grants.iter().zip(&mut parts) {
            let more = left.min(paid.credits.minus(*part)?);
            (*part, left) = (part.plus(more)?, left.minus(more)?);
        }
        let mut next = Self { prepaid: self.prepaid.minus(prepaid)?, ..self.clone() };
        for (paid, part) in next.grants.iter_mut().zip(&parts) {
            paid.credits = paid.credits.minus(*part)?;
        }
        prepaid = prepaid.plus(refund.credits().minus(of_epoch)?)?.plus(left)?;
        let grants = self.grants.iter().zip(parts).filter(|(_, part)| !part.is_zero());
        let grants = grants.map(|(paid, credits)| PaidByGrant { credits, ..paid.clone() });
        Ok((ReturnedCredits { grants: grants.collect(), prepaid, expired: Credits::ZERO }, next))
    }
}

/// Returns `⌊part · share / whole⌋` in millionths.
fn proportion(part: Credits, share: Credits, whole: Credits) -> Result<Credits, OutOfRange> {
    let product = part.micros()?.checked_mul(share.micros()?).ok_or(OutOfRange)?;
    Credits::from_micros(product.checked_div(whole.micros()?).ok_or(OutOfRange)?)
}

impl RefundMovement {
    /// Returns the posting. The balance must be in the epoch in which it was read, if the refund is of its use or returns
    /// credits to grants.
    pub fn posting(&self, balance: &Balance, now: Timestamp) -> Result<Posting, OutOfRange> {
        let ReturnedCredits { grants, prepaid, expired } = &self.returned;
        let waits = !grants.is_empty() || !expired.is_zero();
        let at_once = if waits { Credits::ZERO } else { *prepaid };
        let change = waits.then(|| QueuedChange {
            at: now,
            change: Change::Return { refund_id: self.refund_id.clone(), returned: self.returned.clone() },
        });
        let month = Month::of(self.debited_at);
        let refund = self.total()?;
        // Older months have no counter any more.
        let consumed =
            (month >= Month::of(now).last()).then(|| (month, refund.negated())).into_iter().collect();
        let movement = Movement {
            spendable: self.of_epoch.plus(at_once)?,
            used: self.of_epoch.negated(),
            prepaid: at_once,
            consumed,
            change,
            usage_mark: UsageMark::Marked,
            ..Movement::default()
        };
        // A void since the balance was read, which would end a grant that gets its part back, begins another epoch.
        let is_of_epoch = !self.of_epoch.is_zero() || !grants.is_empty();
        let epoch = is_of_epoch.then_some(balance.epoch);
        Ok(Posting {
            condition: Condition { nothing_due_at: Some(now), epoch, ..Condition::default() },
            movement,
        })
    }

    /// Returns whether a close has to follow.
    #[must_use]
    pub fn waits_for_close(&self) -> bool {
        !self.returned.grants.is_empty() || !self.returned.expired.is_zero()
    }

    fn total(&self) -> Result<Credits, OutOfRange> {
        let ReturnedCredits { grants, prepaid, expired } = &self.returned;
        Credits::sum(grants.iter().map(|part| part.credits))?
            .plus(*prepaid)?
            .plus(*expired)?
            .plus(self.of_epoch)
    }
}

impl PaidByGrant {
    /// Returns the grant with these credits left of it.
    #[must_use]
    pub fn grant(&self) -> ExpiringGrant {
        ExpiringGrant {
            grant_id: self.grant_id.clone(),
            kind: self.kind,
            granted: self.granted,
            amount: self.credits,
            expires_at: self.expires_at,
            clawed: Clawed::default(),
        }
    }
}

impl Waterfall {
    /// Returns credits of a refund. They pay debt first.
    pub(crate) fn give_back(
        &mut self,
        refund_id: &Id,
        returned: &ReturnedCredits,
        at: Timestamp,
    ) -> Result<(), OutOfRange> {
        let mut ended = returned.expired;
        for part in &returned.grants {
            match self.grants.iter_mut().find(|grant| grant.grant_id == part.grant_id) {
                Some(grant) => grant.amount = grant.amount.plus(part.credits)?,
                // A grant that is used up leaves the waterfall before it ends.
                None if part.expires_at > at => self.grants.push(part.grant()),
                None => ended = ended.plus(part.credits)?,
            }
        }
        if let Ok(granted) = Amount::new(ended) {
            let period = self.grants.iter().filter(|grant| grant.kind == GrantKind::Allocation);
            let period = period.map(|grant| grant.expires_at).filter(|end| *end > at).min();
            let default = at.checked_add(RETURNED_LAST).map_err(|_| OutOfRange)?;
            self.grants.push(ExpiringGrant {
                grant_id: refund_id.clone(),
                kind: GrantKind::Promotional,
                granted,
                amount: ended,
                expires_at: period.unwrap_or(default),
                clawed: Clawed::default(),
            });
        }
        self.sort();
        self.owe(returned.prepaid.negated())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use jiff::SignedDuration;

    use super::{EpochPayment, PaidByGrant, ReturnedCredits};
    use crate::credits::{Amount, Credits};
    use crate::grant::GrantKind;
    use crate::waterfall::Waterfall;

    fn micros(micros: i128) -> Credits {
        Credits::from_micros(micros).unwrap()
    }

    #[test]
    fn returned_credits_pay_debt_in_the_order_of_their_ends() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let part = PaidByGrant {
            grant_id: "gr_1".parse().unwrap(),
            kind: GrantKind::Promotional,
            granted: "5".parse().unwrap(),
            expires_at: now + SignedDuration::from_hours(24 * 60),
            credits: micros(5_000_000),
        };
        let returned =
            ReturnedCredits { grants: vec![part], prepaid: Credits::ZERO, expired: micros(5_000_000) };
        let mut waterfall = Waterfall { grants: Vec::new(), prepaid: micros(-4_000_000) };
        waterfall.give_back(&"dref_1".parse().unwrap(), &returned, now).unwrap();
        let left = waterfall.grants.iter().map(|grant| (grant.grant_id.as_str(), grant.amount));
        assert_eq!(left.collect::<Vec<_>>(), [("dref_1", micros(1_000_000)), ("gr_1", micros(5_000_000))]);
        assert_eq!(waterfall.prepaid, Credits::ZERO);
    }

    proptest! {
        /// Whatever the refunds of an epoch are, each returns its credits, and no source gets back more than it paid.
        #[test]
        fn refunds_return_all_and_to_no_source_more_than_it_paid(
            paid in proptest::collection::vec(1_i128..5_000_000, 0..5),
            prepaid in 0_i128..5_000_000,
            refunds in proptest::collection::vec(1_i128..3_000_000, 1..8),
        ) {
            let grants = paid.iter().enumerate().map(|(place, credits)| PaidByGrant {
                grant_id: format!("gr_{place}").parse().unwrap(),
                kind: GrantKind::Promotional,
                granted: "5".parse().unwrap(),
                expires_at: jiff::Timestamp::UNIX_EPOCH,
                credits: micros(*credits),
            });
            let closed_at = jiff::Timestamp::UNIX_EPOCH;
            let first = EpochPayment { epoch: 3, closed_at, grants: grants.collect(), prepaid: micros(prepaid) };
            let (mut left, mut record) = (paid.iter().sum::<i128>() + prepaid, first.clone());
            for refund in refunds.into_iter().filter(|refund| *refund > 0) {
                let refund = refund.min(left);
                let Ok(amount) = Amount::new(micros(refund)) else { break };
                let (returned, next) = record.split(amount).unwrap();
                let to_grants: i128 = returned.grants.iter().map(|part| part.credits.micros().unwrap()).sum();
                prop_assert_eq!(to_grants + returned.prepaid.micros().unwrap(), refund);
                prop_assert!(next.grants.iter().all(|paid| paid.credits >= Credits::ZERO));
                prop_assert!(next.prepaid >= Credits::ZERO);
                // Each part is its proportion, but for a millionth of each source.
                for part in &returned.grants {
                    let of = record.grants.iter().find(|paid| paid.grant_id == part.grant_id).unwrap();
                    let exact = of.credits.micros().unwrap() * refund / left;
                    let sources = i128::try_from(record.grants.len()).unwrap() + 1;
                    prop_assert!((part.credits.micros().unwrap() - exact).abs() <= sources);
                }
                (left, record) = (left - refund, next);
            }
        }
    }
}
