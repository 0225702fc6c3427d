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

use credits_core::close::CHANGES_A_CLOSE;
use credits_core::credits::{Amount, Credits};
use jiff::Timestamp;
use proptest::prelude::*;

use bench::Bench;
use operation::{Operation, any_operation};

mod bench;
mod operation;
mod truth;

/// The second at which it all begins.
const START: i64 = 1_790_000_000;

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conservation_and_the_order_of_spending_hold_at_every_step(
        operations in prop::collection::vec(any_operation(), 1..60),
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
