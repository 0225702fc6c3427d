//! Holds: credits set aside for calls whose cost is known only afterwards, placed in one transaction (M4).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{Hold, HoldStatus, Purpose};
use credits_core::hold_posting::Placement;
use credits_core::id::{Id, WorkspaceId};
use credits_core::posting::{Posting, Refusal};
use jiff::{SignedDuration, Timestamp};

use crate::debits::DebitRefusal;
use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, KeyUse};
use crate::items::{balance_item, entry_item, hold_item};
use crate::lanes::{Shortfall, Uncovered};
use crate::posting::RefusedPosting;
use crate::refused::RefusedBalance;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, instant, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

pub mod capture;
mod ending;
pub(crate) mod reclaim;
pub mod settle;

/// An order to place one hold, or several together.
#[derive(Debug, Clone, Copy)]
pub struct HoldOrder<'a> {
    /// Credits of each hold.
    pub amount: Amount,
    /// Number of holds that are placed together; `None` for a single hold, whose id has no number.
    pub count: Option<u8>,
    pub lasts: SignedDuration,
    pub purpose: &'a Purpose,
}

/// Holds that were placed by this call or by an earlier one under the same key, in their first state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub holds: Vec<Hold>,
    /// Whether an earlier call under the key placed them.
    pub key_use: KeyUse,
}

/// What happens if a capture exceeds the credits that the hold has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExcess {
    /// The capture is refused.
    Refuse,
    /// The balance pays the excess, and the hold grows by it.
    TakeFromBalance,
}

/// Why a capture or a settlement is refused.
#[derive(Debug, thiserror::Error)]
pub enum HoldRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the hold does not exist")]
    NotFound,
    /// The hold was settled or has expired.
    #[error("the hold {0} has already ended")]
    AlreadyEnded(Id),
    #[error("the hold has no room for another capture")]
    Full,
    /// The hold's credits would exceed the maximum of an amount.
    #[error("the hold would grow too large")]
    TooLarge,
    /// The calls of all holds together don't fit into one ledger entry.
    #[error("the holds have too many calls to be settled together")]
    TooManyCalls,
    /// The hold keeps too few credits, and the order does not let the balance pay the rest (M11).
    #[error("{required} credits are required and the hold has {kept} left")]
    Short { required: Amount, kept: Credits },
    /// The hold keeps too few credits, and the balance doesn't cover the rest (M11).
    #[error("{} credits are required and {available} are available", line.amount)]
    Insufficient {
        line: Box<PricedCall>,
        /// What the hold keeps plus what the balance can spend.
        available: Credits,
        balance: RefusedBalance,
    },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a placement was not written.
enum PlacementObstacle {
    /// The caller's key is already used.
    KeyTaken(Item),
    /// The balance, as stored, doesn't cover the holds.
    Insufficient(Box<Balance>),
    /// Another transaction was on the same items.
    Busy,
    /// The balance is due to be closed or has changed: read it again.
    Moved,
}

/// Holds, with their captures and settlements.
#[derive(Debug, Clone, Copy)]
pub struct HoldStore<'a> {
    pub(crate) store: &'a Store,
}

impl HoldStore<'_> {
    /// Places all holds of an order under the caller's key, or none.
    ///
    /// Reads the balance's epoch first. The placement requires that the balance is still in that epoch.
    pub async fn place(self, claim: &Claim, order: HoldOrder<'_>) -> Result<Placed, DebitRefusal> {
        let total = order.total().map_err(Fault::from)?;
        let base = self.store.sources.new_short_id("hold");
        let (mut attempts, mut releaser) =
            (self.store.attempts(), self.expired_hold_releaser(&claim.workspace_id));
        let mut on_board = None;
        loop {
            let current = self.store.balances().close_due(&claim.workspace_id).await?;
            let balance = current.balance.ok_or(DebitRefusal::WorkspaceNotFound)?;
            let now = self.store.now().min(current.database_now);
            let holds = order.holds(&base, balance.epoch, now).map_err(Fault::from)?;
            let posting = Posting::hold(total, now, balance.epoch);
            let (workspace, key) = (&claim.workspace_id, ItemKey::called(&claim.workspace_id, &claim.key));
            let others = self.placing_writes(claim, &base, &holds)?;
            let sent = self.store.transact_posting(workspace, &posting, key.name(), others, &mut on_board);
            let reasons = match sent.await? {
                TransactionOutcome::Written => return Ok(Placed { holds, key_use: KeyUse::First }),
                TransactionOutcome::Unknown(error) => {
                    attempts.retry_after_failure(error).await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
            match read_obstacle(&posting, reasons)? {
                PlacementObstacle::KeyTaken(item) => {
                    let placed = replay(&item, claim, Some(&base), &order)?;
                    return placed.ok_or(DebitRefusal::KeyReused);
                }
                PlacementObstacle::Insufficient(balance) => {
                    let other_writes = holds.len().saturating_add(1);
                    let uncovered = Uncovered { workspace, posting: &posting, other_writes, debit: None };
                    let shortfall = self.store.lanes().avert(uncovered, &balance, &mut on_board).await?;
                    match shortfall {
                        Shortfall::Final(short) => {
                            let refused = RefusedPosting::of(&short).map_err(Fault::from)?;
                            let RefusedPosting { balance, has_open_holds } = refused;
                            if !has_open_holds || !releaser.release(balance.version).await? {
                                return Err(DebitRefusal::Insufficient { required: total, balance });
                            }
                            attempts.retry_now()?;
                        }
                        Shortfall::Wait => attempts.retry_after_recall().await?,
                        Shortfall::Retry | Shortfall::OnLanes(_) => attempts.retry_now()?,
                    }
                }
                PlacementObstacle::Busy => attempts.retry_after_conflict().await?,
                PlacementObstacle::Moved => attempts.retry_now()?,
            }
        }
    }

    /// Returns the holds that were placed under the key; `None` if the key is unused or was used for another call.
    pub async fn placed_before(self, claim: &Claim, order: HoldOrder<'_>) -> Result<Option<Placed>, Fault> {
        let item = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        item.map_or(Ok(None), |item| replay(&item, claim, None, &order))
    }

    /// Returns the hold with this id. If the hold has expired, releases it first.
    pub async fn get(self, workspace: &WorkspaceId, hold_id: &Id) -> Result<Option<Hold>, Fault> {
        let key = ItemKey::hold(workspace, hold_id);
        let read =
            async || Ok::<_, Fault>(self.store.get(&key).await?.as_ref().map(hold_item::read).transpose()?);
        match read().await? {
            Some(hold) if hold.status == HoldStatus::Open && hold.has_expired(self.store.now()) => {
                self.expire(workspace, hold_id).await?;
                read().await
            }
            hold => Ok(hold),
        }
    }

    /// Returns the writes beside that of the balance: the key's, then those of the holds.
    fn placing_writes(
        self,
        claim: &Claim,
        base: &Id,
        holds: &[Hold],
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let expires_at = holds.first().map_or(Timestamp::UNIX_EPOCH, |hold| hold.expires_at);
        let mut writes = vec![entry_item::put(&self.store.table, claimed(claim, base, expires_at))?];
        for hold in holds {
            let item = hold_item::item_of(&claim.workspace_id, hold);
            writes.push(Expression::new().when_absent(PK).put(&self.store.table, item)?);
        }
        Ok(writes)
    }
}

impl HoldOrder<'_> {
    fn total(&self) -> Result<Amount, Corrupt> {
        let each = std::iter::repeat_n(self.amount.credits(), usize::from(self.count.unwrap_or(1)));
        Amount::new(Credits::sum(each)?).map_err(|_| Corrupt::Attribute("credits"))
    }

    /// Returns the ids of the holds. Holds that are placed together share the base id and have a number each.
    fn ids(&self, base: &Id) -> Result<Vec<Id>, Corrupt> {
        let Some(count) = self.count else { return Ok(vec![base.clone()]) };
        let ids = (1..=count).map(|place| format!("{base}-{place:02}").parse());
        ids.collect::<Result<_, _>>().map_err(|_| Corrupt::Attribute("hold_id"))
    }

    fn holds(&self, base: &Id, epoch: u64, now: Timestamp) -> Result<Vec<Hold>, Corrupt> {
        let expires_at = now.checked_add(self.lasts).map_err(|_| Corrupt::Attribute("expires_at"))?;
        self.holds_until(base, epoch, expires_at)
    }

    fn holds_until(&self, base: &Id, epoch: u64, expires_at: Timestamp) -> Result<Vec<Hold>, Corrupt> {
        let hold = |hold_id| Hold {
            hold_id,
            placement: Placement { epoch, amount: self.amount },
            purpose: self.purpose.clone(),
            status: HoldStatus::Open,
            expires_at,
            captures: Vec::new(),
        };
        Ok(self.ids(base)?.into_iter().map(hold).collect())
    }
}

/// Builds the item of the caller's key: enough to repeat the first response.
fn claimed(claim: &Claim, base: &Id, expires_at: Timestamp) -> Item {
    let mut item = entry_item::claimed(claim);
    item.insert("hold_id".into(), text(base.as_str()));
    item.insert("expires_at".into(), instant(expires_at));
    item
}

/// Returns the holds that were placed under the key; `None` if another call used the key.
fn replay(
    item: &Item,
    claim: &Claim,
    base: Option<&Id>,
    order: &HoldOrder<'_>,
) -> Result<Option<Placed>, Fault> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Ok(None);
    }
    let reader = Reader(item);
    let placed: Id = reader.parsed("hold_id")?;
    let holds = order.holds_until(&placed, 0, reader.instant("expires_at")?)?;
    Ok(Some(Placed { holds, key_use: KeyUse::first_if(base == Some(&placed)) }))
}

/// Reads the cancellation reasons in the only correct order: the key's, then any conflict, then the balance's.
fn read_obstacle(posting: &Posting, reasons: Vec<Reason>) -> Result<PlacementObstacle, Fault> {
    let busy = is_busy(&reasons);
    let mut reasons = reasons.into_iter();
    let (balance, key) = (reasons.next(), reasons.next());
    if let Some(Reason::Condition(Some(item))) = key {
        return Ok(PlacementObstacle::KeyTaken(item));
    }
    match balance {
        Some(Reason::Condition(Some(item))) if !busy => refusal_of(posting, balance_item::read(&item)?),
        // Besides a conflict, only a taken hold id or a missing balance ends here. Neither can happen.
        _ => Ok(PlacementObstacle::Busy),
    }
}

fn refusal_of(posting: &Posting, balance: Balance) -> Result<PlacementObstacle, Fault> {
    match posting.check(&balance) {
        Err(Refusal::Insufficient { .. }) => Ok(PlacementObstacle::Insufficient(Box::new(balance))),
        Err(Refusal::Due | Refusal::EpochChanged) => Ok(PlacementObstacle::Moved),
        Err(Refusal::OutOfRange(error)) => Err(Corrupt::from(error).into()),
        Ok(()) | Err(Refusal::OtherLimit { .. } | Refusal::OtherThresholds | Refusal::LanesChanged) => {
            Ok(PlacementObstacle::Busy)
        }
    }
}
