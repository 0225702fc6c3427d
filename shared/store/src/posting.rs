//! Writes of postings: one transaction for a balance and its ledger entry, with retries.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::credits::{CallPrice, Credits};
use credits_core::id::{Id, WorkspaceId};
use credits_core::lane::LaneSettlement;
use credits_core::ledger::{Cause, Entry};
use credits_core::own_prices::{OtherPrices, PricedWith};
use credits_core::posting::{Posting, Refusal};
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::holds::reclaim::ExpiredHoldReleaser;
use crate::idempotency::Fingerprint;
use crate::items::{balance_item, entry_item};
use crate::lanes::{Shortfall, Uncovered};
use crate::posting::on_lane::LaneAttempt;
use crate::refused::RefusedBalance;
use crate::table::Store;
use crate::table::attribute::Item;
use crate::table::keys::ItemKey;
use crate::table::transaction::{Attempts, Reason, TransactionOutcome, is_busy};

mod on_lane;

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
    /// The amount of a debit, which a lane can pay; `None` for every other posting.
    pub debit: Option<CallPrice>,
    /// The prices that a debit was priced with; `None` if its caller has priced it.
    pub priced_with: Option<PricedWith>,
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
    /// The workspace's own prices have another version than those of the call.
    OtherPrices(OtherPrices),
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
    /// Another write was on the same items. The next attempt follows after a backoff.
    Backoff,
    /// The balance is due. The next attempt follows after a close.
    CloseFirst,
    /// The balance, as stored, does not cover the posting.
    Short(Box<Balance>),
}

/// Where an attempt takes its credits from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Balance,
    Lane(u16),
}

/// A posting under way.
struct Course<'a> {
    order: &'a PostingOrder<'a>,
    attempts: Attempts,
    /// Caps `now` at DynamoDB's clock, in case this function's clock is fast (`close::Current`). `MAX` caps nothing: the
    /// first attempt uses this function's clock alone, to save a read.
    database_now: Timestamp,
    releaser: ExpiredHoldReleaser<'a>,
    place: Place,
    /// Conflicts at the balance.
    conflicts: u32,
    /// Conflicts on lanes.
    lane_conflicts: u32,
    /// Other lanes that cover the debit, as far as this call knows.
    covering: Vec<u16>,
    /// Whether a lane has refused this call. It then stays at the balance, until this call opens lanes or finds some that
    /// cover it.
    stays_at_balance: bool,
    /// The last settlement of this call's recall, which its next attempt at the balance writes with its posting.
    on_board: Option<LaneSettlement>,
    /// Whether the next attempt at the balance reads it first, because another caller's recall may still be under way.
    reads_first: bool,
}

/// A balance, as stored, that does not cover a posting.
#[derive(Debug, Clone, Copy)]
struct ShortBalance<'a> {
    balance: &'a Balance,
    found_by: FoundBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    /// The balance refused the write of the posting, whose entry did not exist.
    Write,
    /// It was read.
    Read,
}

/// After how many conflicts a call opens lanes, or adds some.
const CONFLICTS_PER_OPENING: u32 = 3;

/// Postings with their ledger entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PostingStore<'a> {
    pub(crate) store: &'a Store,
}

impl PostingStore<'_> {
    /// Writes a posting exactly once, or returns why it is not written.
    pub(crate) async fn post(self, order: PostingOrder<'_>) -> Result<Entry, Unposted> {
        let mut course = self.course(&order);
        if let Some(refused) = self.refused_without_write(&order).await? {
            let RefusedPosting { balance, has_open_holds } = refused;
            if !has_open_holds || !Box::pin(course.releaser.release(balance.version)).await? {
                return Err(refused.into());
            }
        }
        let posted = self.attempt_all(&mut course).await;
        if let Place::Lane(lane) = course.place {
            match posted {
                Ok(_) => self.end_use_of(&course, lane).await,
                Err(_) => self.store.known_lanes.return_busy(order.workspace, lane),
            }
        }
        posted
    }

    fn course<'a>(self, order: &'a PostingOrder<'a>) -> Course<'a>
    where
        Self: 'a,
    {
        let lane =
            order.debit.and_then(|_| self.store.known_lanes.take(order.workspace, &self.store.sources));
        Course {
            order,
            attempts: self.store.attempts(),
            database_now: Timestamp::MAX,
            releaser: self.store.holds().expired_hold_releaser(order.workspace),
            place: lane.map_or(Place::Balance, Place::Lane),
            conflicts: 0,
            lane_conflicts: 0,
            covering: Vec::new(),
            stays_at_balance: false,
            on_board: None,
            reads_first: self.store.known_lanes.are_in_recall(order.workspace),
        }
    }

    async fn attempt_all(self, course: &mut Course<'_>) -> Result<Entry, Unposted> {
        loop {
            let order = course.order;
            let now = self.store.now().min(course.database_now);
            let entry = entry_item::entry(&order.entry_id, &order.cause, order.credits, now);
            let attempt = match (course.place, order.debit) {
                (Place::Lane(lane), Some(amount)) => {
                    self.attempt_on_lane(course, LaneAttempt { lane, amount, now }, &entry).await?
                }
                _ => self.attempt_at_balance(course, now, &entry).await?,
            };
            if let Some(entry) = attempt {
                return Ok(entry);
            }
        }
    }

    /// Sends one attempt at the balance. Returns the entry once it is written, and `None` to retry.
    async fn attempt_at_balance(
        self,
        course: &mut Course<'_>,
        now: Timestamp,
        entry: &Entry,
    ) -> Result<Option<Entry>, Unposted> {
        let order = course.order;
        let posting = (order.build_posting)(now);
        if std::mem::take(&mut course.reads_first)
            && let Some(balance) = self.store.balances().read_stored(order.workspace).await?
        {
            self.store.known_lanes.learn(order.workspace, &balance);
            if matches!(posting.check(&balance), Err(Refusal::Insufficient { .. })) {
                let short = ShortBalance { balance: &balance, found_by: FoundBy::Read };
                self.get_past_shortfall(course, short, &posting, now).await?;
                return Ok(None);
            }
        }
        let others = self.other_writes(order, entry, Place::Balance)?;
        let name = order.key.name();
        let sent = self.store.transact_posting(order.workspace, &posting, name, others, &mut course.on_board);
        let reasons = match sent.await? {
            TransactionOutcome::Written => return Ok(Some(entry.clone())),
            TransactionOutcome::Unknown(error) => {
                course.attempts.retry_after_failure(error).await?;
                return Ok(None);
            }
            TransactionOutcome::Cancelled(reasons) => reasons,
        };
        if let Some(entry) = entry_under_key(order, &reasons, entry)? {
            return Ok(Some(entry));
        }
        match read_cancellation(&posting, reasons)? {
            AttemptEnd::Backoff => self.back_off(course, &posting, now).await?,
            AttemptEnd::CloseFirst => {
                course.attempts.retry_now()?;
                let current = Box::pin(self.store.balances().close_due(order.workspace)).await?;
                course.database_now = current.database_now;
            }
            AttemptEnd::Short(balance) => {
                let short = ShortBalance { balance: &balance, found_by: FoundBy::Write };
                self.get_past_shortfall(course, short, &posting, now).await?;
            }
        }
        Ok(None)
    }

    /// Handles a balance that does not cover the posting. Returns to retry.
    async fn get_past_shortfall(
        self,
        course: &mut Course<'_>,
        short: ShortBalance<'_>,
        posting: &Posting,
        now: Timestamp,
    ) -> Result<(), Unposted> {
        let (order, ShortBalance { balance, found_by }) = (course.order, short);
        let uncovered = Uncovered {
            workspace: order.workspace,
            posting,
            other_writes: order.extra_writes.len().saturating_add(1),
            debit: order.debit.map(|amount| (amount, now)),
        };
        match Box::pin(self.store.lanes().avert(uncovered, balance, &mut course.on_board)).await? {
            Shortfall::Retry => {}
            Shortfall::Wait => {
                course.reads_first = true;
                return Ok(course.attempts.retry_after_recall().await?);
            }
            Shortfall::OnLanes(covering) => {
                course.covering = covering;
                course.place = course.covering.pop().map_or(Place::Balance, Place::Lane);
            }
            // A refused write has found no entry under the key, at the instant of its balance. A balance that was read is
            // followed by a read of the entry. If the entry is absent, it was absent before too.
            Shortfall::Final(_)
                if (found_by == FoundBy::Read || balance.lanes.is_some())
                    && self.store.get(&order.key).await?.is_some() => {}
            Shortfall::Final(short) => {
                let refused = RefusedPosting::of(&short).map_err(Fault::from)?;
                if !refused.has_open_holds
                    || !Box::pin(course.releaser.release(refused.balance.version)).await?
                {
                    if balance.lanes.is_none() {
                        self.store.known_refusals.remember(order.workspace, &refused.balance);
                    }
                    return Err(refused.into());
                }
            }
        }
        Ok(course.attempts.retry_now()?)
    }

    /// Handles a conflict at the balance. A debit reads the balance meanwhile: it may have lanes, or no credits. If conflicts
    /// last, the debit opens lanes.
    async fn back_off(
        self,
        course: &mut Course<'_>,
        posting: &Posting,
        now: Timestamp,
    ) -> Result<(), Unposted> {
        let workspace = course.order.workspace;
        let Some(amount) = course.order.debit else {
            return Ok(course.attempts.retry_after_conflict().await?);
        };
        if course.on_board.is_some() {
            // Other callers wait for the settlement.
            course.attempts.hurry();
            return Ok(course.attempts.retry_after_conflict().await?);
        }
        course.conflicts = course.conflicts.saturating_add(1);
        if course.conflicts.is_multiple_of(CONFLICTS_PER_OPENING) {
            Box::pin(self.store.lanes().open(workspace, amount)).await?;
            course.stays_at_balance = false;
        } else if let Some(balance) = self.store.balances().read_stored(workspace).await? {
            self.store.known_lanes.learn(workspace, &balance);
            if matches!(posting.check(&balance), Err(Refusal::Insufficient { .. })) {
                let short = ShortBalance { balance: &balance, found_by: FoundBy::Read };
                return Box::pin(self.get_past_shortfall(course, short, posting, now)).await;
            }
        }
        let lanes = (!course.stays_at_balance).then_some(&self.store.known_lanes);
        match lanes.and_then(|lanes| lanes.take(workspace, &self.store.sources)) {
            Some(lane) => {
                course.place = Place::Lane(lane);
                Ok(course.attempts.retry_elsewhere()?)
            }
            None => Ok(course.attempts.retry_after_conflict().await?),
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

    /// Returns the writes beside that of the balance: the ledger entry's, then the extra ones.
    /// [`read_cancellation`] reads the cancellation reasons in this order.
    fn other_writes(
        self,
        order: &PostingOrder<'_>,
        entry: &Entry,
        place: Place,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let item = entry_item::item_of(order.workspace, &order.key, order.fingerprint, entry)?;
        let item = match (order.state, place) {
            (EntryState::Complete, Place::Balance) => item,
            (EntryState::Complete, Place::Lane(lane)) => entry_item::of_lane(item, order.workspace, lane),
            (EntryState::WaitsForClose, _) => entry_item::unlisted(item, entry),
        };
        let mut writes = vec![entry_item::put(&self.store.table, item)?];
        writes.extend(order.extra_writes.iter().cloned());
        Ok(writes)
    }
}

impl RefusedPosting {
    pub(crate) fn of(balance: &Balance) -> Result<Self, Corrupt> {
        Ok(Self { balance: RefusedBalance::of(balance)?, has_open_holds: balance.has_open_holds() })
    }
}

impl PostingOrder<'_> {
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

/// Reads the cancellation reasons: the balance's, then those of [`PostingStore::other_writes`].
///
/// Checks in this order:
///
/// 1. The entry's key ([`entry_under_key`]).
/// 2. A conflict or throttling. Other conditions that failed beside it may be stale, so the next attempt decides.
/// 3. The extra conditions.
/// 4. The balance.
fn read_cancellation(posting: &Posting, reasons: Vec<Reason>) -> Result<AttemptEnd, Unposted> {
    let busy = is_busy(&reasons);
    let mut reasons = reasons.into_iter();
    let balance_reason = reasons.next();
    // The key's reason, which `entry_under_key` has read.
    reasons.next();
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
        Err(Refusal::Insufficient { .. }) => Ok(AttemptEnd::Short(Box::new(balance))),
        Err(Refusal::Due) => Ok(AttemptEnd::CloseFirst),
        // The item has changed between DynamoDB's check and its read, and now satisfies the condition.
        Ok(()) => Ok(AttemptEnd::Backoff),
        Err(Refusal::OtherPrices(other)) => Err(Unposted::OtherPrices(other)),
        Err(Refusal::OutOfRange(error)) => Err(Corrupt::from(error).into()),
        // No posting with a ledger entry has another condition.
        Err(
            refusal @ (Refusal::OtherLimit { .. }
            | Refusal::EpochChanged
            | Refusal::OtherThresholds
            | Refusal::LanesChanged),
        ) => Err(Corrupt::UnexpectedRefusal(refusal).into()),
    }
}

/// Returns the entry if an earlier attempt of this order has written it, and its response was lost. Fails if another call has
/// taken the key. A taken key stays taken, so it counts even beside a conflict: a replay gets its stored result.
///
/// `reasons` are those of an attempt whose second write is the entry's.
fn entry_under_key(
    order: &PostingOrder<'_>,
    reasons: &[Reason],
    entry: &Entry,
) -> Result<Option<Entry>, Unposted> {
    let Some(Reason::Condition(Some(item))) = reasons.get(1) else { return Ok(None) };
    if !entry_item::is_written_as(item, &order.entry_id) {
        return Err(Unposted::KeyTaken(item.clone()));
    }
    Ok(Some(order.entry_of_earlier_attempt(item, entry.clone())?))
}

/// Returns the balance, as stored, that alone refused a posting for insufficient credits; `None` if another item refused its
/// write or was busy, or if the balance refused for another reason.
///
/// `reasons` are those of a cancelled transaction whose first write is the posting's.
pub(crate) fn refused_by_balance_alone(
    posting: &Posting,
    reasons: &[Reason],
) -> Result<Option<Balance>, Corrupt> {
    let [Reason::Condition(Some(item)), others @ ..] = reasons else { return Ok(None) };
    if others.iter().any(|reason| !matches!(reason, Reason::None)) {
        return Ok(None);
    }
    let balance = balance_item::read(item)?;
    let is_short = matches!(posting.check(&balance), Err(Refusal::Insufficient { .. }));
    Ok(is_short.then_some(balance))
}

#[cfg(test)]
mod tests {
    use credits_core::balance::Balance;
    use credits_core::credits::Credits;
    use credits_core::ledger::Cause;
    use credits_core::posting::{Posting, Refusal};
    use jiff::Timestamp;

    use super::{EntryState, PostingOrder, Unposted, read_cancellation};
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
            debit: None,
            priced_with: None,
            build_posting: &|_| Posting::default(),
            extra_writes: Vec::new(),
        });
    }

    #[test]
    fn a_refusal_for_a_condition_that_no_posting_has_is_a_fault() {
        in_order(EntryState::Complete, |order| {
            let limit = Posting::limit("1".parse().unwrap(), Credits::ZERO).unwrap();
            let stored = balance_item::item_of(order.workspace, &Balance::default());
            let refused = read_cancellation(&limit, vec![Reason::Condition(Some(stored)), Reason::None]);
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
