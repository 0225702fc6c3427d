//! The balance against a slow truth that is written differently: a heap of single credits, each with its last second.
//!
//! It knows top-ups, grants, what is paid ahead, debits, holds, expiries, voids, claw-backs, invoices and credit limits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test may calculate and unwrap; what it tests may not"
)]

use std::collections::BTreeMap;

use credits_core::balance::{Balance, NEVER};
use credits_core::change::Change;
use credits_core::close::{CHANGES_A_CLOSE, Outcome};
use credits_core::credits::{Amount, Credits};
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::hold::Placement;
use credits_core::month::Month;
use credits_core::posting::{Posting, Refusal};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const START: i64 = 1_790_000_000;

#[derive(Debug, Clone)]
enum Operation {
    Debit {
        credits: i64,
        skew: i64,
    },
    /// Sets credits aside.
    Hold {
        credits: i64,
    },
    /// Sets more aside for a hold.
    ExtendHold {
        pick: usize,
        credits: i64,
        meanwhile: u8,
    },
    /// Ends holds of which so much was captured, or more than they keep; `meanwhile` passes between reading the balance
    /// and writing it.
    EndHolds {
        picks: Vec<(usize, i64)>,
        meanwhile: u8,
    },
    TopUp {
        credits: i64,
    },
    Grant {
        credits: i64,
        lives: i64,
    },
    Void {
        pick: usize,
    },
    VoidPrepaid {
        credits: i64,
    },
    ClawBack {
        credits: i64,
    },
    /// A grant that starts later.
    PayAhead {
        credits: i64,
        starts: i64,
        lives: i64,
    },
    Limit {
        credits: i64,
    },
    Invoice,
    Wait {
        seconds: i64,
    },
    Read,
    /// The next changes are left behind the fence until something closes them.
    LeaveFenced,
}

/// One credit each, with the second it dies in; `i64::MAX` for never.
#[derive(Debug, Default)]
struct Truth {
    coins: Vec<(i64, String)>,
    debt: i64,
    granted: i64,
    consumed: i64,
    expired: i64,
    voided: i64,
    clawed: i64,
    invoiced: i64,
    limit: i64,
    /// What open holds keep, by the epoch in which they were placed: all of it, and what of it is dead.
    held: BTreeMap<u64, [i64; 2]>,
    /// When debt is billed next.
    invoices: Option<i64>,
}

impl Truth {
    fn give(&mut self, credits: i64, dies: i64, grant: &str) {
        self.granted += credits;
        let pays = self.debt.min(credits);
        self.debt -= pays;
        self.coins.extend((pays..credits).map(|_| (dies, grant.to_owned())));
    }

    fn spend(&mut self, credits: i64) {
        self.coins.sort();
        let taken = (credits as usize).min(self.coins.len());
        self.coins.drain(..taken);
        self.debt += credits - taken as i64;
    }

    fn expire(&mut self, now: i64) {
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

    fn end_hold(&mut self, epoch: u64, kept: i64, captured: i64) {
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

    fn claw(&mut self, credits: i64) {
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

    fn remove(&mut self, grant: &str, at_most: usize) -> i64 {
        let mut left = at_most;
        let before = self.coins.len();
        self.coins.retain(|(_, of)| {
            let take = of == grant && left > 0;
            left -= usize::from(take);
            !take
        });
        (before - self.coins.len()) as i64
    }

    fn available(&self) -> i64 {
        let live: i64 = self.held.values().map(|[held, dead]| held - dead).sum();
        self.coins.len() as i64 - self.debt - live
    }

    fn all_held(&self) -> i64 {
        self.held.values().map(|[held, _]| held).sum()
    }

    fn law(&self) -> bool {
        self.granted + self.invoiced
            == self.available() + self.all_held() + self.consumed + self.expired + self.voided + self.clawed
    }
}

fn credits(units: i64) -> Credits {
    Credits::from_micros(i128::from(units) * 1_000_000).unwrap()
}

fn amount(units: i64) -> Amount {
    Amount::new(credits(units)).unwrap()
}

fn whole(credits: Credits) -> i64 {
    (credits.micros().unwrap() / 1_000_000) as i64
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(START + at).unwrap()
}

/// The balance and its truth, driven side by side.
struct Bench {
    balance: Balance,
    truth: Truth,
    now: i64,
    grants: usize,
    leaves_fenced: bool,
    holds: Vec<Placement>,
}

impl Bench {
    fn new() -> Self {
        Self {
            balance: Balance::default(),
            truth: Truth::default(),
            now: 0,
            grants: 0,
            leaves_fenced: false,
            holds: Vec::new(),
        }
    }

    fn close(&mut self, now: i64) {
        let mut closes = 0;
        while self.balance.is_due(second(now)) {
            let waiting = self.balance.changes.clone();
            let closing = self.balance.close(second(now)).unwrap();
            let expired = self.truth.expired;
            self.truth.expire(now);
            assert_eq!(closing.expired, credits(self.truth.expired - expired), "what expired");
            let mut outcomes = closing.outcomes.iter();
            self.leaves_fenced = false;
            self.invoice(now, &mut outcomes);
            let mut ahead = self.balance.next.clone();
            self.start(&mut ahead, now, &mut outcomes);
            for change in waiting.into_iter().take(CHANGES_A_CLOSE) {
                self.apply(&change, &mut ahead, &mut outcomes);
            }
            self.start(&mut ahead, now, &mut outcomes);
            assert!(outcomes.next().is_none());
            self.balance = closing.next;
            closes += 1;
            assert!(closes < 10, "closes come to an end");
        }
    }

    fn invoice<'a>(&mut self, now: i64, outcomes: &mut impl Iterator<Item = &'a Outcome>) {
        let Some(due) = self.truth.invoices.filter(|due| *due <= now) else { return };
        self.truth.invoices = Some(Month::of(second(due)).end().as_second() - START);
        let debt = std::mem::take(&mut self.truth.debt);
        self.truth.invoiced += debt;
        if debt > 0 {
            let billed = Outcome::Invoiced { month: Month::before(second(due)), credits: credits(debt) };
            assert_eq!(outcomes.next(), Some(&billed));
        }
    }

    fn start<'a>(
        &mut self,
        ahead: &mut Vec<NextGrant>,
        now: i64,
        outcomes: &mut impl Iterator<Item = &'a Outcome>,
    ) {
        ahead.sort_by_key(|next| next.starts_at);
        while ahead.first().is_some_and(|next| next.starts_at <= second(now)) {
            let NextGrant { key, grant, .. } = ahead.remove(0);
            let started = Outcome::Started { key, credits: grant.granted.credits() };
            assert_eq!(outcomes.next(), Some(&started));
            let dies = grant.expires_at.as_second() - START;
            self.truth.give(whole(grant.granted.credits()), dies, grant.grant_id.as_str());
        }
    }

    fn apply<'a>(
        &mut self,
        change: &Change,
        ahead: &mut Vec<NextGrant>,
        outcomes: &mut impl Iterator<Item = &'a Outcome>,
    ) {
        match change {
            Change::Grant(grant) => {
                let dies = grant.expires_at.as_second() - START;
                self.truth.give(whole(grant.granted.credits()), dies, grant.grant_id.as_str());
            }
            Change::ClawBack(amount) => self.truth.claw(whole(amount.credits())),
            Change::Void { grant_id, prepaid, .. } => {
                let taken = match prepaid {
                    Some(granted) => self.truth.remove("prepaid", whole(granted.credits()) as usize),
                    None => self.truth.remove(grant_id.as_str(), usize::MAX),
                };
                self.truth.voided += taken;
                let Some(Outcome::Voided { credits: said, .. }) = outcomes.next() else {
                    panic!("a void is told")
                };
                assert_eq!(*said, credits(taken), "what was voided");
            }
            Change::Next(next) => ahead.push(next.clone()),
            Change::Invoicing(first_at) => {
                self.truth.invoices = first_at.map(|first_at| first_at.as_second() - START);
            }
        }
    }

    fn post(&mut self, posting: &Posting) -> Result<(), Refusal> {
        self.balance = posting.apply(&self.balance, "entry")?;
        Ok(())
    }

    fn change(&mut self, change: Change) {
        self.post(&Posting::change(change)).unwrap();
        let refused = self.post(&Posting::debit(amount(1), second(self.now)));
        assert_eq!(refused, Err(Refusal::Due), "no debit passes the fence");
        if !self.leaves_fenced {
            self.close(self.now);
        }
    }

    fn debit(&mut self, wanted: i64, skew: i64) {
        let now = self.now + skew;
        self.close(now);
        let before = self.truth.available() + self.truth.limit;
        match self.post(&Posting::debit(amount(wanted), second(now))) {
            Ok(()) => {
                self.truth.spend(wanted);
                self.truth.consumed += wanted;
                assert!(before >= wanted, "a debit never takes the balance below zero");
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Insufficient { available: credits(before) });
                assert!(before < wanted, "no debit is refused that the credits cover");
            }
        }
    }

    fn hold(&mut self, wanted: i64) {
        self.close(self.now);
        let before = self.truth.available() + self.truth.limit;
        let epoch = self.balance.epoch;
        let stale = self.post(&Posting::hold(amount(wanted), second(self.now), epoch + 1));
        assert_eq!(stale, Err(Refusal::Moved), "a hold is placed in the epoch that it keeps");
        match self.post(&Posting::hold(amount(wanted), second(self.now), epoch)) {
            Ok(()) => {
                self.truth.held.entry(epoch).or_default()[0] += wanted;
                self.holds.push(Placement { epoch, amount: amount(wanted) });
                assert!(before >= wanted, "a hold never takes the balance below zero");
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Insufficient { available: credits(before) });
                assert!(before < wanted, "no hold is refused that the credits cover");
            }
        }
    }

    fn extend_hold(&mut self, pick: usize, more: i64, meanwhile: u8) {
        if self.holds.is_empty() {
            return;
        }
        let pick = pick % self.holds.len();
        let hold = self.holds.remove(pick);
        let grown = |balance: &Balance, now| balance.extend_hold(hold, amount(more), second(now)).unwrap();
        let read = grown(&self.balance, self.now);
        self.meanwhile(meanwhile);
        let mut outcome = self.post(&read);
        while matches!(outcome, Err(Refusal::Moved | Refusal::Due)) {
            self.close(self.now);
            let read_again = grown(&self.balance, self.now);
            outcome = self.post(&read_again);
        }
        let kept = whole(hold.amount.credits());
        let before = self.truth.available() + self.truth.limit;
        let now_kept = match outcome {
            Ok(()) => {
                assert!(before >= more, "no hold grows by what the balance doesn't cover");
                self.truth.held.get_mut(&hold.epoch).unwrap()[0] += more;
                kept + more
            }
            refused => {
                assert_eq!(refused, Err(Refusal::Insufficient { available: credits(before) }));
                assert!(before < more, "no growth is refused that the credits cover");
                kept
            }
        };
        self.holds.push(Placement { amount: amount(now_kept), ..hold });
    }

    /// What others do between a read and a write.
    fn meanwhile(&mut self, meanwhile: u8) {
        match meanwhile {
            1 => self.debit(1, 0),
            2 => self.run(&Operation::Grant { credits: 2, lives: 1 }),
            3 => {
                self.now += 2;
                self.close(self.now);
            }
            4 => self.hold(1),
            5 => self.end_holds(&[(0, 1)], 0),
            6 => self.now += 2,
            _ => {}
        }
    }

    fn end_holds(&mut self, picks: &[(usize, i64)], meanwhile: u8) {
        let mut ends = Vec::new();
        for (pick, captured) in picks {
            if !self.holds.is_empty() {
                let pick = pick % self.holds.len();
                ends.push((self.holds.remove(pick), credits(*captured)));
            }
        }
        let above = ends.iter().map(|(hold, captured)| whole(*captured) - whole(hold.amount.credits()));
        let above: i64 = above.map(|above| above.max(0)).sum();
        let mut now = second(self.now);
        let mut ending = self.balance.end_holds(ends.clone(), now).unwrap();
        self.meanwhile(meanwhile);
        let mut outcome = self.post(&ending.posting);
        while matches!(outcome, Err(Refusal::Moved | Refusal::Due)) {
            self.close(self.now);
            now = second(self.now);
            ending = self.balance.end_holds(ends.clone(), now).unwrap();
            outcome = self.post(&ending.posting);
        }
        let before = self.truth.available() + self.truth.limit;
        if outcome.is_err() {
            assert_eq!(outcome, Err(Refusal::Insufficient { available: credits(before) }));
            assert!(before < above, "nothing above a hold is refused that the credits cover");
            self.holds.extend(ends.into_iter().map(|(hold, _)| hold));
            return;
        }
        assert!(above == 0 || before >= above, "nothing above a hold is taken that the credits don't cover");
        let expired = self.truth.expired;
        for (hold, captured) in ends {
            let (kept, captured) = (whole(hold.amount.credits()), whole(captured));
            let grown = kept.max(captured);
            self.truth.held.get_mut(&hold.epoch).unwrap()[0] += grown - kept;
            self.truth.end_hold(hold.epoch, grown, captured);
        }
        assert_eq!(
            ending.expired,
            credits(self.truth.expired - expired),
            "what a hold gives back too late expires"
        );
    }

    fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Hold { credits } => self.hold(credits),
            Operation::ExtendHold { pick, credits, meanwhile } => self.extend_hold(pick, credits, meanwhile),
            Operation::EndHolds { ref picks, meanwhile } => self.end_holds(picks, meanwhile),
            Operation::Debit { credits, skew } => self.debit(credits, skew),
            Operation::TopUp { credits } => {
                self.post(&Posting::top_up(amount(credits))).unwrap();
                self.truth.give(credits, i64::MAX, "prepaid");
            }
            Operation::Grant { credits: given, lives } => {
                self.grants += 1;
                let grant = ExpiringGrant {
                    grant_id: format!("g{:03}", self.grants).parse().unwrap(),
                    kind: GrantKind::Promotional,
                    granted: amount(given),
                    amount: credits(given),
                    expires_at: second(self.now).checked_add(SignedDuration::from_secs(lives)).unwrap(),
                };
                self.change(Change::Grant(grant));
            }
            Operation::Void { pick } => {
                let grant_id = format!("g{:03}", 1 + pick % self.grants.max(1)).parse().unwrap();
                self.change(Change::Void { key: "void".into(), grant_id, prepaid: None });
            }
            Operation::VoidPrepaid { credits } => {
                let grant_id = "prepaid".parse().unwrap();
                self.change(Change::Void { key: "void".into(), grant_id, prepaid: Some(amount(credits)) });
            }
            Operation::ClawBack { credits } => self.change(Change::ClawBack(amount(credits))),
            Operation::PayAhead { credits: given, starts, lives } => {
                self.grants += 1;
                let starts_at = second(self.now + starts);
                let grant = ExpiringGrant {
                    grant_id: format!("g{:03}", self.grants).parse().unwrap(),
                    kind: GrantKind::Allocation,
                    granted: amount(given),
                    amount: credits(given),
                    expires_at: starts_at + SignedDuration::from_secs(lives),
                };
                self.change(Change::Next(NextGrant { starts_at, key: format!("k{}", self.grants), grant }));
            }
            Operation::Limit { credits: limit } => {
                let posting = Posting::limit(credits(self.truth.limit), credits(limit)).unwrap();
                self.post(&posting).unwrap();
                self.truth.limit = limit;
                let stale = Posting::limit(credits(limit + 1), credits(0)).unwrap();
                assert!(self.post(&stale).is_err(), "a limit is changed from what it is");
            }
            Operation::Invoice => self.change(Change::Invoicing(Some(second(self.now)))),
            Operation::LeaveFenced => self.leaves_fenced = true,
            Operation::Wait { seconds } => self.now += seconds,
            Operation::Read => {
                let read = self.balance.as_of(second(self.now)).unwrap();
                self.close(self.now);
                assert_eq!(read, self.balance, "a read shows the balance as if it were closed");
            }
        }
    }

    fn check(&self) {
        let (balance, truth) = (&self.balance, &self.truth);
        assert!(balance.is_consistent().unwrap());
        if !balance.changes.is_empty() {
            // What waits is in the truth once a close has applied it.
            return;
        }
        assert!(truth.law(), "conservation");
        assert_eq!(balance.available().unwrap(), credits(truth.available()));
        assert_eq!(balance.all_held().unwrap(), credits(truth.all_held()));
        let left = balance.waterfall().unwrap();
        let prepaid = truth.coins.iter().filter(|(dies, _)| *dies == i64::MAX).count() as i64;
        assert_eq!(left.prepaid, credits(prepaid - truth.debt), "prepaid is spent last");
        for grant in &left.grants {
            let coins = truth.coins.iter().filter(|(_, of)| of == grant.grant_id.as_str()).count() as i64;
            assert_eq!(grant.amount, credits(coins), "the earliest expiry is spent first");
        }
        let consumed = Credits::sum(balance.consumed.values().copied()).unwrap();
        assert_eq!(consumed, credits(truth.consumed), "the month's counter is exact");
        assert!(balance.grants.iter().all(|grant| grant.expires_at < NEVER));
        let changes_next = balance.next.iter().all(|next| balance.expires_next <= next.starts_at);
        assert!(changes_next, "what was paid ahead needs no schedule");
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..6_i64, -1..2_i64).prop_map(|(credits, skew)| Operation::Debit { credits, skew }),
        3 => (1..6_i64).prop_map(|credits| Operation::Hold { credits }),
        1 => (any::<usize>(), 1..4_i64, 0..9_u8)
            .prop_map(|(pick, credits, meanwhile)| Operation::ExtendHold { pick, credits, meanwhile }),
        3 => (prop::collection::vec((any::<usize>(), 0..7_i64), 1..4), 0..9_u8)
            .prop_map(|(picks, meanwhile)| Operation::EndHolds { picks, meanwhile }),
        2 => (1..8_i64).prop_map(|credits| Operation::TopUp { credits }),
        3 => (1..8_i64, 1..8_i64).prop_map(|(credits, lives)| Operation::Grant { credits, lives }),
        1 => any::<usize>().prop_map(|pick| Operation::Void { pick }),
        1 => (1..8_i64).prop_map(|credits| Operation::VoidPrepaid { credits }),
        2 => (1..8_i64).prop_map(|credits| Operation::ClawBack { credits }),
        2 => (1..8_i64, 0..5_i64, 1..8_i64)
            .prop_map(|(credits, starts, lives)| Operation::PayAhead { credits, starts, lives }),
        1 => (0..6_i64).prop_map(|credits| Operation::Limit { credits }),
        1 => Just(Operation::Invoice),
        3 => (1..4_i64).prop_map(|seconds| Operation::Wait { seconds }),
        1 => Just(Operation::Read),
        1 => Just(Operation::LeaveFenced),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conservation_and_the_order_of_spending_hold_at_every_step(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let mut bench = Bench::new();
        for operation in &operations {
            bench.run(operation);
            bench.check();
        }
    }
}

#[test]
fn more_changes_than_one_close_applies_are_applied_by_the_next_and_in_order() {
    let mut bench = Bench::new();
    bench.run(&Operation::LeaveFenced);
    for change in 0..CHANGES_A_CLOSE as i64 + 20 {
        bench.run(&Operation::Grant { credits: 3, lives: 1 + change % 5 });
        bench.run(&Operation::ClawBack { credits: 2 });
        bench.run(&Operation::TopUp { credits: 1 });
    }
    assert!(bench.balance.changes.len() > 2 * CHANGES_A_CLOSE);
    bench.run(&Operation::Read);
    bench.check();
    assert!(bench.balance.changes.is_empty() && bench.balance.epoch >= 3);
    bench.run(&Operation::Debit { credits: 1, skew: 0 });
    bench.check();
}

#[test]
fn m16_the_expiring_allocation_is_spent_first_and_the_buffer_after_it() {
    let mut bench = Bench::new();
    bench.run(&Operation::TopUp { credits: 5 });
    bench.run(&Operation::Grant { credits: 3, lives: 100 });
    bench.run(&Operation::Debit { credits: 4, skew: 0 });
    let left = bench.balance.waterfall().unwrap();
    assert_eq!((left.grants[0].amount, left.prepaid), (credits(0), credits(4)));
}
