//! Refunds of debits, and the records of how epochs were paid.

use std::collections::BTreeMap;

use credits_core::credits::{Amount, Credits};
use credits_core::debit_refund::{EpochPayment, RefundMovement, ReturnedCredits};
use credits_core::id::Id;
use credits_core::posting::Refusal;

use super::{Bench, Closes};
use crate::operation::FoundBy;
use crate::truth::RefundOfDebit;
use crate::{credits, second, whole};

/// A refund of a debit that is ready to be posted.
struct ReadyRefund {
    movement: RefundMovement,
    /// What is left of the epoch's payment; `None` in the present epoch.
    left: Option<EpochPayment>,
    truth: RefundOfDebit,
}

impl Bench {
    /// Refunds credits of a debit. Runs what other callers do between the read and the write.
    pub(super) fn refund_debit(&mut self, pick: usize, wanted: i64, found: FoundBy, meanwhile: u8) {
        if self.debits.is_empty() {
            return;
        }
        let pick = pick % self.debits.len();
        let debit = &self.debits[pick];
        let refund = wanted.min(debit.credits - debit.refunded);
        if refund == 0 {
            return;
        }
        self.grants += 1;
        let refund_id: Id = format!("g{:03}", self.grants).parse().unwrap();
        let mut meanwhile = Some(meanwhile);
        let (ready, next) = loop {
            self.close(self.now);
            let ready = self.ready_refund(&refund_id, pick, refund, found);
            let posting = ready.movement.posting(&self.balance, second(self.now)).unwrap();
            meanwhile.take().into_iter().for_each(|it| self.meanwhile(it));
            match posting.apply(&self.balance, "refund") {
                Ok(next) => break (ready, next),
                Err(refusal) => assert!(matches!(refusal, Refusal::EpochChanged | Refusal::Due)),
            }
        };
        // The refund's own grant may have been voided before it existed.
        self.voided.remove(&refund_id);
        self.truth.removed.remove(refund_id.as_str());
        let waits = ready.movement.waits_for_close();
        assert_eq!(waits, next.is_due(second(ready.truth.at)), "a change is queued only if it is needed");
        let raised = next.owned().unwrap().minus(self.balance.owned().unwrap()).unwrap();
        let of_epoch = ready.movement.of_epoch;
        assert_eq!(raised, if waits { of_epoch } else { credits(refund) }, "a refund returns its credits");
        self.balance = next;
        self.debits[pick].refunded += refund;
        self.truth.refund_debit(&ready.truth);
        if let Some(left) = ready.left {
            self.check_payment(left.epoch, Some(&left));
            self.payments.insert(left.epoch, left);
        }
        if waits && !self.leaves_fenced && self.closes == Closes::AtOnce {
            self.close(self.now);
        }
    }

    /// Computes a refund as the store does: the credits that expired paid return last.
    fn ready_refund(&self, refund_id: &Id, pick: usize, refund: i64, found: FoundBy) -> ReadyRefund {
        let debit = &self.debits[pick];
        let live = refund.min((debit.credits - debit.expired - debit.refunded).max(0));
        let expired = refund - live;
        let payment = match found {
            FoundBy::Epoch if debit.epoch == self.balance.epoch => None,
            FoundBy::Epoch if self.payments.contains_key(&debit.epoch) => self.payments.get(&debit.epoch),
            _ => self.payments.values().find(|payment| payment.closed_at > second(debit.at)),
        };
        let mut movement = RefundMovement {
            refund_id: refund_id.clone(),
            debited_at: second(debit.at),
            of_epoch: Credits::ZERO,
            returned: ReturnedCredits::default(),
        };
        let mut left = None;
        match (payment, Amount::new(credits(live))) {
            (_, Err(_)) => {}
            (Some(payment), Ok(live)) => {
                let (returned, next) = payment.split(live).unwrap();
                check_split(payment, live, &returned);
                movement.returned = returned;
                left = Some(next);
            }
            (None, Ok(live)) => {
                movement.of_epoch = live.credits().min(self.balance.used);
                movement.returned.prepaid = live.credits().minus(movement.of_epoch).unwrap();
            }
        }
        let epoch = left.as_ref().map_or(self.balance.epoch, |left| left.epoch);
        let is_present = left.is_none();
        let returned = &mut movement.returned;
        let (voided, kept): (Vec<_>, Vec<_>) =
            returned.grants.drain(..).partition(|part| self.voided.contains(&part.grant_id));
        returned.grants = kept;
        let voided = voided.iter().map(|part| whole(part.credits)).sum::<i64>();
        returned.expired = credits(voided + expired);
        let refund_id = refund_id.to_string();
        let of_epoch = live.min(self.truth.paid.get(&epoch).map_or(0, Vec::len) as i64);
        let truth = RefundOfDebit { refund_id, epoch, is_present, live, of_epoch, expired, at: self.now };
        ReadyRefund { movement, left, truth }
    }

    /// Checks the records of debits and of what paid for them.
    pub(super) fn check_debits(&self) {
        let used = self.truth.paid.get(&self.balance.epoch).map_or(0, Vec::len);
        assert_eq!(self.balance.used, credits(used as i64), "a refund of this epoch lowers its use");
        let debited: i64 = self.debits.iter().map(|debit| debit.credits).sum();
        let refunded: i64 = self.debits.iter().map(|debit| debit.refunded).sum();
        assert_eq!((debited, refunded), (self.truth.consumed, self.truth.refunded));
        assert!(self.debits.iter().all(|debit| debit.refunded <= debit.credits));
    }

    /// Checks that the record of an epoch's payment has what the model has spent in the epoch.
    pub(super) fn check_payment(&self, epoch: u64, payment: Option<&EpochPayment>) {
        let mut paid: BTreeMap<&str, i64> = BTreeMap::new();
        for (_, grant) in self.truth.paid.get(&epoch).into_iter().flatten() {
            *paid.entry(grant).or_default() += 1;
        }
        let mut recorded: BTreeMap<&str, i64> = BTreeMap::new();
        if let Some(payment) = payment {
            assert_eq!(payment.epoch, epoch);
            recorded.extend(payment.grants.iter().map(|it| (it.grant_id.as_str(), whole(it.credits))));
            recorded.insert("prepaid", whole(payment.prepaid));
            recorded.retain(|_, credits| *credits != 0);
        }
        assert_eq!(recorded, paid, "the record has what each source paid and did not get back");
    }
}

/// Checks that each source gets back its proportion to a millionth, and at most what it has paid.
fn check_split(payment: &EpochPayment, refund: Amount, returned: &ReturnedCredits) {
    let sources = || payment.grants.iter().map(|paid| whole(paid.credits)).chain([whole(payment.prepaid)]);
    let used: i64 = sources().sum();
    let of_epoch = whole(refund.credits()).min(used);
    let above = whole(refund.credits()) - of_epoch;
    let part_of = |id: &Id| returned.grants.iter().find(|part| part.grant_id == *id);
    let parts =
        payment.grants.iter().map(|paid| part_of(&paid.grant_id).map_or(0, |part| whole(part.credits)));
    let parts: Vec<i64> = parts.chain([whole(returned.prepaid) - above]).collect();
    assert_eq!(parts.iter().sum::<i64>(), of_epoch, "a split returns all that was refunded");
    for (part, paid) in parts.into_iter().zip(sources()) {
        assert!((0..=paid).contains(&part), "no source gets back more than it has paid");
        assert!(
            used == 0 || (part * used - paid * of_epoch).abs() < used,
            "{part} of {paid} is no proportion"
        );
    }
}
