//! The slow truth: a heap of single credits, each with its last second.

use std::collections::BTreeMap;

/// One credit each, with the second it dies in; `i64::MAX` for never.
#[derive(Debug, Default)]
pub struct Truth {
    pub coins: Vec<(i64, String)>,
    pub debt: i64,
    pub granted: i64,
    pub consumed: i64,
    pub expired: i64,
    pub voided: i64,
    pub clawed: i64,
    pub invoiced: i64,
    pub limit: i64,
    /// What open holds keep, by the epoch in which they were placed: all of it, and what of it is dead.
    pub held: BTreeMap<u64, [i64; 2]>,
    /// When debt is billed next.
    pub invoices: Option<i64>,
}

impl Truth {
    pub fn give(&mut self, credits: i64, dies: i64, grant: &str) {
        self.granted += credits;
        let pays = self.debt.min(credits);
        self.debt -= pays;
        self.coins.extend((pays..credits).map(|_| (dies, grant.to_owned())));
    }

    pub fn spend(&mut self, credits: i64) {
        self.coins.sort();
        let taken = (credits as usize).min(self.coins.len());
        self.coins.drain(..taken);
        self.debt += credits - taken as i64;
    }

    pub fn expire(&mut self, now: i64) {
        let before = self.coins.len();
        self.coins.retain(|(dies, _)| *dies > now);
        let dying = (before - self.coins.len()) as i64;
        for _ in 0..dying {
            // Open holds stand on what expires before anything else does, older ones first.
            match self.held.values_mut().find(|[held, dead]| held > dead) {
                Some([_, dead]) => *dead += 1,
                None => self.expired += 1,
            }
        }
    }

    pub fn end_hold(&mut self, epoch: u64, kept: i64, captured: i64) {
        let mut group = self.held.remove(&epoch).unwrap();
        for _ in 0..captured {
            group[0] -= 1;
            if group[1] > 0 {
                group[1] -= 1;
            } else {
                self.spend(1);
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
            self.held.insert(epoch, group);
        }
    }

    pub fn claw(&mut self, credits: i64) {
        self.clawed += credits;
        let everlasting = self.coins.iter().filter(|(dies, _)| *dies == i64::MAX).count();
        let mut from_prepaid = everlasting.min(credits as usize);
        let rest = credits - from_prepaid as i64;
        self.coins.retain(|(dies, _)| {
            let take = *dies == i64::MAX && from_prepaid > 0;
            from_prepaid -= usize::from(take);
            !take
        });
        self.spend(rest);
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
        self.granted + self.invoiced
            == self.available() + self.all_held() + self.consumed + self.expired + self.voided + self.clawed
    }
}
