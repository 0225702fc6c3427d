//! Holds: credits set aside for calls whose cost is known only afterwards, placed by one transaction (M4).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::batch::Line;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::Placement;
use credits_core::id::{Id, WorkspaceId};
use credits_core::posting::{Posting, Refusal};
use credits_core::settlement::{Hold, HoldStatus, Purpose};
use jiff::{SignedDuration, Timestamp};

use crate::attribute::{Item, Reader, instant, text};
use crate::debits::DebitRefusal;
use crate::error::{Corrupt, Fault};
use crate::expression::Expression;
use crate::idempotency::Claim;
use crate::keys::{ItemKey, PK};
use crate::refused::RefusedBalance;
use crate::transaction::{Outcome, Reason, is_busy};
use crate::{Store, balance_item, entry_item, hold_item};

/// What is to be set aside.
#[derive(Debug, Clone, Copy)]
pub struct HoldOrder<'a> {
    /// How much, for each hold.
    pub amount: Amount,
    /// How many holds, where several are placed together.
    pub count: Option<u8>,
    /// For how long.
    pub lasts: SignedDuration,
    /// What for.
    pub purpose: &'a Purpose,
}

/// Holds that were placed, now or when the key was first used, as they were then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The holds.
    pub holds: Vec<Hold>,
    /// Whether they were there before.
    pub replayed: bool,
}

/// Why a hold can't be captured of, or settled.
#[derive(Debug, thiserror::Error)]
pub enum HoldRefusal {
    /// The key stands for another call.
    #[error("the idempotency key was used for another call")]
    KeyReused,
    /// The workspace has no such hold.
    #[error("the hold does not exist")]
    NotFound,
    /// It was settled, or its time has run out.
    #[error("the hold {0} is closed")]
    Closed(Id),
    /// It has as many captures as it has room for.
    #[error("the hold has no room for another capture")]
    Full,
    /// It would keep more than an amount may be.
    #[error("the hold would grow too large")]
    TooLarge,
    /// The holds have more calls together than one ledger entry can tell.
    #[error("the holds have too many calls to be settled together")]
    TooManyCalls,
    /// It doesn't keep so much, and the balance was not to pay the rest (M11).
    #[error("{required} credits are required and {kept} are kept")]
    Short {
        /// What the call costs.
        required: Amount,
        /// What the hold keeps.
        kept: Credits,
    },
    /// The balance doesn't cover what the hold doesn't keep (M11).
    #[error("{} credits are required and {available} are available", line.amount)]
    Insufficient {
        /// The call.
        line: Box<Line>,
        /// What the hold keeps and what can be spent.
        available: Credits,
        /// The balance.
        balance: RefusedBalance,
    },
    /// It could not be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What stands in the way of a placement.
enum Obstacle {
    /// The key stands for something already.
    KeyTaken(Item),
    /// The balance doesn't cover it; and whether holds are open, which may be overdue.
    Insufficient { balance: RefusedBalance, holds: bool },
    /// Others were in the way.
    Busy,
    /// The balance has to be read again.
    Moved,
}

impl Store {
    /// Sets credits aside under the caller's key: all holds of an order, or none.
    ///
    /// A read tells the epoch in which they are placed, and the placement asks for it.
    pub async fn place_holds(&self, claim: &Claim, order: HoldOrder<'_>) -> Result<Placed, DebitRefusal> {
        let total = order.total().map_err(Fault::from)?;
        let base = self.sources.new_short_id("hold");
        let (mut attempts, mut overdue) = (self.attempts(), self.overdue(&claim.workspace_id));
        loop {
            let current = self.close_due(&claim.workspace_id).await?;
            let balance = current.balance.ok_or(DebitRefusal::WorkspaceNotFound)?;
            let now = self.now().min(current.no_later_than);
            let holds = order.holds(&base, balance.epoch, now).map_err(Fault::from)?;
            let posting = Posting::hold(total, now, balance.epoch);
            let writes = self.placing_writes(claim, &posting, (&base, &holds))?;
            let reasons = match self.transact(writes).await? {
                Outcome::Written => return Ok(Placed { holds, replayed: false }),
                Outcome::Unknown(error) => {
                    attempts.after_failure(error).await?;
                    continue;
                }
                Outcome::Cancelled(reasons) => reasons,
            };
            match read_obstacle(&posting, reasons)? {
                Obstacle::KeyTaken(item) => {
                    let placed = replay(&item, claim, (Some(&base), &order))?;
                    return placed.ok_or(DebitRefusal::KeyReused);
                }
                Obstacle::Insufficient { balance, holds } => {
                    if !holds || !overdue.give_back(balance.version).await? {
                        return Err(DebitRefusal::Insufficient { required: total, balance });
                    }
                    attempts.at_once()?;
                }
                Obstacle::Busy => attempts.after_conflict().await?,
                Obstacle::Moved => attempts.at_once()?,
            }
        }
    }

    /// The holds that the key was first used for, if it was this very call.
    pub async fn placed_before(&self, claim: &Claim, order: HoldOrder<'_>) -> Result<Option<Placed>, Fault> {
        let item = self.get(&ItemKey::called(&claim.workspace_id, &claim.key)).await?;
        item.map_or(Ok(None), |item| replay(&item, claim, (None, &order)))
    }

    /// The hold of that id. One whose time has run out is given back, and shown as it is then.
    pub async fn hold(&self, workspace: &WorkspaceId, hold_id: &Id) -> Result<Option<Hold>, Fault> {
        let key = ItemKey::hold(workspace, hold_id);
        let read = async || Ok::<_, Fault>(self.get(&key).await?.as_ref().map(hold_item::read).transpose()?);
        match read().await? {
            Some(hold) if hold.status == HoldStatus::Open && hold.is_over(self.now()) => {
                self.expire_hold(workspace, hold_id).await?;
                read().await
            }
            hold => Ok(hold),
        }
    }

    fn placing_writes(
        &self,
        claim: &Claim,
        posting: &Posting,
        (base, holds): (&Id, &[Hold]),
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let key = ItemKey::called(&claim.workspace_id, &claim.key);
        let expires_at = holds.first().map_or(Timestamp::UNIX_EPOCH, |hold| hold.expires_at);
        let mut writes = vec![
            balance_item::write_of(&self.table, &claim.workspace_id, posting, key.name())?,
            entry_item::put(&self.table, claimed(claim, base, expires_at))?,
        ];
        for hold in holds {
            let item = hold_item::item_of(&claim.workspace_id, hold);
            writes.push(Expression::new().when_absent(PK).put(&self.table, item)?);
        }
        Ok(writes)
    }
}

impl HoldOrder<'_> {
    fn total(&self) -> Result<Amount, Corrupt> {
        let each = std::iter::repeat_n(self.amount.credits(), usize::from(self.count.unwrap_or(1)));
        Amount::new(Credits::sum(each)?).map_err(|_| Corrupt::Attribute("credits"))
    }

    /// Holds that are placed together have one id with a number.
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

/// What stands under the caller's key: enough to answer again what was answered first.
fn claimed(claim: &Claim, base: &Id, expires_at: Timestamp) -> Item {
    let mut item = entry_item::claimed(claim);
    item.insert("hold_id".into(), text(base.as_str()));
    item.insert("expires_at".into(), instant(expires_at));
    item
}

/// The holds that were placed under the key, if it was by this very call.
fn replay(
    item: &Item,
    claim: &Claim,
    (base, order): (Option<&Id>, &HoldOrder<'_>),
) -> Result<Option<Placed>, Fault> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Ok(None);
    }
    let reader = Reader(item);
    let placed: Id = reader.parsed("hold_id")?;
    let holds = order.holds_until(&placed, 0, reader.instant("expires_at")?)?;
    Ok(Some(Placed { holds, replayed: base != Some(&placed) }))
}

/// Reads the reasons in the one right order: the key's, then any conflict, then the balance's.
fn read_obstacle(posting: &Posting, reasons: Vec<Reason>) -> Result<Obstacle, Fault> {
    let busy = is_busy(&reasons);
    let mut reasons = reasons.into_iter();
    let (balance, key) = (reasons.next(), reasons.next());
    if let Some(Reason::Condition(Some(item))) = key {
        return Ok(Obstacle::KeyTaken(item));
    }
    match balance {
        Some(Reason::Condition(Some(item))) if !busy => refusal_of(posting, &balance_item::read(&item)?),
        // An id that is taken, or a balance that is none: both can't be.
        _ => Ok(Obstacle::Busy),
    }
}

fn refusal_of(posting: &Posting, balance: &Balance) -> Result<Obstacle, Fault> {
    match posting.check(balance) {
        Err(Refusal::Insufficient { .. }) => {
            let holds = balance.has_holds();
            Ok(Obstacle::Insufficient { balance: RefusedBalance::of(balance)?, holds })
        }
        Err(Refusal::Due | Refusal::Moved) => Ok(Obstacle::Moved),
        Err(Refusal::OutOfRange(error)) => Err(Corrupt::from(error).into()),
        Ok(()) | Err(Refusal::OtherLimit { .. }) => Ok(Obstacle::Busy),
    }
}
