//! Closing of epochs: a caller that finds an expired grant or the fence closes the epoch and continues.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::close::{CloseEntry, CloseResult, Happened, close_entry_key};
use credits_core::id::WorkspaceId;
use credits_core::ledger::{Cause, Entry};
use jiff::Timestamp;

use crate::balances::BalanceStore;
use crate::debit_refunds::payment_write;
use crate::error::{Corrupt, Fault};
use crate::items::ended_grants::end_write;
use crate::items::{balance_item, entry_item, running_grants};
use crate::lanes::recall::RecallStep;
use crate::table::attribute;
use crate::table::expression::Expression;
use crate::table::keys::ItemKey;
use crate::table::transaction::TransactionOutcome;

/// A balance that is not due, and DynamoDB's time.
pub(crate) struct Current {
    /// As stored, without its lanes; `None` if there is no workspace.
    pub balance: Option<Balance>,
    /// The time by DynamoDB's clock. The caller uses the earlier of this and its own clock, so a fast clock can't expire a
    /// grant or a hold too early.
    pub database_now: Timestamp,
}

impl BalanceStore<'_> {
    /// Closes everything that is due in a workspace's balance, and returns whether nothing is due any more.
    ///
    /// Leaves a grant for later if it has not expired by DynamoDB's clock.
    pub async fn close(self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        let current = self.close_due(workspace).await?;
        Ok(current.balance.is_none_or(|balance| !balance.is_due(self.store.now())))
    }

    /// Reads the balance, and closes its epoch until nothing is due.
    ///
    /// A grant stays if it has not expired by DynamoDB's clock ([`Current::database_now`]).
    pub(crate) async fn close_due(self, workspace: &WorkspaceId) -> Result<Current, Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let (balance, database_now) = self.read_dated(workspace).await?;
            let now = self.store.now().min(database_now);
            let due = match balance {
                Some(balance) if balance.is_due(now) => balance,
                balance => return Ok(Current { balance, database_now }),
            };
            if due.lanes.is_some() {
                match Box::pin(self.store.lanes().end(workspace, &due)).await? {
                    RecallStep::OfAnotherCaller => attempts.retry_after_recall().await?,
                    RecallStep::Ready | RecallStep::Changed => attempts.retry_now()?,
                }
                continue;
            }
            let closing = due.close(now).map_err(Corrupt::from)?;
            match self.store.transact(self.closing_writes(workspace, &due, &closing)?).await? {
                TransactionOutcome::Written => {
                    tracing::debug!(%workspace, epoch = due.epoch, "closed an epoch");
                    if !closing.next.is_due(now) {
                        return Ok(Current { balance: Some(closing.next), database_now });
                    }
                }
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                // Another write came first: read the balance again.
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Closes the epoch after a change was put behind the fence. A call may not report the change before, and a replay has
    /// to close too: no debit at the balance passes the fence, but debits on lanes do until the close has recalled them.
    pub(crate) async fn settle_fence(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        self.close_due(workspace).await.map(drop)
    }

    fn closing_writes(
        self,
        workspace: &WorkspaceId,
        read: &Balance,
        closing: &CloseResult,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let next = balance_item::item_of(workspace, &closing.next);
        let unchanged = Expression::new().when("version", "=", attribute::number(read.version));
        let mut writes = vec![unchanged.put(&self.store.table, next)?];
        if !(read.grants.is_empty() && closing.next.grants.is_empty()) {
            writes.push(running_grants::write(&self.store.table, workspace, &closing.next)?);
        }
        for (place, outcome) in closing.outcomes.iter().enumerate() {
            writes.push(self.outcome_write(workspace, outcome, &close_entry_key(read.epoch, place))?);
        }
        for ended in &closing.ended {
            writes.push(end_write(&self.store.table, workspace, ended)?);
        }
        if let Some(payment) = &closing.payment {
            writes.push(payment_write(&self.store.table, workspace, payment)?);
        }
        Ok(writes)
    }

    /// Returns the write of an outcome's ledger entry.
    ///
    /// The entry of a void, a start or a claw-back exists and is completed. The entry of an invoice is new under its
    /// month's key, and the entry of an expiry under the close's key.
    fn outcome_write(
        self,
        workspace: &WorkspaceId,
        outcome: &CloseEntry,
        close_key: &str,
    ) -> Result<TransactWriteItem, Fault> {
        let (prefix, waiting) = match &outcome.what {
            Happened::Voided(key) => ("void", key),
            // By this prefix it sorts after an expiry and an invoice of the same instant.
            Happened::Started(key) => ("start", key),
            Happened::Clawed(key) => ("claw", key),
            Happened::Expired(grant_ids) => {
                let cause = Cause::Expiry { grant_ids: grant_ids.clone(), hold_ids: Vec::new() };
                return self.new_entry(workspace, outcome, ("exp", close_key, cause));
            }
            Happened::Invoiced(month) => {
                let cause = Cause::Invoiced { month: *month };
                return self.new_entry(workspace, outcome, ("inv", &format!("invoice#{month}"), cause));
            }
        };
        let entry_id = self.store.sources.new_id(prefix);
        Ok(entry_item::complete(
            &self.store.table,
            workspace,
            waiting,
            (&entry_id, outcome.credits, outcome.at),
        )?)
    }

    fn new_entry(
        self,
        workspace: &WorkspaceId,
        outcome: &CloseEntry,
        (prefix, key, cause): (&str, &str, Cause),
    ) -> Result<TransactWriteItem, Fault> {
        let (credits, at) = (outcome.credits, outcome.at);
        let entry = Entry { entry_id: self.store.sources.new_id(prefix), cause, credits, at };
        let item = entry_item::item_of(workspace, &ItemKey::ours(workspace, key), None, &entry)?;
        Ok(entry_item::put(&self.store.table, item)?)
    }
}
