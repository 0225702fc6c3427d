//! `GET /v1/workspaces/{workspace_id}/usage/history`: sums up the last months, and recommends the cheapest tier and
//! packs for them (M17).

use std::collections::BTreeMap;

use credits_core::credits::{Amount, Credits, OutOfRange};
use credits_core::id::Id;
use credits_core::month::Month;
use credits_core::price::{Currency, Price};
use credits_core::right_sizing::{Need, PackCount, ReplayedChoice, ReplayedMonth, replays};
use credits_core::usage::{MonthSummary, Moved};
use credits_core::workspace::{Plan, Workspace};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Fault;
use credits_store::Store;
use credits_store::usage::MonthUsage;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::{Account, query};

const MAX_MONTHS: u16 = 24;
const USUAL_MONTHS: u16 = 12;

/// The maximum number of alternatives that are shown beside the recommended choice.
const ALTERNATIVES: usize = 5;

#[derive(Debug, Serialize)]
struct HistoryBody {
    months: Vec<MonthBody>,
    recommendation: Option<Recommendation>,
    /// Why there is no recommendation, in one sentence; absent if there is one.
    note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct MonthBody {
    month: Month,
    consumed: Credits,
    count: u64,
    topped_up: Credits,
    allocated: Credits,
    granted: Credits,
    expired: Credits,
    voided: Credits,
    clawed_back: Credits,
    invoiced: Credits,
    /// What settlements with `take_available` left unpaid.
    uncollected: Credits,
    /// The number of runs that failed for insufficient credits.
    blocked: u64,
    /// The price of the steps at which these runs failed.
    blocked_credits: Credits,
    /// The month's payments less its refunds, by currency.
    paid: Vec<Price>,
}

#[derive(Debug, Serialize)]
struct Recommendation {
    #[serde(flatten)]
    choice: ChoiceBody,
    paid: Price,
    reason: String,
    months: Vec<ReplayBody>,
    alternatives: Vec<ChoiceBody>,
}

/// A tier, packs, or both, with the price that they would have had.
#[derive(Debug, Serialize)]
struct ChoiceBody {
    tier: Option<Id>,
    /// The tier's monthly allocation.
    monthly_credits: Option<Amount>,
    /// The pack, if all packs are of one size.
    pack: Option<Id>,
    /// The number of packs of all sizes.
    packs: u64,
    /// The packs by size, largest first.
    mix: Vec<PackBody>,
    price: Price,
}

#[derive(Debug, Serialize)]
struct PackBody {
    pack: Id,
    credits: Amount,
    count: u64,
}

/// One month of the calculation behind a recommendation.
#[derive(Debug, Serialize)]
struct ReplayBody {
    month: Month,
    needed: Credits,
    from_allocation: Credits,
    from_prepaid: Credits,
    packs_bought: u64,
    price: Price,
}

impl Account {
    pub(crate) async fn usage_history(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Read)?;
        let asked = read_query(call)?;
        let (now, this_month) = (store.now(), Month::of(store.now()));
        let mut months = vec![this_month];
        months.extend((1..asked).scan(this_month, |month, _| {
            *month = month.last();
            Some(*month)
        }));
        let first = months.last().copied().unwrap_or(this_month);
        let (known, balance, usage) = tokio::try_join!(
            store.workspaces().get(&workspace),
            store.balances().get(&workspace),
            store.usage().between(&workspace, first, this_month),
        )?;
        let (known, balance) = known.zip(balance).ok_or_else(Problem::workspace_not_found)?;
        months.retain(|month| *month >= Month::of(known.created_at));
        let idle = MonthUsage::default();
        let of_month = |month: &Month| &usage.get(month).unwrap_or(&idle).summary;
        let bodies = months.iter().map(|month| {
            let consumed = balance.consumed.get(month).copied();
            MonthBody::of(*month, of_month(month), consumed.unwrap_or(of_month(month).consumed.credits))
        });
        let bodies: Vec<MonthBody> = bodies.collect();
        let ended: Vec<(Month, &MonthSummary)> =
            months.iter().skip(1).rev().map(|month| (*month, of_month(month))).collect();
        let (recommendation, note) = match self.right_size(&known, &ended, now) {
            Ok(sized) => sized,
            Err(error) => return Err(Fault::Corrupt(error.into()).into()),
        };
        Ok(Answer::ok(&HistoryBody { months: bodies, recommendation, note }))
    }

    /// Recommends the cheapest tier and packs for the months that have ended, or returns a note that says why it can't.
    /// Returns neither if the catalogue is empty and nothing was paid.
    fn right_size(
        &self,
        workspace: &Workspace,
        ended: &[(Month, &MonthSummary)],
        now: Timestamp,
    ) -> Result<(Option<Recommendation>, Option<&'static str>), OutOfRange> {
        if workspace.profile.plan == Plan::Enterprise {
            return Ok((None, Some("Enterprise credits are arranged by agreement.")));
        }
        if !is_a_month_old(workspace, now) {
            return Ok((None, Some("It is too early: there is less than a full month of data.")));
        }
        if ended.is_empty() {
            return Ok((None, Some("The current month alone is too little: ask for two months or more.")));
        }
        let need = |(month, summary): &(Month, &MonthSummary)| {
            let credits = summary.consumed.credits.plus(summary.blocked_credits)?;
            Ok(Need { month: *month, credits })
        };
        let needs = ended.iter().map(need).collect::<Result<Vec<_>, OutOfRange>>()?;
        if needs.iter().all(|need| need.credits.is_zero()) {
            return Ok((None, Some("Nothing was used in the months that have ended.")));
        }
        let paid = net_paid(ended.iter().map(|(_, summary)| *summary));
        let Some(currency) = self.currency(&paid) else { return Ok((None, None)) };
        let paid = Price { amount_minor: paid.get(&currency).copied().unwrap_or(0), currency };
        let allows = self.catalogue.allows_subscription(workspace.profile.plan);
        let tiers = if allows { self.catalogue.tiers() } else { &[] };
        let all = replays(&needs, self.catalogue.packs(), tiers, currency)?;
        let none = "Nothing in the catalogue would have covered these months.";
        let bought = BoughtBefore::of(ended)?;
        Ok(match Recommendation::of(&all, paid, &bought)? {
            Some(recommendation) => (Some(recommendation), None),
            None => (None, Some(none)),
        })
    }

    /// Returns the currency with the largest sum of payments in minor units, or else the catalogue's currency.
    fn currency(&self, paid: &BTreeMap<Currency, u64>) -> Option<Currency> {
        let most = paid.iter().max_by_key(|(_, amount)| **amount).map(|(currency, _)| *currency);
        let sold = self.catalogue.packs().first().map(|pack| pack.price.currency);
        most.or(sold).or_else(|| self.catalogue.tiers().first().map(|tier| tier.price.currency))
    }
}

fn read_query(call: &Call) -> Result<u16, Problem> {
    let mut months = USUAL_MONTHS;
    query::read(call.query(), |name, value| {
        match name {
            "months" => months = query::whole_number(value, 1..=MAX_MONTHS)?,
            _ => return query::unknown(),
        }
        Ok(())
    })?;
    Ok(months)
}

fn is_a_month_old(workspace: &Workspace, now: Timestamp) -> bool {
    let created = workspace.created_at.to_zoned(TimeZone::UTC);
    created.checked_add(jiff::Span::new().months(1)).is_ok_and(|month| month.timestamp() <= now)
}

/// Returns the payments less the refunds, in minor units by currency, at least zero.
fn net_paid<'a>(months: impl Iterator<Item = &'a MonthSummary>) -> BTreeMap<Currency, u64> {
    let (mut paid, mut refunded) = (BTreeMap::<Currency, u64>::new(), BTreeMap::<Currency, u64>::new());
    for month in months {
        for (sums, of_month) in [(&mut paid, &month.paid_minor), (&mut refunded, &month.refunded_minor)] {
            for (currency, amount) in of_month {
                let sum = sums.entry(*currency).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
    }
    for (currency, amount) in &mut paid {
        *amount = amount.saturating_sub(refunded.get(currency).copied().unwrap_or(0));
    }
    paid
}

impl MonthBody {
    fn of(month: Month, summary: &MonthSummary, consumed: Credits) -> Self {
        let paid = net_paid(std::iter::once(summary)).into_iter();
        Self {
            month,
            consumed,
            count: summary.consumed.count,
            topped_up: summary.moved(Moved::ToppedUp),
            allocated: summary.moved(Moved::Allocated),
            granted: summary.moved(Moved::Granted),
            expired: summary.moved(Moved::Expired),
            voided: summary.moved(Moved::Voided),
            clawed_back: summary.moved(Moved::ClawedBack),
            invoiced: summary.moved(Moved::Invoiced),
            uncollected: summary.moved(Moved::Uncollected),
            blocked: summary.blocked,
            blocked_credits: summary.blocked_credits,
            paid: paid.map(|(currency, amount_minor)| Price { amount_minor, currency }).collect(),
        }
    }
}

impl Recommendation {
    fn of(
        all: &[ReplayedChoice<'_>],
        paid: Price,
        bought: &BoughtBefore,
    ) -> Result<Option<Self>, OutOfRange> {
        let Some((best, others)) = all.split_first() else { return Ok(None) };
        Ok(Some(Self {
            choice: ChoiceBody::of(best),
            paid,
            reason: reason(best, paid, bought)?,
            months: best.months.iter().map(ReplayBody::of).collect(),
            alternatives: others.iter().take(ALTERNATIVES).map(ChoiceBody::of).collect(),
        }))
    }
}

/// The origin of the credits of the months that have ended.
struct BoughtBefore {
    /// Credits of paid packs and subscription periods.
    bought: Credits,
    /// Credits taken back because their payments were refunded or disputed.
    refunded: Credits,
    /// Credits that the operator granted.
    granted: Credits,
    /// The price of refused steps, which took no credits.
    refused: Credits,
}

impl BoughtBefore {
    fn of(ended: &[(Month, &MonthSummary)]) -> Result<Self, OutOfRange> {
        let sum = |moved| Credits::sum(ended.iter().map(|(_, summary)| summary.moved(moved)));
        let bought = sum(Moved::ToppedUp)?.plus(sum(Moved::Allocated)?)?;
        let (refunded, granted) = (sum(Moved::ClawedBack)?.or_zero(), sum(Moved::Granted)?);
        let refused = Credits::sum(ended.iter().map(|(_, summary)| summary.blocked_credits))?;
        Ok(Self { bought, refunded, granted, refused })
    }

    /// Explains why the workspace paid less for its need than a choice that covers it would cost.
    fn savings(&self, needed: Credits) -> Result<String, OutOfRange> {
        let mut unpaid = needed.minus(self.bought.minus(self.refunded)?)?.or_zero();
        let mut parts = Vec::new();
        for (most, what) in [
            (self.refunded, "were paid back"),
            (self.refused, "were of steps that were refused and not charged"),
            (self.granted, "were granted without a payment"),
            (unpaid, "were left from before these months"),
        ] {
            let credits = most.min(unpaid);
            unpaid = unpaid.minus(credits)?;
            if !credits.is_zero() {
                parts.push(format!("{credits} credits {what}"));
            }
        }
        Ok(match parts.split_last() {
            None => "today's prices are higher than the prices that were paid".to_owned(),
            Some((last, [])) => last.clone(),
            Some((last, before)) => format!("{} and {last}", before.join(", ")),
        })
    }
}

/// Describes a recommendation in words: the need, the choice that covers it, the amount paid, and why that was less, if
/// it was.
fn reason(best: &ReplayedChoice<'_>, paid: Price, bought: &BoughtBefore) -> Result<String, OutOfRange> {
    let needed = Credits::sum(best.months.iter().map(|month| month.needed))?;
    let months = match best.months.len() {
        1 => "In the month that has ended".to_owned(),
        count => format!("In the {count} months that have ended"),
    };
    let more = best.price.amount_minor.saturating_sub(paid.amount_minor);
    let why = match more {
        0 => String::new(),
        more => {
            let why = bought.savings(needed)?;
            format!(" That is {} above what was paid, because {why}.", Price { amount_minor: more, ..paid })
        }
    };
    Ok(format!(
        "{months} the workspace needed {needed} credits, those of refused steps included. {} would have covered all of it for \
         {}; {paid} was paid.{why}",
        in_words(best),
        best.price
    ))
}

/// Describes a choice by its credits: `2000 credits a month and 5000 + 2 × 1000 credits once`.
fn in_words(replay: &ReplayedChoice<'_>) -> String {
    let monthly = replay.choice.tier.map(|tier| format!("{} credits a month", tier.monthly_credits));
    let pack = |of: &PackCount<'_>| match of.count {
        1 => of.pack.credits.to_string(),
        count => format!("{count} × {}", of.pack.credits),
    };
    let packs: Vec<String> = replay.choice.mix.iter().map(pack).collect();
    let once = (!packs.is_empty()).then(|| format!("{} credits once", packs.join(" + ")));
    let parts: Vec<String> = monthly.into_iter().chain(once).collect();
    if parts.is_empty() { "Nothing".to_owned() } else { parts.join(" and ") }
}

impl ChoiceBody {
    fn of(replay: &ReplayedChoice<'_>) -> Self {
        let mix = &replay.choice.mix;
        let pack = |of: &PackCount<'_>| PackBody {
            pack: of.pack.pack.clone(),
            credits: of.pack.credits,
            count: of.count,
        };
        Self {
            tier: replay.choice.tier.map(|tier| tier.tier.clone()),
            monthly_credits: replay.choice.tier.map(|tier| tier.monthly_credits),
            pack: mix.first().filter(|_| mix.len() == 1).map(|of| of.pack.pack.clone()),
            packs: replay.packs_bought(),
            mix: mix.iter().map(pack).collect(),
            price: replay.price,
        }
    }
}

impl ReplayBody {
    fn of(month: &ReplayedMonth) -> Self {
        let ReplayedMonth { month, needed, from_allocation, from_prepaid, packs_bought, price } = *month;
        Self { month, needed, from_allocation, from_prepaid, packs_bought, price }
    }
}
