//! The slow model: a heap of single millionths of a credit, each with its last second. Every date passes at its own
//! second.

use std::collections::{BTreeMap, BTreeSet};

/// A grant that a payment bought.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BoughtGrant {
    pub granted: i64,
    /// The grant's credits that were spent, or paid a debt.
    pub consumed: i64,
    /// The grant's credits that a refund took before they were spent.
    pub unused_taken: i64,
    /// The credits that a refund charged for spent ones.
    pub charged: i64,
    /// The grant's last second.
    pub dies: i64,
    /// Whether the grant's last second has passed.
    pub has_ended: bool,
}

/// A grant that begins later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    pub starts: i64,
    pub grant: String,
    pub credits: i64,
}

/// A millionth of a credit: the second at which it expires (`i64::MAX` for never), and its grant.
pub type Coin = (i64, String);

/// A refund of a debit.
#[derive(Debug, Clone)]
pub struct RefundOfDebit {
    /// The id that a grant of returned credits gets.
    pub refund_id: String,
    /// The epoch whose use was refunded.
    pub epoch: u64,
    pub is_present: bool,
    /// The part that live credits paid.
    pub live: i64,
    /// The part of `live` that the epoch has used, as far as it was read. The rest returns as prepaid credits.
    pub of_epoch: i64,
    /// The part that expired credits paid.
    pub expired: i64,
    pub at: i64,
}

/// A model of a balance.
#[derive(Debug, Default)]
pub struct Truth {
    pub coins: Vec<Coin>,
    pub debt: i64,
    pub granted: i64,
    pub consumed: i64,
    /// The credits of debits that were refunded.
    pub refunded: i64,
    pub expired: i64,
    pub voided: i64,
    pub clawed: i64,
    pub invoiced: i64,
    pub limit: i64,
    /// The credits that open holds keep, by the epoch in which they were placed: all of them, and those that are dead.
    pub held: BTreeMap<u64, [i64; 2]>,
    /// The next date on which debt is billed. It moves to the next month's end after each invoice.
    pub invoices: Option<i64>,
    /// The billed credits, by the second of the month's end.
    pub invoices_at: BTreeMap<i64, i64>,
    pub ahead: Vec<Ahead>,
    pub bought: BTreeMap<String, BoughtGrant>,
    /// The grants that were voided or withdrawn.
    pub removed: BTreeSet<String>,
    /// The coins that each epoch has used and no refund has returned, in the order of spending. Debt counts as prepaid.
    pub paid: BTreeMap<u64, Vec<Coin>>,
}

impl Truth {
    /// Lets every date up to `now` pass, in order. Within one second, expiries come first, then the month's end, then
    /// starts.
    pub fn advance(&mut self, now: i64, month_after: impl Fn(i64) -> i64) {
        self.bought.values_mut().for_each(|it| it.has_ended |= it.dies <= now);
        loop {
            let expiry = self.coins.iter().map(|(dies, _)| (*dies, 0)).filter(|(dies, _)| *dies < i64::MAX);
            let month = self.invoices.map(|at| (at, 1));
            let start = self.ahead.iter().map(|ahead| (ahead.starts, 2));
            match expiry.chain(month).chain(start).min() {
                Some((at, what)) if at <= now => match what {
                    0 => self.expire(at),
                    1 => {
                        let debt = std::mem::take(&mut self.debt);
                        self.invoiced += debt;
                        *self.invoices_at.entry(at).or_default() += debt;
                        self.invoices = Some(month_after(at));
                    }
                    _ => self.start(at),
                },
                _ => return,
            }
        }
    }

    fn start(&mut self, at: i64) {
        let (started, waiting) = self.ahead.drain(..).partition(|ahead| ahead.starts <= at);
        self.ahead = waiting;
        let mut started: Vec<Ahead> = started;
        started.sort_by_key(|ahead| ahead.starts);
        for Ahead { grant, credits, .. } in started {
            let dies = self.bought[&grant].dies;
            self.give(credits, dies, &grant);
        }
    }

    pub fn give(&mut self, credits: i64, dies: i64, grant: &str) {
        self.granted += credits;
        for _ in 0..credits {
            self.give_one(dies, grant);
        }
    }

    /// Gives one credit, which pays debt before it can be spent.
    fn give_one(&mut self, dies: i64, grant: &str) {
        if self.debt > 0 {
            self.debt -= 1;
            self.used_up(grant);
        } else {
            self.coins.push((dies, grant.to_owned()));
        }
    }

    fn used_up(&mut self, grant: &str) {
        if let Some(bought) = self.bought.get_mut(grant) {
            bought.consumed += 1;
        }
    }

    /// Spends credits for calls in an epoch.
    pub fn spend(&mut self, credits: i64, epoch: u64) {
        for _ in 0..credits {
            let coin = self.spend_one();
            self.paid.entry(epoch).or_default().push(coin);
        }
    }

    /// Takes the coin that expires first, else a debt.
    fn spend_one(&mut self) -> Coin {
        self.coins.sort();
        if self.coins.is_empty() {
            self.debt += 1;
            return (i64::MAX, "prepaid".to_owned());
        }
        let coin = self.coins.remove(0);
        self.used_up(&coin.1);
        coin
    }

    /// Returns the coins of a refund to where they came from.
    ///
    /// In the present epoch, these are the coins that were spent last. Of a closed epoch with `n` coins, the coin at
    /// `k` returns where the running count `⌊k × live ÷ n⌋` steps up.
    pub fn refund_debit(&mut self, refund: &RefundOfDebit) {
        let paid = self.paid.remove(&refund.epoch).unwrap_or_default();
        let n = paid.len() as i64;
        let of_epoch = refund.of_epoch;
        let is_last = |k: i64| k >= n - of_epoch;
        let steps_up = |k: i64| (k + 1) * of_epoch / n > k * of_epoch / n;
        let returns = |k| if refund.is_present { is_last(k) } else { steps_up(k) };
        let (returned, kept): (Vec<_>, Vec<_>) = paid.into_iter().zip(0..).partition(|(_, k)| returns(*k));
        self.paid.insert(refund.epoch, kept.into_iter().map(|(coin, _)| coin).collect());
        let mut coins: Vec<Coin> = returned.into_iter().map(|(coin, _)| coin).collect();
        assert_eq!(coins.len() as i64, of_epoch, "the epoch returns what was refunded of it");
        coins.extend((of_epoch..refund.live).map(|_| (i64::MAX, "prepaid".to_owned())));
        // A coin of no grant returns like that of one that has ended.
        coins.extend((0..refund.expired).map(|_| (i64::MIN, String::new())));
        self.refunded += refund.live + refund.expired;
        // Prepaid credits pay debt before those of grants.
        coins.sort_by_key(|(dies, _)| *dies < i64::MAX);
        for coin in coins {
            self.give_back(coin, refund);
        }
        while self.debt > 0 && !self.coins.is_empty() {
            self.debt -= 1;
            self.spend_one();
        }
    }

    fn give_back(&mut self, (dies, grant): Coin, refund: &RefundOfDebit) {
        if dies == i64::MAX {
            return self.give_one(dies, &grant);
        }
        // A refund with a slow clock does not bring back an allocation that has ended by another clock.
        let has_ended = self.bought.get(&grant).is_some_and(|bought| bought.has_ended);
        if dies <= refund.at || has_ended || self.removed.contains(&grant) {
            let last = self.returned_until(refund.at);
            return self.coins.push((last, refund.refund_id.clone()));
        }
        if let Some(bought) = self.bought.get_mut(&grant) {
            bought.consumed -= 1;
            // A refund of the payment has charged the coin. Now it takes the coin, and returns the charge.
            if bought.charged > 0 {
                bought.charged -= 1;
                bought.unused_taken += 1;
                return self.give_one(i64::MAX, "prepaid");
            }
        }
        self.coins.push((dies, grant));
    }

    /// Returns the last second of returned credits whose grant has ended: that of the allocation that runs, or 30 days.
    fn returned_until(&self, at: i64) -> i64 {
        let begun = |grant: &String| self.ahead.iter().all(|ahead| ahead.grant != *grant);
        let running = self.bought.iter().filter(|(grant, it)| it.dies > at && !it.has_ended && begun(grant));
        running.map(|(_, it)| it.dies).min().unwrap_or(at + 30 * 86_400)
    }

    fn expire(&mut self, now: i64) {
        let before = self.coins.len();
        self.coins.retain(|(dies, _)| *dies > now);
        let dying = (before - self.coins.len()) as i64;
        for _ in 0..dying {
            // Open holds keep the credits that expire first, older holds before newer ones.
            match self.held.values_mut().find(|[held, dead]| held > dead) {
                Some([_, dead]) => *dead += 1,
                None => self.expired += 1,
            }
        }
    }

    /// Ends a hold that was placed in the epoch `placed`. The captures count as used in the epoch `now`.
    pub fn end_hold(&mut self, placed: u64, now: u64, kept: i64, captured: i64) {
        let mut group = self.held.remove(&placed).unwrap();
        for _ in 0..captured {
            group[0] -= 1;
            if group[1] > 0 {
                group[1] -= 1;
            } else {
                self.spend(1, now);
            }
        }
        for _ in captured..kept {
            if group[0] > group[1] {
                group[0] -= 1;
            } else {
                group = [group[0] - 1, group[1] - 1];
                self.expired += 1;
            }
        }
        self.consumed += captured;
        if group[0] > 0 {
            self.held.insert(placed, group);
        }
    }

    /// Takes a credit for a spent one that is refunded: a prepaid one, else the one that expires first, else a debt.
    fn charge_one(&mut self) {
        match self.coins.iter().position(|(dies, _)| *dies == i64::MAX) {
            Some(at) => drop(self.coins.remove(at)),
            None => drop(self.spend_one()),
        }
    }

    /// Takes back credits for the refund of a pack.
    pub fn claw(&mut self, credits: i64) {
        self.clawed += credits;
        (0..credits).for_each(|_| self.charge_one());
    }

    /// Takes or returns single credits until the refunds of a grant's payment come to `target` credits.
    pub fn refund(&mut self, grant: &str, target: i64) {
        let taken = |it: &Self| it.bought[grant].unused_taken + it.bought[grant].charged;
        while taken(self) < target {
            let ahead = self.ahead.iter_mut().find(|ahead| ahead.grant == grant && ahead.credits > 0);
            if let Some(ahead) = ahead {
                ahead.credits -= 1;
                self.bought.get_mut(grant).unwrap().unused_taken += 1;
            } else if let Some(at) = self.coins.iter().position(|(_, of)| of == grant) {
                self.coins.remove(at);
                self.clawed += 1;
                self.bought.get_mut(grant).unwrap().unused_taken += 1;
            } else if self.bought[grant].charged < self.bought[grant].consumed {
                self.charge_one();
                self.clawed += 1;
                self.bought.get_mut(grant).unwrap().charged += 1;
            } else {
                return;
            }
        }
        while taken(self) > target {
            if self.bought[grant].charged > 0 {
                self.bought.get_mut(grant).unwrap().charged -= 1;
                self.clawed -= 1;
                self.give_one(i64::MAX, "prepaid");
            } else if let Some(ahead) = self.ahead.iter_mut().find(|ahead| ahead.grant == grant) {
                ahead.credits += 1;
                self.bought.get_mut(grant).unwrap().unused_taken -= 1;
            } else if self.bought[grant].has_ended {
                return;
            } else {
                self.bought.get_mut(grant).unwrap().unused_taken -= 1;
                self.clawed -= 1;
                self.give_one(self.bought[grant].dies, grant);
            }
        }
    }

    pub fn remove(&mut self, grant: &str, at_most: usize) -> i64 {
        let mut left = at_most;
        let before = self.coins.len();
        self.coins.retain(|(_, of)| {
            let take = of == grant && left > 0;
            left -= usize::from(take);
            !take
        });
        (before - self.coins.len()) as i64
    }

    pub fn available(&self) -> i64 {
        let live: i64 = self.held.values().map(|[held, dead]| held - dead).sum();
        self.coins.len() as i64 - self.debt - live
    }

    pub fn all_held(&self) -> i64 {
        self.held.values().map(|[held, _]| held).sum()
    }

    pub fn law(&self) -> bool {
        self.granted + self.invoiced + self.refunded
            == self.available() + self.all_held() + self.consumed + self.expired + self.voided + self.clawed
    }

    /// Returns whether no refund takes more credits than its own grant had left or had spent.
    pub fn refunds_are_bounded(&self) -> bool {
        self.bought
            .values()
            .all(|it| it.charged <= it.consumed && it.unused_taken + it.consumed <= it.granted)
    }
}
