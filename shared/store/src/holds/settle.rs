//! Ends of holds: one transaction makes a ledger entry of what was captured, and releases the rest (M4).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::batch::{MAX_LINES, PricedCall};
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{Capture, Hold, HoldStatus, Settlement};
use credits_core::hold_posting::Ending;
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use credits_core::posting::Refusal;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::holds::HoldRefusal;
use crate::holds::HoldStore;
use crate::holds::capture::capture_of;
use crate::idempotency::{Claim, KeyUse};
use crate::items::hold_item::ClaimDigests;
use crate::items::{balance_item, batch_item, entry_item, hold_item};
use crate::refused::RefusedBalance;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// An order to settle holds.
#[derive(Debug, Clone, Copy)]
pub struct SettleOrder<'a> {
    pub hold_ids: &'a [Id],
    /// The amount of a last capture. Only for an order of a single hold.
    pub last: Option<Amount>,
    /// Whether the balance pays the part of `last` that the hold doesn't keep.
    pub extend: bool,
}

/// The result of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub holds: Vec<Hold>,
    /// Whether an earlier call under the key settled them.
    pub key_use: KeyUse,
    /// Sum of the captures of the holds that this call ended; zero for a replay.
    pub captured: Credits,
}

/// A hold as it was read and as it ends.
#[derive(Clone)]
struct Pair {
    read: Hold,
    ended: Hold,
}

/// Holds that end together.
struct EndingHolds<'a> {
    workspace: &'a WorkspaceId,
    /// The key of their ledger entry. `claim` is the caller's claim to it, if a caller settles the holds.
    key: ItemKey,
    claim: Option<&'a Claim>,
    holds: Vec<Pair>,
}

/// The result of expiring holds.
pub(crate) struct ExpiryResult {
    /// Whether any hold was ended now.
    pub ended: bool,
    /// The time by DynamoDB's clock. The caller's own clock counts up to this instant only.
    pub no_later_than: Timestamp,
}

/// The result of an attempt to end holds.
enum Ended {
    /// The holds have ended, with this sum of captures.
    Done(Credits),
    /// The key is already used.
    KeyTaken(Item),
    /// The balance doesn't cover what a hold lacks.
    Insufficient(RefusedBalance),
    /// Another transaction was on the same items, or has changed them: read again.
    Again,
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

impl HoldStore<'_> {
    /// Settles holds under the caller's key, all of them or none. Holds that are already settled stay as they are if
    /// others are still open.
    pub async fn settle(self, claim: &Claim, order: SettleOrder<'_>) -> Result<Settled, HoldRefusal> {
        let workspace = &claim.workspace_id;
        let key = ItemKey::called(workspace, &claim.key);
        let (mut attempts, mut no_later_than) = (self.store.attempts(), Timestamp::MAX);
        let (mut lost, mut expired_holds) = (false, self.expired_holds(workspace));
        loop {
            let holds = self.read_all(workspace, order.hold_ids).await?;
            if holds.iter().any(|hold| hold.status != HoldStatus::Open)
                && let Some(settled) = self.settled_before(claim, &holds, lost).await?
            {
                return Ok(settled);
            }
            let now = self.store.now().min(no_later_than);
            let open = holds.iter().filter(|hold| hold.status == HoldStatus::Open);
            if let Some(over) = open.clone().find(|hold| hold.is_over(now)) {
                no_later_than = self.expire(workspace, &over.hold_id).await?;
                attempts.at_once()?;
                continue;
            }
            let pairs: Result<Vec<Pair>, _> = open.map(|hold| settled_of(claim, hold, order)).collect();
            let closing = match pairs {
                Ok(pairs) => EndingHolds { workspace, key: key.clone(), claim: Some(claim), holds: pairs },
                Err(refusal) => return Err(self.unless_key_reused(claim, refusal).await?),
            };
            if !closing.fits_an_entry() {
                return Err(self.unless_key_reused(claim, HoldRefusal::TooManyCalls).await?);
            }
            match self.end(&closing).await? {
                Ended::Done(captured) => {
                    return Ok(Settled { holds: closing.among(holds), key_use: KeyUse::First, captured });
                }
                Ended::KeyTaken(item) if !entry_item::is_of(&item, Some(claim.fingerprint)) => {
                    return Err(HoldRefusal::KeyReused);
                }
                Ended::Insufficient(balance) => {
                    if !expired_holds.release(balance.version).await? {
                        return Err(closing.short(balance)?);
                    }
                    attempts.at_once()?;
                }
                // If this call has used the key before, the next read finds the holds settled.
                Ended::KeyTaken(_) | Ended::Again => attempts.after_conflict().await?,
                Ended::Unknown(error) => {
                    lost = true;
                    attempts.after_failure(error).await?;
                }
            }
        }
    }

    /// Releases an expired hold, and settles what was captured. Returns the time by DynamoDB's clock: a hold that has
    /// not expired by then stays open.
    pub async fn expire(self, workspace: &WorkspaceId, hold_id: &Id) -> Result<Timestamp, Fault> {
        Ok(self.expire_all(workspace, std::slice::from_ref(hold_id)).await?.no_later_than)
    }

    /// Expires several holds, like [`Self::expire`]. Their captures must fit into one ledger entry.
    pub(crate) async fn expire_all(
        self,
        workspace: &WorkspaceId,
        hold_ids: &[Id],
    ) -> Result<ExpiryResult, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let current = self.store.balances().close_due(workspace).await?;
            let now = self.store.now().min(current.no_later_than);
            let mut holds = Vec::with_capacity(hold_ids.len());
            for hold_id in hold_ids {
                let item = self.store.get(&ItemKey::hold(workspace, hold_id)).await?;
                holds.extend(item.as_ref().map(hold_item::read).transpose()?);
            }
            let no_later_than = current.no_later_than;
            holds.retain(|hold| hold.status == HoldStatus::Open && hold.is_over(now));
            let Some(first) = holds.first() else {
                return Ok(ExpiryResult { ended: false, no_later_than });
            };
            let key = ItemKey::ours(workspace, &format!("hold#{}", first.hold_id));
            let expired =
                |read: Hold| Pair { ended: Hold { status: HoldStatus::Expired, ..read.clone() }, read };
            let holds = holds.into_iter().map(expired).collect();
            match self.end(&EndingHolds { workspace, key, claim: None, holds }).await? {
                Ended::Done(_) => return Ok(ExpiryResult { ended: true, no_later_than }),
                Ended::Unknown(error) => attempts.after_failure(error).await?,
                Ended::KeyTaken(_) | Ended::Insufficient { .. } | Ended::Again => {
                    attempts.after_conflict().await?;
                }
            }
        }
    }

    /// Reads the holds with these ids, strongly consistent.
    async fn read_all(self, workspace: &WorkspaceId, hold_ids: &[Id]) -> Result<Vec<Hold>, HoldRefusal> {
        let keys: Vec<ItemKey> = hold_ids.iter().map(|id| ItemKey::hold(workspace, id)).collect();
        let items = match &keys[..] {
            [key] => self.store.get(key).await?.map(|item| (key.clone(), item)).into_iter().collect(),
            keys => self.store.get_many(keys).await?,
        };
        let read = |key| {
            let item = items.get(key).ok_or(HoldRefusal::NotFound)?;
            Ok(hold_item::read(item).map_err(Fault::from)?)
        };
        keys.iter().map(read).collect()
    }

    /// Decides a settlement in which some holds are closed. Returns what the key's first call returned; `None` if open
    /// holds are still to be settled.
    ///
    /// Refuses an expired hold. If no hold is open and the key is unused, refuses too: nothing would be stored under
    /// the key, so a replay could not return the same.
    async fn settled_before(
        self,
        claim: &Claim,
        holds: &[Hold],
        lost: bool,
    ) -> Result<Option<Settled>, HoldRefusal> {
        let earlier = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        if let Some(item) = earlier {
            if !entry_item::is_of(&item, Some(claim.fingerprint)) {
                return Err(HoldRefusal::KeyReused);
            }
            return Ok(Some(Settled {
                holds: holds.to_vec(),
                key_use: KeyUse::first_if(lost),
                captured: Credits::ZERO,
            }));
        }
        let some_open = holds.iter().any(|hold| hold.status == HoldStatus::Open);
        let refuses = |hold: &&Hold| match hold.status {
            HoldStatus::Open => false,
            HoldStatus::Settled => !some_open,
            HoldStatus::Expired => true,
        };
        match holds.iter().find(refuses) {
            Some(closed) => Err(HoldRefusal::Closed(closed.hold_id.clone())),
            None => Ok(None),
        }
    }

    /// Checks a refusal that was found before any write. The refusal of a reused key takes precedence.
    async fn unless_key_reused(self, claim: &Claim, refusal: HoldRefusal) -> Result<HoldRefusal, Fault> {
        let kept = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        let reused = kept.is_some_and(|item| !entry_item::is_of(&item, Some(claim.fingerprint)));
        Ok(if reused { HoldRefusal::KeyReused } else { refusal })
    }

    async fn end(self, closing: &EndingHolds<'_>) -> Result<Ended, Fault> {
        let current = self.store.balances().close_due(closing.workspace).await?;
        let balance = current.balance.ok_or(Corrupt::Attribute("balance"))?;
        let now = self.store.now().min(current.no_later_than);
        let ended = closing.holds.iter().map(|pair| &pair.ended);
        let captured: Vec<Credits> =
            ended.map(Hold::captured).collect::<Result<_, _>>().map_err(Corrupt::from)?;
        let placements = closing.holds.iter().map(|pair| pair.read.placement);
        let ends = placements.zip(captured.iter().copied());
        // If its epoch is missing, a hold has ended meanwhile.
        let Ok(ending) = balance.end_holds(ends, now) else { return Ok(Ended::Again) };
        let writes = self.ending_writes(closing, &ending, now)?;
        let reasons = match self.store.transact(writes).await? {
            TransactionOutcome::Written => {
                return Ok(Ended::Done(Credits::sum(captured).map_err(Corrupt::from)?));
            }
            TransactionOutcome::Unknown(error) => return Ok(Ended::Unknown(error)),
            TransactionOutcome::Cancelled(reasons) => reasons,
        };
        if let Some(Reason::Condition(Some(item))) = reasons.get(1).filter(|_| closing.claim.is_some()) {
            return Ok(Ended::KeyTaken(item.clone()));
        }
        let others = reasons.iter().skip(1).any(|reason| matches!(reason, Reason::Condition(_)));
        if let Some(Reason::Condition(Some(item))) = reasons.first()
            && !others
            && !is_busy(&reasons)
            && let balance = balance_item::read(item)?
            && let Err(Refusal::Insufficient { .. }) = ending.posting.check(&balance)
        {
            return Ok(Ended::Insufficient(RefusedBalance::of(&balance)?));
        }
        Ok(Ended::Again)
    }

    fn ending_writes(
        self,
        closing: &EndingHolds<'_>,
        ending: &Ending,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let EndingHolds { workspace, key, claim, holds } = closing;
        let ended: Vec<Hold> = holds.iter().map(|pair| pair.ended.clone()).collect();
        let (settlement, captured) = Settlement::of(&ended).map_err(Corrupt::from)?;
        let mut writes =
            vec![balance_item::write_of(&self.store.table, workspace, &ending.posting, key.name())?];
        if !captured.is_zero() {
            let entry = self.entry(("hset", Cause::HoldSettled(settlement)), captured, now);
            let fingerprint = claim.map(|claim| claim.fingerprint);
            let item = entry_item::item_of(workspace, key, fingerprint, &entry)?;
            writes.push(entry_item::put(&self.store.table, item)?);
        } else if let Some(claim) = claim {
            writes.push(entry_item::put(&self.store.table, entry_item::claimed(claim))?);
        }
        for Pair { read, ended } in holds {
            writes.push(hold_item::ending_write(&self.store.table, workspace, read, ended)?);
        }
        if !ending.expired.is_zero() {
            let hold_ids: Vec<Id> = ended.into_iter().map(|hold| hold.hold_id).collect();
            let name = hold_ids.first().map(|first| format!("hold#{first}#expired")).unwrap_or_default();
            let entry =
                self.entry(("exp", Cause::Expiry { grant_ids: Vec::new(), hold_ids }), ending.expired, now);
            let item = entry_item::item_of(workspace, &ItemKey::ours(workspace, &name), None, &entry)?;
            writes.push(entry_item::put(&self.store.table, item)?);
        }
        Ok(writes)
    }

    fn entry(self, (prefix, cause): (&str, Cause), taken: Credits, at: Timestamp) -> Entry {
        Entry { entry_id: self.store.sources.new_id(prefix), cause, credits: taken.negated(), at }
    }
}

/// Returns a hold as it was read, and as it ends if it is settled now.
fn settled_of(claim: &Claim, hold: &Hold, order: SettleOrder<'_>) -> Result<Pair, HoldRefusal> {
    let mut ended = Hold { status: HoldStatus::Settled, ..hold.clone() };
    if let Some(amount) = order.last {
        let corrupt = |sum| Fault::Corrupt(Corrupt::Sum(sum));
        let available = hold.remaining().map_err(corrupt)?;
        let added = Amount::new(amount.credits().minus(available).map_err(corrupt)?).ok();
        if added.is_some() && !order.extend {
            return Err(HoldRefusal::Short { required: amount, kept: available });
        }
        if let Some(added) = added {
            ended.placement = hold.grown_by(added).ok_or(HoldRefusal::TooLarge)?;
        }
        ended.captures.push(Capture { added, ..last_capture(claim, hold, amount) });
    }
    Ok(Pair { read: hold.clone(), ended })
}

/// Builds the last capture of a settlement: the hold's own call.
fn last_capture(claim: &Claim, hold: &Hold, amount: Amount) -> Capture {
    let (operation, consumer) = (hold.purpose.operation.clone(), hold.purpose.consumer.clone());
    let line = PricedCall { operation, model: None, units: None, consumer, amount };
    capture_of(ClaimDigests::of_settlement(&hold.hold_id, claim), &line, &hold.purpose.rate_card)
}

impl EndingHolds<'_> {
    fn fits_an_entry(&self) -> bool {
        let calls = self.holds.iter().flat_map(|pair| &pair.ended.captures).map(|capture| &capture.line);
        // As many lines as a batch may have always fit.
        calls.clone().count() <= MAX_LINES || batch_item::have_room(&calls.cloned().collect::<Vec<_>>())
    }

    /// Returns the holds, with those that have ended in their final state.
    fn among(&self, holds: Vec<Hold>) -> Vec<Hold> {
        let now = |hold: Hold| {
            let ended = self.holds.iter().find(|pair| pair.ended.hold_id == hold.hold_id);
            ended.map_or(hold, |pair| pair.ended.clone())
        };
        holds.into_iter().map(now).collect()
    }

    /// Builds the refusal of a settlement whose last capture the hold and the balance don't cover.
    fn short(&self, balance: RefusedBalance) -> Result<HoldRefusal, Fault> {
        let last = self.holds.first().and_then(|pair| Some((&pair.read, pair.ended.captures.last()?)));
        let (read, last) = last.ok_or(Corrupt::Attribute("captures"))?;
        let kept = read.remaining().map_err(Corrupt::from)?;
        let available = balance.spendable.plus(kept).map_err(Corrupt::from)?;
        Ok(HoldRefusal::Insufficient { line: Box::new(last.line.clone()), available, balance })
    }
}
