//! A balance and its truth, driven side by side.

use credits_core::balance::{Balance, NEVER};
use credits_core::change::Change;
use credits_core::close::{CHANGES_A_CLOSE, Outcome};
use credits_core::credits::Credits;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::hold::Placement;
use credits_core::id::Id;
use credits_core::month::Month;
use credits_core::posting::{Posting, Refusal};
use jiff::SignedDuration;

use crate::operation::Operation;
use crate::truth::Truth;
use crate::{START, amount, credits, second, whole};

/// The balance and its truth, driven side by side.
pub struct Bench {
    pub balance: Balance,
    truth: Truth,
    now: i64,
    grants: usize,
    leaves_fenced: bool,
    holds: Vec<Placement>,
}

impl Bench {
    pub fn new() -> Self {
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
            Change::Withdraw { grant_ids, .. } => {
                ahead.retain(|next| !grant_ids.contains(&next.grant.grant_id));
                let taken = grant_ids.iter().map(|id| self.truth.remove(id.as_str(), usize::MAX)).sum();
                self.truth.voided += taken;
                if taken > 0 {
                    let voided = Outcome::Voided { key: "withdrawn".into(), credits: credits(taken) };
                    assert_eq!(outcomes.next(), Some(&voided), "what had begun is taken back");
                }
            }
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

    pub fn run(&mut self, operation: &Operation) {
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
            Operation::Withdraw { ref picks } => {
                let id = |pick: &usize| format!("g{:03}", 1 + pick % self.grants.max(1)).parse().unwrap();
                let mut grant_ids: Vec<Id> = picks.iter().map(id).collect();
                grant_ids.dedup();
                self.change(Change::Withdraw { key: "withdrawn".into(), grant_ids });
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

    pub fn check(&self) {
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
