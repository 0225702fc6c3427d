//! All code that uses DynamoDB: items, keys, expressions, and one conditional write for each posting.
//!
//! No code here reads a balance to decide whether to spend: core states the condition, and DynamoDB enforces it. There
//! is no `Store` trait and no mocked store; tests replace the endpoint, not the type.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use tokio::time::Instant;

pub mod agreements;
pub mod alerts;
pub mod auto_top_ups;
pub mod balances;
pub mod batches;
mod close;
pub mod debits;
pub mod digest;
pub mod due;
pub mod enrolments;
pub mod error;
pub mod failures;
pub mod grants;
pub mod holds;
pub mod idempotency;
pub mod invoices;
mod items;
pub mod ledger;
pub mod mails;
pub mod payments;
mod posting;
pub mod refused;
pub mod runs;
pub mod sources;
pub mod stream;
pub mod table;
pub mod usage;
pub mod workspaces;

pub use error::Fault;
pub use idempotency::{Claim, Fingerprint, IdempotencyKey};
pub use sources::{Clock, Randomness, Sources};

/// The table, with the clock, randomness and deadline of the calls on it.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    /// The same client without retries and timeouts of the SDK, for writes.
    writer: Client,
    table: Arc<str>,
    sources: Sources,
    deadline: Option<Instant>,
}

impl Store {
    /// Creates a store on one table.
    #[must_use]
    pub fn new(client: Client, table: &str, sources: Sources) -> Self {
        let writer = table::transaction::writer(&client);
        Self { client, writer, table: table.into(), sources, deadline: None }
    }

    /// Returns the same store for one invocation, whose retries end before `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Returns the clock and randomness that were passed in.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns the present instant, truncated to the millisecond as in items.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.sources.now()
    }
}

impl Store {
    /// Returns the enterprise agreements.
    #[must_use]
    pub fn agreements(&self) -> agreements::AgreementStore<'_> {
        agreements::AgreementStore { store: self }
    }

    /// Returns the low-balance alerts.
    #[must_use]
    pub fn alerts(&self) -> alerts::AlertStore<'_> {
        alerts::AlertStore { store: self }
    }

    /// Returns the automatic top-ups.
    #[must_use]
    pub fn auto_top_ups(&self) -> auto_top_ups::AutoTopUpStore<'_> {
        auto_top_ups::AutoTopUpStore { store: self }
    }

    /// Returns the balances, and the closes of their epochs.
    #[must_use]
    pub fn balances(&self) -> balances::BalanceStore<'_> {
        balances::BalanceStore { store: self }
    }

    /// Returns the debits and batches of debits.
    #[must_use]
    pub fn debits(&self) -> debits::DebitStore<'_> {
        debits::DebitStore { store: self }
    }

    /// Returns the items with a due date.
    #[must_use]
    pub fn due_items(&self) -> due::DueItemStore<'_> {
        due::DueItemStore { store: self }
    }

    /// Returns the enrolments in plans, with their subscriptions and purchases.
    #[must_use]
    pub fn enrolments(&self) -> enrolments::EnrolmentStore<'_> {
        enrolments::EnrolmentStore { store: self }
    }

    /// Returns the failed runs, and the mails that collect them.
    #[must_use]
    pub fn failures(&self) -> failures::FailureStore<'_> {
        failures::FailureStore { store: self }
    }

    /// Returns the grants.
    #[must_use]
    pub fn grants(&self) -> grants::GrantStore<'_> {
        grants::GrantStore { store: self }
    }

    /// Returns the holds, with their captures and settlements.
    #[must_use]
    pub fn holds(&self) -> holds::HoldStore<'_> {
        holds::HoldStore { store: self }
    }

    /// Returns the invoices.
    #[must_use]
    pub fn invoices(&self) -> invoices::InvoiceStore<'_> {
        invoices::InvoiceStore { store: self }
    }

    /// Returns the ledger entries.
    #[must_use]
    pub fn ledger(&self) -> ledger::LedgerStore<'_> {
        ledger::LedgerStore { store: self }
    }

    /// Returns the records of mails.
    #[must_use]
    pub fn mails(&self) -> mails::MailStore<'_> {
        mails::MailStore { store: self }
    }

    /// Returns the payment methods.
    #[must_use]
    pub fn payment_methods(&self) -> payments::methods::PaymentMethodStore<'_> {
        payments::methods::PaymentMethodStore { store: self }
    }

    /// Returns the payments.
    #[must_use]
    pub fn payments(&self) -> payments::PaymentStore<'_> {
        payments::PaymentStore { store: self }
    }

    /// Returns the postings with their ledger entries.
    #[must_use]
    pub(crate) fn postings(&self) -> posting::PostingStore<'_> {
        posting::PostingStore { store: self }
    }

    /// Returns the purchases and their checkouts.
    #[must_use]
    pub fn purchases(&self) -> payments::purchases::PurchaseStore<'_> {
        payments::purchases::PurchaseStore { store: self }
    }

    /// Returns the refunds of payments.
    #[must_use]
    pub fn refunds(&self) -> payments::refunds::RefundStore<'_> {
        payments::refunds::RefundStore { store: self }
    }

    /// Returns the workflow runs.
    #[must_use]
    pub fn runs(&self) -> runs::RunStore<'_> {
        runs::RunStore { store: self }
    }

    /// Returns the payments that match no purchase.
    #[must_use]
    pub fn unmatched_payments(&self) -> payments::unmatched::UnmatchedPaymentStore<'_> {
        payments::unmatched::UnmatchedPaymentStore { store: self }
    }

    /// Returns the usage by month and group.
    #[must_use]
    pub fn usage(&self) -> usage::UsageStore<'_> {
        usage::UsageStore { store: self }
    }

    /// Returns the the audit of usage against the ledger.
    #[must_use]
    pub fn usage_audit(&self) -> usage::audit::UsageAuditStore<'_> {
        usage::audit::UsageAuditStore { store: self }
    }

    /// Returns the workspaces.
    #[must_use]
    pub fn workspaces(&self) -> workspaces::WorkspaceStore<'_> {
        workspaces::WorkspaceStore { store: self }
    }
}
