//! A test bench that drives a balance and its reference model side by side.

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::Operation;
use crate::truth::{Ahead, BoughtGrant, Truth};
use crate::{START, amount, credits, second, whole};
use credits_core::balance::{Balance, NEVER};
use credits_core::change::Change;
use credits_core::claw_back::{Clawed, EndedGrant};
use credits_core::close::{CloseEntry, CloseResult, Happened};
use credits_core::credits::{Amount, Credits};
use credits_core::debit_refund::EpochPayment;
use credits_core::grant::{ExpiringGrant, GrantKind, NextGrant};
use credits_core::hold_posting::Placement;
use credits_core::id::Id;
use credits_core::month::Month;
use credits_core::posting::{Posting, Refusal};

mod refunding;

/// A balance and its reference model, driven side by side. The model lets each date pass at its own second. The balance
/// closes when an operation needs it.
pub struct Bench {
    pub balance: Balance,
    /// The outcomes that the closes have listed.
    pub outcomes: Vec<CloseEntry>,
    pub ended: BTreeMap<Id, EndedGrant>,
    /// How many debits, holds and captures the balance has refused.
    pub refusals: usize,
    pub debits: Vec<PostedDebit>,
    pub truth: Truth,
    now: i64,
    /// The second up to which the model has let dates pass.
    passed: i64,
    /// The number of ids of grants so far.
    pub grants: usize,
    leaves_fenced: bool,
    closes: Closes,
    holds: Vec<Placement>,
    /// The credits that ended holds released after they had expired.
    expired_in_holds: Credits,
    clawed_of_packs: Credits,
    /// How each closed epoch was paid, less what was refunded since.
    payments: BTreeMap<u64, EpochPayment>,
    voided: BTreeSet<Id>,
}

/// A debit or a settlement of holds, as its ledger entry records it.
#[derive(Debug, Clone)]
pub struct PostedDebit {
    at: i64,
    epoch: u64,
    credits: i64,
    /// The part that expired credits paid.
    expired: i64,
    refunded: i64,
}

/// When a balance is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// After each operation.
    AtOnce,
    /// When an operation can't continue without a close, or asks for one.
    WhenNeeded,
}

impl Bench {
    pub fn new(closes: Closes) -> Self {
        Self {
            balance: Balance::default(),
            outcomes: Vec::new(),
            ended: BTreeMap::new(),
            refusals: 0,
            debits: Vec::new(),
            truth: Truth::default(),
            now: 0,
            passed: 0,
            grants: 0,
            leaves_fenced: false,
            closes,
            holds: Vec::new(),
            expired_in_holds: Credits::ZERO,
            clawed_of_packs: Credits::ZERO,
            payments: BTreeMap::new(),
            voided: BTreeSet::new(),
        }
    }

    pub fn close(&mut self, now: i64) {
        self.pass(now);
        let mut closes = 0;
        while self.balance.is_due(second(now)) {
            self.leaves_fenced = false;
            let closing = self.balance.close(second(now)).unwrap();
            self.is_raised_by_additions_alone(&closing);
            let epoch = self.balance.epoch;
            self.check_payment(epoch, closing.payment.as_ref());
            self.payments.extend(closing.payment.map(|payment| (epoch, payment)));
            self.balance = closing.next;
            self.outcomes.extend(closing.outcomes);
            self.ended.extend(closing.ended.into_iter().map(|ended| (ended.grant_id.clone(), ended)));
            closes += 1;
            assert!(closes < 10, "fewer than 10 closes are enough");
        }
    }

    /// Checks that only an addition, a refund of a debit or an invoice raises what is owned, and that an addition ends a
    /// noted exhaustion.
    fn is_raised_by_additions_alone(&self, closing: &CloseResult) {
        let (before, after) = (self.balance.owned().unwrap(), closing.next.owned().unwrap());
        let adds = |outcome: &CloseEntry| match outcome.what {
            Happened::Started(_) => true,
            Happened::Clawed(_) => outcome.credits > Credits::ZERO,
            _ => false,
        };
        let grants = self.balance.changes.iter().any(|it| matches!(it.change, Change::Grant(_)));
        let adds = grants || closing.outcomes.iter().any(adds);
        let returns = self.balance.changes.iter().any(|it| matches!(it.change, Change::Return { .. }));
        let invoiced = closing.outcomes.iter().any(|it| matches!(it.what, Happened::Invoiced(_)));
        let raised = after > before;
        assert!(adds || returns || invoiced || !raised, "only these raise what is owned");
        let all_applied = closing.next.changes.is_empty();
        assert!(!adds || !all_applied || (closing.next.added.is_some() && !closing.next.exhaustion_noted));
    }

    /// Lets the dates up to an instant pass in the model.
    fn pass(&mut self, now: i64) {
        self.passed = self.passed.max(now);
        self.truth.advance(now, |at| Month::of(second(at)).end().as_second() - START);
    }

    fn post(&mut self, posting: &Posting) -> Result<(), Refusal> {
        let next = posting.apply(&self.balance, "entry")?;
        let grown = next.owned().unwrap() > self.balance.owned().unwrap();
        assert_eq!(grown, posting.movement.added.is_some(), "only an addition raises what is owned");
        self.balance = next;
        Ok(())
    }

    /// Queues a change behind the fence. In the model it has taken effect at once.
    fn change(&mut self, change: Change) {
        self.post(&Posting::queue_change(change, second(self.now))).unwrap();
        let refused = self.post(&Posting::debit(amount(1).into(), second(self.now)));
        assert_eq!(refused, Err(Refusal::Due), "no debit passes the fence");
        if !self.leaves_fenced && self.closes == Closes::AtOnce {
            self.close(self.now);
        }
    }

    fn debit(&mut self, wanted: i64, skew: i64) {
        // If a clock is behind one that was read before, dates do not pass again.
        let now = (self.now + skew).max(self.passed);
        self.close(now);
        let before = self.truth.available() + self.truth.limit;
        match self.post(&Posting::debit(amount(wanted).into(), second(now))) {
            Ok(()) => {
                let epoch = self.balance.epoch;
                self.truth.spend(wanted, epoch);
                self.truth.consumed += wanted;
                self.debits.push(PostedDebit { at: now, epoch, credits: wanted, expired: 0, refunded: 0 });
                assert!(before >= wanted, "a debit never takes the balance below zero");
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Insufficient { spendable: credits(before) });
                assert!(before < wanted, "a covered debit is not refused");
                self.refusals += 1;
            }
        }
    }

    fn hold(&mut self, wanted: i64) {
        self.close(self.now);
        let before = self.truth.available() + self.truth.limit;
        let epoch = self.balance.epoch;
        let stale = self.post(&Posting::hold(amount(wanted), second(self.now), epoch + 1));
        assert_eq!(stale, Err(Refusal::EpochChanged), "a hold needs the current epoch");
        match self.post(&Posting::hold(amount(wanted), second(self.now), epoch)) {
            Ok(()) => {
                self.truth.held.entry(epoch).or_default()[0] += wanted;
                self.holds.push(Placement { epoch, amount: amount(wanted) });
                assert!(before >= wanted, "a hold never takes the balance below zero");
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Insufficient { spendable: credits(before) });
                assert!(before < wanted, "a covered hold is not refused");
                self.refusals += 1;
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
        while matches!(outcome, Err(Refusal::EpochChanged | Refusal::Due)) {
            self.close(self.now);
            let read_again = grown(&self.balance, self.now);
            outcome = self.post(&read_again);
        }
        let kept = whole(hold.amount.credits());
        let before = self.truth.available() + self.truth.limit;
        let now_kept = match outcome {
            Ok(()) => {
                assert!(before >= more, "a hold grows only by what the balance covers");
                self.truth.held.get_mut(&hold.epoch).unwrap()[0] += more;
                kept + more
            }
            refused => {
                assert_eq!(refused, Err(Refusal::Insufficient { spendable: credits(before) }));
                assert!(before < more, "a covered growth is not refused");
                kept
            }
        };
        self.holds.push(Placement { amount: amount(now_kept), ..hold });
    }

    /// Runs what other callers do between a read and a write.
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
            7 => self.run(&Operation::Void { pick: self.debits.len() }),
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
        while matches!(outcome, Err(Refusal::EpochChanged | Refusal::Due)) {
            self.close(self.now);
            now = second(self.now);
            ending = self.balance.end_holds(ends.clone(), now).unwrap();
            outcome = self.post(&ending.posting);
        }
        let before = self.truth.available() + self.truth.limit;
        if outcome.is_err() {
            assert_eq!(outcome, Err(Refusal::Insufficient { spendable: credits(before) }));
            assert!(before < above, "a covered amount above a hold is not refused");
            self.holds.extend(ends.into_iter().map(|(hold, _)| hold));
            self.refusals += 1;
            return;
        }
        assert!(above == 0 || before >= above, "the credits cover what exceeds a hold");
        let epoch = self.balance.epoch;
        let credits = ends.iter().map(|(_, captured)| whole(*captured)).sum();
        if credits > 0 {
            let expired = whole(ending.paid_by_expired);
            let at = now.as_second() - START;
            self.debits.push(PostedDebit { at, epoch, credits, expired, refunded: 0 });
        }
        for (hold, captured) in ends {
            let (kept, captured) = (whole(hold.amount.credits()), whole(captured));
            let grown = kept.max(captured);
            self.truth.held.get_mut(&hold.epoch).unwrap()[0] += grown - kept;
            self.truth.end_hold(hold.epoch, epoch, grown, captured);
        }
        self.expired_in_holds = self.expired_in_holds.plus(ending.expired).unwrap();
    }

    fn grant(&mut self, kind: GrantKind, given: i64, expires_at: i64) -> ExpiringGrant {
        self.grants += 1;
        let grant_id: Id = format!("g{:03}", self.grants).parse().unwrap();
        // The grant may have been voided before it existed.
        self.voided.remove(&grant_id);
        self.truth.removed.remove(grant_id.as_str());
        if kind == GrantKind::Allocation {
            let bought = BoughtGrant { granted: given, dies: expires_at, ..BoughtGrant::default() };
            self.truth.bought.insert(grant_id.to_string(), bought);
        }
        ExpiringGrant {
            grant_id,
            kind,
            granted: amount(given),
            amount: credits(given),
            expires_at: second(expires_at),
            clawed: Clawed::default(),
        }
    }

    /// Picks the id of one of the grants so far.
    fn picked(&self, pick: usize) -> Id {
        format!("g{:03}", 1 + pick % self.grants.max(1)).parse().unwrap()
    }

    /// Sets the credits to which the refunds of a payment come. The change goes behind the fence while the grant runs.
    /// Once a close has recorded the grant's end, the record decides.
    fn refund(&mut self, pick: usize, target: i64) {
        let grant_id = self.picked(pick);
        let Some(bought) = self.truth.bought.get(grant_id.as_str()) else { return };
        let target = target.min(bought.granted);
        self.pass(self.now);
        self.truth.refund(grant_id.as_str(), target);
        let key = format!("claw#{grant_id}");
        let Some(ended) = self.ended.get(&grant_id) else {
            return self.change(Change::ClawBackTo { key, grant_id, target: credits(target) });
        };
        let (ended, debt) = ended.claw_back_to(credits(target)).unwrap();
        self.ended.insert(grant_id, ended);
        if !debt.is_zero() {
            let at = second(self.now);
            self.outcomes.push(CloseEntry { at, credits: debt.negated(), what: Happened::Clawed(key) });
        }
        if let Ok(taken) = Amount::new(debt) {
            self.change(Change::ClawBack(taken));
        }
        if let Ok(returned) = Amount::new(debt.negated()) {
            self.close(self.now);
            self.post(&Posting::top_up(returned, second(self.now))).unwrap();
        }
    }

    pub fn run_all(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.run(operation);
        }
    }

    pub fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Hold { credits } => self.hold(credits),
            Operation::ExtendHold { pick, credits, meanwhile } => self.extend_hold(pick, credits, meanwhile),
            Operation::EndHolds { ref picks, meanwhile } => self.end_holds(picks, meanwhile),
            Operation::Debit { credits, skew } => self.debit(credits, skew),
            Operation::RefundDebit { pick, credits, found, meanwhile } => {
                self.refund_debit(pick, credits, found, meanwhile);
            }
            Operation::TopUp { credits } => {
                self.close(self.now);
                self.post(&Posting::top_up(amount(credits), second(self.now))).unwrap();
                self.truth.give(credits, i64::MAX, "prepaid");
            }
            Operation::Grant { credits, lives } => {
                let grant = self.grant(GrantKind::Promotional, credits, self.now + lives);
                self.give(&grant);
                self.change(Change::Grant(grant));
            }
            Operation::Buy { credits, lives } => {
                let grant = self.grant(GrantKind::Allocation, credits, self.now + lives);
                self.give(&grant);
                self.change(Change::Grant(grant));
            }
            Operation::Void { pick } => {
                let grant_id = self.picked(pick);
                if self.truth.bought.contains_key(grant_id.as_str()) {
                    return;
                }
                self.pass(self.now);
                self.truth.voided += self.truth.remove(grant_id.as_str(), usize::MAX);
                self.truth.removed.insert(grant_id.to_string());
                self.voided.insert(grant_id.clone());
                self.change(Change::Void { key: "void".into(), grant_id, prepaid: None });
            }
            Operation::Reduce { pick, credits } => {
                let grant_id = self.picked(pick);
                if self.truth.bought.contains_key(grant_id.as_str()) {
                    return;
                }
                self.pass(self.now);
                self.truth.voided += self.truth.remove(grant_id.as_str(), credits as usize);
                self.change(Change::Reduce { key: "reduced".into(), grant_id, by: amount(credits) });
            }
            Operation::VoidPrepaid { credits } => {
                self.pass(self.now);
                self.truth.voided += self.truth.remove("prepaid", credits as usize);
                let grant_id = "prepaid".parse().unwrap();
                self.change(Change::Void { key: "void".into(), grant_id, prepaid: Some(amount(credits)) });
            }
            Operation::ClawBack { credits } => {
                self.pass(self.now);
                self.truth.claw(credits);
                self.clawed_of_packs = self.clawed_of_packs.plus(crate::credits(credits)).unwrap();
                self.change(Change::ClawBack(amount(credits)));
            }
            Operation::Refund { pick, target } => self.refund(pick, target),
            Operation::PayAhead { credits, starts, lives } => {
                let starts = self.now + starts;
                let grant = self.grant(GrantKind::Allocation, credits, starts + lives);
                self.pass(self.now);
                let ahead = Ahead { starts, grant: grant.grant_id.to_string(), credits };
                self.truth.ahead.push(ahead);
                self.pass(self.now);
                let key = format!("k{}", self.grants);
                self.change(Change::Next(NextGrant { starts_at: second(starts), key, grant }));
            }
            Operation::Withdraw { ref picks } => self.withdraw(picks),
            Operation::Limit { credits: limit } => {
                let posting = Posting::limit(credits(self.truth.limit), credits(limit)).unwrap();
                self.post(&posting).unwrap();
                self.truth.limit = limit;
                let stale = Posting::limit(credits(limit + 1), credits(0)).unwrap();
                assert!(self.post(&stale).is_err(), "a limit is changed only from its current value");
            }
            Operation::Invoice => {
                self.pass(self.now);
                self.truth.invoices = Some(self.now);
                self.change(Change::Invoicing(Some(second(self.now))));
                self.pass(self.now);
            }
            Operation::LeaveFenced => self.leaves_fenced = true,
            Operation::Wait { seconds } => self.now += seconds,
            Operation::Read => {
                let read = self.balance.as_of(second(self.now)).unwrap();
                self.close(self.now);
                assert_eq!(read, self.balance, "a read shows the balance as if it were closed");
            }
        }
        if self.closes == Closes::AtOnce && !self.leaves_fenced {
            self.close(self.now);
        }
    }

    fn give(&mut self, grant: &ExpiringGrant) {
        self.pass(self.now);
        let dies = grant.expires_at.as_second() - START;
        self.truth.give(whole(grant.granted.credits()), dies, grant.grant_id.as_str());
    }

    /// Withdraws grants that were paid ahead. A grant that has not begun leaves nothing behind.
    fn withdraw(&mut self, picks: &[usize]) {
        let mut grant_ids: Vec<Id> = picks.iter().map(|pick| self.picked(*pick)).collect();
        grant_ids.dedup();
        self.pass(self.now);
        for grant_id in &grant_ids {
            self.truth.ahead.retain(|ahead| ahead.grant != grant_id.as_str());
            self.truth.voided += self.truth.remove(grant_id.as_str(), usize::MAX);
            // Only grants that were bought are withdrawn in practice. Another one runs on for refunds of debits.
            if self.truth.bought.remove(grant_id.as_str()).is_some() {
                self.truth.removed.insert(grant_id.to_string());
            }
        }
        self.change(Change::Withdraw { key: "withdrawn".into(), grant_ids });
    }

    pub fn check(&self) {
        let (balance, truth) = (&self.balance, &self.truth);
        assert!(balance.is_consistent().unwrap());
        assert!(truth.law(), "conservation");
        assert!(truth.refunds_are_bounded());
        if balance.is_due(second(self.now)) {
            // The model is ahead: the next close applies what is due or queued.
            return;
        }
        assert_eq!(balance.available().unwrap(), credits(truth.available()));
        assert_eq!(balance.all_held().unwrap(), credits(truth.all_held()));
        let left = balance.waterfall().unwrap();
        let prepaid = truth.coins.iter().filter(|(dies, _)| *dies == i64::MAX).count() as i64;
        assert_eq!(left.prepaid, credits(prepaid - truth.debt), "prepaid credits are spent last");
        for grant in &left.grants {
            let coins: Vec<_> = truth.coins.iter().filter(|(_, of)| of == grant.grant_id.as_str()).collect();
            assert_eq!(grant.amount, credits(coins.len() as i64), "the earliest expiry is spent first");
            assert!(coins.iter().all(|(dies, _)| second(*dies) == grant.expires_at));
        }
        let has_debt = left.prepaid < Credits::ZERO;
        assert!(!has_debt || left.grants.iter().all(|grant| grant.amount.is_zero()), "debt is paid first");
        self.check_debits();
        let consumed = Credits::sum(balance.consumed.values().copied()).unwrap();
        assert_eq!(consumed, credits(truth.consumed - truth.refunded), "the month's counter is exact");
        assert!(balance.grants.iter().all(|grant| grant.expires_at < NEVER));
        let changes_next = balance.next.iter().all(|next| balance.expires_next <= next.starts_at);
        assert!(changes_next, "a grant that was paid ahead starts without a schedule");
        self.check_outcomes();
    }

    /// Checks that the outcomes of the closes agree with the model.
    fn check_outcomes(&self) {
        let sum = |is: fn(&Happened) -> bool| {
            let of_it = self.outcomes.iter().filter(|outcome| is(&outcome.what));
            Credits::sum(of_it.map(|outcome| outcome.credits)).unwrap()
        };
        let expired = sum(|what| matches!(what, Happened::Expired(_))).negated();
        assert_eq!(expired.plus(self.expired_in_holds).unwrap(), credits(self.truth.expired), "expired");
        let voided = sum(|what| matches!(what, Happened::Voided(_))).negated();
        assert_eq!(voided, credits(self.truth.voided), "voided");
        for (end, debt) in &self.truth.invoices_at {
            let billed = self.outcomes.iter().filter(|outcome| {
                matches!(outcome.what, Happened::Invoiced(_)) && outcome.at == second(*end)
            });
            let billed = Credits::sum(billed.map(|outcome| outcome.credits)).unwrap();
            assert_eq!(billed, credits(*debt), "credits billed at {end}");
        }
        let clawed = sum(|what| matches!(what, Happened::Clawed(_))).negated();
        assert_eq!(
            clawed.plus(self.clawed_of_packs).unwrap(),
            credits(self.truth.clawed),
            "credits taken back"
        );
    }
}
