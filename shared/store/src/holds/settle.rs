//! Settlements: a caller ends holds under its key, all of them or none (M4).

use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, CallPrice, Credits};
use credits_core::hold::{Capture, Hold, HoldStatus, Purpose};
use credits_core::id::{Id, Name, WorkspaceId};
use credits_core::metadata::Metadata;
use credits_core::own_prices::PricedWith;
use credits_core::rate_card::PriceVersion;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::holds::capture::capture_of;
use crate::holds::ending::{EndAttempt, HoldEnd, HoldsToEnd};
use crate::holds::{HoldRefusal, HoldStore, OnExcess};
use crate::idempotency::{Claim, KeyUse};
use crate::items::hold_item::ClaimDigests;
use crate::items::{entry_item, hold_item};
use crate::refused::RefusedBalance;
use crate::table::attribute::{Item, Reader};
use crate::table::keys::ItemKey;

/// How often the balance may refuse what a settlement found available.
const MAX_AVAILABLE_REFUSALS: u32 = 4;

/// An order to settle holds.
#[derive(Debug, Clone, Copy)]
pub struct SettleOrder<'a> {
    pub hold_ids: &'a [Id],
    /// A last capture before the end. Only for an order of a single hold.
    pub final_capture: Option<&'a FinalCapture>,
    /// The holds, if the caller has just read them.
    pub first_read: Option<&'a [Hold]>,
}

/// A capture that a settlement makes.
#[derive(Debug, Clone)]
pub struct FinalCapture {
    pub price: CallPrice,
    pub model: Option<Name>,
    /// The prices that gave `price`; `None` if the caller has stated it.
    pub priced_by: Option<PriceVersion>,
    /// `None` if the capture has the hold's.
    pub metadata: Option<Metadata>,
    pub on_excess: OnExcess,
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

/// Whether the responses to all attempts of a call have arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Responses {
    AllReceived,
    /// A response was lost. Its attempt may have settled the holds.
    OneLost,
}

impl HoldStore<'_> {
    /// Settles the open holds of an order under the caller's key, all of them or none. Holds that are already settled stay
    /// unchanged. Refuses the order if a hold has expired or none is open.
    pub async fn settle(self, claim: &Claim, order: SettleOrder<'_>) -> Result<Settled, HoldRefusal> {
        let workspace = &claim.workspace_id;
        let mut attempts = self.store.attempts();
        // Caps `now` at DynamoDB's clock, as in `PostingStore::post`. `MAX` caps nothing.
        let mut database_now = Timestamp::MAX;
        let mut responses = Responses::AllReceived;
        let mut releaser = self.expired_hold_releaser(workspace);
        let mut on_board = None;
        let (mut course, mut first_read) = (FinalCourse::default(), order.first_read);
        loop {
            let holds = match first_read.take() {
                Some(holds) => holds.to_vec(),
                None => self.read_all(workspace, order.hold_ids).await?,
            };
            if let Some(settled) = self.replay(claim, &holds, responses).await? {
                return Ok(settled);
            }
            refuse_ended(&holds)?;
            let now = self.store.now().min(database_now);
            if let Some(expired) = open(&holds).find(|hold| hold.has_expired(now)) {
                // An expired hold can't be settled. If DynamoDB's clock agrees, the hold is ended here, and the next
                // attempt refuses it. If only this function's clock is fast, the next attempt settles the hold.
                database_now = self.expire(workspace, &expired.hold_id).await?;
                attempts.retry_now()?;
                continue;
            }
            let to_end = match settle_all(claim, &holds, order, course) {
                Ok(to_end) => to_end,
                Err(refusal) => return Err(self.refusal_or_key_reused(claim, refusal).await?),
            };
            match self.end_together(&to_end, &mut on_board).await? {
                EndAttempt::Written(captured) => {
                    let holds = to_end.final_states(holds);
                    return Ok(Settled { holds, key_use: KeyUse::First, captured });
                }
                EndAttempt::KeyTaken(item) if !entry_item::is_of(&item, Some(claim.fingerprint)) => {
                    return Err(HoldRefusal::KeyReused);
                }
                EndAttempt::Insufficient(balance) => {
                    if !releaser.release(balance.version).await? {
                        if !order.takes_available() {
                            return Err(to_end.insufficient_refusal(balance)?);
                        }
                        course.take_at_most(balance.spendable);
                    }
                    attempts.retry_now()?;
                }
                EndAttempt::OtherPrices(other) => return Err(HoldRefusal::OtherPrices(other)),
                EndAttempt::LanesRecalled => attempts.retry_now()?,
                EndAttempt::LanesInRecall => attempts.retry_after_recall().await?,
                // If this call has used the key before, the next attempt finds the holds settled.
                EndAttempt::KeyTaken(_) | EndAttempt::Conflict => {
                    course.salt = course.salt.saturating_add(1);
                    attempts.retry_after_conflict().await?;
                }
                EndAttempt::Unknown(error) => {
                    responses = Responses::OneLost;
                    attempts.retry_after_failure(error).await?;
                }
            }
        }
    }

    /// Reads the holds with these ids, strongly consistent.
    pub async fn read_all(self, workspace: &WorkspaceId, hold_ids: &[Id]) -> Result<Vec<Hold>, HoldRefusal> {
        let keys: Vec<ItemKey> = hold_ids.iter().map(|id| ItemKey::hold(workspace, id)).collect();
        let items = match &keys[..] {
            [key] => self.store.get(key).await?.map(|item| (key.clone(), item)).into_iter().collect(),
            keys => self.store.get_many(keys).await?,
        };
        let stored = |key| {
            let item = items.get(key).ok_or(HoldRefusal::NotFound)?;
            Ok(hold_item::read(item).map_err(Fault::from)?)
        };
        keys.iter().map(stored).collect()
    }

    /// Returns the settlement that the same request has written under the key before; `None` if it has not. `holds` are the
    /// holds of the request, just read.
    ///
    /// Callers ask for it before they refuse a call whose price is no longer on the rate card.
    pub async fn settled_before(self, claim: &Claim, holds: &[Hold]) -> Result<Option<Settled>, Fault> {
        match self.replay(claim, holds, Responses::AllReceived).await {
            Ok(settled) => Ok(settled),
            Err(HoldRefusal::Fault(fault)) => Err(fault),
            Err(_) => Ok(None),
        }
    }

    /// Returns the result of the call that settled the holds under this key; `None` if all holds are open or the key is
    /// unused.
    ///
    /// After a lost response, the stored result counts as this call's own and is returned as `First`. This does not check
    /// which call wrote it, so a concurrent call under the same key may report `First` too.
    async fn replay(
        self,
        claim: &Claim,
        holds: &[Hold],
        responses: Responses,
    ) -> Result<Option<Settled>, HoldRefusal> {
        if open(holds).count() == holds.len() {
            return Ok(None);
        }
        let stored = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        let Some(item) = stored else { return Ok(None) };
        if !entry_item::is_of(&item, Some(claim.fingerprint)) {
            return Err(HoldRefusal::KeyReused);
        }
        let (key_use, captured) = match responses {
            Responses::AllReceived => (KeyUse::Replay, Credits::ZERO),
            Responses::OneLost => (KeyUse::First, captured_under(&item)?),
        };
        Ok(Some(Settled { holds: holds.to_vec(), key_use, captured }))
    }

    /// Checks a refusal that was found before any write. Returns it, or `KeyReused` if another call has used the key,
    /// because that refusal takes precedence.
    async fn refusal_or_key_reused(self, claim: &Claim, refusal: HoldRefusal) -> Result<HoldRefusal, Fault> {
        let stored = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        let reused = stored.is_some_and(|item| !entry_item::is_of(&item, Some(claim.fingerprint)));
        Ok(if reused { HoldRefusal::KeyReused } else { refusal })
    }
}

fn open(holds: &[Hold]) -> impl Iterator<Item = &Hold> {
    holds.iter().filter(|hold| hold.status == HoldStatus::Open)
}

/// Refuses the holds if one of them has expired or none is open. If none is open, this call would store nothing under the
/// key, so a replay could not return the same result.
fn refuse_ended(holds: &[Hold]) -> Result<(), HoldRefusal> {
    let any_open = open(holds).next().is_some();
    let refuses = |hold: &&Hold| match hold.status {
        HoldStatus::Open => false,
        HoldStatus::Settled => !any_open,
        HoldStatus::Expired => true,
    };
    match holds.iter().find(refuses) {
        Some(ended) => Err(HoldRefusal::AlreadyEnded(ended.hold_id.clone())),
        None => Ok(()),
    }
}

/// Returns the sum of the captures of the settlement under a key. The key's item is listed as a ledger entry only if
/// credits were captured; otherwise the sum is zero.
fn captured_under(item: &Item) -> Result<Credits, Fault> {
    if !entry_item::is_listed(item) {
        return Ok(Credits::ZERO);
    }
    Ok(Reader(item).credits("credits")?.negated())
}

/// Settles the open holds in memory. Refuses captures that don't fit into one ledger entry.
fn settle_all<'a>(
    claim: &'a Claim,
    holds: &[Hold],
    order: SettleOrder<'_>,
    course: FinalCourse,
) -> Result<HoldsToEnd<'a>, HoldRefusal> {
    let workspace = &claim.workspace_id;
    let ends = open(holds).map(|hold| settle_hold(claim, hold, order, course)).collect::<Result<_, _>>()?;
    let key = ItemKey::called(workspace, &claim.key);
    let to_end = HoldsToEnd { workspace, key, claim: Some(claim), ends, priced_with: order.priced_with() };
    if to_end.fits_an_entry() { Ok(to_end) } else { Err(HoldRefusal::TooManyCalls) }
}

/// Settles a hold in memory, with the order's final capture. If the capture exceeds the hold, grows the hold by the
/// excess, refuses, or leaves a part of it uncollected, as the order says.
fn settle_hold(
    claim: &Claim,
    hold: &Hold,
    order: SettleOrder<'_>,
    course: FinalCourse,
) -> Result<HoldEnd, HoldRefusal> {
    let mut after = Hold { status: HoldStatus::Settled, ..hold.clone() };
    if let Some(last) = order.final_capture {
        let corrupt = |sum| Fault::Corrupt(Corrupt::Sum(sum));
        let remaining = hold.remaining().map_err(corrupt)?;
        let excess = last.price.credits().minus(remaining).map_err(corrupt)?.or_zero();
        let added = match last.on_excess {
            OnExcess::Refuse if !excess.is_zero() => {
                return Err(HoldRefusal::Short { required: last.price, kept: remaining });
            }
            OnExcess::TakeAvailable => course.most_added.map_or(excess, |most| excess.min(most)),
            OnExcess::Refuse | OnExcess::TakeFromBalance => excess,
        };
        let uncollected = excess.minus(added).map_err(corrupt)?;
        let collected = last.price.credits().minus(uncollected).map_err(corrupt)?;
        let added = Amount::new(added).ok();
        if let Some(more) = added {
            after.placement = hold.grown_by(more).ok_or(HoldRefusal::TooLarge)?;
        }
        let price = CallPrice::new(collected).map_err(|_| Fault::Corrupt(Corrupt::Attribute("credits")))?;
        after.captures.push(Capture { added, uncollected, ..final_capture_of(claim, hold, last, price) });
    }
    Ok(HoldEnd { before: hold.clone(), after, salt: course.salt })
}

/// Builds the final capture of a settlement: the hold's own call.
fn final_capture_of(claim: &Claim, hold: &Hold, last: &FinalCapture, amount: CallPrice) -> Capture {
    let Purpose { operation, priced_by, consumer, metadata } = hold.purpose.clone();
    let metadata = last.metadata.clone().unwrap_or(metadata);
    let line = PricedCall { operation, model: last.model.clone(), units: None, consumer, metadata, amount };
    let priced_by = last.priced_by.as_ref().unwrap_or(&priced_by);
    capture_of(ClaimDigests::of_settlement(&hold.hold_id, claim), &line, priced_by)
}

impl<'a> SettleOrder<'a> {
    /// Orders the settlement of holds with their captures so far.
    #[must_use]
    pub fn of(hold_ids: &'a [Id]) -> Self {
        Self { hold_ids, final_capture: None, first_read: None }
    }

    /// Adds a last capture.
    #[must_use]
    pub fn with(self, last: &'a FinalCapture) -> Self {
        Self { final_capture: Some(last), ..self }
    }

    fn priced_with(&self) -> Option<PricedWith> {
        self.final_capture?.priced_by.as_ref().map(|version| version.pricing.into())
    }

    fn takes_available(&self) -> bool {
        self.final_capture.is_some_and(|last| last.on_excess == OnExcess::TakeAvailable)
    }
}

/// What earlier attempts have found out about the final capture.
#[derive(Debug, Clone, Copy, Default)]
struct FinalCourse {
    /// The credits that the balance is asked for at most; `None` until the balance has refused what is missing.
    most_added: Option<Credits>,
    refusals: u32,
    salt: u8,
}

impl FinalCourse {
    /// Asks the balance for what it can spend now. After [`MAX_AVAILABLE_REFUSALS`], asks for nothing, because other calls
    /// spend it first.
    fn take_at_most(&mut self, spendable: Credits) {
        self.refusals = self.refusals.saturating_add(1);
        let most = if self.refusals >= MAX_AVAILABLE_REFUSALS { Credits::ZERO } else { spendable.or_zero() };
        self.most_added = Some(most);
    }
}

impl HoldsToEnd<'_> {
    /// Builds the refusal of a settlement whose final capture the hold and the balance don't cover.
    fn insufficient_refusal(&self, balance: RefusedBalance) -> Result<HoldRefusal, Fault> {
        // Only an order of a single hold has a final capture, so the first end is the only one.
        let only = self.ends.first().and_then(|end| Some((&end.before, end.after.captures.last()?)));
        let (before, final_capture) = only.ok_or(Corrupt::Attribute("captures"))?;
        let remaining = before.remaining().map_err(Corrupt::from)?;
        let available = balance.spendable.plus(remaining).map_err(Corrupt::from)?;
        Ok(HoldRefusal::Insufficient { line: Box::new(final_capture.line.clone()), available, balance })
    }
}
