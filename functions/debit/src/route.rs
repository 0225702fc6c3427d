//! The calls of the debit function.

use credits_runtime::Route;

/// The calls of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebitRoute {
    Debit,
    DebitBatch,
    Quote,
    PlaceHold,
    PlaceHolds,
    SettleHolds,
    GetHold,
    Capture,
    SettleHold,
}

impl Route for DebitRoute {
    const KEYS: &'static [(&'static str, Self)] = &[
        ("POST /v1/workspaces/{workspace_id}/debits", Self::Debit),
        ("POST /v1/workspaces/{workspace_id}/debits/batch", Self::DebitBatch),
        ("POST /v1/workspaces/{workspace_id}/quotes", Self::Quote),
        ("POST /v1/workspaces/{workspace_id}/holds", Self::PlaceHold),
        ("POST /v1/workspaces/{workspace_id}/holds/batch", Self::PlaceHolds),
        ("POST /v1/workspaces/{workspace_id}/holds/batch/settle", Self::SettleHolds),
        ("GET /v1/workspaces/{workspace_id}/holds/{hold_id}", Self::GetHold),
        ("POST /v1/workspaces/{workspace_id}/holds/{hold_id}/captures", Self::Capture),
        ("POST /v1/workspaces/{workspace_id}/holds/{hold_id}/settle", Self::SettleHold),
    ];
}
