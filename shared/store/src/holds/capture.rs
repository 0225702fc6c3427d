//! Captures: pay an AI call from a hold, by one conditional update of the hold's item alone (M4).
//!
//! Concurrent updates of one item do not cancel each other, as transactions would.

use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, CallPrice, Credits};
use credits_core::hold::{Capture, Hold, HoldStatus, MAX_CAPTURES};
use credits_core::hold_posting::HoldError;
use credits_core::id::Id;
use credits_core::lane::LaneSettlement;
use credits_core::own_prices::OtherPrices;
use credits_core::rate_card::PriceVersion;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::holds::HoldRefusal;
use crate::holds::HoldStore;
use crate::holds::OnExcess;
use crate::holds::reclaim::ExpiredHoldReleaser;
use crate::idempotency::{Claim, KeyUse};
use crate::items::hold_item;
use crate::items::hold_item::ClaimDigests;
use crate::lanes::{Shortfall, Uncovered};
use crate::posting::refused_by_balance_alone;
use crate::refused::RefusedBalance;
use crate::table::attribute::{Item, Reader};
use crate::table::keys::ItemKey;
use crate::table::transaction::{Attempts, TransactionOutcome, Updated};

/// A request to pay an AI call from a hold.
#[derive(Debug, Clone, Copy)]
pub struct CaptureOrder<'a> {
    pub hold_id: &'a Id,
    /// The call with its consumer and its price.
    pub line: &'a PricedCall,
    pub priced_by: &'a PriceVersion,
    pub on_excess: OnExcess,
}

/// A capture that was written now or under an earlier use of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub capture_id: Id,
    pub amount: CallPrice,
    /// The credits that the hold had left after this capture.
    pub remaining: Credits,
    /// Whether an earlier request has written the capture.
    pub key_use: KeyUse,
}

/// The state of a capture across its attempts.
struct Course<'a> {
    claim: &'a Claim,
    key: ItemKey,
    capture: Capture,
    /// The digests of the claim as an older version wrote them, without a salt.
    unsalted: ClaimDigests,
    /// Varies the capture's words until none of them stands for something else in the hold.
    salt: u8,
    /// See [`Current::database_now`](crate::close::Current); `Timestamp::MAX` until it was read.
    database_now: Timestamp,
    /// Whether the response to an attempt was lost. A capture that is found then may be this request's own.
    lost: bool,
    releaser: ExpiredHoldReleaser<'a>,
    /// The last settlement of this call's recall, which its next attempt at the balance writes with its posting.
    on_board: Option<LaneSettlement>,
    attempts: Attempts,
}

/// The reason why the condition of a capture failed.
enum CaptureObstacle {
    /// The hold has this capture already, at this index.
    Captured(usize),
    KeyReused,
    AlreadyEnded,
    /// The hold was placed with other prices than those of the capture.
    OtherPrices(OtherPrices),
    /// The hold has expired and is not released yet.
    Expired,
    Full,
    WordTaken,
    /// The hold keeps fewer credits than required: this many.
    Short(Credits),
    /// The item of the failed condition satisfies it: the item changed in between.
    Passed,
}

impl HoldStore<'_> {
    /// Pays a call from a hold, under the caller's key, which has to be unique within the hold.
    ///
    /// Sends one request. If the hold doesn't cover the call and the order takes the excess from the balance, one
    /// transaction does both.
    pub async fn capture(self, claim: &Claim, order: CaptureOrder<'_>) -> Result<Captured, HoldRefusal> {
        let mut course = Course {
            claim,
            key: ItemKey::hold(&claim.workspace_id, order.hold_id),
            capture: capture_of(ClaimDigests::of_capture(order.hold_id, claim), order.line, order.priced_by),
            unsalted: ClaimDigests::unsalted(claim),
            salt: 0,
            database_now: Timestamp::MAX,
            lost: false,
            releaser: self.expired_hold_releaser(&claim.workspace_id),
            on_board: None,
            attempts: self.store.attempts(),
        };
        course.salt = hold_item::salt_for(&course.capture, None, 0);
        loop {
            let now = self.store.now().min(course.database_now);
            let capture = (&course.capture, course.salt, &course.unsalted);
            let write = hold_item::capture_write(&self.store.table, &course.key, capture, now);
            match self.store.update_once(write.map_err(Fault::from)?).await? {
                Updated::Written(updated) => {
                    let remaining = Reader(&updated).credits("remaining").map_err(Fault::from)?;
                    return course.captured(order.hold_id, remaining);
                }
                Updated::Unknown(error) => course.retry_after_failure(error).await?,
                Updated::Busy => course.attempts.retry_after_conflict().await?,
                Updated::Refused(None) => return Err(HoldRefusal::NotFound),
                Updated::Refused(Some(item)) => {
                    if let Some(captured) = self.get_past(&mut course, order, &item, now).await? {
                        return Ok(captured);
                    }
                }
            }
        }
    }

    /// Returns the capture that the same request has written under the key before; `None` if it has not.
    pub async fn captured_before(self, claim: &Claim, hold_id: &Id) -> Result<Option<Captured>, Fault> {
        let item = self.store.get(&ItemKey::hold(&claim.workspace_id, hold_id)).await?;
        let Some(hold) = item.as_ref().map(hold_item::read).transpose()? else { return Ok(None) };
        let digests = [ClaimDigests::of_capture(hold_id, claim), ClaimDigests::unsalted(claim)];
        let same = |capture: &Capture| digests.iter().any(|digests| digests.are_of(capture));
        let Some(place) = hold.captures.iter().position(same) else { return Ok(None) };
        let Some(capture) = hold.captures.get(place) else { return Ok(None) };
        let remaining = hold.left_after(place).map_err(Corrupt::from)?;
        let (capture_id, amount) = (id_of(hold_id, &capture.key)?, capture.line.amount);
        Ok(Some(Captured { capture_id, amount, remaining, key_use: KeyUse::Replay }))
    }

    /// Handles a failed condition. Returns the capture if it is written, or `None` to retry.
    async fn get_past(
        self,
        course: &mut Course<'_>,
        order: CaptureOrder<'_>,
        item: &Item,
        now: Timestamp,
    ) -> Result<Option<Captured>, HoldRefusal> {
        let hold = hold_item::read(item).map_err(Fault::from)?;
        let required = course.capture.line.amount;
        match course.obstacle(&hold, item, now).map_err(Fault::from)? {
            CaptureObstacle::Captured(place) => {
                let remaining = hold.left_after(place).map_err(|sum| Fault::Corrupt(sum.into()))?;
                let kept = hold.captures.get(place).unwrap_or(&course.capture);
                let (capture_id, amount) = (id_of(order.hold_id, &kept.key)?, kept.line.amount);
                Ok(Some(Captured { capture_id, amount, remaining, key_use: KeyUse::first_if(course.lost) }))
            }
            CaptureObstacle::KeyReused => Err(HoldRefusal::KeyReused),
            CaptureObstacle::AlreadyEnded => Err(HoldRefusal::AlreadyEnded(hold.hold_id)),
            CaptureObstacle::Full => Err(HoldRefusal::Full),
            CaptureObstacle::OtherPrices(other) => Err(HoldRefusal::OtherPrices(other)),
            CaptureObstacle::Expired => {
                course.database_now = self.expire(&course.claim.workspace_id, order.hold_id).await?;
                course.attempts.retry_now()?;
                Ok(None)
            }
            CaptureObstacle::WordTaken => {
                let next = course.salt.saturating_add(1);
                course.salt = hold_item::salt_for(&course.capture, Some(item), next);
                course.attempts.retry_now()?;
                Ok(None)
            }
            CaptureObstacle::Short(remaining) if order.on_excess == OnExcess::Refuse => {
                Err(HoldRefusal::Short { required, kept: remaining })
            }
            CaptureObstacle::Short(remaining) => self.grow_and_capture(course, &hold, remaining).await,
            CaptureObstacle::Passed => {
                course.attempts.retry_after_conflict().await?;
                Ok(None)
            }
        }
    }

    /// Captures all that a hold keeps and the rest from the balance, in one transaction that grows the hold.
    ///
    /// Returns `None` to retry.
    async fn grow_and_capture(
        self,
        course: &mut Course<'_>,
        hold: &Hold,
        remaining: Credits,
    ) -> Result<Option<Captured>, HoldRefusal> {
        let workspace = &course.claim.workspace_id;
        let required = course.capture.line.amount;
        let sum = |sum| Fault::Corrupt(Corrupt::Sum(sum));
        let more = required.credits().minus(remaining).map_err(sum)?;
        let Ok(more) = Amount::new(more) else { return Ok(None) };
        hold.grown_by(more).ok_or(HoldRefusal::TooLarge)?;
        let current = self.store.balances().close_due(workspace).await?;
        let balance = current.balance.ok_or(HoldRefusal::NotFound)?;
        let now = self.store.now().min(current.database_now);
        let posting = match balance.extend_hold(hold.placement, more, now) {
            Ok(posting) => posting,
            // The hold has ended since it was read.
            Err(HoldError::UnknownEpoch) => {
                course.attempts.retry_after_conflict().await?;
                return Ok(None);
            }
            Err(HoldError::OutOfRange(out_of_range)) => return Err(sum(out_of_range).into()),
        };
        let grown = Capture { added: Some(more), ..course.capture.clone() };
        let entry_key = ItemKey::ours(workspace, &format!("hold#{}", hold.hold_id));
        let growing =
            hold_item::growing_write(&self.store.table, &course.key, (hold, &grown, course.salt), now)
                .map_err(Fault::from)?;
        let (name, on_board) = (entry_key.name(), &mut course.on_board);
        let sent = self.store.transact_posting(workspace, &posting, name, vec![growing], on_board);
        let reasons = match sent.await? {
            TransactionOutcome::Written => {
                return course.captured(&hold.hold_id, Credits::ZERO).map(Some);
            }
            TransactionOutcome::Unknown(error) => {
                course.retry_after_failure(error).await?;
                return Ok(None);
            }
            TransactionOutcome::Cancelled(reasons) => reasons,
        };
        let Some(stored) = refused_by_balance_alone(&posting, &reasons).map_err(Fault::from)? else {
            course.attempts.retry_after_conflict().await?;
            return Ok(None);
        };
        let uncovered = Uncovered { workspace, posting: &posting, other_writes: 1, debit: None };
        match self.store.lanes().avert(uncovered, &stored, &mut course.on_board).await? {
            Shortfall::Final(short) => {
                let balance = RefusedBalance::of(&short).map_err(Fault::from)?;
                if !course.releaser.release(balance.version).await? {
                    let available = balance.spendable.plus(remaining).map_err(sum)?;
                    let line = Box::new(course.capture.line.clone());
                    return Err(HoldRefusal::Insufficient { line, available, balance });
                }
                course.attempts.retry_now()?;
            }
            Shortfall::Wait => course.attempts.retry_after_recall().await?,
            Shortfall::Retry | Shortfall::OnLanes(_) => course.attempts.retry_now()?,
        }
        Ok(None)
    }
}

impl Course<'_> {
    /// Returns the first obstacle in this order: the key, the hold's end, its room, its credits.
    ///
    /// The key comes first, so that a replay gets its result whatever has happened to the hold since.
    fn obstacle(&self, hold: &Hold, item: &Item, now: Timestamp) -> Result<CaptureObstacle, Corrupt> {
        let wanted = &self.capture;
        let under_key = |kept: &Capture| kept.key == wanted.key || kept.key == self.unsalted.key;
        if let Some(place) = hold.captures.iter().position(under_key) {
            let same = |kept: &Capture| kept.fingerprint == wanted.fingerprint || self.unsalted.are_of(kept);
            let same = hold.captures.get(place).is_some_and(same);
            return Ok(if same { CaptureObstacle::Captured(place) } else { CaptureObstacle::KeyReused });
        }
        if hold.status != HoldStatus::Open {
            return Ok(CaptureObstacle::AlreadyEnded);
        }
        if hold.has_expired(now) {
            return Ok(CaptureObstacle::Expired);
        }
        let current = hold.purpose.priced_by.pricing;
        if wanted.line.units.is_some() && wanted.priced_by.pricing != current {
            return Ok(CaptureObstacle::OtherPrices(OtherPrices { current }));
        }
        if hold.captures.len() >= MAX_CAPTURES {
            return Ok(CaptureObstacle::Full);
        }
        if hold_item::salt_for(wanted, Some(item), self.salt) != self.salt {
            return Ok(CaptureObstacle::WordTaken);
        }
        let remaining = hold.remaining()?;
        let covered = remaining >= wanted.line.amount.credits();
        Ok(if covered { CaptureObstacle::Passed } else { CaptureObstacle::Short(remaining) })
    }

    /// Returns the result of a capture that was just written.
    fn captured(&self, hold_id: &Id, remaining: Credits) -> Result<Captured, HoldRefusal> {
        let (capture_id, amount) = (id_of(hold_id, &self.capture.key)?, self.capture.line.amount);
        Ok(Captured { capture_id, amount, remaining, key_use: KeyUse::First })
    }

    async fn retry_after_failure(&mut self, error: Box<aws_sdk_dynamodb::Error>) -> Result<(), Fault> {
        self.lost = true;
        self.attempts.retry_after_failure(error).await
    }
}

/// Returns a capture's id. It is made of the hold's id and the digest of the key, so a replay has the same id.
pub(crate) fn id_of(hold_id: &Id, key: &str) -> Result<Id, Fault> {
    let of_hold = hold_id.as_str().split_once('_').map_or(hold_id.as_str(), |(_, rest)| rest);
    let id = format!("cap_{of_hold}_{key}").parse();
    id.map_err(|_| Fault::Corrupt(Corrupt::Attribute("capture_id")))
}

/// Makes the capture of a call.
pub(crate) fn capture_of(claimed: ClaimDigests, line: &PricedCall, priced_by: &PriceVersion) -> Capture {
    let ClaimDigests { key, fingerprint } = claimed;
    Capture {
        key,
        fingerprint,
        line: line.clone(),
        priced_by: priced_by.clone(),
        added: None,
        uncollected: Credits::ZERO,
    }
}
