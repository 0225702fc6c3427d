//! The operations that the tests run on a balance.

use proptest::prelude::*;

/// How a refund finds the epoch of its debit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// The epoch in which the debit was posted.
    Epoch,
    /// The first epoch that was closed after the debit's second, as the store does. It may be a later one.
    Time,
}

/// An operation on a balance.
#[derive(Debug, Clone)]
pub enum Operation {
    Debit {
        credits: i64,
        skew: i64,
    },
    /// Refunds credits of an earlier debit, or of captures that ended holds took.
    RefundDebit {
        pick: usize,
        credits: i64,
        found: FoundBy,
        meanwhile: u8,
    },
    /// Sets credits aside.
    Hold {
        credits: i64,
    },
    /// Sets more credits aside for a hold.
    ExtendHold {
        pick: usize,
        credits: i64,
        meanwhile: u8,
    },
    /// Ends holds with captures that may exceed them. `meanwhile` selects what happens between reading the balance and
    /// writing it.
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
    /// Adds a grant that a payment bought.
    Buy {
        credits: i64,
        lives: i64,
    },
    /// Sets the credits to which the refunds of a payment come. They may rise and fall.
    Refund {
        pick: usize,
        target: i64,
    },
    Void {
        pick: usize,
    },
    VoidPrepaid {
        credits: i64,
    },
    /// Withdraws grants, whether or not they have begun.
    Withdraw {
        picks: Vec<usize>,
    },
    /// Takes back at most `credits` of a grant.
    Reduce {
        pick: usize,
        credits: i64,
    },
    ClawBack {
        credits: i64,
    },
    /// Adds a grant that starts later.
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
    /// Leaves the next changes behind the fence until another operation closes the balance.
    LeaveFenced,
}

impl Operation {
    /// Returns the operation as it is if all clocks agree and no time passes between a read and a write.
    pub fn with_one_clock(self) -> Self {
        const LATER: u8 = 6;
        match self {
            Self::Debit { credits, .. } => Self::Debit { credits, skew: 0 },
            Self::EndHolds { picks, meanwhile: LATER } => Self::EndHolds { picks, meanwhile: 0 },
            Self::ExtendHold { pick, credits, meanwhile: LATER } => {
                Self::ExtendHold { pick, credits, meanwhile: 0 }
            }
            Self::RefundDebit { pick, credits, meanwhile, .. } => Self::RefundDebit {
                pick,
                credits,
                found: FoundBy::Epoch,
                meanwhile: if meanwhile == LATER { 0 } else { meanwhile },
            },
            Self::LeaveFenced => Self::Wait { seconds: 0 },
            operation => operation,
        }
    }
}

/// Generates any operation, the common ones more often.
pub fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..6_i64, -1..2_i64).prop_map(|(credits, skew)| Operation::Debit { credits, skew }),
        3 => (1..6_i64).prop_map(|credits| Operation::Hold { credits }),
        1 => (any::<usize>(), 1..4_i64, 0..9_u8)
            .prop_map(|(pick, credits, meanwhile)| Operation::ExtendHold { pick, credits, meanwhile }),
        3 => (prop::collection::vec((any::<usize>(), 0..7_i64), 1..4), 0..9_u8)
            .prop_map(|(picks, meanwhile)| Operation::EndHolds { picks, meanwhile }),
        6 => any_refund(),
        2 => (1..8_i64).prop_map(|credits| Operation::TopUp { credits }),
        2 => (1..8_i64, 1..8_i64).prop_map(|(credits, lives)| Operation::Grant { credits, lives }),
        2 => (1..8_i64, 1..8_i64).prop_map(|(credits, lives)| Operation::Buy { credits, lives }),
        5 => (any::<usize>(), 0..8_i64).prop_map(|(pick, target)| Operation::Refund { pick, target }),
        1 => any::<usize>().prop_map(|pick| Operation::Void { pick }),
        1 => (1..8_i64).prop_map(|credits| Operation::VoidPrepaid { credits }),
        1 => prop::collection::vec(any::<usize>(), 1..3).prop_map(|picks| Operation::Withdraw { picks }),
        1 => (any::<usize>(), 1..8_i64).prop_map(|(pick, credits)| Operation::Reduce { pick, credits }),
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

/// Generates a refund of a debit.
fn any_refund() -> impl Strategy<Value = Operation> {
    let found = prop_oneof![3 => Just(FoundBy::Epoch), 1 => Just(FoundBy::Time)];
    (any::<usize>(), 1..8_i64, found, 0..9_u8).prop_map(|(pick, credits, found, meanwhile)| {
        Operation::RefundDebit { pick, credits, found, meanwhile }
    })
}

/// Generates an operation that ends no epoch.
pub fn any_operation_within_an_epoch() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (1..4_i64).prop_map(|credits| Operation::Debit { credits, skew: 0 }),
        (1..4_i64).prop_map(|credits| Operation::Hold { credits }),
        (any::<usize>(), 0..5_i64).prop_map(|pick| Operation::EndHolds { picks: vec![pick], meanwhile: 0 }),
        (1..8_i64).prop_map(|credits| Operation::TopUp { credits }),
    ]
}

/// Generates an operation that ends the epoch and takes or gives a fixed number of credits.
pub fn any_operation_that_ends_the_epoch() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (1..8_i64, 1..8_i64).prop_map(|(credits, lives)| Operation::Grant { credits, lives }),
        (1..8_i64, 1..8_i64).prop_map(|(credits, lives)| Operation::Buy { credits, lives }),
        (any::<usize>(), 0..8_i64).prop_map(|(pick, target)| Operation::Refund { pick, target }),
        (1..8_i64).prop_map(|credits| Operation::ClawBack { credits }),
        Just(Operation::Invoice),
    ]
}
