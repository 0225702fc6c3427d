//! The balance item: its attributes, and the conditional write of a posting.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use credits_core::alert::AlertThresholds;
use credits_core::balance::{Balance, ClosedHolds, FENCE};
use credits_core::credits::{Amount, Credits};
use credits_core::id::WorkspaceId;
use credits_core::lane::{LaneCondition, LaneMovement, OpenLanes};
use credits_core::month::Month;
use credits_core::own_prices::PricedWith;
use credits_core::posting::{Condition, NewThreshold, Posting, Thresholds, UsageMark};

use crate::error::Corrupt;
use crate::items::grant_value::{next_value, read_grant, read_next};
use crate::items::queued_change::{change_value, read_queued};
use crate::table::attribute::{Item, Reader, credits, instant, keyed, map, number, read_credits, text};
use crate::table::expression::Expression;
use crate::table::keys::{INDEX_PK, INDEX_SK, ItemKey, due, position};

/// The largest threshold of the low-balance alert; absent while the alert is off.
pub(crate) const LOW_AT: &str = "low_at";

/// The other thresholds of the low-balance alert, the largest first; absent if there are none.
const LOW_FURTHER: &str = "low_further";

/// The threshold of automatic top-up; absent while it is off.
pub(crate) const TOP_UP_AT: &str = "top_up_at";

/// The amount of the last addition of credits.
pub(crate) const ADDED: &str = "added";

/// Present while an exhaustion is noted.
pub(crate) const EXHAUSTED: &str = "exhausted";

/// The number of running grants; absent if none run. The grants themselves are in another item.
pub(crate) const RUNNING_GRANTS: &str = "running_grants";

/// The number of the first open lane; absent while none is open.
pub(crate) const LANES_FIRST: &str = "lanes_first";

/// The number after the last open lane.
const LANES_END: &str = "lanes_end";

/// The sum of what open lanes were allotted.
const LANES_ALLOTTED: &str = "lanes_allotted";

/// The reserve while lanes are open.
const LANES_RESERVE: &str = "lanes_reserve";

/// The attributes that a balance has while lanes are open.
const LANES: [&str; 4] = [LANES_FIRST, LANES_END, LANES_ALLOTTED, LANES_RESERVE];

/// How often lanes were opened; absent if never.
pub(crate) const LANE_GENERATION: &str = "lane_generation";

/// The version of the workspace's own prices; absent without any.
pub(crate) const PRICING: &str = "pricing";

/// The number of postings that change usage without consuming credits; absent if there were none.
pub(crate) const USAGE_MARKS: &str = "usage_marks";

/// The prefix of the monthly consumption counters. A name such as `c2026_11` needs no placeholder in an expression.
const CONSUMED: char = 'c';

/// Returns the write of a posting: its condition and its movement in one expression.
pub(crate) fn write_of(
    table: &str,
    workspace: &WorkspaceId,
    posting: &Posting,
    entry_key: &str,
) -> Result<TransactWriteItem, Corrupt> {
    let movement = &posting.movement;
    let mut write =
        Expression::new().set("last", text(entry_key)).add("version", number(movement.versions()));
    for (counter, moved) in [
        ("spendable", movement.spendable),
        ("used", movement.used),
        ("prepaid", movement.prepaid),
        ("held", movement.held),
    ] {
        if !moved.is_zero() {
            write = write.add(counter, credits(moved));
        }
    }
    for (month, consumed) in &movement.consumed {
        write = write.add(&counter_of(*month), credits(*consumed));
    }
    for month in movement.retired_months() {
        write = write.remove(&counter_of(month));
    }
    if let Some(limit) = movement.credit_limit {
        write = write.set("credit_limit", credits(limit)).remove(EXHAUSTED);
    }
    if let Some(added) = movement.added {
        write = write.set(ADDED, credits(added.credits())).remove(EXHAUSTED);
    }
    if let Some(change) = &movement.change {
        write = write.append("changes", change_value(change)).set("expires_next", instant(FENCE));
    }
    for (epoch, holds) in &movement.earlier_epochs {
        write = match holds {
            Some(holds) => write.set(&holds_of(*epoch), holds_value(*holds)),
            None => write.remove(&holds_of(*epoch)),
        };
    }
    if let Some(thresholds) = &movement.low_at {
        write = match thresholds.largest() {
            Some(largest) => write.set(LOW_AT, credits(largest.credits())),
            None => write.remove(LOW_AT),
        };
        write = match further_value(thresholds) {
            Some(further) => write.set(LOW_FURTHER, further),
            None => write.remove(LOW_FURTHER),
        };
    }
    write = match movement.top_up_at {
        Some(NewThreshold::At(amount)) => write.set(TOP_UP_AT, credits(amount.credits())),
        Some(NewThreshold::Off) => write.remove(TOP_UP_AT),
        None => write,
    };
    if let Some(lanes) = &movement.lanes {
        write = with_lanes(write, workspace, lanes);
    }
    if let Some(version) = movement.pricing {
        write = write.set(PRICING, number(version));
    }
    if movement.usage_mark == UsageMark::Marked {
        write = write.add(USAGE_MARKS, number(1));
    }
    with_condition(write, &posting.condition).update(table, &ItemKey::balance(workspace))
}

fn with_condition(mut write: Expression, condition: &Condition) -> Expression {
    let Condition {
        covers,
        nothing_due_at,
        epoch,
        earlier_epochs,
        credit_limit,
        thresholds,
        lanes,
        priced_with,
    } = condition;
    if covers.is_none() && nothing_due_at.is_none() {
        write = write.when_exists();
    }
    if let Some(least) = covers {
        write = write.when("spendable", ">=", credits(*least));
    }
    if let Some(now) = nothing_due_at {
        write = write.when("expires_next", ">", instant(*now));
    }
    if let Some(epoch) = epoch {
        write = write.when("epoch", "=", number(*epoch));
    }
    for (epoch, holds) in earlier_epochs {
        write = write.when(&holds_of(*epoch), "=", holds_value(*holds));
    }
    if let Some(limit) = credit_limit {
        write = write.when("credit_limit", "=", credits(*limit));
    }
    if let Some(Thresholds { low_at, top_up_at }) = thresholds {
        for (name, threshold) in [(LOW_AT, low_at), (TOP_UP_AT, top_up_at)] {
            write = match threshold {
                Some(amount) => write.when(name, "=", credits(amount.credits())),
                None => write.when_absent(name),
            };
        }
    }
    if let Some(prices) = priced_with {
        write = when_priced_with(write, *prices);
    }
    match lanes {
        None => write,
        Some(LaneCondition::Closed) => write.when_absent(LANES_FIRST),
        Some(LaneCondition::ClosedSince(0)) => write.when_absent(LANES_FIRST).when_absent(LANE_GENERATION),
        Some(LaneCondition::ClosedSince(generation)) => {
            write.when_absent(LANES_FIRST).when(LANE_GENERATION, "=", number(*generation))
        }
        Some(LaneCondition::Open(generation)) => write.when(LANE_GENERATION, "=", number(*generation)),
        Some(LaneCondition::Listed { generation, first, end }) => write
            .when(LANE_GENERATION, "=", number(*generation))
            .when(LANES_FIRST, "=", number((*first).into()))
            .when(LANES_END, "=", number((*end).into())),
    }
}

/// Adds the condition that a balance or a lane has these prices.
pub(crate) fn when_priced_with(write: Expression, prices: PricedWith) -> Expression {
    match prices {
        PricedWith::RateCard => write.when_absent(PRICING),
        PricedWith::OwnPrices(version) => write.when(PRICING, "=", number(version)),
    }
}

/// Adds the movement of lanes. While lanes are open, the balance is a due item, so that the sweep ends idle lanes.
fn with_lanes(write: Expression, workspace: &WorkspaceId, lanes: &LaneMovement) -> Expression {
    match lanes {
        LaneMovement::Opened { lanes, ends_at } => write
            .set(INDEX_PK, text(due(workspace)))
            .set(INDEX_SK, text(position(*ends_at, workspace.as_str())))
            .set(LANES_FIRST, number(lanes.first.into()))
            .set(LANES_END, number(lanes.end.into()))
            .set(LANES_ALLOTTED, credits(lanes.allotted))
            .set(LANES_RESERVE, credits(lanes.reserve))
            .add(LANE_GENERATION, number(1)),
        LaneMovement::Extended { end, credits: more } => {
            write.set(LANES_END, number((*end).into())).add(LANES_ALLOTTED, credits(*more))
        }
        LaneMovement::Refilled(more) => write.add(LANES_ALLOTTED, credits(*more)),
        LaneMovement::Settled { is_last: true, .. } => {
            LANES.into_iter().chain([INDEX_PK, INDEX_SK]).fold(write, Expression::remove)
        }
        LaneMovement::Settled { first, credits: settled, .. } => {
            write.set(LANES_FIRST, number((*first).into())).add(LANES_ALLOTTED, credits(settled.negated()))
        }
    }
}

fn read_lanes(item: &Item) -> Result<Option<OpenLanes>, Corrupt> {
    if !item.contains_key(LANES_FIRST) {
        return Ok(None);
    }
    let reader = Reader(item);
    Ok(Some(OpenLanes {
        first: reader.small(LANES_FIRST)?,
        end: reader.small(LANES_END)?,
        allotted: reader.credits(LANES_ALLOTTED)?,
        reserve: reader.credits(LANES_RESERVE)?,
    }))
}

/// Returns the path of the sums of an earlier epoch's holds.
fn holds_of(epoch: u64) -> String {
    format!("closed.{epoch}")
}

fn holds_value(holds: ClosedHolds) -> AttributeValue {
    map([("held", credits(holds.held)), ("dead", credits(holds.dead))])
}

/// Makes the item of a balance without lanes. The running grants are in another item.
pub(crate) fn item_of(workspace: &WorkspaceId, balance: &Balance) -> Item {
    let mut item = keyed(&ItemKey::balance(workspace));
    let closed = balance.earlier_epochs.iter().map(|(epoch, holds)| (epoch.to_string(), holds_value(*holds)));
    let attributes = [
        ("spendable", credits(balance.spendable)),
        ("used", credits(balance.used)),
        ("prepaid", credits(balance.prepaid)),
        ("credit_limit", credits(balance.credit_limit)),
        ("expires_next", instant(balance.expires_next)),
        ("changes", AttributeValue::L(balance.changes.iter().map(change_value).collect())),
        ("held", credits(balance.held)),
        ("closed", AttributeValue::M(closed.collect())),
        ("epoch", number(balance.epoch)),
        ("version", number(balance.version)),
        ("last", text(&balance.last)),
    ];
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    if !balance.grants.is_empty() {
        item.insert(RUNNING_GRANTS.to_owned(), AttributeValue::N(balance.grants.len().to_string()));
    }
    if !balance.next.is_empty() {
        let next = balance.next.iter().map(next_value).collect();
        item.insert("next".to_owned(), AttributeValue::L(next));
    }
    if let Some(invoices_at) = balance.invoices_at {
        item.insert("invoices_at".to_owned(), instant(invoices_at));
    }
    item.extend(further_value(&balance.low_at).map(|further| (LOW_FURTHER.to_owned(), further)));
    let low_at = balance.low_at.largest();
    for (name, amount) in [(LOW_AT, low_at), (TOP_UP_AT, balance.top_up_at), (ADDED, balance.added)] {
        if let Some(amount) = amount {
            item.insert(name.to_owned(), credits(amount.credits()));
        }
    }
    if balance.exhaustion_noted {
        item.insert(EXHAUSTED.to_owned(), AttributeValue::Bool(true));
    }
    if balance.lane_generation > 0 {
        item.insert(LANE_GENERATION.to_owned(), number(balance.lane_generation));
    }
    if let Some(version) = balance.pricing {
        item.insert(PRICING.to_owned(), number(version));
    }
    if balance.usage_marks > 0 {
        item.insert(USAGE_MARKS.to_owned(), number(balance.usage_marks));
    }
    item.extend(balance.consumed.iter().map(|(month, consumed)| (counter_of(*month), credits(*consumed))));
    item
}

/// Returns all thresholds but the largest; `None` if there are none.
fn further_value(thresholds: &AlertThresholds) -> Option<AttributeValue> {
    let further: Vec<_> = thresholds.iter().skip(1).map(|amount| credits(amount.credits())).collect();
    (!further.is_empty()).then_some(AttributeValue::L(further))
}

fn read_low_at(reader: Reader<'_>) -> Result<AlertThresholds, Corrupt> {
    let further = reader.optional_list(LOW_FURTHER)?.iter().map(read_threshold);
    reader.optional_amount(LOW_AT)?.map(Ok).into_iter().chain(further).collect()
}

fn read_threshold(value: &AttributeValue) -> Result<Amount, Corrupt> {
    let text = value.as_n().map_err(|_| Corrupt::Attribute(LOW_FURTHER))?;
    text.parse().map_err(|_| Corrupt::Attribute(LOW_FURTHER))
}

/// Reads the balance of an item, without the running grants, which are in another item.
pub(crate) fn read(item: &Item) -> Result<Balance, Corrupt> {
    let reader = Reader(item);
    Ok(Balance {
        spendable: reader.credits("spendable")?,
        used: reader.credits("used")?,
        // An older version stored the grants in the balance item.
        grants: reader.optional_list("grants")?.iter().map(read_grant).collect::<Result<_, _>>()?,
        prepaid: reader.credits("prepaid")?,
        credit_limit: reader.credits("credit_limit")?,
        expires_next: reader.instant("expires_next")?,
        next: reader.optional_list("next")?.iter().map(read_next).collect::<Result<_, _>>()?,
        invoices_at: reader.optional_instant("invoices_at")?,
        low_at: read_low_at(reader)?,
        top_up_at: reader.optional_amount(TOP_UP_AT)?,
        added: reader.optional_amount(ADDED)?,
        exhaustion_noted: item.contains_key(EXHAUSTED),
        changes: reader.list("changes")?.iter().map(read_queued).collect::<Result<_, _>>()?,
        held: reader.credits("held")?,
        earlier_epochs: read_closed(reader.map("closed")?)?,
        consumed: read_months(item),
        lanes: read_lanes(item)?,
        lane_generation: reader.optional_number(LANE_GENERATION)?.unwrap_or_default(),
        pricing: reader.optional_number(PRICING)?,
        usage_marks: reader.optional_number(USAGE_MARKS)?.unwrap_or_default(),
        epoch: reader.number("epoch")?,
        version: reader.number("version")?,
        last: reader.text("last")?.to_owned(),
    })
}

/// Reads the consumption by month.
pub(crate) fn read_months(item: &Item) -> BTreeMap<Month, Credits> {
    item.iter().filter_map(read_counter).collect()
}

pub(crate) fn counter_of(month: Month) -> String {
    format!("{CONSUMED}{month}").replace('-', "_")
}

fn read_counter((name, value): (&String, &AttributeValue)) -> Option<(Month, Credits)> {
    let month = name.strip_prefix(CONSUMED)?.replace('_', "-");
    Some((month.parse().ok()?, read_credits(value)?))
}

fn read_closed(item: &Item) -> Result<BTreeMap<u64, ClosedHolds>, Corrupt> {
    let holds = |(epoch, value): (&String, &AttributeValue)| {
        let holds = Reader(value.as_m().map_err(|_| Corrupt::Attribute("closed"))?);
        let epoch = epoch.parse().map_err(|_| Corrupt::Attribute("closed"))?;
        Ok((epoch, ClosedHolds { held: holds.credits("held")?, dead: holds.credits("dead")? }))
    };
    item.iter().map(holds).collect()
}
