//! Claw-backs: the payment steps by which refunds and disputes take credits back, or return them.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::change::Change;
use credits_core::claw_back::ClawBackReason;
use credits_core::credits::{Amount, Credits};
use credits_core::id::WorkspaceId;
use credits_core::ledger::Cause;
use credits_core::payment::{Granted, Payment, PaymentStep};
use credits_core::posting::Posting;

use crate::error::{Corrupt, Fault};
use crate::items::ended_grants::{clawed_write, runs_check};
use crate::payments::PaymentStore;
use crate::payments::{Applied, PaymentEntry, Progress, payment_key};
use crate::posting::EntryState;
use crate::table::attribute::text;
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;

impl PaymentStore<'_> {
    /// Takes back credits of a pack.
    pub(crate) async fn claw_back(
        self,
        granted: &Granted,
        amount: Amount,
        payment: Payment,
        reason: ClawBackReason,
        mut extra_writes: Vec<TransactWriteItem>,
    ) -> Result<Progress, Fault> {
        extra_writes.extend(self.pause_write(reason, granted).await?);
        let entry = PaymentEntry::claw_back(&payment, reason, amount.credits().negated());
        let posting = move |now| Posting::queue_change(Change::ClawBack(amount), now);
        self.settle(granted, payment, entry, &posting, extra_writes).await
    }

    /// Gives credits that were clawed back to the workspace again, as prepaid credits.
    pub(crate) async fn return_credits(
        self,
        granted: &Granted,
        amount: Amount,
        payment: Payment,
        reason: ClawBackReason,
        extra_writes: Vec<TransactWriteItem>,
    ) -> Result<Progress, Fault> {
        let entry = PaymentEntry::returned(&payment, reason, amount.credits());
        self.settle(granted, payment, entry, &move |now| Posting::top_up(amount, now), extra_writes).await
    }

    /// Takes back or returns credits of an expiring grant, so that `target` is taken back in total.
    ///
    /// While the grant runs, only a close can compute the amount. So the change waits behind the fence, and its ledger
    /// entry waits for the close. Once a close has recorded the grant's end, the record gives the amount.
    pub(crate) async fn claw_back_to(
        self,
        granted: &Granted,
        target: Credits,
        before: &Payment,
        reason: ClawBackReason,
        mut extra_writes: Vec<TransactWriteItem>,
    ) -> Result<Progress, Fault> {
        let step = PaymentStep::ClawBackTo(granted.clone(), target);
        let payment = step.taken(before).map_err(Corrupt::from)?;
        let workspace = &granted.workspace_id;
        let grant_id = granted.grant_id.as_ref().ok_or(Corrupt::Attribute("grant_id"))?;
        let direction = if target > before.clawed { Direction::Take } else { Direction::Return };
        if direction == Direction::Take {
            extra_writes.extend(self.pause_write(reason, granted).await?);
        }
        let Some(ended) = self.store.grants().ended(workspace, grant_id).await? else {
            extra_writes.push(runs_check(&self.store.table, workspace, grant_id)?);
            let key = payment_key(granted, &payment, direction.prefix()).pk;
            let change = Change::ClawBackTo { key, grant_id: grant_id.clone(), target };
            let entry = PaymentEntry::waiting(&payment, reason, direction);
            let posting = |now| Posting::queue_change(change.clone(), now);
            return self.settle(granted, payment, entry, &posting, extra_writes).await;
        };
        let (after, debt) = ended.claw_back_to(target).map_err(Corrupt::from)?;
        if debt.is_zero() {
            return self.keep(payment, extra_writes, Applied::Changed).await;
        }
        extra_writes.push(clawed_write(&self.store.table, workspace, &ended, &after)?);
        match (Amount::new(debt), Amount::new(debt.negated())) {
            (Ok(amount), _) => {
                let entry = PaymentEntry::claw_back(&payment, reason, debt.negated());
                let posting = move |now| Posting::queue_change(Change::ClawBack(amount), now);
                self.settle(granted, payment, entry, &posting, extra_writes).await
            }
            (_, Ok(returned)) => self.return_credits(granted, returned, payment, reason, extra_writes).await,
            _ => Err(Corrupt::Attribute("clawed").into()),
        }
    }

    /// Returns the write that pauses automatic top-up; `None` if nothing is to be paused.
    ///
    /// Automatic top-up must not charge again what was just refunded or disputed.
    async fn pause_write(
        self,
        reason: ClawBackReason,
        granted: &Granted,
    ) -> Result<Option<TransactWriteItem>, Fault> {
        let workspace = &granted.workspace_id;
        let Some(read) = self.store.auto_top_ups().get(workspace).await? else { return Ok(None) };
        let paused = read.kept.paused(reason);
        if paused == read.kept {
            return Ok(None);
        }
        Ok(Some(self.store.auto_top_ups().write(workspace, Some(&read), &paused)?))
    }

    /// Returns the write that records or removes a payment method's open or lost dispute; `None` if that has not
    /// changed.
    ///
    /// Such a method is never charged automatically.
    pub(crate) fn disputed_write(
        self,
        before: &Payment,
        after: &Payment,
    ) -> Result<Option<TransactWriteItem>, Corrupt> {
        let (was, is) = (before.disputed_method(), after.disputed_method());
        let Some((workspace, _)) = is.or(was).filter(|_| was != is) else { return Ok(None) };
        let name = format!("payment_{}", after.payment_id);
        let write = match is {
            Some((_, method)) => Expression::new().set(&name, text(method)),
            None => Expression::new().remove(&name),
        };
        write.update(&self.store.table, &ItemKey::disputed_methods(workspace)).map(Some)
    }

    /// Returns whether a payment by this method has a dispute that is open or lost.
    pub async fn is_disputed_method(self, workspace: &WorkspaceId, method: &str) -> Result<bool, Fault> {
        let item = self.store.get(&ItemKey::disputed_methods(workspace)).await?;
        Ok(item.is_some_and(|item| {
            item.iter().any(|(name, value)| {
                name.starts_with("payment_") && value.as_s().is_ok_and(|disputed| disputed == method)
            })
        }))
    }
}

/// Whether credits of a payment are taken back or returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Take,
    Return,
}

impl Direction {
    /// Returns the prefix of the entry's key and id.
    fn prefix(self) -> &'static str {
        match self {
            Self::Take => "claw",
            Self::Return => "rev",
        }
    }
}

impl PaymentEntry {
    fn claw_back(payment: &Payment, reason: ClawBackReason, credits: Credits) -> Self {
        Self { credits, state: EntryState::Complete, ..Self::waiting(payment, reason, Direction::Take) }
    }

    fn returned(payment: &Payment, reason: ClawBackReason, credits: Credits) -> Self {
        Self { credits, state: EntryState::Complete, ..Self::waiting(payment, reason, Direction::Return) }
    }

    /// Makes the entry of a claw-back or its reversal that waits for a close to compute the credits.
    fn waiting(payment: &Payment, reason: ClawBackReason, direction: Direction) -> Self {
        let (payment_id, reason) = (payment.payment_id.clone(), Some(reason));
        let cause = match direction {
            Direction::Take => Cause::ClawBack { payment_id, reason },
            Direction::Return => Cause::ClawBackReversed { payment_id, reason },
        };
        Self { prefix: direction.prefix(), cause, credits: Credits::ZERO, state: EntryState::WaitsForClose }
    }
}
