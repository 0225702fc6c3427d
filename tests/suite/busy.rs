//! A busy table, where transactions conflict and partitions throttle: callers never overspend, and no call that the
//! balance covers is refused.

use std::time::Duration;

use model::ladder::{Duty, Rung, reach, spend_all};

#[tokio::test(start_paused = true)]
async fn m02_conflicting_callers_spend_exactly_the_balance() {
    for (seed, rung) in [(1, Rung::Debits), (2, Rung::Batches(3)), (3, Rung::OneHold)] {
        let scarce = if rung == Rung::OneHold { "100000" } else { "61" };
        let reached =
            reach(rung, 16, Duty { ramp: Duration::ZERO, measured: Duration::from_secs(2), seed }, scarce)
                .await;
        assert_eq!(reached.paid.0, reached.paid.1, "the balance matches the callers: {reached:?}");
        assert!(reached.seen.conflicts > 0, "{reached:?}");
        match rung {
            // The balance has 61 credits. Batches of three leave one of them.
            Rung::Debits => assert_eq!(reached.paid.1.to_string(), "61"),
            Rung::Batches(_) => assert_eq!(reached.paid.1.to_string(), "60"),
            _ => assert_eq!(reached.refused, 0),
        }
    }
}

/// Lanes open, grow, are used up and recalled. Then every caller is refused, and none gets 503.
#[tokio::test(start_paused = true)]
async fn m02_64_callers_spend_exactly_the_balance_without_503() {
    let reached = spend_all(64, 200, 3, "5000").await;
    assert_eq!(reached.paid.0, reached.paid.1, "the balance matches the callers: {reached:?}");
    assert_eq!(reached.paid.1.to_string(), "5000");
    assert_eq!((reached.refused, reached.given_up), (7_800, 0), "{reached:?}");
    assert!(reached.units_a_call <= 5.2, "{reached:?}");
}
