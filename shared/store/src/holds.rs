//! Holds: credits set aside for calls whose cost is known only afterwards, placed in one transaction (M4).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::batch::PricedCall;
use credits_core::credits::{Amount, CallPrice, Credits};
use credits_core::hold::{Hold, HoldStatus, Purpose};
use credits_core::hold_posting::Placement;
use credits_core::id::{Id, WorkspaceId};
use credits_core::own_prices::{OtherPrices, PricedWith};
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
use crate::table::attribute::{Item, Reader, credits, instant, text};
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
    /// The prices that the credits were priced with; `None` if the caller has stated them.
    pub priced_with: Option<PricedWith>,
    pub lasts: SignedDuration,
    pub named: NamedHolds<'a>,
}

/// The holds of an order, without their credits.
#[derive(Debug, Clone, Copy)]
pub struct NamedHolds<'a> {
    /// Number of holds that are placed together; `None` for a single hold, whose id has no number.
    pub count: Option<u8>,
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
    /// The balance pays the excess as far as it covers it. The rest stays uncollected.
    TakeAvailable,
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
    Short { required: CallPrice, kept: Credits },
    /// The hold keeps too few credits, and the balance doesn't cover the rest (M11).
    #[error("{} credits are required and {available} are available", line.amount)]
    Insufficient {
        line: Box<PricedCall>,
        /// What the hold keeps plus what the balance can spend.
        available: Credits,
        balance: RefusedBalance,
    },
    #[error(transparent)]
    OtherPrices(OtherPrices),
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
            let holds = order.holds(&base, &balance, now).map_err(Fault::from)?;
            if let Some(prices) = order.priced_with
                && prices != PricedWith::from(balance.pricing)
            {
                if let Some(placed) = self.placed_before(claim, order.named, Some(order.amount)).await? {
                    return Ok(placed);
                }
                return Err(DebitRefusal::OtherPrices(OtherPrices { current: balance.pricing }));
            }
            let posting = Posting::hold(total, now, balance.epoch).priced_with(Some(balance.pricing.into()));
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
                    let placed = replay(&item, claim, Some(&base), order.named, Some(order.amount))?;
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
                                return Err(DebitRefusal::Insufficient { required: total.into(), balance });
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
    ///
    /// Callers ask for it before they refuse a call whose price is no longer on the rate card. `amount` is known if the
    /// caller has stated it.
    pub async fn placed_before(
        self,
        claim: &Claim,
        named: NamedHolds<'_>,
        amount: Option<Amount>,
    ) -> Result<Option<Placed>, Fault> {
        let item = self.store.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        item.map_or(Ok(None), |item| replay(&item, claim, None, named, amount))
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
        let first = holds.first().ok_or(Corrupt::Attribute("hold_id"))?;
        let mut writes = vec![entry_item::put(&self.store.table, claimed(claim, base, first))?];
        for hold in holds {
            let item = hold_item::item_of(&claim.workspace_id, hold)?;
            writes.push(Expression::new().when_absent(PK).put(&self.store.table, item)?);
        }
        Ok(writes)
    }
}

impl HoldOrder<'_> {
    fn total(&self) -> Result<Amount, Corrupt> {
        let each = std::iter::repeat_n(self.amount.credits(), usize::from(self.named.count.unwrap_or(1)));
        Amount::new(Credits::sum(each)?).map_err(|_| Corrupt::Attribute("credits"))
    }

    fn holds(&self, base: &Id, balance: &Balance, now: Timestamp) -> Result<Vec<Hold>, Corrupt> {
        let expires_at = now.checked_add(self.lasts).map_err(|_| Corrupt::Attribute("expires_at"))?;
        let placement = Placement { epoch: balance.epoch, amount: self.amount };
        let mut holds = self.named.first_states(base, placement, expires_at)?;
        for hold in &mut holds {
            hold.purpose.priced_by.pricing = balance.pricing;
        }
        Ok(holds)
    }
}

impl NamedHolds<'_> {
    /// Returns the ids of the holds. Holds that are placed together share the base id and have a number each.
    fn ids(self, base: &Id) -> Result<Vec<Id>, Corrupt> {
        let Some(count) = self.count else { return Ok(vec![base.clone()]) };
        let ids = (1..=count).map(|place| format!("{base}-{place:02}").parse());
        ids.collect::<Result<_, _>>().map_err(|_| Corrupt::Attribute("hold_id"))
    }

    fn first_states(
        self,
        base: &Id,
        placement: Placement,
        expires_at: Timestamp,
    ) -> Result<Vec<Hold>, Corrupt> {
        let hold = |hold_id| Hold {
            hold_id,
            placement,
            purpose: self.purpose.clone(),
            status: HoldStatus::Open,
            expires_at,
            captures: Vec::new(),
            entry: None,
        };
        Ok(self.ids(base)?.into_iter().map(hold).collect())
    }
}

/// Builds the item of the caller's key: enough to repeat the first response.
fn claimed(claim: &Claim, base: &Id, first: &Hold) -> Item {
    let mut item = entry_item::claimed(claim);
    item.insert("hold_id".into(), text(base.as_str()));
    item.insert("expires_at".into(), instant(first.expires_at));
    item.insert("credits".into(), credits(first.placement.amount.credits()));
    item
}

/// Returns the holds that were placed under the key; `None` if another call used the key. `amount` is that of an item of an
/// older version, which does not store it.
fn replay(
    item: &Item,
    claim: &Claim,
    base: Option<&Id>,
    named: NamedHolds<'_>,
    amount: Option<Amount>,
) -> Result<Option<Placed>, Fault> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Ok(None);
    }
    let reader = Reader(item);
    let placed: Id = reader.parsed("hold_id")?;
    let amount = reader.optional_amount("credits")?.or(amount).ok_or(Corrupt::Attribute("credits"))?;
    let placement = Placement { epoch: 0, amount };
    let holds = named.first_states(&placed, placement, reader.instant("expires_at")?)?;
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
        Err(Refusal::Due | Refusal::EpochChanged | Refusal::OtherPrices(_)) => Ok(PlacementObstacle::Moved),
        Err(Refusal::OutOfRange(error)) => Err(Corrupt::from(error).into()),
        Ok(()) | Err(Refusal::OtherLimit { .. } | Refusal::OtherThresholds | Refusal::LanesChanged) => {
            Ok(PlacementObstacle::Busy)
        }
    }
}
