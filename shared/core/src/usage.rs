//! Usage: how a month's consumption breaks down, counted from the ledger (M3, M9).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::batch::PricedCall;
use crate::consumer::Consumer;
use crate::credits::{Credits, OutOfRange};
use crate::debit_refund::RefundedLine;
use crate::id::Name;
use crate::ledger::{Cause, Entry};
use crate::price::Currency;

/// The attribute by which a breakdown groups calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupBy {
    /// The workflow whose step spent.
    Workflow,
    /// The feature that was used, by hand or in bulk.
    Feature,
    Operation,
    /// The kind of consumer (M4).
    Consumer,
    /// The person who spent.
    User,
    /// The day in UTC.
    Day,
}

/// A text that is not an attribute of `infra/openapi.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of workflow, feature, operation, consumer, user, day")]
pub struct InvalidGroupBy;

impl GroupBy {
    pub const ALL: [Self; 6] =
        [Self::Workflow, Self::Feature, Self::Operation, Self::Consumer, Self::User, Self::Day];

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Feature => "feature",
            Self::Operation => "operation",
            Self::Consumer => "consumer",
            Self::User => "user",
            Self::Day => "day",
        }
    }

    /// Returns whether callers choose the keys, so that the number of groups is unlimited.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Workflow | Self::Feature | Self::User)
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GroupBy {
    type Err = InvalidGroupBy;

    fn from_str(text: &str) -> Result<Self, InvalidGroupBy> {
        Self::ALL.into_iter().find(|group_by| group_by.name() == text).ok_or(InvalidGroupBy)
    }
}

/// Credits, and the number of AI calls that took them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub credits: Credits,
    /// The number of AI calls.
    pub count: u64,
}

impl Tally {
    /// Returns the sum of both tallies.
    pub fn plus(self, other: Self) -> Result<Self, OutOfRange> {
        let count = self.count.saturating_add(other.count);
        Ok(Self { credits: self.credits.plus(other.credits)?, count })
    }

    /// Returns the difference to another tally.
    pub fn minus(self, other: Self) -> Result<Self, OutOfRange> {
        let count = self.count.saturating_sub(other.count);
        Ok(Self { credits: self.credits.minus(other.credits)?, count })
    }
}

/// The key of a group; `None` is the group of calls without this attribute.
pub type GroupKey = Option<String>;

/// The breakdowns of ledger entries, all of one month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// All calls.
    pub total: Tally,
    /// The groups of all breakdowns.
    pub groups: BTreeMap<(GroupBy, GroupKey), Tally>,
}

impl Usage {
    /// Counts an entry as the ledger has it now: calls less what was refunded of them since. Ignores refunds, and entries that
    /// are not consumption.
    pub fn count(&mut self, entry: &Entry) -> Result<(), OutOfRange> {
        net_calls(entry)?.into_iter().try_for_each(|call| {
            self.count_call(call.operation, call.consumer, Tally { credits: call.net, count: 1 }, entry.at)
        })
    }

    /// Counts what an entry has changed when it was written: a call in full, and a refund as credits less on the day of its
    /// debit.
    pub fn count_change(&mut self, entry: &Entry) -> Result<(), OutOfRange> {
        match &entry.cause {
            Cause::Debit { operation, consumer, .. } => {
                let tally = Tally { credits: entry.credits.negated(), count: 1 };
                self.count_call(operation, consumer, tally, entry.at)
            }
            Cause::Batch(batch) => self.count_lines(&batch.content, entry.at),
            Cause::HoldSettled(settlement) => self.count_lines(&settlement.content, entry.at),
            Cause::DebitRefund(refund) => refund.content.iter().try_for_each(|call| {
                let tally = Tally { credits: call.amount.credits().negated(), count: 0 };
                self.count_call(&call.operation, &call.consumer, tally, refund.debited_at)
            }),
            _ => Ok(()),
        }
    }

    fn count_lines(&mut self, lines: &[PricedCall], at: Timestamp) -> Result<(), OutOfRange> {
        lines.iter().try_for_each(|line| {
            let tally = Tally { credits: line.amount.credits(), count: 1 };
            self.count_call(&line.operation, &line.consumer, tally, at)
        })
    }

    /// Counts one AI call.
    fn count_call(
        &mut self,
        operation: &Name,
        consumer: &Consumer,
        tally: Tally,
        at: Timestamp,
    ) -> Result<(), OutOfRange> {
        self.total = self.total.plus(tally)?;
        for (group_by, key) in keys_of(operation, consumer, at) {
            let group = self.groups.entry((group_by, key)).or_default();
            *group = group.plus(tally)?;
        }
        Ok(())
    }
}

/// An AI call of an entry, less what was refunded of it since.
pub(crate) struct NetCall<'a> {
    pub operation: &'a Name,
    pub model: Option<&'a Name>,
    pub consumer: &'a Consumer,
    pub net: Credits,
}

/// Returns the AI calls of an entry as the ledger has it now; none if the entry is not consumption.
pub(crate) fn net_calls(entry: &Entry) -> Result<Vec<NetCall<'_>>, OutOfRange> {
    match &entry.cause {
        Cause::Debit { operation, model, consumer, refunded, .. } => {
            let net = entry.credits.negated().minus(refunded.unwrap_or_default())?;
            Ok(vec![NetCall { operation, model: model.as_ref(), consumer, net }])
        }
        Cause::Batch(batch) => net_lines(&batch.content, &batch.refunded),
        Cause::HoldSettled(settlement) => net_lines(&settlement.content, &settlement.refunded),
        _ => Ok(Vec::new()),
    }
}

fn net_lines<'a>(lines: &'a [PricedCall], refunded: &[RefundedLine]) -> Result<Vec<NetCall<'a>>, OutOfRange> {
    let net_line = |(place, line): (usize, &'a PricedCall)| {
        let refunded = refunded.iter().filter(|refunded| refunded.line == place);
        let net = line.amount.credits().minus(Credits::sum(refunded.map(|refunded| refunded.credits))?)?;
        let PricedCall { operation, model, consumer, .. } = line;
        Ok(NetCall { operation, model: model.as_ref(), consumer, net })
    };
    lines.iter().enumerate().map(net_line).collect()
}

fn keys_of(operation: &Name, consumer: &Consumer, at: Timestamp) -> [(GroupBy, GroupKey); 6] {
    let (kind, workflow, feature, user) = match consumer {
        Consumer::WorkflowStep { workflow_id, .. } => ("workflow_step", Some(workflow_id), None, None),
        Consumer::Action { feature, user_id } => ("action", None, Some(feature), Some(user_id)),
        Consumer::Bulk { feature, user_id, .. } => ("bulk", None, Some(feature), user_id.as_ref()),
    };
    [
        (GroupBy::Workflow, workflow.map(ToString::to_string)),
        (GroupBy::Feature, feature.map(ToString::to_string)),
        (GroupBy::Operation, Some(operation.to_string())),
        (GroupBy::Consumer, Some(kind.to_owned())),
        (GroupBy::User, user.map(ToString::to_string)),
        (GroupBy::Day, Some(day_of(at).to_string())),
    ]
}

/// Returns the day in UTC that contains an instant.
#[must_use]
pub fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// The sums of a month (M17).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonthSummary {
    pub consumed: Tally,
    /// The other movements, by kind. A kind's usual direction counts as positive.
    pub moved: BTreeMap<Moved, Credits>,
    /// The number of runs that failed for insufficient credits (M10).
    pub blocked: u64,
    /// The price of the steps at which these runs failed.
    pub blocked_credits: Credits,
    /// The payments, in minor units.
    pub paid_minor: BTreeMap<Currency, u64>,
    /// The part of the payments that was paid back, in minor units.
    pub refunded_minor: BTreeMap<Currency, u64>,
}

/// The kinds of movements besides consumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// Packs that were paid.
    ToppedUp,
    /// A subscription's periods and upgrades.
    Allocated,
    /// Grants by the operator, and portions of commitments.
    Granted,
    /// The unspent rest of grants that expired.
    Expired,
    /// The unspent rest of grants that were voided.
    Voided,
    /// Refunds and disputes, less those that were undone.
    ClawedBack,
    /// Use beyond credits that was billed.
    Invoiced,
    /// The part of calls' prices that neither their holds nor the balance covered. No credits moved.
    Uncollected,
}

impl Moved {
    pub const ALL: [Self; 8] = [
        Self::ToppedUp,
        Self::Allocated,
        Self::Granted,
        Self::Expired,
        Self::Voided,
        Self::ClawedBack,
        Self::Invoiced,
        Self::Uncollected,
    ];

    /// Returns the name in a history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ToppedUp => "topped_up",
            Self::Allocated => "allocated",
            Self::Granted => "granted",
            Self::Expired => "expired",
            Self::Voided => "voided",
            Self::ClawedBack => "clawed_back",
            Self::Invoiced => "invoiced",
            Self::Uncollected => "uncollected",
        }
    }

    /// Returns what an entry says beside consumption: what it moved, or what it left uncollected; `None` if nothing.
    #[must_use]
    pub fn beside_consumption(entry: &Entry) -> Option<(Self, Credits)> {
        match &entry.cause {
            Cause::HoldSettled(settlement) => {
                settlement.uncollected.map(|credits| (Self::Uncollected, credits.credits()))
            }
            _ => Self::of(entry),
        }
    }

    /// Returns what an entry moved, and how much; `None` for consumption.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<(Self, Credits)> {
        let taken = entry.credits.negated();
        match entry.cause {
            Cause::Debit { .. } | Cause::Batch(_) | Cause::HoldSettled(_) | Cause::DebitRefund(_) => None,
            Cause::TopUp { .. } => Some((Self::ToppedUp, entry.credits)),
            Cause::Allocation { .. } => Some((Self::Allocated, entry.credits)),
            Cause::Grant { .. } => Some((Self::Granted, entry.credits)),
            Cause::Expiry { .. } => Some((Self::Expired, taken)),
            Cause::Void { .. } => Some((Self::Voided, taken)),
            Cause::ClawBack { .. } | Cause::ClawBackReversed { .. } => Some((Self::ClawedBack, taken)),
            Cause::Invoiced { .. } => Some((Self::Invoiced, entry.credits)),
        }
    }
}

impl MonthSummary {
    /// Returns the sum of a kind of movement.
    #[must_use]
    pub fn moved(&self, moved: Moved) -> Credits {
        self.moved.get(&moved).copied().unwrap_or_default()
    }

    /// Counts an entry as the ledger has it now: calls less what was refunded of them since. Ignores refunds.
    pub fn count(&mut self, entry: &Entry) -> Result<(), OutOfRange> {
        if let Some((moved, credits)) = Moved::beside_consumption(entry) {
            let sum = self.moved(moved).plus(credits)?;
            self.moved.insert(moved, sum);
        }
        if Moved::of(entry).is_none() {
            let credits = entry.consumed()?;
            self.consumed = self.consumed.plus(Tally { credits, count: entry.calls() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;

    use super::{GroupBy, MonthSummary, Moved, Tally, Usage};
    use crate::batch::{Batch, PricedCall};
    use crate::consumer::Consumer;
    use crate::hold::Settlement;
    use crate::ledger::{Cause, Entry};
    use crate::rate_card::PriceVersion;

    fn tally(credits: &str, count: u64) -> Tally {
        Tally { credits: credits.parse().unwrap(), count }
    }

    fn entry(cause: Cause, credits: &str) -> Entry {
        let at: Timestamp = "2026-11-23T23:59:59Z".parse().unwrap();
        Entry { entry_id: "e1".parse().unwrap(), cause, credits: credits.parse().unwrap(), at }
    }

    fn line(consumer: Consumer, credits: &str) -> PricedCall {
        let (operation, amount) = ("text.generate".parse().unwrap(), credits.parse().unwrap());
        PricedCall::stated(operation, consumer, amount)
    }

    fn debit(consumer: Consumer) -> Cause {
        Cause::debit(line(consumer, "1"), PriceVersion::of("v1".parse().unwrap()))
    }

    fn batch(content: Vec<PricedCall>) -> Cause {
        let (rate_card, lines) = ("v1".parse().unwrap(), content.len());
        Cause::Batch(Batch {
            rate_card,
            pricing: None,
            lines,
            asked: lines,
            operations: BTreeMap::new(),
            refunded: Vec::new(),
            line_metadata: Vec::new(),
            content,
        })
    }

    fn settled(content: Vec<PricedCall>) -> Cause {
        let (hold_ids, rate_cards, lines) = (Vec::new(), BTreeSet::new(), content.len());
        Cause::HoldSettled(Settlement {
            hold_ids,
            rate_cards,
            pricing: BTreeSet::new(),
            lines,
            operations: BTreeMap::new(),
            uncollected: None,
            refunded: Vec::new(),
            paid_by_expired: None,
            line_metadata: Vec::new(),
            content,
        })
    }

    #[test]
    fn group_by_parses_its_displayed_names() {
        for group_by in GroupBy::ALL {
            assert_eq!(group_by.to_string().parse(), Ok(group_by));
            assert_eq!(group_by.name(), format!("{group_by:?}").to_ascii_lowercase());
        }
        let open: Vec<GroupBy> = GroupBy::ALL.into_iter().filter(|group_by| group_by.is_open()).collect();
        assert_eq!(open, [GroupBy::Workflow, GroupBy::Feature, GroupBy::User]);
        assert!("month".parse::<GroupBy>().is_err());
    }

    #[test]
    fn tallies_add_and_subtract() {
        let sum = tally("3.5", 2).plus(tally("1.5", 1)).unwrap();
        assert_eq!((sum, sum.minus(tally("1.5", 1)).unwrap()), (tally("5", 3), tally("3.5", 2)));
    }

    #[test]
    fn m09_only_calls_are_counted_in_each_breakdown() {
        let action = Consumer::Action { feature: "chat".parse().unwrap(), user_id: "ada".parse().unwrap() };
        let bulk = Consumer::Bulk {
            feature: "list".parse().unwrap(),
            list_id: None,
            user_id: None,
            job_id: "job".parse().unwrap(),
        };
        let mut usage = Usage::default();
        usage.count(&entry(debit(action.clone()), "-2")).unwrap();
        usage.count(&entry(batch(vec![line(bulk, "3")]), "-3")).unwrap();
        usage.count(&entry(settled(vec![line(action, "0.5")]), "-0.5")).unwrap();
        usage.count(&entry(Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None }, "-9")).unwrap();
        assert_eq!(usage.total, tally("5.5", 3));
        let of = |group_by, key: Option<&str>| usage.groups.get(&(group_by, key.map(str::to_owned))).copied();
        for (group_by, key, counted) in [
            (GroupBy::Workflow, None, tally("5.5", 3)),
            (GroupBy::Feature, Some("chat"), tally("2.5", 2)),
            (GroupBy::Feature, Some("list"), tally("3", 1)),
            (GroupBy::Operation, Some("text.generate"), tally("5.5", 3)),
            (GroupBy::Consumer, Some("action"), tally("2.5", 2)),
            (GroupBy::Consumer, Some("bulk"), tally("3", 1)),
            (GroupBy::User, Some("ada"), tally("2.5", 2)),
            (GroupBy::User, None, tally("3", 1)),
            (GroupBy::Day, Some("2026-11-23"), tally("5.5", 3)),
        ] {
            assert_eq!(of(group_by, key), Some(counted), "{group_by} {key:?}");
        }
        assert_eq!(usage.groups.len(), 9);
    }

    #[test]
    fn m17_month_sums_consumption_and_other_movements() {
        let action =
            || Consumer::Action { feature: "chat".parse().unwrap(), user_id: "ada".parse().unwrap() };
        let mut month = MonthSummary::default();
        for entry in [
            entry(batch(vec![line(action(), "2"), line(action(), "3")]), "-5"),
            entry(settled(vec![line(action(), "1"), line(action(), "1")]), "-2"),
            entry(debit(action()), "-1"),
            entry(Cause::Invoiced { month: "2026-10".parse().unwrap() }, "7"),
            entry(Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None }, "-9"),
            entry(Cause::ClawBackReversed { payment_id: "pi_1".to_owned(), reason: None }, "4"),
            entry(Cause::Expiry { grant_ids: vec![], hold_ids: vec![] }, "-1"),
        ] {
            month.count(&entry).unwrap();
        }
        assert_eq!(month.consumed, tally("8", 5));
        let moved = Moved::ALL.map(|moved| format!("{} {}", moved.name(), month.moved(moved)));
        let expected = [
            "topped_up 0",
            "allocated 0",
            "granted 0",
            "expired 1",
            "voided 0",
            "clawed_back 5",
            "invoiced 7",
            "uncollected 0",
        ];
        assert_eq!(moved, expected);
    }
}
