//! Agreements and their invoices: credit limits, monthly commitments, and an invoice after each month (M8).

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::agreement::{Agreement, AgreementState, AgreementStep, OtherCurrency};
use credits_core::change::{Change, QueuedChange};
use credits_core::claw_back::Clawed;
use credits_core::credits::Credits;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::id::WorkspaceId;
use credits_core::invoice::{BilledUse, InvoiceTooLarge};
use credits_core::ledger::{Cause, Entry};
use credits_core::month::Month;
use credits_core::portion::Portion;
use credits_core::posting::Posting;
use jiff::Timestamp;

use crate::error::{Corrupt, Fault};
use crate::items::versioned::{self, VersionedItem};
use crate::items::{balance_item, entry_item};
use crate::lanes::settings::SettingsWrite;
use crate::posting::{EntryState, PostingOrder, Unposted};
use crate::table::Store;
use crate::table::attribute::Reader;
use crate::table::index::{Cursor, IndexQuery};
use crate::table::keys::{ItemKey, position};
use crate::table::transaction::TransactionOutcome;
use crate::usage::recount::SETTLED_AFTER;

const STANDING: &str = "standing";

/// The maximum number of steps that one call takes: enough for a year of months that no sweep has handled.
const MAX_STEPS: usize = 40;

/// The ledger entries in one page when the lines of an invoice are computed.
const ENTRIES_A_PAGE: usize = 1_000;

/// The reason why an agreement can't be set or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgreementRefusal {
    #[error("the workspace does not exist")]
    WorkspaceNotFound,
    /// An amount that is not invoiced yet has another currency, and an invoice has only one.
    #[error(transparent)]
    OtherCurrency(#[from] OtherCurrency),
    /// The use of one month could exceed the maximum amount of an invoice.
    #[error(transparent)]
    InvoiceTooLarge(#[from] InvoiceTooLarge),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Enterprise agreements.
#[derive(Debug, Clone, Copy)]
pub struct AgreementStore<'a> {
    pub(crate) store: &'a Store,
}

impl AgreementStore<'_> {
    /// Returns the workspace's agreement; `None` if none was ever set.
    pub async fn get(self, workspace: &WorkspaceId) -> Result<Option<Agreement>, Fault> {
        Ok(self.standing(workspace).await?.map(|(standing, _)| standing.agreement))
    }

    /// Sets the agreement and returns whether it is the workspace's first.
    ///
    /// Grants the first month of a commitment at once.
    pub async fn set(self, workspace: &WorkspaceId, agreement: &Agreement) -> Result<bool, AgreementRefusal> {
        // Months that have ended are invoiced under the terms that were agreed while they ran.
        if !self.advance(workspace).await? {
            return Err(Fault::Contended.into());
        }
        let set = |before: &AgreementState, debt: Credits| {
            // Until this is written, the debt may still grow up to the previous credit limit.
            let most = debt.max(before.agreement.credit_limit).max(agreement.credit_limit);
            agreement.invoicing.map_or(Ok(()), |invoicing| invoicing.check(most))?;
            Ok(before.agreed(agreement, self.store.now())?)
        };
        let first = self.change(workspace, set).await?;
        self.advance(workspace).await?;
        Ok(first)
    }

    /// Ends the agreement of a workspace that leaves Enterprise. The open month is still invoiced.
    pub async fn end(self, workspace: &WorkspaceId) -> Result<(), AgreementRefusal> {
        if self.standing(workspace).await?.is_none_or(|(standing, _)| standing.ends) {
            return Ok(());
        }
        // Months that have ended are invoiced under the terms that were agreed while they ran. The agreement ends even
        // if such an invoice has to wait. Use in the month that has just begun is then debt that is not invoiced.
        self.advance(workspace).await?;
        self.change(workspace, |before, _| Ok(before.ended(self.store.now()))).await?;
        self.advance(workspace).await?;
        Ok(())
    }

    /// Takes every step of the agreement that is due, and returns whether none is left.
    ///
    /// Leaves a month for later if it has not ended by DynamoDB's clock, or if the index does not show all of its use
    /// yet. Late and concurrent calls have the same result.
    pub async fn advance(self, workspace: &WorkspaceId) -> Result<bool, Fault> {
        for _ in 0..MAX_STEPS {
            let Some((standing, version)) = self.standing(workspace).await? else { return Ok(true) };
            match standing.step(self.store.now()) {
                AgreementStep::Wait => return Ok(true),
                AgreementStep::TakeBack(month, portion) => {
                    self.take_back(workspace, &standing, version, month, &portion).await?;
                }
                AgreementStep::Grant(month, portion) => {
                    self.grant_portion(workspace, &standing, version, month, portion).await?;
                }
                AgreementStep::Invoice(month) => {
                    if !self.store.balances().close(workspace).await? {
                        return Ok(false);
                    }
                    if !self.invoice_month(workspace, &standing, version, month).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Err(Fault::Contended)
    }

    async fn standing(self, workspace: &WorkspaceId) -> Result<Option<(AgreementState, u64)>, Fault> {
        let Some(item) = self.store.get(&ItemKey::agreement(workspace)).await? else { return Ok(None) };
        Ok(Some(versioned::read(&item, STANDING)?))
    }

    /// Changes the agreement, the balance's credit limit and its billing in one transaction.
    ///
    /// Returns whether the agreement is the workspace's first. `change` receives the debt, including the credits that
    /// open holds keep.
    async fn change(
        self,
        workspace: &WorkspaceId,
        change: impl Fn(&AgreementState, Credits) -> Result<AgreementState, AgreementRefusal>,
    ) -> Result<bool, AgreementRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let kept = self.standing(workspace).await?;
            let first = kept.is_none();
            let (before, version) = kept.unwrap_or_else(|| (AgreementState::begun(self.store.now()), 0));
            let balance = self.store.balances().read_sums(workspace).await?.unwrap_or_default();
            let available = balance.available().map_err(|sum| Fault::Corrupt(sum.into()))?;
            let after = change(&before, available.negated().or_zero())?;
            let posting = posting_of(&before.agreement, &after.agreement, after.open, self.store.now());
            let posting = posting.map_err(|sum| Fault::Corrupt(sum.into()))?;
            let standing = self.standing_write(workspace, version, &after).map_err(Fault::from)?;
            match self.store.lanes().post_settings(workspace, &posting, vec![standing]).await? {
                SettingsWrite::Written => {
                    self.store.balances().settle_fence(workspace).await?;
                    return Ok(first);
                }
                SettingsWrite::NoBalance => return Err(AgreementRefusal::WorkspaceNotFound),
                SettingsWrite::Changed => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Grants a month's portion. A portion of a later month can be spent from the first second of its month.
    async fn grant_portion(
        self,
        workspace: &WorkspaceId,
        standing: &AgreementState,
        version: u64,
        month: Month,
        portion: Portion,
    ) -> Result<(), Fault> {
        let (grant_id, expires_at) = (self.store.sources.new_id("gr"), month.end());
        let granted = portion.granted(month).map_err(Corrupt::from)?;
        let key = portion_key(workspace, month, portion.number);
        let kind = GrantKind::Commitment;
        let amount = granted.credits();
        let grant = ExpiringGrant {
            grant_id: grant_id.clone(),
            kind,
            granted,
            amount,
            expires_at,
            clawed: Clawed::default(),
        };
        let ahead = month.start() > self.store.now();
        let change = if ahead {
            Change::Next(NextGrant { starts_at: month.start(), key: key.pk.clone(), grant })
        } else {
            Change::Grant(grant)
        };
        let reason = format!("{} of {month}", portion.description(month));
        let (grant_kind, expires_at) = (kind, Some(expires_at));
        let cause = Cause::Grant { grant_id: grant_id.clone(), grant_kind, expires_at, reason };
        let after = standing.with_grant(month, portion);
        let order = PostingOrder {
            workspace,
            key,
            fingerprint: None,
            entry_id: grant_id,
            credits: amount,
            cause,
            state: if ahead { EntryState::WaitsForClose } else { EntryState::Complete },
            debit: None,
            priced_with: None,
            build_posting: &|now| Posting::queue_change(change.clone(), now),
            extra_writes: vec![self.standing_write(workspace, version, &after)?],
        };
        self.post_step(order).await
    }

    /// Takes back the excess of a portion that ended early. Of a withdrawn portion, takes back all that is left.
    async fn take_back(
        self,
        workspace: &WorkspaceId,
        standing: &AgreementState,
        version: u64,
        month: Month,
        portion: &Portion,
    ) -> Result<(), Fault> {
        let after = standing.with_taken_back(month, portion.number);
        let standing_write = self.standing_write(workspace, version, &after)?;
        let granted = portion_key(workspace, month, portion.number);
        let entry = self.store.get(&granted).await?.ok_or(Corrupt::Attribute("grant"))?;
        let Cause::Grant { grant_id, .. } = entry_item::read_cause(&entry)? else {
            return Err(Corrupt::Attribute("grant").into());
        };
        let key = end_key(workspace, month, portion.number);
        let (entry_key, id) = (key.pk.clone(), grant_id.clone());
        let excess = portion.excess(month).map_err(Corrupt::from)?;
        let change = match excess {
            _ if portion.is_withdrawn() => Change::Withdraw { key: entry_key, grant_ids: vec![id] },
            Some(by) => Change::Reduce { key: entry_key, grant_id: id, by },
            // The portion is so small that fewer days round up to the same credits: nothing is taken back.
            None => return self.store.transact_unless_changed(vec![standing_write]).await.map(drop),
        };
        let reason = "the commitment ended".to_owned();
        let order = PostingOrder {
            workspace,
            key,
            fingerprint: None,
            entry_id: self.store.sources.new_id("void"),
            credits: Credits::ZERO,
            cause: Cause::Void { grant_id, reason },
            state: EntryState::WaitsForClose,
            debit: None,
            priced_with: None,
            build_posting: &|now| Posting::queue_change(change.clone(), now),
            extra_writes: vec![standing_write],
        };
        self.post_step(order).await
    }

    /// Posts a step. Ignores a lost race with another caller: the next iteration reads the agreement again.
    async fn post_step(self, order: PostingOrder<'_>) -> Result<(), Fault> {
        let workspace = order.workspace;
        match self.store.postings().post(order).await {
            Ok(_) => self.store.balances().settle_fence(workspace).await?,
            Err(Unposted::KeyTaken(_) | Unposted::ExtraConditionFailed) => {}
            Err(Unposted::Fault(fault)) => return Err(fault),
            Err(Unposted::NoBalance | Unposted::Insufficient(_) | Unposted::OtherPrices(_)) => {
                return Err(Corrupt::Attribute("balance").into());
            }
        }
        Ok(())
    }

    /// Invoices a month that has ended. The balance's close must have billed the month's debt before.
    ///
    /// Returns `false` if the index does not show all of the month's use yet.
    async fn invoice_month(
        self,
        workspace: &WorkspaceId,
        standing: &AgreementState,
        version: u64,
        month: Month,
    ) -> Result<bool, Fault> {
        let billed = self.store.get(&ItemKey::ours(workspace, &format!("invoice#{month}"))).await?;
        let used = match billed.as_ref().map(entry_item::read).transpose()? {
            Some(entry) => self.used_beyond_credits(workspace, month, &entry).await?,
            None => Some(BTreeMap::new()),
        };
        let Some(used) = used else {
            tracing::info!(%workspace, %month, "an invoice waits until the index shows the month's use");
            return Ok(false);
        };
        let taken_back = self.taken_back(workspace, standing, month).await?;
        let invoice = standing.invoice(month, &taken_back, &used, self.store.now()).map_err(Corrupt::from)?;
        let after =
            if invoice.is_some() { standing.after_invoice(month) } else { standing.after_month(month) };
        let mut writes = vec![self.standing_write(workspace, version, &after)?];
        if let Some(invoice) = &invoice {
            let key = ItemKey::invoice(workspace, after.invoices);
            writes.push(self.store.invoices().write(workspace, &key, None, invoice)?);
        }
        if standing.ends {
            let ends = Posting::queue_change(Change::Invoicing(None), self.store.now());
            writes.push(balance_item::write_of(&self.store.table, workspace, &ends, "agreement")?);
        }
        match self.store.transact(writes).await? {
            TransactionOutcome::Written => self.store.balances().settle_fence(workspace).await?,
            // Whether or not it was written, the next iteration reads the agreement again.
            TransactionOutcome::Unknown(error) => {
                tracing::warn!(%workspace, error = %crate::error::Chain(&*error), "an invoice got no reply");
            }
            TransactionOutcome::Cancelled(_) => {}
        }
        Ok(true)
    }

    /// Returns the credits that early ends of the month's portions have taken back, by portion number.
    async fn taken_back(
        self,
        workspace: &WorkspaceId,
        standing: &AgreementState,
        month: Month,
    ) -> Result<BTreeMap<u64, Credits>, Fault> {
        let mut taken_back = BTreeMap::new();
        for portion in standing.portions_of(month).filter(|portion| portion.has_ended_early(month)) {
            // If the entry is missing, there was nothing to take back.
            if let Some(entry) = self.store.get(&end_key(workspace, month, portion.number)).await? {
                taken_back.insert(portion.number, Reader(&entry).credits("credits")?.negated());
            }
        }
        Ok(taken_back)
    }

    /// Returns the use beyond credits in a month, by operation; `None` if the index does not show all of the month yet.
    ///
    /// The index is eventually consistent and does not report what it lacks. So its entries of the month must sum to
    /// the consumption that the balance has counted. From `SETTLED_AFTER` after the month's end, the ledger counts as
    /// complete.
    async fn used_beyond_credits(
        self,
        workspace: &WorkspaceId,
        month: Month,
        billed: &Entry,
    ) -> Result<Option<BTreeMap<String, Credits>>, Fault> {
        let settled = month.end().checked_add(SETTLED_AFTER).is_ok_and(|settled| settled <= self.store.now());
        let mut unseen = match self.store.balances().read_sums(workspace).await? {
            Some(balance) if !settled => balance.consumed_in(month),
            _ => Credits::ZERO,
        };
        let mut used = BilledUse::of(month, billed.credits);
        let mut explained = false;
        let partitions = self.store.ledger().partitions(workspace).await?;
        let mut after: Option<Cursor> = position(billed.at, billed.entry_id.as_str()).parse().ok();
        while after.is_some() {
            let listing = IndexQuery {
                partitions: &partitions,
                limit: ENTRIES_A_PAGE,
                after: after.as_ref(),
                filter: None,
            };
            let page = self.store.page(listing, entry_item::read).await?;
            for entry in page.items.iter().filter(|entry| Month::of(entry.at) == month) {
                let spent = entry.consumed();
                unseen = spent.and_then(|spent| unseen.minus(spent)).map_err(Corrupt::from)?;
            }
            for entry in &page.items {
                explained = explained || !used.take(entry).map_err(Corrupt::from)?;
            }
            let of_earlier_month = page.items.last().is_some_and(|entry| entry.at < month.start());
            let ends = of_earlier_month || (explained && settled);
            after = page.next.filter(|_| !ends);
        }
        Ok((settled || unseen.is_zero()).then(|| used.by_operation()))
    }

    fn standing_write(
        self,
        workspace: &WorkspaceId,
        read_version: u64,
        after: &AgreementState,
    ) -> Result<TransactWriteItem, Corrupt> {
        let kept = VersionedItem {
            workspace,
            key: ItemKey::agreement(workspace),
            name: STANDING,
            value: after,
            read_version,
            due_at: after.next_due(),
        };
        kept.write(&self.store.table)
    }
}

/// Returns the key of the ledger entry for a portion's grant.
fn portion_key(workspace: &WorkspaceId, month: Month, number: u64) -> ItemKey {
    ItemKey::ours(workspace, &portion_name(month, number))
}

/// Returns the key of the ledger entry for the credits that a portion's early end takes back.
fn end_key(workspace: &WorkspaceId, month: Month, number: u64) -> ItemKey {
    ItemKey::ours(workspace, &format!("{}#end", portion_name(month, number)))
}

/// Returns the part of a key that names a portion. An older version granted one portion a month, with number 0.
fn portion_name(month: Month, number: u64) -> String {
    if number == 0 { format!("commitment#{month}") } else { format!("commitment#{month}#{number}") }
}

/// Returns the change of the balance that follows: its credit limit, and whether each month's debt is billed.
fn posting_of(
    before: &Agreement,
    after: &Agreement,
    open: Month,
    now: Timestamp,
) -> Result<Posting, credits_core::credits::OutOfRange> {
    let mut posting = Posting::limit(before.credit_limit, after.credit_limit)?;
    if before.invoicing.is_some() != after.invoicing.is_some() {
        let first_at = after.invoicing.map(|_| open.end());
        posting.movement.change = Some(QueuedChange { at: now, change: Change::Invoicing(first_at) });
    }
    Ok(posting)
}
