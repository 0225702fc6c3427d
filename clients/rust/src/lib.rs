#![doc = include_str!("../README.md")]

mod api_key;
mod bulk;
mod call;
mod client;
mod error;
mod folds;
mod key;
mod orders;
mod outage;
mod pages;
mod request;
mod retry;
#[rustfmt::skip]
pub mod schema;
mod send;
mod workspace;

pub use api_key::ApiKey;
pub use bulk::{BulkJob, BulkReport, RecordError};
pub use call::{Begin, Call, Used};
pub use client::Client;
pub use error::{BoxError, Error, FieldError, InsufficientCredits, Problem, Unavailable};
pub use key::IdempotencyKey;
pub use outage::Outage;
pub use pages::{Items, Paged};
pub use request::{Answered, ApiRequest};
pub use reqwest::Method;
pub use retry::Retry;
pub use schema::{
    Balance, Batch, Capture, Catalogue, Consumer, Debit, DebitOrder, DebitRefund, DebitRefundReason, History,
    Hold, HoldOrder, HoldStatus, Holds, Ledger, LedgerEntry, LedgerEntryDetails, Overrun, Plan, Quote, Run,
    RunStatus, Runs, SettleOrder, StartedRun, TopUp, TopUpStatus, Trigger, Usage, WorkspaceDetails,
    WorkspaceProfile,
};
pub use workspace::Workspace;
