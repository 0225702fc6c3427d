//! Closing what is due: whoever meets an expired grant or the fence closes the epoch and goes on.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::close::{Closing, Outcome as ChangeOutcome, close_key};
use credits_core::id::WorkspaceId;
use credits_core::ledger::{Cause, Entry};
use jiff::Timestamp;

use crate::error::{Chain, Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::ItemKey;
use crate::transaction::Outcome;
use crate::{Store, attribute, balance_item, entry_item};

/// A balance with nothing due, and how late it may be taken to be.
pub(crate) struct Current {
    /// The balance; `None` where there is no workspace.
    pub balance: Option<Balance>,
    /// The instant up to which DynamoDB's own clock vouches.
    pub no_later_than: Timestamp,
}

impl Store {
    /// Reads the balance, and closes its epoch as often as it is due.
    ///
    /// A fast clock must not destroy credits, so what DynamoDB's own clock doesn't take for expired is left as it is.
    pub(crate) async fn close_due(&self, workspace: &WorkspaceId) -> Result<Current, Fault> {
        let mut attempts = self.attempts();
        loop {
            let (balance, no_later_than) = self.read_dated(workspace).await?;
            let now = self.now().min(no_later_than);
            let due = match balance {
                Some(balance) if balance.is_due(now) => balance,
                balance => return Ok(Current { balance, no_later_than }),
            };
            let closing = due.close(now).map_err(Corrupt::from)?;
            match self.transact(self.closing_writes(workspace, &due, &closing, now)?).await? {
                Outcome::Written => {
                    tracing::debug!(%workspace, epoch = due.epoch, "closed an epoch");
                    if !closing.next.is_due(now) {
                        return Ok(Current { balance: Some(closing.next), no_later_than });
                    }
                }
                Outcome::Unknown(error) => attempts.after_failure(error).await?,
                // Whoever loses reads again.
                Outcome::Cancelled(_) => attempts.after_conflict().await?,
            }
        }
    }

    /// Closes what has just been put behind the fence. Where that can't be done now, nothing is lost: no debit passes
    /// the fence, and whoever comes next closes.
    pub(crate) async fn settle_fence(&self, workspace: &WorkspaceId) {
        if let Err(fault) = self.close_due(workspace).await {
            let error = Chain(&fault);
            tracing::warn!(%workspace, %error, "a fence is left to the next caller");
        }
    }

    fn closing_writes(
        &self,
        workspace: &WorkspaceId,
        read: &Balance,
        closing: &Closing,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let next = balance_item::item_of(workspace, &closing.next);
        let unchanged = Expression::new().when("version", "=", attribute::number(read.version));
        let mut writes = vec![unchanged.put(&self.table, next)?];
        if !closing.expired.is_zero() {
            let entry = Entry {
                entry_id: self.sources.new_id("exp"),
                cause: Cause::Expiry { grant_ids: closing.expired_grants.clone(), hold_ids: Vec::new() },
                credits: closing.expired.negated(),
                at: now,
            };
            let key = ItemKey::ours(workspace, &close_key(read.epoch));
            writes.push(entry_item::put(&self.table, entry_item::item_of(workspace, &key, None, &entry)?)?);
        }
        for outcome in &closing.outcomes {
            writes.push(self.outcome_write(workspace, outcome, now)?);
        }
        Ok(writes)
    }

    /// What a close tells the ledger: of a void and of what was paid ahead, the entry waits under its key; an invoice's
    /// is new, and named by its month.
    fn outcome_write(
        &self,
        workspace: &WorkspaceId,
        outcome: &ChangeOutcome,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Fault> {
        let (pk, prefix, credits) = match outcome {
            ChangeOutcome::Voided { key, credits } => (key, "void", credits.negated()),
            // Sorts after the expiry and the invoice of the same close.
            ChangeOutcome::Started { key, credits } => (key, "start", *credits),
            ChangeOutcome::Invoiced { month, credits } => {
                let (entry_id, cause) = (self.sources.new_id("inv"), Cause::Invoiced { month: *month });
                let entry = Entry { entry_id, cause, credits: *credits, at: now };
                let key = ItemKey::ours(workspace, &format!("invoice#{month}"));
                let item = entry_item::item_of(workspace, &key, None, &entry)?;
                return Ok(entry_item::put(&self.table, item)?);
            }
        };
        let entry_id = self.sources.new_id(prefix);
        Ok(entry_item::complete(&self.table, workspace, pk, (&entry_id, credits, now))?)
    }

    /// Reads the balance, with the time at which DynamoDB says that it answered.
    async fn read_dated(&self, workspace: &WorkspaceId) -> Result<(Option<Balance>, Timestamp), Fault> {
        let (item, answered_at) = self.get_dated(&ItemKey::balance(workspace)).await?;
        Ok((item.as_ref().map(balance_item::read).transpose()?, answered_at))
    }
}
