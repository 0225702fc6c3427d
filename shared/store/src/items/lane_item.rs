//! The item of a lane, and its writes. A debit on a lane has the condition of a debit at the balance, on another item.

use aws_sdk_dynamodb::types::TransactWriteItem;
use credits_core::credits::{CallPrice, Credits};
use credits_core::id::WorkspaceId;
use credits_core::lane::{Lane, STOPPED};
use credits_core::month::Month;
use credits_core::own_prices::PricedWith;
use jiff::Timestamp;

use crate::error::Corrupt;
use crate::items::balance_item::{PRICING, counter_of, read_months, when_priced_with};
use crate::table::attribute::{Item, Reader, credits, instant, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{ItemKey, PK};

const GENERATION: &str = "generation";
const LEFT: &str = "left";
const SPENT: &str = "spent";
const ENDS_AT: &str = "ends_at";
const HARD_END: &str = "hard_end";
const STOPPED_AT: &str = "stopped_at";
const WRITES: &str = "writes";
const LAST: &str = "last";

/// A debit on a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneDebit<'a> {
    pub number: u16,
    pub amount: CallPrice,
    /// The prices that the lane must have; `None` if the caller has priced the call.
    pub priced_with: Option<PricedWith>,
    pub now: Timestamp,
    /// The key of the ledger entry, as in [`credits_core::balance::Balance::last`].
    pub entry_key: &'a str,
}

/// Returns the write of a debit.
pub(crate) fn debit_write(
    table: &str,
    workspace: &WorkspaceId,
    debit: LaneDebit<'_>,
) -> Result<TransactWriteItem, Corrupt> {
    let taken = debit.amount.credits();
    let write = Expression::new()
        .set(LAST, text(debit.entry_key))
        .add(LEFT, credits(taken.negated()))
        .add(SPENT, credits(taken))
        .add(&counter_of(Month::of(debit.now)), credits(taken))
        .add(WRITES, number(1))
        .when(LEFT, ">=", credits(taken))
        .when(ENDS_AT, ">", instant(debit.now));
    let write = match debit.priced_with {
        Some(prices) => when_priced_with(write, prices),
        None => write,
    };
    write.update(table, &ItemKey::lane(workspace, debit.number))
}

/// Returns the write of a new lane.
pub(crate) fn put(table: &str, workspace: &WorkspaceId, lane: &Lane) -> Result<TransactWriteItem, Corrupt> {
    let mut item = keyed(&ItemKey::lane(workspace, lane.number));
    let attributes = [
        (GENERATION, number(lane.generation)),
        (LEFT, credits(lane.left)),
        (SPENT, credits(lane.spent)),
        (ENDS_AT, instant(lane.ends_at)),
        (HARD_END, instant(lane.hard_end)),
        (WRITES, number(lane.writes)),
        (LAST, text(&lane.last)),
    ];
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    if let Some(version) = lane.pricing {
        item.insert(PRICING.to_owned(), number(version));
    }
    Expression::new().when_absent(PK).put(table, item)
}

/// Returns the check that no recall of a generation has begun: a recall stops the first lane before the others.
pub(crate) fn unstopped_check(
    table: &str,
    workspace: &WorkspaceId,
    first: u16,
    generation: u64,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .when(GENERATION, "=", number(generation))
        .when(ENDS_AT, ">", instant(STOPPED))
        .check(table, &ItemKey::lane(workspace, first))
}

/// Returns the write that adds credits to a lane which has not ended.
pub(crate) fn refill_write(
    table: &str,
    workspace: &WorkspaceId,
    lane: &Lane,
    more: Credits,
    now: Timestamp,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .add(LEFT, credits(more))
        .add(WRITES, number(1))
        .when(GENERATION, "=", number(lane.generation))
        .when(ENDS_AT, ">", instant(now))
        .update(table, &ItemKey::lane(workspace, lane.number))
}

/// Returns the write that lets a lane last until `end`, unless it has ended or is stopped.
pub(crate) fn prolong_write(
    table: &str,
    workspace: &WorkspaceId,
    lane: &Lane,
    end: Timestamp,
    now: Timestamp,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set(ENDS_AT, instant(end))
        .add(WRITES, number(1))
        .when(ENDS_AT, ">", instant(now))
        .when(HARD_END, ">=", instant(end))
        .update(table, &ItemKey::lane(workspace, lane.number))
}

/// Returns the write that stops a lane of a generation.
pub(crate) fn stop_write(
    table: &str,
    workspace: &WorkspaceId,
    number_of_lane: u16,
    generation: u64,
    database_now: Timestamp,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .set(ENDS_AT, instant(STOPPED))
        .set(STOPPED_AT, instant(database_now))
        .add(WRITES, number(1))
        .when(GENERATION, "=", number(generation))
        .when(ENDS_AT, ">", instant(STOPPED))
        .update(table, &ItemKey::lane(workspace, number_of_lane))
}

/// Returns the deletion of a stopped lane by its settlement.
pub(crate) fn delete(
    table: &str,
    workspace: &WorkspaceId,
    lane: &Lane,
) -> Result<TransactWriteItem, Corrupt> {
    Expression::new()
        .when(GENERATION, "=", number(lane.generation))
        .when(ENDS_AT, "=", instant(STOPPED))
        .delete(table, &ItemKey::lane(workspace, lane.number))
}

/// Reads a lane.
pub(crate) fn read(item: &Item) -> Result<Lane, Corrupt> {
    let reader = Reader(item);
    let number = reader.text(PK)?.rsplit('#').next().and_then(|number| number.parse().ok());
    Ok(Lane {
        number: number.ok_or(Corrupt::Attribute(PK))?,
        generation: reader.number(GENERATION)?,
        left: reader.credits(LEFT)?,
        spent: reader.credits(SPENT)?,
        consumed: read_months(item),
        ends_at: reader.instant(ENDS_AT)?,
        hard_end: reader.instant(HARD_END)?,
        stopped_at: reader.optional_instant(STOPPED_AT)?,
        pricing: reader.optional_number(PRICING)?,
        writes: reader.number(WRITES)?,
        last: reader.text(LAST)?.to_owned(),
    })
}
