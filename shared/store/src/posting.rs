//! Writes of postings: one transaction for a balance and its ledger entry, with retries.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::credits::Credits;
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use credits_core::posting::{Posting, Refusal};
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::idempotency::Fingerprint;
use crate::items::{balance_item, entry_item};
use crate::refused::RefusedBalance;
use crate::table::Store;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// A posting with its ledger entry, and the other writes of the same transaction.
pub(crate) struct PostingOrder<'a> {
    pub workspace: &'a WorkspaceId,
    /// The key of the ledger entry's item.
    pub key: ItemKey,
    pub fingerprint: Option<Fingerprint>,
    pub entry_id: Id,
    /// The credits of the ledger entry: negative for a debit.
    pub credits: Credits,
    pub cause: Cause,
    pub state: EntryState,
    /// Builds the posting for the instant of an attempt.
    pub build_posting: &'a (dyn Fn(Timestamp) -> Posting + Sync),
    pub extra_writes: Vec<TransactWriteItem>,
}

/// The state in which a ledger entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// The entry is complete and listed in the ledger.
    Complete,
    /// The entry is not listed yet. A close computes its credits and lists it.
    WaitsForClose,
}

/// Why a posting was not written.
#[derive(Debug)]
pub(crate) enum Unposted {
    /// The entry's key is already used.
    KeyTaken(Item),
    /// The workspace has no balance.
    NoBalance,
    /// The balance doesn't cover the posting. If holds are open, some of them may have expired.
    Insufficient(RefusedPosting),
    /// The condition of an extra write failed.
    ExtraConditionFailed,
    Fault(Fault),
}

/// A posting that the balance does not cover.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusedPosting {
    pub balance: RefusedBalance,
    pub has_open_holds: bool,
}

impl From<RefusedPosting> for Unposted {
    fn from(refused: RefusedPosting) -> Self {
        Self::Insufficient(refused)
    }
}

impl<E: Into<Fault>> From<E> for Unposted {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// The end of a cancelled attempt that was not refused.
#[derive(Debug)]
enum AttemptEnd {
    /// An earlier attempt of this order is written, and its response was lost. Holds the entry's item.
    Written(Item),
    /// Another write was on the same items. The next attempt follows after a backoff.
    Backoff,
    /// The balance is due. The next attempt follows after a close.
    CloseFirst,
}

/// Postings with their ledger entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PostingStore<'a> {
    pub(crate) store: &'a Store,
}

impl PostingStore<'_> {
    /// Writes a posting exactly once, or returns why it is not written.
    pub(crate) async fn post(self, order: PostingOrder<'_>) -> Result<Entry, Unposted> {
        let mut attempts = self.store.attempts();
        // Caps `now` at DynamoDB's clock, in case this function's clock is fast (`close::Current`). `MAX` caps nothing: the
        // first attempt uses this function's clock alone, to save a read.
        let mut database_now = Timestamp::MAX;
        let mut releaser = self.store.holds().expired_hold_releaser(order.workspace);
        if let Some(refused) = self.refused_without_write(&order).await? {
            let RefusedPosting { balance, has_open_holds } = refused;
            if !has_open_holds || !releaser.release(balance.version).await? {
                return Err(refused.into());
            }
        }
        loop {
            let now = self.store.now().min(database_now);
            let entry = entry_item::entry(&order.entry_id, &order.cause, order.credits, now);
            let posting = (order.build_posting)(now);
            let reasons = match self.store.transact(self.writes(&order, &posting, &entry)?).await? {
                TransactionOutcome::Written => return Ok(entry),
                TransactionOutcome::Unknown(error) => {
                    attempts.retry_after_failure(error).await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
            match order.read_cancellation(&posting, reasons) {
                Ok(AttemptEnd::Written(item)) => return Ok(order.entry_of_earlier_attempt(&item, entry)?),
                Ok(AttemptEnd::Backoff) => attempts.retry_after_conflict().await?,
                Ok(AttemptEnd::CloseFirst) => {
                    attempts.retry_now()?;
                    database_now = self.store.balances().close_due(order.workspace).await?.database_now;
                }
                Err(Unposted::Insufficient(refused)) => {
                    let RefusedPosting { balance, has_open_holds } = refused;
                    if !has_open_holds || !releaser.release(balance.version).await? {
                        self.store.known_refusals.remember(order.workspace, &balance);
                        return Err(refused.into());
                    }
                    attempts.retry_now()?;
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Refuses a posting by reading the balance and the entry, if the balance has refused a call of this instance and has
    /// not changed since (see [`crate::known_refusals`]). Returns `None` if only the write can tell.
    async fn refused_without_write(self, order: &PostingOrder<'_>) -> Result<Option<RefusedPosting>, Fault> {
        let Some(known) = self.store.known_refusals.of(order.workspace) else { return Ok(None) };
        let is_covered = known.spendable >= order.credits.negated();
        // Extra writes have conditions that only the write checks, and their failure takes precedence.
        if is_covered || !order.extra_writes.is_empty() {
            return Ok(None);
        }
        let balance_key = ItemKey::balance(order.workspace);
        let items = self.store.get_many(&[balance_key.clone(), order.key.clone()]).await?;
        let Some(item) = items.get(&balance_key) else { return Ok(None) };
        let balance = balance_item::read(item)?;
        if balance.version != known.version {
            self.store.known_refusals.forget(order.workspace);
            return Ok(None);
        }
        let posting = (order.build_posting)(self.store.now());
        let is_refused = matches!(posting.check(&balance), Err(Refusal::Insufficient { .. }));
        let is_new = !items.contains_key(&order.key);
        Ok((is_new && is_refused).then(|| RefusedPosting::of(&balance)).transpose()?)
    }

    /// Returns the writes of one transaction: the balance's first, the ledger entry's second, then the extra ones.
    /// [`PostingOrder::read_cancellation`] reads the cancellation reasons in this order.
    fn writes(
        self,
        order: &PostingOrder<'_>,
        posting: &Posting,
        entry: &Entry,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let item = entry_item::item_of(order.workspace, &order.key, order.fingerprint, entry)?;
        let item = match order.state {
            EntryState::Complete => item,
            EntryState::WaitsForClose => entry_item::unlisted(item, entry),
        };
        let entry_key = order.key.name();
        let mut writes = vec![
            balance_item::write_of(&self.store.table, order.workspace, posting, entry_key)?,
            entry_item::put(&self.store.table, item)?,
        ];
        writes.extend(order.extra_writes.iter().cloned());
        Ok(writes)
    }
}

impl RefusedPosting {
    fn of(balance: &Balance) -> Result<Self, Corrupt> {
        Ok(Self { balance: RefusedBalance::of(balance)?, has_open_holds: balance.has_open_holds() })
    }
}

impl PostingOrder<'_> {
    /// Reads the cancellation reasons, which are in the order of [`PostingStore::writes`].
    ///
    /// Checks in this order:
    ///
    /// 1. The entry's key. A taken key stays taken, so it counts even beside a conflict: a replay gets its stored result.
    /// 2. A conflict or throttling. Other conditions that failed beside it may be stale, so the next attempt decides.
    /// 3. The extra conditions.
    /// 4. The balance.
    fn read_cancellation(&self, posting: &Posting, reasons: Vec<Reason>) -> Result<AttemptEnd, Unposted> {
        let busy = is_busy(&reasons);
        let mut reasons = reasons.into_iter();
        let (balance_reason, key_reason) = (reasons.next(), reasons.next());
        if let Some(Reason::Condition(Some(item))) = key_reason {
            let by_this_order = entry_item::is_written_as(&item, &self.entry_id);
            return if by_this_order { Ok(AttemptEnd::Written(item)) } else { Err(Unposted::KeyTaken(item)) };
        }
        if busy {
            return Ok(AttemptEnd::Backoff);
        }
        if reasons.any(|reason| matches!(reason, Reason::Condition(_))) {
            return Err(Unposted::ExtraConditionFailed);
        }
        // DynamoDB gave no reason that this store knows. The next attempt decides.
        let Some(Reason::Condition(item)) = balance_reason else { return Ok(AttemptEnd::Backoff) };
        // A failed condition returns the stored item. Without an item, the workspace has no balance.
        let balance = balance_item::read(&item.ok_or(Unposted::NoBalance)?)?;
        match posting.check(&balance) {
            Err(Refusal::Insufficient { .. }) => Err(RefusedPosting::of(&balance)?.into()),
            Err(Refusal::Due) => Ok(AttemptEnd::CloseFirst),
            // The item has changed between DynamoDB's check and its read, and now satisfies the condition.
            Ok(()) => Ok(AttemptEnd::Backoff),
            Err(Refusal::OutOfRange(error)) => Err(Corrupt::from(error).into()),
            // No posting with a ledger entry has a condition on the credit limit or the epoch.
            Err(refusal @ (Refusal::OtherLimit { .. } | Refusal::EpochChanged)) => {
                Err(Corrupt::UnexpectedRefusal(refusal).into())
            }
        }
    }

    /// Returns the entry that an earlier attempt has written. `entry` is that of the current attempt.
    ///
    /// The two differ in their time only. A stored entry that waits for a close has no time yet, so this returns `entry`.
    fn entry_of_earlier_attempt(&self, item: &Item, entry: Entry) -> Result<Entry, Corrupt> {
        match self.state {
            EntryState::Complete => entry_item::read(item),
            EntryState::WaitsForClose => Ok(entry),
        }
    }
}

/// Returns the balance that alone refused a posting, for insufficient credits; `None` if another item refused its write
/// or was busy, or if the balance refused for another reason.
///
/// `reasons` are those of a cancelled transaction whose first write is the posting's.
pub(crate) fn refused_by_balance_alone(
    posting: &Posting,
    reasons: &[Reason],
) -> Result<Option<RefusedBalance>, Corrupt> {
    let [Reason::Condition(Some(item)), others @ ..] = reasons else { return Ok(None) };
    if others.iter().any(|reason| !matches!(reason, Reason::None)) {
        return Ok(None);
    }
    let balance = balance_item::read(item)?;
    match posting.check(&balance) {
        Err(Refusal::Insufficient { .. }) => Ok(Some(RefusedBalance::of(&balance)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use credits_core::balance::Balance;
    use credits_core::credits::Credits;
    use credits_core::ledger::Cause;
    use credits_core::posting::{Posting, Refusal};
    use jiff::Timestamp;

    use super::{EntryState, PostingOrder, Unposted};
    use crate::error::{Corrupt, Fault};
    use crate::items::{balance_item, entry_item};
    use crate::table::keys::ItemKey;
    use crate::table::transaction::Reason;

    fn in_order(state: EntryState, check: impl FnOnce(PostingOrder<'_>)) {
        let workspace = "acme".parse().unwrap();
        check(PostingOrder {
            workspace: &workspace,
            key: ItemKey::ours(&workspace, "key"),
            fingerprint: None,
            entry_id: "top_1".parse().unwrap(),
            credits: Credits::ZERO,
            cause: Cause::Void { grant_id: "gr_1".parse().unwrap(), reason: "test".to_owned() },
            state,
            build_posting: &|_| Posting::default(),
            extra_writes: Vec::new(),
        });
    }

    #[test]
    fn a_refusal_for_a_condition_that_no_posting_has_is_a_fault() {
        in_order(EntryState::Complete, |order| {
            let limit = Posting::limit("1".parse().unwrap(), Credits::ZERO).unwrap();
            let stored = balance_item::item_of(order.workspace, &Balance::default());
            let refused =
                order.read_cancellation(&limit, vec![Reason::Condition(Some(stored)), Reason::None]);
            let Err(Unposted::Fault(Fault::Corrupt(Corrupt::UnexpectedRefusal(refusal)))) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(refusal, Refusal::OtherLimit { current: Credits::ZERO });
        });
    }

    /// After a lost response, the stored entry counts: it has the time of the attempt that wrote it.
    #[test]
    fn an_unreadable_entry_of_an_earlier_attempt_is_a_fault() {
        in_order(EntryState::Complete, |order| {
            let at = |second| Timestamp::from_second(second).unwrap();
            let entry = |at| entry_item::entry(&order.entry_id, &order.cause, order.credits, at);
            let mut stored = entry_item::item_of(order.workspace, &order.key, None, &entry(at(1))).unwrap();
            assert_eq!(order.entry_of_earlier_attempt(&stored, entry(at(2))).unwrap(), entry(at(1)));
            stored.remove("credits");
            assert!(order.entry_of_earlier_attempt(&stored, entry(at(2))).is_err());
        });
    }

    /// A waiting entry can't be read: the close that lists it sets its time.
    #[test]
    fn a_waiting_entry_of_an_earlier_attempt_is_returned_as_now() {
        in_order(EntryState::WaitsForClose, |order| {
            let entry =
                entry_item::entry(&order.entry_id, &order.cause, order.credits, Timestamp::UNIX_EPOCH);
            let stored = entry_item::item_of(order.workspace, &order.key, None, &entry).unwrap();
            let stored = entry_item::unlisted(stored, &entry);
            assert!(entry_item::read(&stored).is_err());
            assert_eq!(order.entry_of_earlier_attempt(&stored, entry.clone()).unwrap(), entry);
        });
    }
}
