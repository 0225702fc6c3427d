//! Posting: a balance and its ledger entry are written in one transaction, and its refusals are read in the correct
//! order.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::credits::Credits;
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use credits_core::posting::{Posting, Refusal};
use jiff::Timestamp;

use crate::error::Fault;
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
    pub credits: Credits,
    pub cause: Cause,
    /// Whether the entry is complete. A close completes and lists an incomplete one.
    pub listed: bool,
    /// Builds the posting for the instant of an attempt.
    pub posting: &'a (dyn Fn(Timestamp) -> Posting + Sync),
    /// Further writes of the same transaction.
    pub also: Vec<TransactWriteItem>,
}

/// Why a posting was not written.
#[derive(Debug)]
pub(crate) enum Unposted {
    /// The entry's key is already used.
    KeyTaken(Item),
    /// The workspace has no balance.
    NoBalance,
    Insufficient {
        balance: RefusedBalance,
        /// Whether holds are open, some of which may have expired.
        holds: bool,
    },
    /// The condition of a further write failed.
    AlsoRefused,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Unposted {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// What a cancelled transaction needs before the next attempt.
enum Next {
    /// Another transaction was on the same items.
    Pause,
    Close,
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
        // A clock that is fast may take a grant for expired. DynamoDB's clock decides.
        let mut no_later_than = Timestamp::MAX;
        let mut expired_holds = self.store.holds().expired_holds(order.workspace);
        loop {
            let now = self.store.now().min(no_later_than);
            let entry = entry_item::entry(&order.entry_id, &order.cause, order.credits, now);
            let posting = (order.posting)(now);
            match self.store.transact(self.writes(&order, &posting, &entry)?).await? {
                TransactionOutcome::Written => return Ok(entry),
                TransactionOutcome::Unknown(error) => attempts.after_failure(error).await?,
                TransactionOutcome::Cancelled(reasons) => match order.read(&posting, reasons) {
                    Ok(AttemptEnd::Ours(kept)) => return Ok(entry_item::read(&kept).unwrap_or(entry)),
                    Ok(AttemptEnd::Again(Next::Pause)) => attempts.after_conflict().await?,
                    Ok(AttemptEnd::Again(Next::Close)) => {
                        attempts.at_once()?;
                        no_later_than = self.store.balances().close_due(order.workspace).await?.no_later_than;
                    }
                    Err(refused @ Unposted::Insufficient { holds: true, balance }) => {
                        if !expired_holds.release(balance.version).await? {
                            return Err(refused);
                        }
                        attempts.at_once()?;
                    }
                    Err(refused) => return Err(refused),
                },
            }
        }
    }

    fn writes(
        self,
        order: &PostingOrder<'_>,
        posting: &Posting,
        entry: &Entry,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let item = entry_item::item_of(order.workspace, &order.key, order.fingerprint, entry)?;
        let item = if order.listed { item } else { entry_item::unlisted(item, entry) };
        let last = order.key.name();
        let mut writes = vec![
            balance_item::write_of(&self.store.table, order.workspace, posting, last)?,
            entry_item::put(&self.store.table, item)?,
        ];
        writes.extend(order.also.iter().cloned());
        Ok(writes)
    }
}

/// The result of a cancelled attempt that was not refused.
enum AttemptEnd {
    /// It is written: the response to an earlier attempt was lost.
    Ours(Item),
    Again(Next),
}

impl PostingOrder<'_> {
    /// Reads the cancellation reasons in the only correct order: the key's (a replay, whatever the balance says), then
    /// any conflict or throttling, then the other conditions, and the balance's last.
    fn read(&self, posting: &Posting, reasons: Vec<Reason>) -> Result<AttemptEnd, Unposted> {
        let busy = is_busy(&reasons);
        let mut reasons = reasons.into_iter();
        let (balance, key) = (reasons.next(), reasons.next());
        if let Some(Reason::Condition(Some(item))) = key {
            let ours = entry_item::is_written_as(&item, &self.entry_id);
            return if ours { Ok(AttemptEnd::Ours(item)) } else { Err(Unposted::KeyTaken(item)) };
        }
        if busy {
            return Ok(AttemptEnd::Again(Next::Pause));
        }
        if reasons.any(|reason| matches!(reason, Reason::Condition(_))) {
            return Err(Unposted::AlsoRefused);
        }
        let Some(Reason::Condition(item)) = balance else { return Ok(AttemptEnd::Again(Next::Pause)) };
        let item = item.ok_or(Unposted::NoBalance)?;
        let balance = balance_item::read(&item).map_err(Fault::from)?;
        match posting.check(&balance) {
            Err(Refusal::Insufficient { .. }) => {
                let holds = balance.has_holds();
                let balance = RefusedBalance::of(&balance).map_err(Fault::from)?;
                Err(Unposted::Insufficient { balance, holds })
            }
            Err(Refusal::Due) => Ok(AttemptEnd::Again(Next::Close)),
            Err(Refusal::OutOfRange(error)) => Err(Fault::Corrupt(error.into()).into()),
            // The item has changed between DynamoDB's check and its read, and now satisfies the condition. No posting
            // with an entry has a condition on the credit limit or the epoch.
            Ok(()) | Err(Refusal::OtherLimit { .. } | Refusal::EpochChanged) => {
                Ok(AttemptEnd::Again(Next::Pause))
            }
        }
    }
}
