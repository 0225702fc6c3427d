//! Refunds of debits: credits of a call that failed return as they were paid (M2).
//!
//! Let `r` be the refund of a debit in the epoch `e`, and `E` the balance's present epoch.
//!
//! - `e = E`: the debit is as if it had been smaller: `used' = used − r`, `spendable' = spendable + r`.
//! - `e < E`: the close of `e` has recorded how its use `U` was paid: by grants and then by prepaid credits. With the
//!   running sums `P(i)` of what they paid, source `i` gets back `⌊r · P(i) / U⌋ − ⌊r · P(i − 1) / U⌋`: its proportion to
//!   a millionth. The record then has what is left of each part, so all refunds of an epoch together return to a source
//!   at most what it has paid. What exceeds the record returns as prepaid credits.
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
        let mut next = self.clone();
        let mut grants = Vec::new();
        // Running sums, rounded down, keep each part within a millionth of its proportion.
        let (mut paid_sum, mut returned_sum) = (Credits::ZERO, Credits::ZERO);
        for (paid, left) in self.grants.iter().zip(&mut next.grants) {
            paid_sum = paid_sum.plus(paid.credits)?;
            let returned = proportion(paid_sum, of_epoch, used)?;
            let credits = returned.minus(returned_sum)?;
            returned_sum = returned;
            left.credits = paid.credits.minus(credits)?;
            if !credits.is_zero() {
                grants.push(PaidByGrant { credits, ..paid.clone() });
            }
        }
        next.prepaid = self.prepaid.minus(of_epoch.minus(returned_sum)?)?;
        let prepaid = refund.credits().minus(returned_sum)?;
        Ok((ReturnedCredits { grants, prepaid, expired: Credits::ZERO }, next))
    }
}

/// Returns `⌊part · share / whole⌋` in millionths.
fn proportion(part: Credits, share: Credits, whole: Credits) -> Result<Credits, OutOfRange> {
    if share.is_zero() {
        return Ok(Credits::ZERO);
    }
    let product = part.micros()?.checked_mul(share.micros()?).ok_or(OutOfRange)?;
    Credits::from_micros(product.checked_div(whole.micros()?).ok_or(OutOfRange)?)
}

impl RefundMovement {
    /// Returns the posting. It requires the balance's epoch if the refund is of its use, or if grants get credits back:
    /// one that was voided or has ended meanwhile would come back.
    pub fn posting(&self, balance: &Balance, now: Timestamp) -> Result<Posting, OutOfRange> {
        let ReturnedCredits { grants, prepaid, .. } = &self.returned;
        let waits = self.waits_for_close();
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
        let needs_epoch = !self.of_epoch.is_zero() || !grants.is_empty();
        let epoch = needs_epoch.then_some(balance.epoch);
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
    ///
    /// If a refund of a grant's payment has charged consumed credits, it takes the returned ones instead of the charge
    /// (`claw_back`).
    pub(crate) fn give_back(
        &mut self,
        refund_id: &Id,
        returned: &ReturnedCredits,
        at: Timestamp,
    ) -> Result<(), OutOfRange> {
        let (mut ended, mut prepaid) = (returned.expired, returned.prepaid);
        for part in &returned.grants {
            match self.grants.iter_mut().find(|grant| grant.grant_id == part.grant_id) {
                Some(grant) => {
                    grant.amount = grant.amount.plus(part.credits)?;
                    let debt = grant.claw_back_to(grant.clawed.total()?)?;
                    prepaid = prepaid.minus(debt)?;
                }
                // A grant that is used up leaves the waterfall before it ends. An allocation stays until its end, so one
                // that is absent has ended by a faster clock, or was withdrawn.
                None if part.expires_at > at && part.kind != GrantKind::Allocation => {
                    self.grants.push(part.grant());
                }
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
        self.owe(prepaid.negated())
    }
}

#[cfg(test)]
mod tests;
