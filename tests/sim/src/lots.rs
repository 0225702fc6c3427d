//! A sequential model of a workspace without holds, written independently of `core`. Credits are lots, spent in the
//! order in which the ledger's entries were committed: the earliest expiry first, prepaid credits last (M16).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::refunds::EpochPaid;

/// How long returned credits of an ended grant last, if no period runs.
const RETURNED_LAST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The end of an expiring lot, and its grant.
type Lot = (Timestamp, String);

/// The lots of a workspace.
#[derive(Debug, Default)]
pub struct Lots {
    /// The expiring lots, by their end and their grant.
    expiring: BTreeMap<Lot, Decimal>,
    /// The prepaid credits; a negative value is debt.
    prepaid: Decimal,
    /// The grants that payments bought, by payment.
    bought: BTreeMap<String, Bought>,
    /// The changes that take effect at the next close.
    waiting: Vec<Waiting>,
    /// What debits have spent since the last close, in the order of spending; `None` is the prepaid sum.
    spent: Vec<(Option<Lot>, Decimal)>,
    /// The grants of subscriptions' periods.
    periods: BTreeSet<String>,
}

/// An expiring grant that a payment bought.
#[derive(Debug)]
struct Bought {
    grant_id: String,
    /// The credits that the payment paid for.
    paid_for: Decimal,
    /// The credits that joined the balance: fewer than paid for if a refund came before the start.
    joined: Decimal,
    consumed: Decimal,
    /// The unused credits that refunds took; negative if refunds returned credits that never joined.
    taken: Decimal,
    /// The credits that refunds charged because the grant's own were consumed.
    charged: Decimal,
}

/// A change that waits for a close.
#[derive(Debug)]
pub struct Waiting {
    pub key: String,
    /// When it was written.
    pub at: Timestamp,
    /// The cause and the credits, if the entry states them; otherwise the close lists them.
    pub known: Option<(Value, Decimal)>,
}

/// An entry that a close lists.
#[derive(Debug)]
pub struct Listed {
    pub key: String,
    /// When it took effect.
    pub at: Timestamp,
    /// The position in the ledger.
    pub place: String,
    /// The cause.
    pub detail: Value,
    /// The credits added; negative if they are taken.
    pub credits: Decimal,
}

/// The kinds of entries that a waiting change completes. A close lists other kinds at dates of their own.
const COMPLETED: [&str; 3] = ["void", "claw_back", "claw_back_reversed"];

impl Lots {
    /// Records that a payment has bought an expiring grant.
    pub fn buy(&mut self, payment: &str, grant_id: &str, paid_for: Decimal) {
        let zero = Decimal::ZERO;
        let grant_id = grant_id.to_owned();
        self.bought.entry(payment.to_owned()).or_insert(Bought {
            grant_id,
            paid_for,
            joined: zero,
            consumed: zero,
            taken: zero,
            charged: zero,
        });
    }

    /// Applies an entry. Returns a difference between the entry and the model.
    pub fn carry_out(&mut self, detail: &Value, credits: Decimal, at: Timestamp) -> Option<String> {
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        match detail["kind"].as_str().unwrap_or_default() {
            "debit" => {
                let parts = self.spend(-credits);
                self.spent.extend(parts);
            }
            "return" => self.take_again(detail, &text("return_of"), at),
            "top_up" | "invoiced" => self.prepaid += credits,
            "allocation" => {
                self.periods.insert(text("grant_id"));
                self.open((text("expires_at").parse().unwrap(), text("grant_id")), credits);
            }
            "grant" => match detail["expires_at"].as_str() {
                Some(end) => self.open((end.parse().unwrap(), text("grant_id")), credits),
                None => self.prepaid += credits,
            },
            "expiry" => {
                let ids: Vec<&str> =
                    detail["grant_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let early = self.expiring.keys().find(|(end, id)| ids.contains(&id.as_str()) && *end > at);
                if let Some((end, id)) = early {
                    return Some(format!("{id} expires before {end}"));
                }
                return self.end(&ids, -credits, "expires");
            }
            "void" => {
                let id = text("grant_id");
                if self.expiring.keys().any(|(_, grant)| *grant == id) {
                    return self.end(&[&id], -credits, "is voided");
                }
                // A void of a prepaid grant takes what is left of its amount, at most all prepaid credits.
                self.prepaid += credits;
                if credits < Decimal::ZERO && self.prepaid < Decimal::ZERO {
                    return Some(format!("a void of {id} takes {} credits too many", -self.prepaid));
                }
            }
            "claw_back" => return self.claw_back(&text("payment_id"), -credits),
            "claw_back_reversed" => return self.give_again(&text("payment_id"), credits),
            other => return Some(format!("an entry of kind {other}")),
        }
        None
    }

    /// Refunds credits that this epoch has spent, latest first, as if its debits had been smaller. `prepaid` credits return
    /// beside them.
    pub fn give_back(&mut self, mut credits: Decimal, prepaid: Decimal) -> Option<String> {
        self.prepaid += prepaid;
        while credits > Decimal::ZERO {
            let Some((lot, spent)) = self.spent.pop() else {
                return Some(format!("{credits} more are refunded than the epoch has spent"));
            };
            let part = spent.min(credits);
            credits -= part;
            match &lot {
                Some(key) => {
                    *self.expiring.get_mut(key)? += part;
                    self.consumed(&key.1, -part);
                }
                None => self.prepaid += part,
            }
            self.spent.push((lot, spent - part));
            if credits > Decimal::ZERO {
                self.spent.pop();
            }
        }
        None
    }

    /// Checks that a close has recorded what its epoch has spent of each grant.
    pub fn check_paid(&mut self, recorded: Option<&EpochPaid>) -> Option<String> {
        let (mut grants, mut prepaid) = (BTreeMap::<String, Decimal>::new(), Decimal::ZERO);
        for (lot, spent) in self.spent.drain(..).filter(|(_, spent)| !spent.is_zero()) {
            match lot {
                Some((_, grant)) => *grants.entry(grant).or_default() += spent,
                None => prepaid += spent,
            }
        }
        let none = (BTreeMap::new(), Decimal::ZERO);
        let is = recorded.map_or(none, |paid| (paid.grants.iter().cloned().collect(), paid.prepaid));
        (is != (grants.clone(), prepaid))
            .then(|| format!("the epoch spent {prepaid} prepaid and {grants:?}, but recorded is {is:?}"))
    }

    /// Returns credits of a refund to the grants that run. Those of ended grants, and expired ones, last until the present
    /// period ends, or for 30 days.
    fn take_again(&mut self, detail: &Value, refund_id: &str, at: Timestamp) {
        let decimal = |value: &Value| value.as_str().unwrap().parse::<Decimal>().unwrap();
        let mut ended = decimal(&detail["expired"]);
        for part in detail["to_grants"].as_array().into_iter().flatten() {
            let end: i64 = part["expires"].as_str().unwrap().parse().unwrap();
            let (end, id) =
                (Timestamp::from_millisecond(end).unwrap(), part["id"].as_str().unwrap().to_owned());
            let credits = decimal(&part["amount"]);
            if end > at {
                self.consumed(&id, -credits);
                // A refund of the grant's payment takes the returned credits instead of what it has charged for them.
                let uncharged = self.uncharge(&id, credits);
                *self.expiring.entry((end, id)).or_default() += credits - uncharged;
            } else {
                ended += credits;
            }
        }
        if !ended.is_zero() {
            let periods = self.expiring.keys().filter(|(end, id)| *end > at && self.periods.contains(id));
            let end = periods.map(|(end, _)| *end).min().unwrap_or(at + RETURNED_LAST);
            self.expiring.insert((end, refund_id.to_owned()), ended);
        }
        self.prepaid += decimal(&detail["to_prepaid"]);
        self.pay_debt();
    }

    /// Pays debt with expiring credits, earliest end first.
    fn pay_debt(&mut self) {
        let debt = (-self.prepaid).max(Decimal::ZERO);
        self.prepaid += debt;
        self.spend(debt);
    }

    /// Returns to the prepaid sum what a refund of a grant's payment has charged, up to `credits`, and takes the grant's own
    /// credits instead. Returns how much that was.
    fn uncharge(&mut self, grant: &str, credits: Decimal) -> Decimal {
        let mut uncharged = Decimal::ZERO;
        for bought in self.bought.values_mut().filter(|it| it.grant_id == grant) {
            let part = bought.charged.min(credits - uncharged);
            bought.charged -= part;
            bought.taken += part;
            uncharged += part;
        }
        self.prepaid += uncharged;
        uncharged
    }

    fn consumed(&mut self, grant: &str, credits: Decimal) {
        self.bought.values_mut().filter(|it| it.grant_id == grant).for_each(|it| it.consumed += credits);
    }

    /// Queues a change behind the fence.
    pub fn put_behind_the_fence(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Applies a close that lists these entries and applies the first `applied` waiting changes. Dates and changes are
    /// ordered by time; at the same instant dates come first.
    pub fn close(&mut self, applied: usize, listed: Vec<Listed>) -> Option<String> {
        let (mut completed, mut dates): (Vec<_>, Vec<_>) = listed
            .into_iter()
            .partition(|entry| COMPLETED.contains(&entry.detail["kind"].as_str().unwrap_or_default()));
        dates.reverse();
        for waiting in self.waiting.drain(..applied.min(self.waiting.len())).collect::<Vec<_>>() {
            while let Some(date) = dates.pop_if(|date| date.at <= waiting.at) {
                if let Some(wrong) = self.carry_out(&date.detail, date.credits, date.at) {
                    return Some(wrong);
                }
            }
            let entry = completed.iter().position(|entry| entry.key == waiting.key);
            let done = match (waiting.known, entry) {
                (Some((detail, credits)), _) => self.carry_out(&detail, credits, waiting.at),
                (None, Some(place)) => {
                    let Listed { detail, credits, at, .. } = completed.remove(place);
                    self.carry_out(&detail, credits, at)
                }
                (None, None) => None,
            };
            if done.is_some() {
                return done;
            }
        }
        let rest = dates.into_iter().rev().chain(completed);
        rest.into_iter().find_map(|entry| self.carry_out(&entry.detail, entry.credits, entry.at))
    }

    /// Returns the remaining credits, including the known waiting changes.
    #[must_use]
    pub fn total(&self) -> Decimal {
        let waiting: Decimal = self.waiting.iter().filter_map(|it| it.known.as_ref()).map(|it| it.1).sum();
        self.expiring.values().sum::<Decimal>() + self.prepaid + waiting
    }

    /// Takes credits, and returns of which lots; `None` is the prepaid sum.
    fn spend(&mut self, mut amount: Decimal) -> Vec<(Option<Lot>, Decimal)> {
        let mut parts = Vec::new();
        for (lot, left) in &mut self.expiring {
            let taken = amount.min(*left);
            if taken.is_zero() {
                continue;
            }
            *left -= taken;
            amount -= taken;
            self.bought.values_mut().filter(|it| it.grant_id == lot.1).for_each(|it| it.consumed += taken);
            parts.push((Some(lot.clone()), taken));
        }
        self.prepaid -= amount;
        parts.push((None, amount));
        parts
    }

    /// Opens a lot. Its credits pay debt first, as all credits do.
    fn open(&mut self, lot: (Timestamp, String), credits: Decimal) {
        let debt = (-self.prepaid).max(Decimal::ZERO).min(credits);
        self.prepaid += debt;
        for bought in self.bought.values_mut().filter(|it| it.grant_id == lot.1) {
            bought.joined += credits;
            bought.consumed += debt;
        }
        *self.expiring.entry(lot).or_default() += credits - debt;
    }

    fn end(&mut self, ids: &[&str], credits: Decimal, what: &str) -> Option<String> {
        let closed: Vec<(Timestamp, String)> =
            self.expiring.keys().filter(|(_, id)| ids.contains(&id.as_str())).cloned().collect();
        let left: Decimal = closed.iter().filter_map(|lot| self.expiring.remove(lot)).sum();
        (left != credits)
            .then(|| format!("{left} credits of {ids:?} are left in the model, but {credits} {what}"))
    }

    /// Claws credits back: first the rest of the refunded grant, and then, for its consumed credits, prepaid ones and
    /// those that expire first.
    fn claw_back(&mut self, payment: &str, credits: Decimal) -> Option<String> {
        let mut owed = credits;
        if let Some(bought) = self.bought.get_mut(payment) {
            let lot = self.expiring.iter_mut().find(|((_, grant), _)| *grant == bought.grant_id);
            if let Some((_, left)) = lot {
                // A refund of a debit may have returned credits to the grant that an earlier claw-back had charged.
                let (target, reclaimable) = (bought.taken + bought.charged + credits, *left + bought.taken);
                let taken = target.min(reclaimable);
                owed = target - taken - bought.charged;
                *left = reclaimable - taken;
                bought.taken = taken;
            }
            bought.charged += owed;
            if bought.charged > bought.consumed && owed > Decimal::ZERO {
                let (charged, consumed) = (bought.charged, bought.consumed);
                return Some(format!(
                    "refunds of {payment} charge {charged}, but only {consumed} were consumed"
                ));
            }
        }
        let from_prepaid = owed.min(self.prepaid.max(Decimal::ZERO));
        self.prepaid -= from_prepaid;
        if owed > Decimal::ZERO {
            self.spend(owed - from_prepaid);
        } else {
            self.pay_debt();
        }
        None
    }

    fn give_again(&mut self, payment: &str, credits: Decimal) -> Option<String> {
        let Some(bought) = self.bought.get_mut(payment) else {
            self.prepaid += credits;
            return None;
        };
        let returned = credits.min(bought.charged);
        bought.charged -= returned;
        self.prepaid += returned;
        let unused = credits - returned;
        if unused.is_zero() {
            return None;
        }
        bought.taken -= unused;
        if bought.joined - bought.taken > bought.paid_for {
            return Some(format!("{unused} credits of {payment} return but were never taken"));
        }
        let lot = self.expiring.keys().find(|(_, grant)| *grant == bought.grant_id).cloned();
        let Some(lot) = lot else {
            return Some(format!("{unused} credits return to a grant that has ended"));
        };
        bought.joined -= unused;
        self.open(lot, unused);
        None
    }
}
