//! Settings in a balance: thresholds and the credit limit. The reserve of open lanes depends on them, so the lanes are recalled
//! first, and the settings are on board of the last settlement.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::WorkspaceId;
use credits_core::posting::{Posting, Refusal};

use crate::error::Fault;
use crate::items::balance_item;
use crate::lanes::LaneStore;
use crate::lanes::recall::RecallStep;
use crate::table::transaction::{Reason, TransactionOutcome, is_busy};

/// What a balance records in `last` for settings, which have no ledger entry.
const SETTINGS: &str = "settings";

/// The result of a write of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingsWrite {
    Written,
    /// The workspace has no balance.
    NoBalance,
    /// A condition failed. After a lost response, an attempt may have been written.
    Changed,
}

impl LaneStore<'_> {
    /// Writes settings of a balance together with other items.
    pub(crate) async fn post_settings(
        self,
        workspace: &WorkspaceId,
        posting: &Posting,
        others: Vec<TransactWriteItem>,
    ) -> Result<SettingsWrite, Fault> {
        let (mut attempts, mut on_board) = (self.store.attempts(), None);
        loop {
            let sent =
                self.store.transact_posting(workspace, posting, SETTINGS, others.clone(), &mut on_board);
            let reasons = match sent.await? {
                TransactionOutcome::Written => return Ok(SettingsWrite::Written),
                TransactionOutcome::Unknown(error) => {
                    attempts.retry_after_failure(error).await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) if is_busy(&reasons) => {
                    attempts.retry_after_conflict().await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
            match reasons.first() {
                Some(Reason::Condition(None)) => return Ok(SettingsWrite::NoBalance),
                Some(Reason::Condition(Some(item))) => {
                    let stored = balance_item::read(item)?;
                    match posting.check(&stored) {
                        // The balance has changed since DynamoDB checked the condition.
                        Ok(()) => {}
                        Err(Refusal::LanesChanged) => {
                            let step = self.recall(workspace, &stored, others.len(), &mut on_board).await?;
                            if step == RecallStep::OfAnotherCaller {
                                attempts.retry_after_recall().await?;
                            }
                            attempts.hurry();
                        }
                        Err(_) => return Ok(SettingsWrite::Changed),
                    }
                    attempts.retry_now()?;
                }
                _ => return Ok(SettingsWrite::Changed),
            }
        }
    }
}
