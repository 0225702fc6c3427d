//! `POST /_local/verify`: recomputes each balance and each month's usage from the ledger, and lists the differences.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use credits_core::credits::{Credits, OutOfRange};
use credits_core::id::WorkspaceId;
use credits_core::month::Month;
use credits_store::ledger::LedgerQuery;
use credits_store::usage::audit::{Audit, Difference};
use credits_store::{Clock, Fault, Store};
use jiff::SignedDuration;
use serde::Serialize;

use crate::state::Shared;

/// How often the comparison of a workspace is repeated while it changes.
const MAX_LOOKS: u8 = 10;

const ENTRIES_A_PAGE: u16 = 1_000;

/// The result of a verification.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verified {
    workspaces: u64,
    months: u64,
    entries: u64,
    differences: Vec<Found>,
}

/// A difference, or a value that kept changing during the comparison.
#[derive(Debug, Serialize)]
struct Found {
    workspace_id: WorkspaceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    month: Option<Month>,
    of: String,
    ledger: String,
    kept: String,
}

/// Why the verification failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("the table failed")]
    Store(#[from] Fault),
    #[error("could not scan the table")]
    Scan(#[source] Box<aws_sdk_dynamodb::Error>),
    /// A sum of the ledger overflows.
    #[error(transparent)]
    Sum(#[from] OutOfRange),
}

/// Verifies all workspaces.
pub(crate) async fn verify(shared: &std::sync::Arc<Shared>) -> Result<Verified, VerifyError> {
    let store = shared.gateway.functions.observer();
    let mut verified = Verified::default();
    for workspace in workspaces(&shared.client, &shared.table).await? {
        verified.workspaces = verified.workspaces.saturating_add(1);
        verified.balance(store, &workspace).await?;
        let Some(known) = store.workspaces().get(&workspace).await? else { continue };
        let mut month = Month::of(shared.clock.now());
        loop {
            verified.month(shared, store, (&workspace, month)).await?;
            if month <= Month::of(known.created_at) {
                break;
            }
            month = month.last();
        }
    }
    Ok(verified)
}

impl Verified {
    /// Checks that the ledger sums to `available + held`.
    async fn balance(&mut self, store: &Store, workspace: &WorkspaceId) -> Result<(), VerifyError> {
        for _ in 0..MAX_LOOKS {
            let Some(before) = store.balances().get(workspace).await? else { return Ok(()) };
            let (sum, entries) = ledger_sum(store, workspace).await?;
            let after = store.balances().get(workspace).await?;
            if after.is_some_and(|after| after.version == before.version) {
                let shown = before.available()?.plus(before.all_held()?)?;
                self.entries = self.entries.saturating_add(entries);
                if shown != sum {
                    self.found((workspace, None), "balance", &sum, &shown);
                }
                return Ok(());
            }
        }
        self.found((workspace, None), "balance", &"moving", &"moving");
        Ok(())
    }

    /// Checks that a month's usage matches its ledger, group by group.
    async fn month(
        &mut self,
        shared: &std::sync::Arc<Shared>,
        store: &Store,
        (workspace, month): (&WorkspaceId, Month),
    ) -> Result<(), VerifyError> {
        self.months = self.months.saturating_add(1);
        for _ in 0..MAX_LOOKS {
            // An unprocessed stream record is not yet counted in the usage.
            shared.worker.drain(shared).await;
            let Audit::Compared(differences) =
                store.usage_audit().check(workspace, month, SignedDuration::ZERO).await?
            else {
                continue;
            };
            for Difference { of, ledger, usage } in differences {
                let said =
                    |tally: credits_core::usage::Tally| format!("{} in {}", tally.credits, tally.count);
                self.found((workspace, Some(month)), &of, &said(ledger), &said(usage));
            }
            return Ok(());
        }
        self.found((workspace, Some(month)), "usage", &"moving", &"moving");
        Ok(())
    }

    fn found(
        &mut self,
        (workspace, month): (&WorkspaceId, Option<Month>),
        of: &str,
        ledger: &impl ToString,
        kept: &impl ToString,
    ) {
        self.differences.push(Found {
            workspace_id: workspace.clone(),
            month,
            of: of.to_owned(),
            ledger: ledger.to_string(),
            kept: kept.to_string(),
        });
    }
}

async fn ledger_sum(store: &Store, workspace: &WorkspaceId) -> Result<(Credits, u64), VerifyError> {
    let (mut sum, mut entries, mut after) = (Credits::ZERO, 0_u64, None);
    loop {
        let query = LedgerQuery { limit: ENTRIES_A_PAGE, after: after.as_ref(), kind: None };
        let page = store.ledger().page(workspace, &query).await?;
        for entry in &page.items {
            sum = sum.plus(entry.credits)?;
            entries = entries.saturating_add(1);
        }
        after = page.next;
        if after.is_none() {
            return Ok((sum, entries));
        }
    }
}

/// Returns all workspaces of the table. A scan is acceptable for a local table only.
pub(crate) async fn workspaces(client: &Client, table: &str) -> Result<Vec<WorkspaceId>, VerifyError> {
    let mut pages = client
        .scan()
        .table_name(table)
        .filter_expression("begins_with(pk, :workspace)")
        .expression_attribute_values(":workspace", AttributeValue::S("workspace#".to_owned()))
        .projection_expression("pk")
        .into_paginator()
        .items()
        .send();
    let mut found = Vec::new();
    while let Some(item) = pages.next().await {
        let item = item.map_err(|error| VerifyError::Scan(Box::new(error.into())))?;
        let key = item.get("pk").and_then(|key| key.as_s().ok()?.strip_prefix("workspace#"));
        found.extend(key.and_then(|id| id.parse().ok()));
    }
    found.sort();
    Ok(found)
}
