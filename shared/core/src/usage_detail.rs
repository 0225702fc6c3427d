//! Details of usage: what some of the ledger's AI calls were spent on, counted when they are read (M9).
//!
//! The stored breakdowns ([`crate::usage`]) have one attribute each. A detail combines two: the calls of one workflow,
//! by model.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

use crate::consumer::Consumer;
use crate::credits::OutOfRange;
use crate::id::{Id, Name};
use crate::ledger::Entry;
use crate::usage::{GroupKey, NetCall, Tally, day_of, net_calls};

/// An attribute of AI calls by which a detail groups and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallAttribute {
    Workflow,
    Feature,
    Operation,
    Model,
    User,
}

/// A text that names no attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of workflow, feature, operation, model, user")]
pub struct InvalidAttribute;

impl CallAttribute {
    pub const ALL: [Self; 5] = [Self::Workflow, Self::Feature, Self::Operation, Self::Model, Self::User];

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Feature => "feature",
            Self::Operation => "operation",
            Self::Model => "model",
            Self::User => "user",
        }
    }

    fn of<'a>(self, call: &NetCall<'a>) -> Option<&'a str> {
        match (self, call.consumer) {
            (Self::Operation, _) => Some(call.operation.as_str()),
            (Self::Model, _) => call.model.map(Name::as_str),
            (Self::Workflow, Consumer::WorkflowStep { workflow_id, .. }) => Some(workflow_id.as_str()),
            (Self::Feature, Consumer::Action { feature, .. } | Consumer::Bulk { feature, .. }) => {
                Some(feature.as_str())
            }
            (Self::User, Consumer::Action { user_id, .. }) => Some(user_id.as_str()),
            (Self::User, Consumer::Bulk { user_id, .. }) => user_id.as_ref().map(Id::as_str),
            (Self::Workflow, _) | (Self::Feature | Self::User, Consumer::WorkflowStep { .. }) => None,
        }
    }
}

impl fmt::Display for CallAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CallAttribute {
    type Err = InvalidAttribute;

    fn from_str(text: &str) -> Result<Self, InvalidAttribute> {
        Self::ALL.into_iter().find(|attribute| attribute.name() == text).ok_or(InvalidAttribute)
    }
}

/// The calls that a detail counts: those whose attribute has this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFilter {
    pub by: CallAttribute,
    pub key: String,
}

/// The sums of the AI calls that a filter lets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageDetail {
    group_by: CallAttribute,
    filter: Option<CallFilter>,
    /// The calls of all entries, also of those that the filter leaves out.
    pub calls_read: u64,
    pub total: Tally,
    pub groups: BTreeMap<GroupKey, Tally>,
    pub days: BTreeMap<Date, Tally>,
}

impl UsageDetail {
    /// Creates a detail without calls. Without a filter it counts all.
    #[must_use]
    pub fn new(group_by: CallAttribute, filter: Option<CallFilter>) -> Self {
        let (groups, days) = (BTreeMap::new(), BTreeMap::new());
        Self { group_by, filter, calls_read: 0, total: Tally::default(), groups, days }
    }

    /// Counts the calls of an entry as the ledger has it now: less what was refunded of them since.
    pub fn count(&mut self, entry: &Entry) -> Result<(), OutOfRange> {
        for call in net_calls(entry)? {
            self.calls_read = self.calls_read.saturating_add(1);
            let passes = |filter: &CallFilter| filter.by.of(&call) == Some(filter.key.as_str());
            if !self.filter.as_ref().is_none_or(passes) {
                continue;
            }
            let tally = Tally { credits: call.net, count: 1 };
            self.total = self.total.plus(tally)?;
            let key = self.group_by.of(&call).map(str::to_owned);
            let group = self.groups.entry(key).or_default();
            *group = group.plus(tally)?;
            let day = self.days.entry(day_of(entry.at)).or_default();
            *day = day.plus(tally)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CallAttribute, CallFilter, UsageDetail};
    use crate::batch::{Batch, PricedCall};
    use crate::consumer::Consumer;
    use crate::debit_refund::RefundedLine;
    use crate::ledger::{Cause, Entry};
    use crate::rate_card::PriceVersion;
    use crate::usage::Tally;

    fn tally(credits: &str, count: u64) -> Tally {
        Tally { credits: credits.parse().unwrap(), count }
    }

    fn entry(cause: Cause, credits: &str, day: &str) -> Entry {
        let at = format!("{day}T12:00:00Z").parse().unwrap();
        Entry { entry_id: "e1".parse().unwrap(), cause, credits: credits.parse().unwrap(), at }
    }

    fn call(model: Option<&str>, consumer: Consumer, credits: &str) -> PricedCall {
        let model = model.map(|model| model.parse().unwrap());
        let (operation, amount) = ("text.generate".parse().unwrap(), credits.parse().unwrap());
        PricedCall { model, ..PricedCall::stated(operation, consumer, amount) }
    }

    fn step(workflow: &str) -> Consumer {
        let (run_id, step_id) = ("run".parse().unwrap(), "step".parse().unwrap());
        Consumer::WorkflowStep { workflow_id: workflow.parse().unwrap(), run_id, step_id }
    }

    fn action(user: &str) -> Consumer {
        Consumer::Action { feature: "chat".parse().unwrap(), user_id: user.parse().unwrap() }
    }

    /// Counts a debit of a workflow, a batch of three calls of which one was refunded, and a grant.
    fn detail(group_by: CallAttribute, filter: Option<(CallAttribute, &str)>) -> UsageDetail {
        let filter = filter.map(|(by, key)| CallFilter { by, key: key.to_owned() });
        let mut detail = UsageDetail::new(group_by, filter);
        let version = "v1".parse().unwrap();
        let debit = Cause::debit(call(Some("large"), step("nightly"), "4"), PriceVersion::of(version));
        let content = vec![
            call(Some("large"), action("ada"), "2"),
            call(None, action("bob"), "3"),
            call(Some("small"), step("nightly"), "1"),
        ];
        let refunded = RefundedLine {
            line: 1,
            operation: "text.generate".parse().unwrap(),
            credits: "0.5".parse().unwrap(),
        };
        let batch = Cause::Batch(Batch {
            rate_card: "v1".parse().unwrap(),
            pricing: None,
            lines: 3,
            asked: 3,
            operations: BTreeMap::new(),
            refunded: vec![refunded],
            line_metadata: Vec::new(),
            content,
        });
        let claw_back = Cause::ClawBack { payment_id: "pi_1".to_owned(), reason: None };
        detail.count(&entry(debit, "-4", "2026-11-01")).unwrap();
        detail.count(&entry(batch, "-6", "2026-11-02")).unwrap();
        detail.count(&entry(claw_back, "-9", "2026-11-02")).unwrap();
        detail
    }

    #[test]
    fn attributes_parse_their_names() {
        for attribute in CallAttribute::ALL {
            assert_eq!(attribute.to_string().parse(), Ok(attribute));
        }
        assert!("day".parse::<CallAttribute>().is_err());
    }

    #[test]
    fn m09_a_detail_groups_the_calls_that_pass_its_filter() {
        let nightly = detail(CallAttribute::Model, Some((CallAttribute::Workflow, "nightly")));
        assert_eq!((nightly.total, nightly.calls_read), (tally("5", 2), 4));
        let groups: Vec<_> = nightly.groups.iter().map(|(key, tally)| (key.as_deref(), *tally)).collect();
        assert_eq!(groups, [(Some("large"), tally("4", 1)), (Some("small"), tally("1", 1))]);
        let days: Vec<_> = nightly.days.iter().map(|(day, tally)| (day.to_string(), *tally)).collect();
        assert_eq!(days, [("2026-11-01".into(), tally("4", 1)), ("2026-11-02".into(), tally("1", 1))]);
    }

    #[test]
    fn m09_a_detail_counts_calls_less_their_refunds() {
        let all = detail(CallAttribute::User, None);
        assert_eq!(all.total, tally("9.5", 4));
        let groups: Vec<_> = all.groups.iter().map(|(key, tally)| (key.as_deref(), *tally)).collect();
        assert_eq!(
            groups,
            [(None, tally("5", 2)), (Some("ada"), tally("2", 1)), (Some("bob"), tally("2.5", 1))]
        );
        for (by, key, total) in [
            (CallAttribute::Feature, "chat", tally("4.5", 2)),
            (CallAttribute::Operation, "text.generate", tally("9.5", 4)),
            (CallAttribute::Model, "large", tally("6", 2)),
            (CallAttribute::User, "nobody", tally("0", 0)),
        ] {
            assert_eq!(detail(CallAttribute::User, Some((by, key))).total, total, "{by} {key}");
        }
    }
}
