//! The types of the API. Instants, days and months are strings, so that you can parse them with any library.
//!
//! `tests/schema` generates this file from `infra/openapi.json`.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alternative {
    /// Packs by size, the largest first.
    pub mix: Vec<PackCount>,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub monthly_credits: Option<Decimal>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub pack: Option<String>,
    pub packs: u64,
    pub price: Price,
    #[serde(deserialize_with = "Option::deserialize")]
    pub tier: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    pub as_of: String,
    /// The workspace's own credits that it can spend. Negative only after a claw-back or within a credit limit.
    #[serde(with = "rust_decimal::serde::str")]
    pub available: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub consumed_this_month: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub credit_limit: Decimal,
    /// Whether the workspace is out of credits: all are spent, or a call was refused while less than 1 % of the last added credits was left.
    pub exhausted: bool,
    /// How long the credits last at the rate of recent days. Empty before the first full day.
    pub forecast: Vec<Forecast>,
    /// The grants that expire.
    pub grants: Vec<ExpiringGrant>,
    #[serde(with = "rust_decimal::serde::str")]
    pub held: Decimal,
    /// The total of the credits that never expire.
    #[serde(with = "rust_decimal::serde::str")]
    pub prepaid: Decimal,
    /// `available` plus `credit_limit`.
    #[serde(with = "rust_decimal::serde::str")]
    pub spendable: Decimal,
    /// The current subscription, or null.
    #[serde(deserialize_with = "Option::deserialize")]
    pub subscription: Option<BalanceSubscription>,
    /// Increases with every change of the balance.
    pub version: u64,
    pub workspace_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BalanceSubscription {
    #[serde(with = "rust_decimal::serde::str")]
    pub allocation: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub remaining: Decimal,
    pub renews_at: String,
    pub tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    pub accepted: u64,
    /// The total of the debited lines.
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub debit_id: String,
    pub lines: Vec<BatchLine>,
    /// The zero-based index of the first line that was not debited. Absent if all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_from: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchLine {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capture {
    pub capture_id: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    /// The hold's remaining credits after this capture.
    #[serde(with = "rust_decimal::serde::str")]
    pub remaining: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Catalogue {
    /// The rate cards that take effect later. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later_rate_cards: Vec<RateCard>,
    pub packs: Vec<Pack>,
    pub plans: Vec<PlanTerms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<CataloguePricing>,
    /// The rate card that is in effect.
    pub rate_card: RateCard,
    /// The seller that receipts name; null if the operator has set none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub seller: Option<Seller>,
    pub tiers: Vec<Tier>,
}

/// The workspace's own prices. Absent without own prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CataloguePricing {
    /// Every price is multiplied by it.
    #[serde(with = "rust_decimal::serde::str")]
    pub multiplier: Decimal,
    /// The version of the workspace's own prices. Absent without own prices.
    pub version: u64,
}

/// Why the credits had been taken back. Absent in entries written by an older version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClawBackReason {
    #[serde(rename = "refund")]
    Refund,
    #[serde(rename = "dispute")]
    Dispute,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

/// Who spends the credits. Usage is grouped by these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum Consumer {
    /// A step of a workflow run. If it is refused for insufficient credits, its run fails.
    #[serde(rename = "workflow_step")]
    WorkflowStep {
        run_id: String,
        step_id: String,
        workflow_id: String,
    },
    /// A person's action in the product.
    #[serde(rename = "action")]
    Action { feature: String, user_id: String },
    /// A record of a bulk job.
    #[serde(rename = "bulk")]
    Bulk {
        feature: String,
        job_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        list_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
    },
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(Map<String, Value>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Debit {
    pub consumer: Consumer,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub debit_id: String,
    pub operation: String,
    pub posted_at: String,
    /// The version of the workspace's own prices. Absent without own prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<u64>,
    pub rate_card: String,
    pub workspace_id: String,
}

/// An AI call. Give either `units`, which the rate card prices, or `credits`, the caller's own price. A call whose rates come to zero is free: it is debited with 0 credits. A price with more than 12 integer digits is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DebitOrder {
    pub consumer: Consumer,
    /// The caller's own price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub credits: Option<Decimal>,
    /// Up to 10 pairs of texts, 512 bytes together. The ledger shows them.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<
        String,
        String,
    >,
    /// A model in the rate card, by its name or an alias. Without one the multiplier is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An operation in the rate card.
    pub operation: String,
    /// Counts by unit.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub units: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DebitRefund {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub debit_id: String,
    pub refund_id: String,
    /// What can still be refunded of the calls that the request meant.
    #[serde(with = "rust_decimal::serde::str")]
    pub refundable: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DebitRefundReason {
    #[serde(rename = "provider_error")]
    ProviderError,
    #[serde(rename = "timeout")]
    Timeout,
    #[serde(rename = "cancelled")]
    Cancelled,
    #[serde(rename = "quality")]
    Quality,
    #[serde(rename = "duplicate")]
    Duplicate,
    #[serde(rename = "other")]
    Other,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExpiringGrant {
    pub expires_at: String,
    pub grant_id: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub granted: Decimal,
    pub kind: ExpiringGrantKind,
    #[serde(with = "rust_decimal::serde::str")]
    pub remaining: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExpiringGrantKind {
    #[serde(rename = "allocation")]
    Allocation,
    #[serde(rename = "promotional")]
    Promotional,
    #[serde(rename = "commitment")]
    Commitment,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Forecast {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits_per_day: Decimal,
    pub days: u64,
    /// The day on which they run out, if the status is `runs_out`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub runs_out_on: Option<String>,
    pub status: ForecastStatus,
}

/// Whether there are no credits left, they run out within a year, or they last longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ForecastStatus {
    #[serde(rename = "out_of_credits")]
    OutOfCredits,
    #[serde(rename = "runs_out")]
    RunsOut,
    #[serde(rename = "lasts")]
    Lasts,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GrantKind {
    #[serde(rename = "prepaid")]
    Prepaid,
    #[serde(rename = "promotional")]
    Promotional,
    #[serde(rename = "commitment")]
    Commitment,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// Newest first.
    pub months: Vec<HistoryMonth>,
    /// Why there is no recommendation.
    #[serde(deserialize_with = "Option::deserialize")]
    pub note: Option<String>,
    /// The cheapest tier and mix of packs that would have refused nothing.
    #[serde(deserialize_with = "Option::deserialize")]
    pub recommendation: Option<HistoryRecommendation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HistoryMonth {
    #[serde(with = "rust_decimal::serde::str")]
    pub allocated: Decimal,
    /// The number of runs that failed for insufficient credits.
    pub blocked: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub blocked_credits: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub clawed_back: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub consumed: Decimal,
    pub count: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub expired: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub granted: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub invoiced: Decimal,
    pub month: String,
    pub paid: Vec<Price>,
    #[serde(with = "rust_decimal::serde::str")]
    pub topped_up: Decimal,
    /// What settlements with `take_available` left unpaid.
    #[serde(with = "rust_decimal::serde::str")]
    pub uncollected: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub voided: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HistoryRecommendation {
    pub alternatives: Vec<Alternative>,
    /// Packs by size, the largest first.
    pub mix: Vec<PackCount>,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub monthly_credits: Option<Decimal>,
    pub months: Vec<RecommendedMonth>,
    /// Null if no packs are recommended, or packs of several sizes (see `mix`).
    #[serde(deserialize_with = "Option::deserialize")]
    pub pack: Option<String>,
    /// The total number of packs.
    pub packs: u64,
    pub paid: Price,
    pub price: Price,
    /// What was needed, what would have covered it, what was paid, and why less was paid, if so.
    pub reason: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub tier: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// The credits captured so far.
    #[serde(with = "rust_decimal::serde::str")]
    pub captured: Decimal,
    /// The credits held, or that were held.
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub expires_at: String,
    pub hold_id: String,
    /// The credits that can still be captured.
    #[serde(with = "rust_decimal::serde::str")]
    pub remaining: Decimal,
    pub status: HoldStatus,
    /// The part of the last call's price that neither the hold nor the balance covered.
    #[serde(with = "rust_decimal::serde::str")]
    pub uncollected: Decimal,
}

/// Give either `credits`, or `units` with an optional `model`: an upper bound of what the call uses, priced as a debit would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HoldOrder {
    pub consumer: Consumer,
    /// The credits to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub credits: Option<Decimal>,
    /// Up to 10 pairs of texts, 512 bytes together. The ledger shows them.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<
        String,
        String,
    >,
    /// A model in the rate card, by its name or an alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An operation in the rate card.
    pub operation: String,
    /// How long the hold stays open, in seconds.
    pub ttl_seconds: u64,
    /// Counts by unit.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub units: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HoldStatus {
    #[serde(rename = "open")]
    Open,
    #[serde(rename = "settled")]
    Settled,
    #[serde(rename = "expired")]
    Expired,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holds {
    pub holds: Vec<Hold>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ledger {
    pub entries: Vec<LedgerEntry>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub next_cursor: Option<String>,
}

/// A ledger entry. `kind` names its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerEntry {
    pub at: String,
    /// The change in credits; negative for a debit.
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    #[serde(flatten)]
    pub details: LedgerEntryDetails,
    pub entry_id: String,
}

/// A ledger entry. `kind` names its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum LedgerEntryDetails {
    /// A debit: of one AI call, with its `operation` and `consumer`, or of a batch, with its `lines`.
    #[serde(rename = "debit")]
    Debit {
        /// The number of calls in the batch's request.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<u64>,
        /// The consumer of one call. Absent for a batch.
        #[serde(skip_serializing_if = "Option::is_none")]
        consumer: Option<Consumer>,
        /// The metadata of the calls that have some.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        line_metadata: Vec<LineMetadata>,
        /// The number of calls of a batch that were debited. Absent for one call.
        #[serde(skip_serializing_if = "Option::is_none")]
        lines: Option<u64>,
        /// Up to 10 pairs of texts, 512 bytes together. The ledger shows them.
        #[serde(
            default,
            skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
        )]
        metadata: BTreeMap<
            String,
            String,
        >,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The operation of one call. Absent for a batch.
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
        /// The credits that a batch spent on each operation.
        #[serde(
            default,
            skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
        )]
        operations: BTreeMap<
            String,
            Decimal,
        >,
        /// The version of the workspace's own prices. Absent without own prices.
        #[serde(skip_serializing_if = "Option::is_none")]
        pricing: Option<u64>,
        rate_card: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        refunded: Option<Refunded>,
        /// Counts by unit.
        #[serde(
            default,
            skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
        )]
        units: BTreeMap<String, u64>,
    },
    /// The captured credits of holds that were settled or released together.
    #[serde(rename = "hold_settled")]
    HoldSettled {
        hold_ids: Vec<String>,
        /// The metadata of the calls that have some.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        line_metadata: Vec<LineMetadata>,
        /// The number of captured calls.
        lines: u64,
        /// The credits spent on each operation.
        operations: BTreeMap<
            String,
            Decimal,
        >,
        /// The part that held credits paid which had expired by then. Absent if there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[serde(default, with = "rust_decimal::serde::str_option")]
        paid_by_expired: Option<Decimal>,
        /// The versions of the workspace's own prices that priced the calls. Absent without own prices.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pricing: Vec<u64>,
        /// The rate card versions that priced the calls.
        rate_cards: Vec<String>,
        /// What was refunded of the calls since. Absent if nothing was.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refunded: Vec<RefundedLine>,
        /// The part of the prices that neither the holds nor the balance covered. Absent if all was covered.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[serde(default, with = "rust_decimal::serde::str_option")]
        uncollected: Option<Decimal>,
    },
    /// The refund of a debit.
    #[serde(rename = "debit_refund")]
    DebitRefund {
        #[serde(skip_serializing_if = "Option::is_none")]
        capture_id: Option<String>,
        debit_id: String,
        /// When the debit was posted. Usage of its month goes down.
        debited_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<u64>,
        /// The number of refunded calls.
        lines: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// The credits refunded of each operation.
        operations: BTreeMap<
            String,
            Decimal,
        >,
        reason: DebitRefundReason,
        /// What could still be refunded then.
        #[serde(with = "rust_decimal::serde::str")]
        refundable: Decimal,
    },
    /// Credits of a pack that was paid.
    #[serde(rename = "top_up")]
    TopUp {
        pack: String,
        payment_id: String,
        top_up_id: String,
    },
    /// Credits that an operator granted.
    #[serde(rename = "grant")]
    Grant {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        grant_id: String,
        grant_kind: GrantKind,
        reason: String,
    },
    /// A period's credits of a subscription.
    #[serde(rename = "allocation")]
    Allocation {
        expires_at: String,
        grant_id: String,
        period: u64,
        subscription_id: String,
        tier: String,
    },
    /// Credits that expired.
    #[serde(rename = "expiry")]
    Expiry {
        grant_ids: Vec<String>,
        /// The holds whose credits came back after their grant had expired.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hold_ids: Vec<String>,
    },
    /// A grant that an operator took back.
    #[serde(rename = "void")]
    Void { grant_id: String, reason: String },
    /// Credits of a payment that was refunded or disputed.
    #[serde(rename = "claw_back")]
    ClawBack {
        payment_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// Credits that were taken back and are returned, because the refund failed or the dispute was won.
    #[serde(rename = "claw_back_reversed")]
    ClawBackReversed {
        payment_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<ClawBackReason>,
    },
    /// A month's use that an invoice bills.
    #[serde(rename = "invoiced")]
    Invoiced { month: String },
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(Map<String, Value>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LineMetadata {
    /// The zero-based index of the call.
    pub line: u64,
    /// Up to 10 pairs of texts, 512 bytes together. The ledger shows them.
    pub metadata: BTreeMap<
        String,
        String,
    >,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelRate {
    /// Other names of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    pub model: String,
    /// The factor by which the model multiplies the price of each operation.
    #[serde(with = "rust_decimal::serde::str")]
    pub multiplier: Decimal,
    /// Rates that replace those of the operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<UnitRate>,
}

/// The prices of an operation. `per_1k_input_tokens`, `per_1k_output_tokens` and `per_record` are short for rates of `input_tokens`, `output_tokens` and `records`; `rates` take precedence. Absent rates are no rates of zero: a call that counts a unit without a rate is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperationRate {
    /// Charged once per call.
    #[serde(with = "rust_decimal::serde::str")]
    pub base: Decimal,
    pub operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub per_1k_input_tokens: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub per_1k_output_tokens: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub per_record: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<UnitRate>,
}

/// What happens to credits beyond the hold's. `refuse` (the default): the call is refused. `extend`: the balance pays for them, or the call is refused. `take_available`: the balance pays as much of them as it covers, and the rest is `uncollected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Overrun {
    #[serde(rename = "refuse")]
    Refuse,
    #[serde(rename = "extend")]
    Extend,
    #[serde(rename = "take_available")]
    TakeAvailable,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pack {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub pack: String,
    pub price: Price,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackCount {
    pub count: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub pack: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Plan {
    #[serde(rename = "free")]
    Free,
    #[serde(rename = "starter")]
    Starter,
    #[serde(rename = "team")]
    Team,
    #[serde(rename = "pro")]
    Pro,
    #[serde(rename = "enterprise")]
    Enterprise,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanTerms {
    /// The maximum number of workflow runs a month; null means no limit.
    #[serde(deserialize_with = "Option::deserialize")]
    pub monthly_runs: Option<u64>,
    pub plan: Plan,
    /// Whether workspaces on this plan can subscribe to a tier.
    pub subscription: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Price {
    /// In minor units, such as cents.
    pub amount: u64,
    pub currency: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quote {
    pub affordable: bool,
    #[serde(with = "rust_decimal::serde::str")]
    pub available: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    /// The version of the workspace's own prices. Absent without own prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<u64>,
    pub rate_card: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub spendable: Decimal,
}

/// A call costs (base + Σ count / per × rate) × multiplier, rounded up once to 6 digits. The rate of a unit is the model's, or else the operation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateCard {
    /// The card prices calls from this instant on. Absent if the catalogue has only this card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<String>,
    pub models: Vec<ModelRate>,
    pub operations: Vec<OperationRate>,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecommendedMonth {
    #[serde(with = "rust_decimal::serde::str")]
    pub from_allocation: Decimal,
    #[serde(with = "rust_decimal::serde::str")]
    pub from_prepaid: Decimal,
    pub month: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub needed: Decimal,
    pub packs_bought: u64,
    pub price: Price,
}

/// What was refunded since: the credits of one call, or the refunded calls of a batch. Absent if nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Refunded {
    Decimal(#[serde(with = "rust_decimal::serde::str")] Decimal),
    Array(Vec<RefundedLine>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefundedLine {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    /// The zero-based index of the call.
    pub line: u64,
    pub operation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<RunFailure>,
    pub run_id: String,
    pub started_at: String,
    pub status: RunStatus,
    pub trigger: Trigger,
    pub workflow_id: String,
}

/// The plan's monthly runs, and how many were started this month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunAllowance {
    #[serde(deserialize_with = "Option::deserialize")]
    pub limit: Option<u64>,
    pub resets_at: String,
    pub used: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunFailure {
    #[serde(with = "rust_decimal::serde::str")]
    pub available: Decimal,
    pub code: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub required: Decimal,
    pub step_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunStatus {
    #[serde(rename = "running")]
    Running,
    #[serde(rename = "succeeded")]
    Succeeded,
    #[serde(rename = "failed")]
    Failed,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Runs {
    pub allowance: RunAllowance,
    #[serde(deserialize_with = "Option::deserialize")]
    pub next_cursor: Option<String>,
    pub runs: Vec<Run>,
}

/// The seller of credits, which receipts name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seller {
    /// The lines of the address.
    pub address: Vec<String>,
    pub name: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub tax_id: Option<String>,
}

/// A last capture and the end of the hold. An empty object captures nothing. Give at most one of `credits` and `units`, and at most one of `extend` and `overrun`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[derive(Default)]
#[non_exhaustive]
pub struct SettleOrder {
    /// A last capture, for the hold's operation and consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default, with = "rust_decimal::serde::str_option")]
    pub credits: Option<Decimal>,
    /// Whether the balance pays for credits beyond the hold's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend: Option<bool>,
    /// Metadata of the last capture, in place of the hold's. Only with `credits` or `units`.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub metadata: BTreeMap<
        String,
        String,
    >,
    /// A model in the rate card, by its name or an alias. Only with `units`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrun: Option<Overrun>,
    /// A last capture, priced for the hold's operation by the prices that are in effect now.
    #[serde(
        default,
        skip_serializing_if = ":: std :: collections :: BTreeMap::is_empty"
    )]
    pub units: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StartedRun {
    pub allowance: RunAllowance,
    #[serde(flatten)]
    pub run: Run,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tier {
    #[serde(with = "rust_decimal::serde::str")]
    pub monthly_credits: Decimal,
    pub price: Price,
    pub tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopUp {
    pub checkout_id: String,
    pub checkout_url: String,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub pack: String,
    pub price: Price,
    pub top_up_id: String,
}

/// `processing`: a bank debit is pending, which takes days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TopUpState {
    #[serde(rename = "open")]
    Open,
    #[serde(rename = "processing")]
    Processing,
    #[serde(rename = "paid")]
    Paid,
    #[serde(rename = "failed")]
    Failed,
    #[serde(rename = "expired")]
    Expired,
    #[serde(rename = "refunded")]
    Refunded,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopUpStatus {
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub pack: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub paid_at: Option<String>,
    pub price: Price,
    pub status: TopUpState,
    pub top_up_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Trigger {
    #[serde(rename = "manual")]
    Manual,
    #[serde(rename = "scheduled")]
    Scheduled,
    #[serde(rename = "event")]
    Event,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnitRate {
    /// Charged for `per` units, in proportion.
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    pub per: u64,
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    pub count: u64,
    pub group_by: UsageGroupBy,
    pub groups: Vec<UsageGroup>,
    pub month: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub next_cursor: Option<String>,
    /// The total of the groups that are not listed.
    #[serde(deserialize_with = "Option::deserialize")]
    pub other: Option<UsageOther>,
    /// Always up to date. The groups of the current month may lag behind by moments.
    #[serde(with = "rust_decimal::serde::str")]
    pub total: Decimal,
    /// What settlements with `take_available` left unpaid.
    #[serde(with = "rust_decimal::serde::str")]
    pub uncollected: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageGroup {
    pub count: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
    /// Null for usage without this attribute.
    #[serde(deserialize_with = "Option::deserialize")]
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UsageGroupBy {
    #[serde(rename = "workflow")]
    Workflow,
    #[serde(rename = "feature")]
    Feature,
    #[serde(rename = "operation")]
    Operation,
    #[serde(rename = "consumer")]
    Consumer,
    #[serde(rename = "user")]
    User,
    #[serde(rename = "day")]
    Day,
    /// A value that this version of the crate does not know.
    #[serde(untagged)]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageOther {
    pub count: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub credits: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkspaceDetails {
    pub billing_email: String,
    pub created_at: String,
    pub name: String,
    pub plan: Plan,
    pub workspace_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkspaceProfile {
    /// An e-mail address, without a display name.
    pub billing_email: String,
    /// Not blank. No control characters or bidirectional marks.
    pub name: String,
    pub plan: Plan,
}
