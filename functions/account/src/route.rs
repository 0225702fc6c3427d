//! The calls of the account function.

use credits_runtime::Route;

/// The calls of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountRoute {
    PutWorkspace,
    Workspace,
    Catalog,
    Balance,
    Ledger,
    LedgerCsv,
    TopUp,
    TopUpStatus,
    PaymentMethod,
    ReplacePaymentMethod,
    RemovePaymentMethod,
    Payments,
    RefundPayment,
    Preview,
    Subscribe,
    Subscription,
    Unsubscribe,
    PutAgreement,
    Agreement,
    PutPricing,
    Pricing,
    Invoices,
    SetInvoiceStatus,
    PutAlerts,
    Alerts,
    PutAutoTopUp,
    AutoTopUp,
    RefundDebit,
    Grant,
    VoidGrant,
    StartRun,
    Runs,
    Run,
    CompleteRun,
    Usage,
    UsageHistory,
    UsageDetail,
    UnmatchedPayments,
    ResolvePayment,
    Openapi,
    Page,
    PageFile,
}

impl Route for AccountRoute {
    const KEYS: &'static [(&'static str, Self)] = &[
        ("PUT /v1/workspaces/{workspace_id}", Self::PutWorkspace),
        ("GET /v1/workspaces/{workspace_id}", Self::Workspace),
        ("GET /v1/catalog", Self::Catalog),
        ("GET /v1/workspaces/{workspace_id}/balance", Self::Balance),
        ("GET /v1/workspaces/{workspace_id}/ledger", Self::Ledger),
        ("GET /v1/workspaces/{workspace_id}/ledger.csv", Self::LedgerCsv),
        ("POST /v1/workspaces/{workspace_id}/top-ups", Self::TopUp),
        ("GET /v1/workspaces/{workspace_id}/top-ups/{top_up_id}", Self::TopUpStatus),
        ("GET /v1/workspaces/{workspace_id}/payment-method", Self::PaymentMethod),
        ("POST /v1/workspaces/{workspace_id}/payment-method", Self::ReplacePaymentMethod),
        ("DELETE /v1/workspaces/{workspace_id}/payment-method", Self::RemovePaymentMethod),
        ("GET /v1/workspaces/{workspace_id}/payments", Self::Payments),
        ("POST /v1/workspaces/{workspace_id}/payments/{payment_id}/refund", Self::RefundPayment),
        ("POST /v1/workspaces/{workspace_id}/subscription/preview", Self::Preview),
        ("PUT /v1/workspaces/{workspace_id}/subscription", Self::Subscribe),
        ("GET /v1/workspaces/{workspace_id}/subscription", Self::Subscription),
        ("DELETE /v1/workspaces/{workspace_id}/subscription", Self::Unsubscribe),
        ("PUT /v1/workspaces/{workspace_id}/agreement", Self::PutAgreement),
        ("GET /v1/workspaces/{workspace_id}/agreement", Self::Agreement),
        ("PUT /v1/workspaces/{workspace_id}/pricing", Self::PutPricing),
        ("GET /v1/workspaces/{workspace_id}/pricing", Self::Pricing),
        ("GET /v1/workspaces/{workspace_id}/invoices", Self::Invoices),
        ("POST /v1/workspaces/{workspace_id}/invoices/{invoice_id}/status", Self::SetInvoiceStatus),
        ("PUT /v1/workspaces/{workspace_id}/alerts", Self::PutAlerts),
        ("GET /v1/workspaces/{workspace_id}/alerts", Self::Alerts),
        ("PUT /v1/workspaces/{workspace_id}/auto-top-up", Self::PutAutoTopUp),
        ("GET /v1/workspaces/{workspace_id}/auto-top-up", Self::AutoTopUp),
        ("POST /v1/workspaces/{workspace_id}/debits/{debit_id}/refund", Self::RefundDebit),
        ("POST /v1/workspaces/{workspace_id}/grants", Self::Grant),
        ("POST /v1/workspaces/{workspace_id}/grants/{grant_id}/void", Self::VoidGrant),
        ("POST /v1/workspaces/{workspace_id}/runs", Self::StartRun),
        ("GET /v1/workspaces/{workspace_id}/runs", Self::Runs),
        ("GET /v1/workspaces/{workspace_id}/runs/{run_id}", Self::Run),
        ("POST /v1/workspaces/{workspace_id}/runs/{run_id}/complete", Self::CompleteRun),
        ("GET /v1/workspaces/{workspace_id}/usage", Self::Usage),
        ("GET /v1/workspaces/{workspace_id}/usage/history", Self::UsageHistory),
        ("GET /v1/workspaces/{workspace_id}/usage/detail", Self::UsageDetail),
        ("GET /v1/unmatched-payments", Self::UnmatchedPayments),
        ("POST /v1/unmatched-payments/{payment_id}/resolve", Self::ResolvePayment),
        ("GET /v1/openapi.json", Self::Openapi),
        ("GET /settings/ai-credits", Self::Page),
        ("GET /settings/ai-credits/{file}", Self::PageFile),
    ];

    fn has_query(self) -> bool {
        matches!(
            self,
            Self::Catalog
                | Self::Ledger
                | Self::LedgerCsv
                | Self::Payments
                | Self::Runs
                | Self::Usage
                | Self::UsageHistory
                | Self::UsageDetail
                | Self::UnmatchedPayments
        )
    }
}
