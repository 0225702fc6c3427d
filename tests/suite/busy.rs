//! A busy table, where transactions cancel each other and partitions tire: nothing is overspent, and nothing refused that
//! the credits cover.

use model::ladder::{Rung, reach};

#[tokio::test(start_paused = true)]
async fn m02_callers_who_are_in_each_others_way_spend_exactly_what_there_is() {
    for (seed, rung) in [(1, Rung::Debits), (2, Rung::Batches(3)), (3, Rung::OneHold)] {
        let scarce = if rung == Rung::OneHold { "100000" } else { "61" };
        let reached = reach(rung, 16, (2, seed), scarce).await;
        assert_eq!(reached.paid.0, reached.paid.1, "the balance says what the callers say: {reached:?}");
        assert!(reached.seen.conflicts > 0, "{reached:?}");
        match rung {
            // Sixty-one are there: as many are spent, but for a rest that no batch fits.
            Rung::Debits => assert_eq!(reached.paid.1.to_string(), "61"),
            Rung::Batches(_) => assert_eq!(reached.paid.1.to_string(), "60"),
            _ => assert_eq!(reached.refused, 0),
        }
    }
}
