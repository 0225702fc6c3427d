//! Compares the balance with a slow model that is written differently: a heap of single millionths of a credit, each with
//! its last second.
//!
//! The model covers top-ups, grants, grants that are paid ahead, debits, holds, expiries, voids, claw-backs, invoices,
//! credit limits, and refunds of debits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use credits_core::balance::Balance;
use credits_core::close::MAX_CHANGES;
use credits_core::credits::{Amount, Credits};
use jiff::Timestamp;
use proptest::prelude::*;

use bench::{Bench, Closes};
use operation::{
    FoundBy, Operation, any_operation, any_operation_that_ends_the_epoch, any_operation_within_an_epoch,
};

mod bench;
mod operation;
mod truth;

/// The second 0 of the test, as a Unix time.
const START: i64 = 1_790_000_000;

/// Returns millionths of a credit. So each proportion of a split is rounded.
fn credits(units: i64) -> Credits {
    Credits::from_micros(i128::from(units)).unwrap()
}

fn amount(units: i64) -> Amount {
    Amount::new(credits(units)).unwrap()
}

fn whole(credits: Credits) -> i64 {
    credits.micros().unwrap() as i64
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(START + at).unwrap()
}

fn refund_of(pick: usize, credits: i64) -> Operation {
    Operation::RefundDebit { pick, credits, found: FoundBy::Epoch, meanwhile: 0 }
}

/// Returns the configuration of 1,000 cases, or of `PROPTEST_CASES` if they are more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1_000), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn conservation_and_the_order_of_spending_hold_at_every_step(
        operations in prop::collection::vec(any_operation(), 1..60),
        closes in prop_oneof![Just(Closes::AtOnce), Just(Closes::WhenNeeded)],
    ) {
        let mut bench = Bench::new(closes);
        for operation in &operations {
            bench.run(operation);
            bench.check();
        }
        bench.run(&Operation::Read);
        bench.check();
    }

    /// The result depends neither on the caller that closes nor on the time of the close, as far as clocks agree.
    #[test]
    fn a_late_close_is_the_same_close(operations in prop::collection::vec(any_operation(), 1..40)) {
        let [at_once, late] = [Closes::AtOnce, Closes::WhenNeeded].map(|closes| {
            let mut bench = Bench::new(closes);
            operations.iter().cloned().map(Operation::with_one_clock).for_each(|it| bench.run(&it));
            bench.run(&Operation::Read);
            bench
        });
        let of = |balance: &Balance| (balance.spendable, balance.waterfall().unwrap(), balance.next.clone());
        prop_assert_eq!(of(&at_once.balance), of(&late.balance));
        prop_assert_eq!(at_once.balance.earlier_epochs.values().collect::<Vec<_>>(), late.balance.earlier_epochs.values().collect::<Vec<_>>());
        let listed = |bench: &Bench| {
            let mut listed: Vec<_> = bench.outcomes.iter().map(|it| (it.at, format!("{it:?}"))).collect();
            listed.sort();
            listed
        };
        prop_assert_eq!(listed(&at_once), listed(&late));
        prop_assert_eq!(at_once.ended, late.ended);
    }

    /// A refund in the epoch of its debit leaves the balance that a smaller debit leaves.
    #[test]
    fn m02_refund_in_its_epoch_is_a_smaller_debit(
        before in prop::collection::vec(any_operation(), 0..25),
        paid in 1..8_i64,
        refunded in 1..8_i64,
        later in prop::collection::vec(any_operation_within_an_epoch(), 0..8),
    ) {
        let kept = (paid - refunded).max(0);
        let before: Vec<_> = before.into_iter().map(Operation::with_one_clock).collect();
        let [refunding, smaller] = [paid, kept].map(|debited| {
            let mut bench = Bench::new(Closes::WhenNeeded);
            bench.run_all(&before);
            bench.run(&Operation::Read);
            let (refusals, pick) = (bench.refusals, bench.debits.len());
            if debited > 0 {
                bench.run(&Operation::Debit { credits: debited, skew: 0 });
            }
            bench.run_all(&later);
            if debited == paid && bench.refusals == refusals {
                bench.run(&refund_of(pick, paid - kept));
                bench.check();
            }
            (bench.refusals - refusals, bench.balance)
        });
        if refunding.0 == 0 {
            let [refunding, smaller] = [refunding, smaller].map(|(_, mut balance)| {
                balance.consumed.retain(|_, credits| !credits.is_zero());
                Balance { version: 0, usage_marks: 0, last: String::new(), ..balance }
            });
            prop_assert_eq!(refunding, smaller);
        }
    }

    /// Whether an epoch ends before or after a refund, the workspace owns and is billed as much in all.
    #[test]
    fn m02_close_before_or_after_a_refund_changes_no_total(
        before in prop::collection::vec(any_operation(), 0..25),
        paid in 1..8_i64,
        refunded in 1..8_i64,
        closing in prop::collection::vec(any_operation_that_ends_the_epoch(), 1..4),
        closes in prop_oneof![Just(Closes::AtOnce), Just(Closes::WhenNeeded)],
    ) {
        let totals = [0, closing.len()].map(|place| {
            let mut bench = Bench::new(closes);
            bench.run_all(&before);
            bench.run(&Operation::Read);
            let pick = bench.debits.len();
            bench.run(&Operation::Debit { credits: paid, skew: 0 });
            let mut operations = closing.clone();
            if bench.debits.len() > pick {
                operations.insert(place, refund_of(pick, refunded));
            }
            // The refund takes an id, so a later pick would mean another grant.
            let grants = bench.grants;
            for mut operation in operations {
                if let Operation::Refund { pick, .. } = &mut operation {
                    *pick = if grants == 0 { continue } else { *pick % grants };
                }
                bench.run(&operation);
                bench.check();
            }
            bench.run(&Operation::Read);
            bench.check();
            bench.balance.owned().unwrap().minus(credits(bench.truth.invoiced)).unwrap()
        });
        prop_assert_eq!(totals[0], totals[1]);
    }
}

#[test]
fn changes_above_the_limit_wait_in_order_for_the_next_close() {
    let mut bench = Bench::new(Closes::AtOnce);
    bench.run(&Operation::LeaveFenced);
    for change in 0..MAX_CHANGES as i64 + 20 {
        bench.run(&Operation::Grant { credits: 3, lives: 1 + change % 5 });
        bench.run(&Operation::ClawBack { credits: 2 });
    }
    assert!(bench.balance.changes.len() > 2 * MAX_CHANGES);
    bench.run(&Operation::Read);
    bench.check();
    assert!(bench.balance.changes.is_empty() && bench.balance.epoch >= 3);
    bench.run(&Operation::Debit { credits: 1, skew: 0 });
    bench.check();
}

#[test]
fn m16_expiring_allocation_is_spent_before_the_buffer() {
    let mut bench = Bench::new(Closes::AtOnce);
    bench.run(&Operation::TopUp { credits: 5 });
    bench.run(&Operation::Grant { credits: 3, lives: 100 });
    bench.run(&Operation::Debit { credits: 4, skew: 0 });
    let left = bench.balance.waterfall().unwrap();
    assert_eq!((left.grants[0].amount, left.prepaid), (credits(0), credits(4)));
}

/// Runs each sequence of five operations on what payments buy.
///
/// The operations buy, consume, expire and bill. A refund target that rises and falls stands for partial, full and
/// failed refunds, and for disputes. A pack is bought beside the grants.
#[test]
fn m05_no_sequence_of_five_operations_takes_more_than_a_payment_bought() {
    use Operation::{Buy, Debit, Invoice, PayAhead, Refund, TopUp, Wait};
    let one_of = [
        Buy { credits: 3, lives: 2 },
        PayAhead { credits: 2, starts: 1, lives: 2 },
        TopUp { credits: 2 },
        Debit { credits: 1, skew: 0 },
        Debit { credits: 2, skew: 0 },
        Wait { seconds: 1 },
        Wait { seconds: 2 },
        Refund { pick: 0, target: 0 },
        Refund { pick: 0, target: 1 },
        Refund { pick: 0, target: 3 },
        Invoice,
    ];
    for number in 0..one_of.len().pow(5) {
        let operations = (0..5).map(|place| &one_of[number / one_of.len().pow(place) % one_of.len()]);
        let mut bench = Bench::new(Closes::WhenNeeded);
        for operation in operations {
            bench.run(operation);
            bench.check();
        }
        bench.run(&Operation::Read);
        bench.check();
    }
}
