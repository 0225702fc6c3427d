//! Closing what is due: whoever meets an expired grant or the fence closes the epoch and goes on.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::balance::Balance;
use credits_core::close::{Closing, Happened, Outcome, close_entry_key};
use credits_core::id::WorkspaceId;
use credits_core::ledger::{Cause, Entry};
use jiff::Timestamp;

use crate::ended_grants::end_write;
use crate::error::{Chain, Corrupt, Fault};
use crate::expression::Expression;
use crate::keys::ItemKey;
use crate::transaction::Outcome as Sent;
use crate::{Store, attribute, balance_item, entry_item, running_grants};

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
            let (balance, no_later_than) = self.read_dated_balance(workspace).await?;
            let now = self.now().min(no_later_than);
            let due = match balance {
                Some(balance) if balance.is_due(now) => balance,
                balance => return Ok(Current { balance, no_later_than }),
            };
            let closing = due.close(now).map_err(Corrupt::from)?;
            match self.transact(self.closing_writes(workspace, &due, &closing)?).await? {
                Sent::Written => {
                    tracing::debug!(%workspace, epoch = due.epoch, "closed an epoch");
                    if !closing.next.is_due(now) {
                        return Ok(Current { balance: Some(closing.next), no_later_than });
                    }
                }
                Sent::Unknown(error) => attempts.after_failure(error).await?,
                // Whoever loses reads again.
                Sent::Cancelled(_) => attempts.after_conflict().await?,
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
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let next = balance_item::item_of(workspace, &closing.next);
        let unchanged = Expression::new().when("version", "=", attribute::number(read.version));
        let mut writes = vec![unchanged.put(&self.table, next)?];
        if !(read.grants.is_empty() && closing.next.grants.is_empty()) {
            writes.push(running_grants::write(&self.table, workspace, &closing.next)?);
        }
        for (place, outcome) in closing.outcomes.iter().enumerate() {
            writes.push(self.outcome_write(workspace, outcome, &close_entry_key(read.epoch, place))?);
        }
        for ended in &closing.ended {
            writes.push(end_write(&self.table, workspace, ended)?);
        }
        Ok(writes)
    }

    /// The ledger entry of an outcome. A void's, a start's and a claw-back's waits under its key; an invoice's is named by its
    /// month, and an expiry's by the close.
    fn outcome_write(
        &self,
        workspace: &WorkspaceId,
        outcome: &Outcome,
        close_key: &str,
    ) -> Result<TransactWriteItem, Fault> {
        let (prefix, waiting) = match &outcome.what {
            Happened::Voided(key) => ("void", key),
            // Of one instant, it sorts after the expiry and the invoice.
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
        let entry_id = self.sources.new_id(prefix);
        Ok(entry_item::complete(&self.table, workspace, waiting, (&entry_id, outcome.credits, outcome.at))?)
    }

    fn new_entry(
        &self,
        workspace: &WorkspaceId,
        outcome: &Outcome,
        (prefix, key, cause): (&str, &str, Cause),
    ) -> Result<TransactWriteItem, Fault> {
        let (credits, at) = (outcome.credits, outcome.at);
        let entry = Entry { entry_id: self.sources.new_id(prefix), cause, credits, at };
        let item = entry_item::item_of(workspace, &ItemKey::ours(workspace, key), None, &entry)?;
        Ok(entry_item::put(&self.table, item)?)
    }
}
