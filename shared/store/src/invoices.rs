//! Invoices: written without a number when their month closes, numbered by the sweep, and given a status by the
//! operator.
//!
//! docs/decisions/0002-invoice-numbers.md shows why the series has no gap and no duplicate.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::id::{Id, WorkspaceId};
use credits_core::invoice::{Invoice, InvoiceStatus};

use crate::error::{Corrupt, Fault};
use crate::idempotency::{Claim, KeyUse};
use crate::items::entry_item;
use crate::table::Store;
use crate::table::attribute::{Item, Reader, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{self, INDEX_PK, INDEX_SK, ItemKey, PK, position};
use crate::table::reads::key_of;
use crate::table::transaction::{Reason, TransactionOutcome};

const INVOICE: &str = "invoice";

/// The counter's attribute with the last number of the series.
const LAST: &str = "last";

/// Prefix of the invoice ids of an older version, which numbered each workspace's invoices separately.
const OLDER_ID: &str = "INV-";

/// A stored invoice with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedInvoice {
    pub invoice: Invoice,
    /// Increases by one with every write; 0 for an invoice that an older version wrote.
    pub version: u64,
}

/// A change of an invoice's status by the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    pub status: InvoiceStatus,
    /// The operator's reason.
    pub note: Option<String>,
}

/// Why a change of an invoice's status is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceRefusal {
    #[error("the idempotency key was used for another call")]
    KeyReused,
    #[error("the invoice does not exist")]
    NotFound,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Invoices.
#[derive(Debug, Clone, Copy)]
pub struct InvoiceStore<'a> {
    pub(crate) store: &'a Store,
}

impl InvoiceStore<'_> {
    /// Returns a workspace's invoices, newest first.
    pub async fn list(self, workspace: &WorkspaceId) -> Result<Vec<Invoice>, Fault> {
        let items = self.items(workspace).await?;
        Ok(items.iter().map(|item| Ok(read(item)?.invoice)).collect::<Result<_, Corrupt>>()?)
    }

    /// Numbers a workspace's invoices that await a number, oldest first.
    pub async fn number_all(self, workspace: &WorkspaceId) -> Result<(), Fault> {
        for item in self.items(workspace).await?.iter().rev() {
            if read(item)?.invoice.awaits_number() {
                self.number(workspace, &key_of(item)?).await?;
            }
        }
        Ok(())
    }

    /// Assigns the next number of the series to an invoice. One transaction writes the counter and the invoice, so a
    /// number is used if and only if an invoice has it.
    async fn number(self, workspace: &WorkspaceId, key: &ItemKey) -> Result<(), Fault> {
        let mut attempts = self.store.attempts();
        loop {
            let item = self.store.get(key).await?.ok_or(Corrupt::Attribute(INVOICE))?;
            let VersionedInvoice { invoice, version } = read(&item)?;
            // After a lost response, or beside another sweep, the invoice has a number already. The operator may also
            // have voided it.
            if !invoice.awaits_number() {
                return Ok(());
            }
            let counter = self.store.get(&ItemKey::invoice_numbers()).await?;
            let last = counter.map(|counter| Reader(&counter).number(LAST)).transpose()?;
            let next = last.unwrap_or(0).saturating_add(1);
            let unchanged = match last {
                Some(last) => Expression::new().when(LAST, "=", number(last)),
                None => Expression::new().when_absent(PK),
            };
            let numbered = invoice.numbered(next).map_err(Corrupt::from)?;
            let writes = vec![
                unchanged.set(LAST, number(next)).update(&self.store.table, &ItemKey::invoice_numbers())?,
                self.write(workspace, key, Some(version), &numbered)?,
            ];
            match self.store.transact(writes).await? {
                TransactionOutcome::Written => return Ok(()),
                TransactionOutcome::Unknown(error) => attempts.retry_after_failure(error).await?,
                TransactionOutcome::Cancelled(_) => attempts.retry_after_conflict().await?,
            }
        }
    }

    /// Sets an invoice's status under the caller's key. Returns the invoice. A replay returns what the
    /// first call returned.
    pub async fn set_status(
        self,
        claim: &Claim,
        invoice_id: &Id,
        change: &StatusChange,
    ) -> Result<(Invoice, KeyUse), InvoiceRefusal> {
        let mut attempts = self.store.attempts();
        loop {
            let (key, stored) = self.get(&claim.workspace_id, invoice_id).await?;
            let StatusChange { status, note } = change.clone();
            let after = Invoice { status, note, ..stored.invoice };
            let mut claimed = entry_item::claimed(claim);
            let answered = serde_dynamo::to_attribute_value(&after).map_err(Corrupt::from);
            claimed.insert(INVOICE.into(), answered.map_err(Fault::from)?);
            let writes = vec![
                entry_item::put(&self.store.table, claimed).map_err(Fault::from)?,
                self.write(&claim.workspace_id, &key, Some(stored.version), &after).map_err(Fault::from)?,
            ];
            let reasons = match self.store.transact(writes).await? {
                TransactionOutcome::Written => return Ok((after, KeyUse::First)),
                TransactionOutcome::Unknown(error) => {
                    attempts.retry_after_failure(error).await?;
                    continue;
                }
                TransactionOutcome::Cancelled(reasons) => reasons,
            };
            match reasons.into_iter().next() {
                Some(Reason::Condition(Some(item))) if entry_item::is_of(&item, Some(claim.fingerprint)) => {
                    return Ok((read(&item).map_err(Fault::from)?.invoice, KeyUse::Replay));
                }
                Some(Reason::Condition(_)) => return Err(InvoiceRefusal::KeyReused),
                // The sweep has numbered the invoice, or another call has changed its status: read it again.
                _ => attempts.retry_after_conflict().await?,
            }
        }
    }

    async fn get(
        self,
        workspace: &WorkspaceId,
        invoice_id: &Id,
    ) -> Result<(ItemKey, VersionedInvoice), InvoiceRefusal> {
        for item in self.items(workspace).await? {
            let stored = read(&item).map_err(Fault::from)?;
            if stored.invoice.invoice_id == *invoice_id {
                return Ok((key_of(&item).map_err(Fault::from)?, stored));
            }
        }
        Err(InvoiceRefusal::NotFound)
    }

    async fn items(self, workspace: &WorkspaceId) -> Result<Vec<Item>, Fault> {
        let query = self
            .store
            .query()
            .scan_index_forward(false)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", text(ItemKey::invoice(workspace, 1).pk));
        Ok(self.store.found(query).await?.items.unwrap_or_default())
    }

    /// Builds the write of an invoice on the condition that it is still at the version that was read; `None` creates
    /// it. The invoice is due while it awaits a number.
    pub(crate) fn write(
        self,
        workspace: &WorkspaceId,
        key: &ItemKey,
        read_version: Option<u64>,
        invoice: &Invoice,
    ) -> Result<TransactWriteItem, Corrupt> {
        let mut item = keyed(key);
        item.insert(INVOICE.into(), serde_dynamo::to_attribute_value(invoice)?);
        item.insert("version".into(), number(read_version.unwrap_or(0).saturating_add(1)));
        if invoice.awaits_number() {
            item.insert(INDEX_PK.into(), text(keys::due(workspace)));
            item.insert(INDEX_SK.into(), text(position(invoice.issued_at, workspace.as_str())));
        }
        let unchanged = match read_version {
            None => Expression::new().when_absent(PK),
            Some(0) => Expression::new().when_absent("version").when_exists(),
            Some(version) => Expression::new().when("version", "=", number(version)),
        };
        unchanged.put(&self.store.table, item)
    }
}

/// Reads the invoice of its own item, or of the item of a key under which its status was changed. An older version
/// published invoices at once, with numbers of the workspace's own.
pub(crate) fn read(item: &Item) -> Result<VersionedInvoice, Corrupt> {
    let invoice = item.get(INVOICE).cloned().ok_or(Corrupt::Attribute(INVOICE))?;
    let mut invoice: Invoice = serde_dynamo::from_attribute_value(invoice)?;
    if invoice.invoice_id.as_str().starts_with(OLDER_ID) {
        invoice.number = Some(invoice.invoice_id.clone());
    }
    let versioned = item.contains_key("version");
    let version = if versioned { Reader(item).number("version")? } else { 0 };
    Ok(VersionedInvoice { invoice, version })
}
