//! A sequential model of a workspace without holds, written apart from `core`: credits as lots, spent one after the
//! other as the ledger's entries were committed, the earliest expiry first and prepaid last (M16).

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

/// The lots of a workspace.
#[derive(Debug, Default)]
pub struct Lots {
    /// Those that expire, by their end and their grant.
    expiring: BTreeMap<(Timestamp, String), Decimal>,
    /// The rest; below zero it is debt.
    prepaid: Decimal,
    /// What takes effect at the next close.
    waiting: Vec<(Value, Decimal)>,
}

impl Lots {
    /// Carries out an entry; what differs from the model, if anything does.
    pub fn carry_out(&mut self, detail: &Value, credits: Decimal, at: Timestamp) -> Option<String> {
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        match detail["kind"].as_str().unwrap_or_default() {
            "debit" => self.spend(-credits),
            "top_up" | "claw_back_reversed" | "invoiced" => self.add(credits),
            "grant" | "allocation" => match detail["expires_at"].as_str() {
                Some(end) => self.open((end.parse().unwrap(), text("grant_id")), credits),
                None => self.add(credits),
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
                // Of a prepaid grant, what is left of its amount in the sum: at most all of it.
                self.prepaid += credits;
                if credits < Decimal::ZERO && self.prepaid < Decimal::ZERO {
                    return Some(format!("a void of {id} takes {} more than is there", -self.prepaid));
                }
            }
            "claw_back" => {
                let from_prepaid = (-credits).min(self.prepaid.max(Decimal::ZERO));
                self.prepaid -= from_prepaid;
                self.spend(-credits - from_prepaid);
            }
            other => return Some(format!("an entry of kind {other}")),
        }
        None
    }

    /// Puts an entry behind the fence, as what reorders the lots is.
    pub fn put_behind_the_fence(&mut self, detail: Value, credits: Decimal) {
        self.waiting.push((detail, credits));
    }

    /// Carries out what waits.
    pub fn close(&mut self) {
        for (detail, credits) in std::mem::take(&mut self.waiting) {
            self.carry_out(&detail, credits, Timestamp::MAX);
        }
    }

    /// What is left in all, and what waits.
    #[must_use]
    pub fn total(&self) -> Decimal {
        let waiting: Decimal = self.waiting.iter().map(|(_, credits)| credits).sum();
        self.expiring.values().sum::<Decimal>() + self.prepaid + waiting
    }

    fn spend(&mut self, mut amount: Decimal) {
        for left in self.expiring.values_mut() {
            let taken = amount.min(*left);
            *left -= taken;
            amount -= taken;
        }
        self.prepaid -= amount;
    }

    fn add(&mut self, credits: Decimal) {
        self.prepaid += credits;
    }

    /// A lot pays debt first, as all credits do.
    fn open(&mut self, lot: (Timestamp, String), credits: Decimal) {
        let debt = (-self.prepaid).max(Decimal::ZERO).min(credits);
        self.prepaid += debt;
        *self.expiring.entry(lot).or_default() += credits - debt;
    }

    fn end(&mut self, ids: &[&str], credits: Decimal, what: &str) -> Option<String> {
        let closed: Vec<(Timestamp, String)> =
            self.expiring.keys().filter(|(_, id)| ids.contains(&id.as_str())).cloned().collect();
        let left: Decimal = closed.iter().filter_map(|lot| self.expiring.remove(lot)).sum();
        (left != credits)
            .then(|| format!("of {ids:?} {left} credits are left by the model, and {credits} {what}"))
    }
}
