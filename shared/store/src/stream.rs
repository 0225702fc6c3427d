//! The table's stream, which serves as the outbox: its records, and the changes from which events are made.

use std::collections::HashMap;

use credits_core::balance::Balance;
use credits_core::expiry::ExpiryNotice;
use credits_core::id::WorkspaceId;
use credits_core::invoice::Invoice;
use credits_core::lane::Lane;
use credits_core::ledger::Entry;
use credits_core::payment::Payment;
use credits_core::price::Price;
use credits_core::purchase::{Checkout, Purchase};
use credits_core::run::{Run, RunStatus};
use credits_core::subscription_account::SubscriptionAccount;
use jiff::Timestamp;
use serde::Deserialize;

use crate::auto_top_ups::VersionedTopUp;
use crate::error::Corrupt;
use crate::invoices::VersionedInvoice;
use crate::items::{alerts_item, balance_item, entry_item, lane_item, payment_item, subscription_item};
use crate::payments::purchases;
use crate::table::attribute::{Item, Reader};
use crate::table::keys::PK;
use crate::usage::marks::Mark;
use crate::usage::rollup::Spending;
use crate::{auto_top_ups, invoices, runs};

/// A record of the stream, as Lambda delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The stream's own id of the record.
    pub event_id: String,
    /// Its position in its shard.
    pub sequence_number: String,
    /// When the item was written, to the second.
    pub at: Timestamp,
    before: Option<Item>,
    after: Option<Item>,
}

/// A change of an item from which events follow.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemChange {
    /// A balance changed.
    Balance {
        workspace: WorkspaceId,
        /// `None` if the workspace is new.
        before: Option<Box<Balance>>,
        after: Box<Balance>,
    },
    /// A debit on a lane.
    LaneDebit { workspace: WorkspaceId, lane: Box<Lane> },
    /// A ledger entry was listed.
    Entry { workspace: WorkspaceId, entry: Entry },
    /// A run failed because of insufficient credits.
    RunFailed {
        workspace: WorkspaceId,
        run: Run,
        /// The version of the balance that refused.
        version: u64,
    },
    /// A subscription changed.
    Subscription { workspace: WorkspaceId, before: Box<SubscriptionAccount>, after: Box<SubscriptionAccount> },
    /// Automatic top-up changed.
    AutoTopUp {
        workspace: WorkspaceId,
        /// `None` if it was set for the first time.
        before: Option<Box<VersionedTopUp>>,
        after: Box<VersionedTopUp>,
    },
    /// The sweep recorded expiry notices.
    ExpiryNoticed { workspace: WorkspaceId, notices: Vec<ExpiryNotice> },
    /// A payment changed.
    Payment {
        /// `None` if the payment is new.
        before: Option<Box<Payment>>,
        after: Box<Payment>,
    },
    /// An invoice was created, numbered, or given another status.
    Invoice {
        workspace: WorkspaceId,
        /// `None` if the invoice is new.
        before: Option<Box<Invoice>>,
        after: Box<VersionedInvoice>,
    },
    /// A purchase was paid.
    Paid {
        purchase: Purchase,
        /// Stripe's id of the payment.
        payment_id: String,
        /// What was received for it, or its price while that is unknown.
        charged: Price,
    },
    /// A person has to pay for a purchase by a checkout, because the stored method needs authentication.
    ActionRequired { purchase: Purchase, checkout: Checkout },
}

/// The error for a malformed record. It has no details, since they may repeat the record's content.
#[derive(Debug, thiserror::Error)]
#[error("not a valid stream record")]
pub struct UnreadRecord;

#[derive(Deserialize)]
struct RawRecord {
    #[serde(rename = "eventID")]
    event_id: String,
    dynamodb: RawChange,
}

type RawItem = HashMap<String, serde_dynamo::AttributeValue>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawChange {
    sequence_number: String,
    approximate_creation_date_time: Option<serde_json::Number>,
    old_image: Option<RawItem>,
    new_image: Option<RawItem>,
}

impl ItemChange {
    /// Returns which ledger entry a write of a balance or a lane consumed credits for, if it consumed any.
    ///
    /// A settlement of lanes raises the balance's consumption too, but its lanes have reported theirs. So a balance counts what
    /// its latest entry says, not what has grown, and a settlement without an entry counts nothing.
    #[must_use]
    pub fn spending(&self) -> Option<(&WorkspaceId, Spending)> {
        match self {
            Self::Balance { workspace, before: Some(before), after } => {
                let has_grown = after.consumed.iter().any(|(month, now)| *now > before.consumed_in(*month));
                let is_marked = after.usage_marks > before.usage_marks;
                let spending = Spending { mark: Mark::Balance(after.version), last: after.last.clone() };
                ((has_grown || is_marked) && names_entry(&after.last)).then_some((workspace, spending))
            }
            Self::LaneDebit { workspace, lane } => {
                let (number, generation, writes) = (lane.number, lane.generation, lane.writes);
                let mark = Mark::Lane { number, generation, writes };
                Some((workspace, Spending { mark, last: lane.last.clone() }))
            }
            _ => None,
        }
    }
}

impl Record {
    /// Parses a record of Lambda's event.
    pub fn parse(record: &serde_json::Value) -> Result<Self, UnreadRecord> {
        let RawRecord { event_id, dynamodb } = RawRecord::deserialize(record).map_err(|_| UnreadRecord)?;
        let item = |raw: RawItem| raw.into_iter().map(|(name, value)| (name, value.into())).collect();
        // Whole seconds, which some emulators of the stream write with a fraction.
        let seconds =
            dynamodb.approximate_creation_date_time.map(|time| time.to_string()).unwrap_or_default();
        let seconds = seconds.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
        Ok(Self {
            event_id,
            sequence_number: dynamodb.sequence_number,
            at: Timestamp::from_second(seconds).unwrap_or_default(),
            before: dynamodb.old_image.map(item),
            after: dynamodb.new_image.map(item),
        })
    }

    /// Returns the change that the record reports, if events follow from it.
    pub fn read(&self) -> Result<Option<ItemChange>, Corrupt> {
        let Some(after) = &self.after else { return Ok(None) };
        let before = self.before.as_ref();
        let pk = Reader(after).text(PK)?;
        let (kind, rest) = pk.split_once('#').ok_or(Corrupt::Attribute(PK))?;
        let workspace =
            || rest.split('#').next().unwrap_or_default().parse().map_err(|_| Corrupt::Attribute(PK));
        match kind {
            "balance" => {
                let before = before.map(balance_item::read).transpose()?.map(Box::new);
                let after = Box::new(balance_item::read(after)?);
                Ok(Some(ItemChange::Balance { workspace: workspace()?, before, after }))
            }
            "lane" => {
                let before = before.map(lane_item::read).transpose()?;
                let lane = Box::new(lane_item::read(after)?);
                // A free call takes nothing, but like every debit it changes `last`, and no other write does.
                let is_debit = before.is_some_and(|before| before.last != lane.last);
                Ok(is_debit.then_some(ItemChange::LaneDebit { workspace: workspace()?, lane }))
            }
            "entry" if entry_item::is_listed(after) && !before.is_some_and(entry_item::is_listed) => {
                Ok(Some(ItemChange::Entry { workspace: workspace()?, entry: entry_item::read(after)? }))
            }
            "run" => read_run(before, after, workspace()?),
            "subscription" => {
                let before = before.map(subscription_item::read).transpose()?.unwrap_or_default().account;
                let after = Box::new(subscription_item::read(after)?.account);
                Ok(Some(ItemChange::Subscription {
                    workspace: workspace()?,
                    before: Box::new(before),
                    after,
                }))
            }
            "auto_top_up" => {
                let before = before.map(auto_top_ups::read).transpose()?.map(Box::new);
                let after = Box::new(auto_top_ups::read(after)?);
                Ok(Some(ItemChange::AutoTopUp { workspace: workspace()?, before, after }))
            }
            "alerts" => read_alerts(before, after, workspace()?),
            "payment" => {
                let before = before.map(payment_item::read).transpose()?.map(Box::new);
                Ok(Some(ItemChange::Payment { before, after: Box::new(payment_item::read(after)?) }))
            }
            "invoice" => {
                let before = before.map(invoices::read).transpose()?.map(|before| Box::new(before.invoice));
                let after = Box::new(invoices::read(after)?);
                Ok(Some(ItemChange::Invoice { workspace: workspace()?, before, after }))
            }
            "purchase" => read_purchase(before, after),
            _ => Ok(None),
        }
    }
}

/// Returns whether a balance's `last` names a ledger entry, and not a settlement of lanes or settings.
fn names_entry(last: &str) -> bool {
    last.starts_with("key#") || last.starts_with("sys#")
}

fn read_alerts(
    before: Option<&Item>,
    after: &Item,
    workspace: WorkspaceId,
) -> Result<Option<ItemChange>, Corrupt> {
    let known = before.map(alerts_item::read_notices).transpose()?.unwrap_or_default();
    let mut notices = alerts_item::read_notices(after)?;
    notices.retain(|notice| !known.contains(notice));
    Ok((!notices.is_empty()).then_some(ItemChange::ExpiryNoticed { workspace, notices }))
}

fn read_run(
    before: Option<&Item>,
    after: &Item,
    workspace: WorkspaceId,
) -> Result<Option<ItemChange>, Corrupt> {
    let run = runs::read(after)?;
    let failed_before =
        before.map(runs::read).transpose()?.is_some_and(|run| run.status == RunStatus::Failed);
    if run.status != RunStatus::Failed || failed_before {
        return Ok(None);
    }
    Ok(Some(ItemChange::RunFailed { workspace, run, version: Reader(after).number("balance_version")? }))
}

fn read_purchase(before: Option<&Item>, after: &Item) -> Result<Option<ItemChange>, Corrupt> {
    let was = |name| before.is_some_and(|before| before.contains_key(name));
    let stored = purchases::read(after)?;
    let charged = stored.charged();
    if let Some(payment_id) = stored.paid_by.filter(|_| !was("paid_by")) {
        return Ok(Some(ItemChange::Paid { purchase: stored.purchase, payment_id, charged }));
    }
    let opened = stored.checkout.filter(|_| purchases::asks_person(after) && !was("checkout_id"));
    Ok(opened.map(|checkout| ItemChange::ActionRequired { purchase: stored.purchase, checkout }))
}
