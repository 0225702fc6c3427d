//! The areas of the store: each has its own type over the same table.

use crate::agreements::AgreementStore;
use crate::alerts::AlertStore;
use crate::auto_top_ups::AutoTopUpStore;
use crate::balances::BalanceStore;
use crate::debit_refunds::DebitRefundStore;
use crate::debits::DebitStore;
use crate::due::DueItemStore;
use crate::failures::FailureStore;
use crate::grants::GrantStore;
use crate::holds::HoldStore;
use crate::invoices::InvoiceStore;
use crate::lanes::LaneStore;
use crate::ledger::LedgerStore;
use crate::mails::MailStore;
use crate::own_prices::OwnPriceStore;
use crate::payments::PaymentStore;
use crate::payments::methods::PaymentMethodStore;
use crate::payments::purchases::PurchaseStore;
use crate::payments::refunds::RefundStore;
use crate::payments::unmatched::UnmatchedPaymentStore;
use crate::posting::PostingStore;
use crate::runs::RunStore;
use crate::subscriptions::SubscriptionStore;
use crate::table::Store;
use crate::usage::UsageStore;
use crate::usage::recount::RecountSlice;
use crate::usage::recount::UsageAuditStore;
use crate::workspaces::WorkspaceStore;

impl Store {
    /// Returns the enterprise agreements.
    #[must_use]
    pub fn agreements(&self) -> AgreementStore<'_> {
        AgreementStore { store: self }
    }

    /// Returns the low-balance alerts.
    #[must_use]
    pub fn alerts(&self) -> AlertStore<'_> {
        AlertStore { store: self }
    }

    /// Returns the automatic top-ups.
    #[must_use]
    pub fn auto_top_ups(&self) -> AutoTopUpStore<'_> {
        AutoTopUpStore { store: self }
    }

    /// Returns the balances, and the closes of their epochs.
    #[must_use]
    pub fn balances(&self) -> BalanceStore<'_> {
        BalanceStore { store: self }
    }

    /// Returns the refunds of debits.
    #[must_use]
    pub fn debit_refunds(&self) -> DebitRefundStore<'_> {
        DebitRefundStore { store: self }
    }

    /// Returns the own prices of workspaces.
    #[must_use]
    pub fn own_prices(&self) -> OwnPriceStore<'_> {
        OwnPriceStore { store: self }
    }

    /// Returns the debits and batches of debits.
    #[must_use]
    pub fn debits(&self) -> DebitStore<'_> {
        DebitStore { store: self }
    }

    /// Returns the items with a due date.
    #[must_use]
    pub fn due_items(&self) -> DueItemStore<'_> {
        DueItemStore { store: self }
    }

    /// Returns the subscriptions, each with its open charge and what a person still has to pay.
    #[must_use]
    pub fn subscriptions(&self) -> SubscriptionStore<'_> {
        SubscriptionStore { store: self }
    }

    /// Returns the failed runs, and the mails that collect them.
    #[must_use]
    pub fn failures(&self) -> FailureStore<'_> {
        FailureStore { store: self }
    }

    /// Returns the grants.
    #[must_use]
    pub fn grants(&self) -> GrantStore<'_> {
        GrantStore { store: self }
    }

    /// Returns the holds, with their captures and settlements.
    #[must_use]
    pub fn holds(&self) -> HoldStore<'_> {
        HoldStore { store: self }
    }

    /// Returns the invoices.
    #[must_use]
    pub fn invoices(&self) -> InvoiceStore<'_> {
        InvoiceStore { store: self }
    }

    /// Returns the lanes of busy workspaces.
    #[must_use]
    pub fn lanes(&self) -> LaneStore<'_> {
        LaneStore { store: self }
    }

    /// Returns the ledger entries.
    #[must_use]
    pub fn ledger(&self) -> LedgerStore<'_> {
        LedgerStore { store: self }
    }

    /// Returns the records of mails.
    #[must_use]
    pub fn mails(&self) -> MailStore<'_> {
        MailStore { store: self }
    }

    /// Returns the payment methods.
    #[must_use]
    pub fn payment_methods(&self) -> PaymentMethodStore<'_> {
        PaymentMethodStore { store: self }
    }

    /// Returns the payments.
    #[must_use]
    pub fn payments(&self) -> PaymentStore<'_> {
        PaymentStore { store: self }
    }

    /// Returns the postings with their ledger entries.
    #[must_use]
    pub(crate) fn postings(&self) -> PostingStore<'_> {
        PostingStore { store: self }
    }

    /// Returns the purchases and their checkouts.
    #[must_use]
    pub fn purchases(&self) -> PurchaseStore<'_> {
        PurchaseStore { store: self }
    }

    /// Returns the refunds of payments.
    #[must_use]
    pub fn refunds(&self) -> RefundStore<'_> {
        RefundStore { store: self }
    }

    /// Returns the workflow runs.
    #[must_use]
    pub fn runs(&self) -> RunStore<'_> {
        RunStore { store: self }
    }

    /// Returns the payments that match no purchase.
    #[must_use]
    pub fn unmatched_payments(&self) -> UnmatchedPaymentStore<'_> {
        UnmatchedPaymentStore { store: self }
    }

    /// Returns the usage by month and group.
    #[must_use]
    pub fn usage(&self) -> UsageStore<'_> {
        UsageStore { store: self }
    }

    /// Returns the audit of usage against the ledger.
    #[must_use]
    pub fn usage_audit(&self) -> UsageAuditStore<'_> {
        UsageAuditStore { store: self, slice: RecountSlice::WHOLE }
    }

    /// Returns the workspaces.
    #[must_use]
    pub fn workspaces(&self) -> WorkspaceStore<'_> {
        WorkspaceStore { store: self }
    }
}
