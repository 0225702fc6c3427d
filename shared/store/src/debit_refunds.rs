//! Refunds of debits, of calls of a batch and of captures: each once, and together never more than was taken (M2).
//!
//! One transaction writes the balance, the refund's ledger entry, what was refunded of the debit in the debit's own entry, and
//! what is left of its epoch's payment (`credits_core::debit_refund`). The last two require what was read.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::credits::{Amount, Credits};
use credits_core::debit_refund::{
    DebitRefund, DebitRefundReason, EpochPayment, RefundMovement, ReturnedCredits,
};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::{Cause, Entry};
use jiff::{SignedDuration, Timestamp};

use crate::debit_refunds::refundable::{RefundTarget, Selection};
use crate::error::{Corrupt, Fault};
use crate::grants::VOIDED_UNDER;
use crate::idempotency::{Claim, KeyUse};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK, SK, position};
use crate::table::transaction::{Attempts, Reason, TransactionOutcome};

mod finding;
mod refundable;

const PAYMENT: &str = "payment";

/// The largest difference to expect between the clocks of two functions that close epochs.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_hours(1);

/// The maximum number of epochs to expect within that difference.
const MAX_EPOCHS: i32 = 50;

/// An order to refund a debit.
#[derive(Debug, Clone)]
pub struct DebitRefundOrder {
    /// The id of a debit, of a batch, or of a hold that has ended.
    pub debit_id: Id,
    /// A call of the batch; `None` for all of its calls.
    pub line: Option<usize>,
    /// A capture of the hold; `None` for all of its captures.
    pub capture_id: Option<Id>,
    /// `None` refunds all that is left.
    pub credits: Option<Amount>,
    pub reason: DebitRefundReason,
    pub note: Option<String>,
}

/// A refund that was written now or under an earlier use of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundedDebit {
    pub entry: Entry,
    pub refund: DebitRefund,
    pub key_use: KeyUse,
}

/// Why a refund of a debit is refused.
#[derive(Debug, thiserror::Error)]
pub enum DebitRefundRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    #[error("the workspace has no such debit")]
    DebitNotFound,
    /// A debit of one call has no lines, and a batch has fewer calls than this index.
    #[error("the debit has no such line")]
    LineNotFound,
    /// A debit without a hold has no captures, and the hold has none with this id.
    #[error("the debit has no such capture")]
    CaptureNotFound,
    #[error("only {refundable} credits can still be refunded")]
    ExceedsDebit { refundable: Credits },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Refunds of debits.
#[derive(Debug, Clone, Copy)]
pub struct DebitRefundStore<'a> {
    pub(crate) store: &'a Store,
}

/// One attempt to write a refund.
struct RefundWrites {
    entry: Entry,
    movement: RefundMovement,
    others: Vec<TransactWriteItem>,
}

impl DebitRefundStore<'_> {
    /// Refunds credits of a debit under the caller's key.
    pub async fn refund(
        self,
        claim: &Claim,
        order: &DebitRefundOrder,
    ) -> Result<RefundedDebit, DebitRefundRefusal> {
        let workspace = &claim.workspace_id;
        let key = ItemKey::called(workspace, &claim.key);
        let refund_id = self.store.sources.new_id("dref");
        let mut attempts = self.store.attempts();
        loop {
            if let Some(item) = self.store.get(&key).await? {
                self.store.balances().settle_fence(workspace).await?;
                return replay(&item, claim, &refund_id);
            }
            let current = self.store.balances().close_due(workspace).await?;
            let balance = current.balance.ok_or(DebitRefundRefusal::WorkspaceNotFound)?;
            let now = self.store.now().min(current.database_now);
            let target = self.find(workspace, order, &mut attempts).await?;
            let selection = target.select(order)?;
            let writes = self.writes_of(claim, &refund_id, order, &balance, &target, selection, now).await?;
            if self.write(workspace, &key, &balance, &writes, now, &mut attempts).await? {
                if writes.movement.waits_for_close() {
                    self.store.balances().settle_fence(workspace).await?;
                }
                let Cause::DebitRefund(refund) = writes.entry.cause.clone() else {
                    return Err(Fault::Corrupt(Corrupt::Attribute("kind")).into());
                };
                return Ok(RefundedDebit { entry: writes.entry, refund, key_use: KeyUse::First });
            }
        }
    }

    /// Sends one transaction. Returns whether it is written; otherwise the caller reads everything again.
    async fn write(
        self,
        workspace: &WorkspaceId,
        key: &ItemKey,
        balance: &Balance,
        writes: &RefundWrites,
        now: Timestamp,
        attempts: &mut Attempts,
    ) -> Result<bool, Fault> {
        let posting = writes.movement.posting(balance, now).map_err(Corrupt::from)?;
        let others = writes.others.clone();
        match self.store.transact_posting(workspace, &posting, key.name(), others, &mut None).await? {
            TransactionOutcome::Written => Ok(true),
            TransactionOutcome::Unknown(error) => {
                attempts.retry_after_failure(error).await?;
                Ok(false)
            }
            TransactionOutcome::Cancelled(reasons) => {
                if reasons.iter().any(|reason| matches!(reason, Reason::Busy)) {
                    attempts.retry_after_conflict().await?;
                } else {
                    attempts.retry_now()?;
                }
                Ok(false)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is read or made once, in the loop of `refund`")]
    async fn writes_of(
        self,
        claim: &Claim,
        refund_id: &Id,
        order: &DebitRefundOrder,
        balance: &Balance,
        target: &RefundTarget,
        selection: Selection,
        now: Timestamp,
    ) -> Result<RefundWrites, Fault> {
        let workspace = &claim.workspace_id;
        let (live, expired) = target.paid_parts(selection.amount).map_err(Corrupt::from)?;
        let (mut movement, payment) =
            self.movement_of(workspace, balance, target.entry.at, (refund_id, live)).await?;
        movement.returned.expired = movement.returned.expired.plus(expired).map_err(Corrupt::from)?;
        let refund = DebitRefund {
            debit_id: order.debit_id.clone(),
            line: order.line,
            capture_id: order.capture_id.clone(),
            reason: order.reason,
            note: order.note.clone(),
            debited_at: target.entry.at,
            refundable: selection.left,
            lines: selection.content.len(),
            operations: selection.operations().map_err(Corrupt::from)?,
            content: selection.content.clone(),
        };
        let (cause, credits) = (Cause::DebitRefund(refund), selection.amount.credits());
        let entry = Entry { entry_id: refund_id.clone(), cause, credits, at: now };
        let key = ItemKey::called(workspace, &claim.key);
        let item = entry_item::item_of(workspace, &key, Some(claim.fingerprint), &entry)?;
        let mut others = vec![
            entry_item::put(&self.store.table, item)?,
            target.refunded_write(&self.store.table, &selection)?,
        ];
        others.extend(payment);
        Ok(RefundWrites { entry, movement, others })
    }

    /// Returns how credits return that the debit's epoch used, and the write of its record.
    async fn movement_of(
        self,
        workspace: &WorkspaceId,
        balance: &Balance,
        debited_at: Timestamp,
        (refund_id, live): (&Id, Credits),
    ) -> Result<(RefundMovement, Option<TransactWriteItem>), Fault> {
        let mut movement = RefundMovement {
            refund_id: refund_id.clone(),
            debited_at,
            of_epoch: Credits::ZERO,
            returned: ReturnedCredits::default(),
        };
        let Ok(live) = Amount::new(live) else { return Ok((movement, None)) };
        if let Some((key, stored)) = self.payment_of(workspace, debited_at).await? {
            let payment: EpochPayment = read_payment(&stored)?;
            let (returned, left) = payment.split(live).map_err(Corrupt::from)?;
            movement.returned = self.without_voided(workspace, returned).await?;
            let write = Expression::new()
                .set(PAYMENT, text(payment_text(&left)?))
                .when(PAYMENT, "=", text(Reader(&stored).text(PAYMENT)?))
                .update(&self.store.table, &key)?;
            return Ok((movement, Some(write)));
        }
        // No epoch was closed since. What the epoch has not used, by the clocks of two functions, returns as prepaid credits.
        let used = if balance.lanes.is_none() {
            balance.used
        } else {
            let joined = self.store.balances().read_sums(workspace).await?;
            joined.map_or(Credits::ZERO, |joined| joined.used)
        };
        let used = used.or_zero();
        movement.of_epoch = live.credits().min(used);
        movement.returned.prepaid = live.credits().minus(movement.of_epoch).map_err(Corrupt::from)?;
        Ok((movement, None))
    }

    /// Treats the part of a voided grant like that of one that has expired: the operator has ended it.
    async fn without_voided(
        self,
        workspace: &WorkspaceId,
        returned: ReturnedCredits,
    ) -> Result<ReturnedCredits, Fault> {
        let keys: Vec<ItemKey> =
            returned.grants.iter().map(|part| ItemKey::grant(workspace, &part.grant_id)).collect();
        let items = self.store.get_many(&keys).await?;
        let is_voided = |key: &ItemKey| items.get(key).is_some_and(|item| item.contains_key(VOIDED_UNDER));
        let mut kept = ReturnedCredits { grants: Vec::new(), ..returned };
        for (part, key) in returned.grants.into_iter().zip(&keys) {
            if is_voided(key) {
                kept.expired = kept.expired.plus(part.credits).map_err(Corrupt::from)?;
            } else {
                kept.grants.push(part);
            }
        }
        Ok(kept)
    }

    /// Finds the payment of the epoch that contains an instant; `None` if it is the present epoch.
    ///
    /// By the clocks of two functions, a later epoch may have been closed before an earlier one. So this reads the records of
    /// all epochs that were closed at nearly the same time, and takes the earliest epoch.
    async fn payment_of(
        self,
        workspace: &WorkspaceId,
        at: Timestamp,
    ) -> Result<Option<(ItemKey, Item)>, Fault> {
        let after = at.checked_add(SignedDuration::from_millis(1)).unwrap_or(at);
        let query = self
            .store
            .query()
            .key_condition_expression("#pk = :pk AND #sk >= :sk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(ItemKey::epoch_payments(workspace)))
            .expression_attribute_values(":sk", text(position(after, "")))
            .consistent_read(true)
            .limit(MAX_EPOCHS);
        let items = self.store.found(query).await?.items.unwrap_or_default();
        let mut found: Option<(EpochPayment, Item)> = None;
        let mut until = Timestamp::MAX;
        for item in items {
            let payment = read_payment(&item)?;
            if found.is_none() {
                until = payment.closed_at.checked_add(CLOCK_DIFFERENCE).unwrap_or(Timestamp::MAX);
            }
            let is_earlier = found.as_ref().is_none_or(|(other, _)| payment.epoch < other.epoch);
            if payment.closed_at <= until && is_earlier {
                found = Some((payment, item));
            }
        }
        let Some((payment, item)) = found else { return Ok(None) };
        Ok(Some((ItemKey::epoch_payment(workspace, &payment), item)))
    }
}

/// Returns the refund under a key: `First` if a lost response of this call has written it.
fn replay(item: &Item, claim: &Claim, refund_id: &Id) -> Result<RefundedDebit, DebitRefundRefusal> {
    if !entry_item::is_of(item, Some(claim.fingerprint)) {
        return Err(DebitRefundRefusal::KeyReused);
    }
    let entry = entry_item::read(item).map_err(Fault::from)?;
    let Cause::DebitRefund(refund) = entry.cause.clone() else { return Err(DebitRefundRefusal::KeyReused) };
    let key_use = KeyUse::first_if(entry.entry_id == *refund_id);
    Ok(RefundedDebit { entry, refund, key_use })
}

/// Returns the write of how an epoch's use was paid.
pub(crate) fn payment_write(
    table: &str,
    workspace: &WorkspaceId,
    payment: &EpochPayment,
) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::epoch_payment(workspace, payment));
    item.insert(PAYMENT.to_owned(), text(payment_text(payment)?));
    Expression::new().when_absent(PK).put(table, item)
}

fn payment_text(payment: &EpochPayment) -> Result<String, Corrupt> {
    serde_json::to_string(payment).map_err(|_| Corrupt::Attribute(PAYMENT))
}

fn read_payment(item: &Item) -> Result<EpochPayment, Corrupt> {
    serde_json::from_str(Reader(item).text(PAYMENT)?).map_err(|_| Corrupt::Attribute(PAYMENT))
}
