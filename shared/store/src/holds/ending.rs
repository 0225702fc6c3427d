//! Ends of holds: one transaction makes a ledger entry of the captures, and releases the rest (M4).

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{Hold, HoldStatus, Settlement};
use credits_core::hold_posting::{EndPosting, HoldError};
use credits_core::id::{Id, WorkspaceId};
use credits_core::lane::LaneSettlement;
use credits_core::ledger::{Cause, Entry};
use credits_core::own_prices::{OtherPrices, PricedWith};
use credits_core::posting::{Refusal, UsageMark};
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::holds::HoldStore;
use crate::idempotency::Claim;
use crate::items::{balance_item, batch_item, entry_item, hold_item};
use crate::lanes::{Shortfall, Uncovered};
use crate::posting::refused_by_balance_alone;
use crate::refused::RefusedBalance;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;
use crate::table::transaction::{Reason, TransactionOutcome};

/// The prefix of the id of a settlement's ledger entry.
const SETTLEMENT_PREFIX: &str = "hset";

/// The prefix of the id of an expiry's ledger entry.
const EXPIRY_PREFIX: &str = "exp";

/// A hold as it was read, and as it is after its end.
#[derive(Clone)]
pub(super) struct HoldEnd {
    pub before: Hold,
    pub after: Hold,
    /// Varies the words of the last capture.
    pub salt: u8,
}

/// Holds that one transaction ends.
pub(super) struct HoldsToEnd<'a> {
    pub workspace: &'a WorkspaceId,
    /// The key of their ledger entry.
    pub key: ItemKey,
    /// The caller's claim to the key; `None` if the holds expire.
    pub claim: Option<&'a Claim>,
    pub ends: Vec<HoldEnd>,
    /// The prices that the last capture was priced with; `None` without one, or if the caller has priced it.
    pub priced_with: Option<PricedWith>,
}

/// The result of expiring holds.
pub(crate) struct ExpiryResult {
    /// Whether this call ended any hold.
    pub any_expired: bool,
    /// See [`Current::database_now`](crate::close::Current).
    pub database_now: Timestamp,
}

/// The result of an attempt to end holds.
pub(super) enum EndAttempt {
    /// The holds have ended, with this sum of captures.
    Written(Credits),
    /// The key is already used.
    KeyTaken(Item),
    /// The balance doesn't cover what the captures exceed their holds by.
    Insufficient(RefusedBalance),
    /// The last capture was priced with other prices than the workspace's.
    OtherPrices(OtherPrices),
    /// The balance's lanes may cover it. The caller retries at once.
    LanesRecalled,
    /// Another caller recalls the balance's lanes. The caller retries after that.
    LanesInRecall,
    /// Another transaction was on the same items or has changed them. The caller reads the holds again.
    Conflict,
    /// The response was lost, so the holds may have ended.
    Unknown(Box<aws_sdk_dynamodb::Error>),
}

impl HoldStore<'_> {
    /// Releases an expired hold, and settles what was captured. Returns the time by DynamoDB's clock: a hold that has not
    /// expired by then stays open.
    pub async fn expire(self, workspace: &WorkspaceId, hold_id: &Id) -> Result<Timestamp, Fault> {
        Ok(self.expire_all(workspace, std::slice::from_ref(hold_id)).await?.database_now)
    }

    /// Expires several holds, like [`Self::expire`]: as many as fit into one ledger entry with their captures, at least one.
    pub(crate) async fn expire_all(
        self,
        workspace: &WorkspaceId,
        hold_ids: &[Id],
    ) -> Result<ExpiryResult, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let database_now = self.store.balances().close_due(workspace).await?.database_now;
            let now = self.store.now().min(database_now);
            let mut holds = Vec::with_capacity(hold_ids.len());
            for hold_id in hold_ids {
                let item = self.store.get(&ItemKey::hold(workspace, hold_id)).await?;
                holds.extend(item.as_ref().map(hold_item::read).transpose()?);
            }
            holds.retain(|hold| hold.status == HoldStatus::Open && hold.has_expired(now));
            let Some(first) = holds.first() else {
                return Ok(ExpiryResult { any_expired: false, database_now });
            };
            let key = ItemKey::ours(workspace, &format!("hold#{}", first.hold_id));
            let expired = |before: Hold| HoldEnd {
                after: Hold { status: HoldStatus::Expired, ..before.clone() },
                before,
                salt: 0,
            };
            let ends = holds.into_iter().map(expired).collect();
            let mut to_end = HoldsToEnd { workspace, key, claim: None, ends, priced_with: None };
            while !to_end.fits_an_entry() && to_end.ends.len() > 1 {
                to_end.ends.pop();
            }
            // Expired holds need no credits, so no recall is on board.
            match self.end_together(&to_end, &mut None).await? {
                EndAttempt::Written(_) => return Ok(ExpiryResult { any_expired: true, database_now }),
                EndAttempt::Unknown(error) => attempts.retry_after_failure(error).await?,
                EndAttempt::KeyTaken(_)
                | EndAttempt::Insufficient(_)
                | EndAttempt::OtherPrices(_)
                | EndAttempt::LanesRecalled
                | EndAttempt::LanesInRecall
                | EndAttempt::Conflict => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Sends one transaction that ends all of the holds.
    pub(super) async fn end_together(
        self,
        to_end: &HoldsToEnd<'_>,
        on_board: &mut Option<LaneSettlement>,
    ) -> Result<EndAttempt, Fault> {
        let current = self.store.balances().close_due(to_end.workspace).await?;
        let balance = current.balance.ok_or(Corrupt::Attribute("balance"))?;
        let now = self.store.now().min(current.database_now);
        let captured = to_end.captured()?;
        let placements = to_end.ends.iter().map(|end| end.before.placement);
        let mut end = match balance.end_holds(placements.zip(captured.iter().copied()), now) {
            Ok(end) => end,
            // A hold has ended since it was read.
            Err(HoldError::UnknownEpoch) => return Ok(EndAttempt::Conflict),
            Err(HoldError::OutOfRange(sum)) => return Err(Corrupt::from(sum).into()),
        };
        end.posting.condition.priced_with = to_end.priced_with;
        if to_end.are_all_free(&captured) {
            end.posting.movement.usage_mark = UsageMark::Marked;
        }
        let others = self.end_writes(to_end, &end, now)?;
        let (workspace, name, other_writes) = (to_end.workspace, to_end.key.name(), others.len());
        let reasons =
            match self.store.transact_posting(workspace, &end.posting, name, others, on_board).await? {
                TransactionOutcome::Written => {
                    return Ok(EndAttempt::Written(Credits::sum(captured).map_err(Corrupt::from)?));
                }
                TransactionOutcome::Unknown(error) => return Ok(EndAttempt::Unknown(error)),
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
        // The balance is written first. If a caller claims the key, the second write is that of the key.
        if to_end.claim.is_some()
            && let Some(Reason::Condition(Some(item))) = reasons.get(1)
        {
            return Ok(EndAttempt::KeyTaken(item.clone()));
        }
        if let Some(Reason::Condition(Some(item))) = reasons.first()
            && let Err(Refusal::OtherPrices(other)) = end.posting.check(&balance_item::read(item)?)
        {
            return Ok(EndAttempt::OtherPrices(other));
        }
        let Some(balance) = refused_by_balance_alone(&end.posting, &reasons)? else {
            return Ok(EndAttempt::Conflict);
        };
        let uncovered = Uncovered { workspace, posting: &end.posting, other_writes, debit: None };
        Ok(match self.store.lanes().avert(uncovered, &balance, on_board).await? {
            Shortfall::Final(short) => EndAttempt::Insufficient(RefusedBalance::of(&short)?),
            Shortfall::Retry | Shortfall::OnLanes(_) => EndAttempt::LanesRecalled,
            Shortfall::Wait => EndAttempt::LanesInRecall,
        })
    }

    /// Returns the writes beside that of the balance: first that of the key (a ledger entry, or the claim alone if nothing
    /// was captured), then the holds', and the expiry's entry last.
    ///
    /// `end_together` reads the cancellation reasons in this order. Expiring holds without captures write no key.
    fn end_writes(
        self,
        to_end: &HoldsToEnd<'_>,
        end: &EndPosting,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let HoldsToEnd { workspace, key, claim, ends, .. } = to_end;
        let ended: Vec<Hold> = ends.iter().map(|end| end.after.clone()).collect();
        let (mut settlement, captured) = Settlement::of(&ended).map_err(Corrupt::from)?;
        settlement.paid_by_expired = Amount::new(end.paid_by_expired).ok();
        let entry_name = (settlement.lines > 0).then(|| key.name().to_owned());
        let mut writes = Vec::new();
        if settlement.lines > 0 {
            let cause = Cause::HoldSettled(settlement);
            let entry = self.entry_of(SETTLEMENT_PREFIX, cause, captured, now);
            let fingerprint = claim.map(|claim| claim.fingerprint);
            let item = entry_item::item_of(workspace, key, fingerprint, &entry)?;
            writes.push(entry_item::put(&self.store.table, item)?);
        } else if let Some(claim) = claim {
            writes.push(entry_item::put(&self.store.table, entry_item::claimed(claim))?);
        }
        for HoldEnd { before, after, salt } in ends {
            let after = Hold { entry: entry_name.clone(), ..after.clone() };
            writes.push(hold_item::ending_write(&self.store.table, workspace, before, &after, *salt)?);
        }
        if !end.expired.is_zero() {
            let hold_ids: Vec<Id> = ended.into_iter().map(|hold| hold.hold_id).collect();
            let key = expiry_key(workspace, &hold_ids)?;
            let cause = Cause::Expiry { grant_ids: Vec::new(), hold_ids };
            let entry = self.entry_of(EXPIRY_PREFIX, cause, end.expired, now);
            let item = entry_item::item_of(workspace, &key, None, &entry)?;
            writes.push(entry_item::put(&self.store.table, item)?);
        }
        Ok(writes)
    }

    /// Creates a ledger entry that takes credits.
    fn entry_of(self, id_prefix: &str, cause: Cause, taken: Credits, at: Timestamp) -> Entry {
        Entry { entry_id: self.store.sources.new_id(id_prefix), cause, credits: taken.negated(), at }
    }
}

/// Returns the key of the ledger entry of credits that had expired in holds.
fn expiry_key(workspace: &WorkspaceId, hold_ids: &[Id]) -> Result<ItemKey, Corrupt> {
    let first = hold_ids.first().ok_or(Corrupt::NoExpiredHold)?;
    Ok(ItemKey::ours(workspace, &format!("hold#{first}#expired")))
}

impl HoldsToEnd<'_> {
    /// Returns the captured credits of each hold.
    fn captured(&self) -> Result<Vec<Credits>, Corrupt> {
        self.ends.iter().map(|end| Ok(end.after.captured()?)).collect()
    }

    /// Returns whether the holds have captures, and all of them are free.
    fn are_all_free(&self, captured: &[Credits]) -> bool {
        let has_captures = self.ends.iter().any(|end| !end.after.captures.is_empty());
        has_captures && captured.iter().all(|captured| captured.is_zero())
    }

    /// Returns whether one ledger entry has room for all captures.
    pub(super) fn fits_an_entry(&self) -> bool {
        let lines = self.ends.iter().flat_map(|end| &end.after.captures).map(|capture| &capture.line);
        batch_item::have_room(&lines.cloned().collect::<Vec<_>>())
    }

    /// Returns the holds, with those that have ended in their final state.
    pub(super) fn final_states(&self, holds: Vec<Hold>) -> Vec<Hold> {
        let final_state = |hold: Hold| {
            let end = self.ends.iter().find(|end| end.after.hold_id == hold.hold_id);
            end.map_or(hold, |end| end.after.clone())
        };
        holds.into_iter().map(final_state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::expiry_key;
    use crate::error::Corrupt;

    #[test]
    fn an_expiry_without_holds_has_no_key() {
        let workspace = "acme".parse().unwrap();
        assert!(matches!(expiry_key(&workspace, &[]), Err(Corrupt::NoExpiredHold)));
    }
}
