//! Captures: an AI call is paid from a hold, by one conditional update of the hold alone, so that no capture meets a
//! transaction of another (M4).

use credits_core::batch::Line;
use credits_core::credits::{Amount, Credits};
use credits_core::id::{Id, Name};
use credits_core::posting::Refusal;
use credits_core::settlement::{Capture, Hold, HoldStatus, MOST_CAPTURES};
use jiff::Timestamp;

use crate::attribute::{Item, Reader};
use crate::error::{Corrupt, Fault};
use crate::hold_item::ClaimDigests;
use crate::holds::HoldRefusal;
use crate::idempotency::Claim;
use crate::keys::ItemKey;
use crate::overdue::Overdue;
use crate::refused::RefusedBalance;
use crate::transaction::{Attempts, Outcome, Reason, Updated, is_busy};
use crate::{Store, balance_item, hold_item};

/// A call that is to be paid from a hold.
#[derive(Debug, Clone, Copy)]
pub struct CaptureOrder<'a> {
    /// Which hold.
    pub hold_id: &'a Id,
    /// What was called, by whom, and what it costs.
    pub line: &'a Line,
    /// The version of the prices.
    pub rate_card: &'a Name,
    /// Whether the balance pays what the hold doesn't keep.
    pub extend: bool,
}

/// What was captured, now or when the key was first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Names the capture.
    pub capture_id: Id,
    /// What it took.
    pub amount: Amount,
    /// What the hold kept after it.
    pub remaining: Credits,
    /// Whether it was there before.
    pub replayed: bool,
}

/// How far a capture has come.
struct Course<'a> {
    claim: &'a Claim,
    key: ItemKey,
    capture: Capture,
    /// How an older version would have written its claim down.
    unsalted: ClaimDigests,
    /// Makes words of which none is taken.
    salt: u8,
    /// The instant up to which DynamoDB's own clock vouches, once it was asked.
    no_later_than: Timestamp,
    /// Whether the answer to an attempt was lost: then what is found may be its own.
    lost: bool,
    overdue: Overdue<'a>,
    attempts: Attempts,
}

/// Why a hold refused a capture.
enum Obstacle {
    /// It is there already, at this place.
    Captured(usize),
    KeyReused,
    Closed,
    /// Its time has run out, and nobody has given it back yet.
    Over,
    Full,
    WordTaken,
    /// It keeps less, and no more than this.
    Short(Credits),
    /// Nothing any more: it was read after it was checked.
    Passed,
}

impl Store {
    /// Pays a call from a hold, under the caller's key, which is the call's own within the hold.
    ///
    /// One request; another where the hold doesn't keep enough and the balance is to pay the rest.
    pub async fn capture(&self, claim: &Claim, order: CaptureOrder<'_>) -> Result<Captured, HoldRefusal> {
        let mut course = Course {
            claim,
            key: ItemKey::hold(&claim.workspace_id, order.hold_id),
            capture: capture_of(ClaimDigests::of_capture(order.hold_id, claim), order.line, order.rate_card),
            unsalted: ClaimDigests::unsalted(claim),
            salt: 0,
            no_later_than: Timestamp::MAX,
            lost: false,
            overdue: self.overdue(&claim.workspace_id),
            attempts: self.attempts(),
        };
        course.salt = hold_item::salt_for(&course.capture, None, 0);
        loop {
            let now = self.now().min(course.no_later_than);
            let capture = (&course.capture, course.salt, &course.unsalted);
            let write = hold_item::capture_write(&self.table, &course.key, capture, now);
            match self.update_once(write.map_err(Fault::from)?).await? {
                Updated::Written(updated) => {
                    let remaining = Reader(&updated).credits("remaining").map_err(Fault::from)?;
                    return course.captured(order.hold_id, remaining);
                }
                Updated::Unknown(error) => course.after_failure(error).await?,
                Updated::Busy => course.attempts.after_conflict().await?,
                Updated::Refused(None) => return Err(HoldRefusal::NotFound),
                Updated::Refused(Some(item)) => {
                    if let Some(captured) = self.get_past(&mut course, order, &item, now).await? {
                        return Ok(captured);
                    }
                }
            }
        }
    }

    /// What the key was first used for with this hold, if it was this very call.
    pub async fn captured_before(&self, claim: &Claim, hold_id: &Id) -> Result<Option<Captured>, Fault> {
        let item = self.get(&ItemKey::hold(&claim.workspace_id, hold_id)).await?;
        let Some(hold) = item.as_ref().map(hold_item::read).transpose()? else { return Ok(None) };
        let digests = [ClaimDigests::of_capture(hold_id, claim), ClaimDigests::unsalted(claim)];
        let same = |capture: &Capture| digests.iter().any(|digests| digests.are_of(capture));
        let Some(place) = hold.captures.iter().position(same) else { return Ok(None) };
        let Some(capture) = hold.captures.get(place) else { return Ok(None) };
        let remaining = hold.left_after(place).map_err(Corrupt::from)?;
        let (capture_id, amount) = (id_of(hold_id, &capture.key)?, capture.line.amount);
        Ok(Some(Captured { capture_id, amount, remaining, replayed: true }))
    }

    /// What to do about a refusal; `None` to try again.
    async fn get_past(
        &self,
        course: &mut Course<'_>,
        order: CaptureOrder<'_>,
        item: &Item,
        now: Timestamp,
    ) -> Result<Option<Captured>, HoldRefusal> {
        let hold = hold_item::read(item).map_err(Fault::from)?;
        let required = course.capture.line.amount;
        match course.obstacle(&hold, item, now).map_err(Fault::from)? {
            Obstacle::Captured(place) => {
                let remaining = hold.left_after(place).map_err(|sum| Fault::Corrupt(sum.into()))?;
                let kept = hold.captures.get(place).unwrap_or(&course.capture);
                let (capture_id, amount) = (id_of(order.hold_id, &kept.key)?, kept.line.amount);
                Ok(Some(Captured { capture_id, amount, remaining, replayed: !course.lost }))
            }
            Obstacle::KeyReused => Err(HoldRefusal::KeyReused),
            Obstacle::Closed => Err(HoldRefusal::Closed(hold.hold_id)),
            Obstacle::Full => Err(HoldRefusal::Full),
            Obstacle::Over => {
                course.no_later_than = self.expire_hold(&course.claim.workspace_id, order.hold_id).await?;
                course.attempts.at_once()?;
                Ok(None)
            }
            Obstacle::WordTaken => {
                let next = course.salt.saturating_add(1);
                course.salt = hold_item::salt_for(&course.capture, Some(item), next);
                course.attempts.at_once()?;
                Ok(None)
            }
            Obstacle::Short(remaining) if !order.extend => {
                Err(HoldRefusal::Short { required, kept: remaining })
            }
            Obstacle::Short(remaining) => self.grow_and_capture(course, &hold, remaining).await,
            Obstacle::Passed => {
                course.attempts.after_conflict().await?;
                Ok(None)
            }
        }
    }

    /// Takes all that a hold keeps, and the rest from the balance by way of it, in one transaction; `None` to try again.
    async fn grow_and_capture(
        &self,
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
        let current = self.close_due(workspace).await?;
        let balance = current.balance.ok_or(HoldRefusal::NotFound)?;
        let now = self.now().min(current.no_later_than);
        // Without its epoch the hold has ended meanwhile.
        let Ok(posting) = balance.extend_hold(hold.placement, more, now) else {
            course.attempts.after_conflict().await?;
            return Ok(None);
        };
        let grown = Capture { added: Some(more), ..course.capture.clone() };
        let last = ItemKey::ours(workspace, &format!("hold#{}", hold.hold_id));
        let corrupt = Fault::from;
        let writes = vec![
            balance_item::write_of(&self.table, workspace, &posting, last.name()).map_err(corrupt)?,
            hold_item::growing_write(&self.table, &course.key, (hold, &grown, course.salt), now)
                .map_err(corrupt)?,
        ];
        let reasons = match self.transact(writes).await? {
            Outcome::Written => {
                return course.captured(&hold.hold_id, Credits::ZERO).map(Some);
            }
            Outcome::Unknown(error) => {
                course.after_failure(error).await?;
                return Ok(None);
            }
            Outcome::Cancelled(reasons) => reasons,
        };
        if let [Reason::Condition(Some(item)), Reason::None] = &reasons[..]
            && !is_busy(&reasons)
            && let balance = balance_item::read(item).map_err(corrupt)?
            && let Err(Refusal::Insufficient { .. }) = posting.check(&balance)
        {
            if course.overdue.give_back(balance.version).await? {
                course.attempts.at_once()?;
                return Ok(None);
            }
            let available = balance.spendable.plus(remaining).map_err(sum)?;
            let line = Box::new(course.capture.line.clone());
            let balance = RefusedBalance::of(&balance).map_err(corrupt)?;
            return Err(HoldRefusal::Insufficient { line, available, balance });
        }
        course.attempts.after_conflict().await?;
        Ok(None)
    }
}

impl Course<'_> {
    /// Reads a refusal in the one right order: the key's, the hold's end, its room, and only then what it keeps.
    fn obstacle(&self, hold: &Hold, item: &Item, now: Timestamp) -> Result<Obstacle, Corrupt> {
        let wanted = &self.capture;
        let under_key = |kept: &Capture| kept.key == wanted.key || kept.key == self.unsalted.key;
        if let Some(place) = hold.captures.iter().position(under_key) {
            let same = |kept: &Capture| kept.fingerprint == wanted.fingerprint || self.unsalted.are_of(kept);
            let same = hold.captures.get(place).is_some_and(same);
            return Ok(if same { Obstacle::Captured(place) } else { Obstacle::KeyReused });
        }
        if hold.status != HoldStatus::Open {
            return Ok(Obstacle::Closed);
        }
        if hold.is_over(now) {
            return Ok(Obstacle::Over);
        }
        if hold.captures.len() >= MOST_CAPTURES {
            return Ok(Obstacle::Full);
        }
        if hold_item::salt_for(wanted, Some(item), self.salt) != self.salt {
            return Ok(Obstacle::WordTaken);
        }
        let remaining = hold.remaining()?;
        let covered = remaining >= wanted.line.amount.credits();
        Ok(if covered { Obstacle::Passed } else { Obstacle::Short(remaining) })
    }

    /// What is answered once the capture is written.
    fn captured(&self, hold_id: &Id, remaining: Credits) -> Result<Captured, HoldRefusal> {
        let (capture_id, amount) = (id_of(hold_id, &self.capture.key)?, self.capture.line.amount);
        Ok(Captured { capture_id, amount, remaining, replayed: false })
    }

    async fn after_failure(&mut self, error: Box<aws_sdk_dynamodb::Error>) -> Result<(), Fault> {
        self.lost = true;
        self.attempts.after_failure(error).await
    }
}

/// A capture's id is made of its hold's and its key, so a replay has the same.
fn id_of(hold_id: &Id, key: &str) -> Result<Id, Fault> {
    let of_hold = hold_id.as_str().split_once('_').map_or(hold_id.as_str(), |(_, rest)| rest);
    let id = format!("cap_{of_hold}_{key}").parse();
    id.map_err(|_| Fault::Corrupt(Corrupt::Attribute("capture_id")))
}

/// The capture that a call asks for.
pub(crate) fn capture_of(claimed: ClaimDigests, line: &Line, rate_card: &Name) -> Capture {
    let ClaimDigests { key, fingerprint } = claimed;
    Capture { key, fingerprint, line: line.clone(), rate_card: rate_card.clone(), added: None }
}
