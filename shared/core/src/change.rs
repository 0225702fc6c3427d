//! Changes that reorder or shrink the waterfall. They wait behind the fence for the next close (docs/design.md).

use jiff::Timestamp;

use crate::credits::{Amount, Credits};
use crate::debit_refund::ReturnedCredits;
use crate::grant::{ExpiringGrant, NextGrant};
use crate::id::Id;

/// A change that waits for the next close, with the time of its write.
///
/// A close applies dates and changes in the order of time. So a late close has the same result as a timely one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedChange {
    /// When the change was written.
    pub at: Timestamp,
    pub change: Change,
}

/// A change that waits for the next close.
///
/// A read with a conditional write would starve under a stream of debits. So the change is appended without a read,
/// together with the fence, which lets no debit pass before a close has applied the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add an expiring grant. It pays debt first, then joins the waterfall.
    Grant(ExpiringGrant),
    /// Add a grant that was paid ahead. It waits in the balance and joins the waterfall at its start.
    Next(NextGrant),
    /// Void a grant: take back what is left of it. Only the close can compute how much that is.
    Void {
        /// The idempotency key of the request, which is also the key of the ledger entry.
        key: String,
        /// An expiring grant, or a prepaid one if `prepaid` is set.
        grant_id: Id,
        /// The credits that a prepaid grant granted: the most that is taken from the prepaid sum.
        prepaid: Option<Amount>,
    },
    /// Withdraw grants that were paid ahead, because their payments are refunded.
    ///
    /// A grant that has not begun is removed without a ledger entry. If a grant has begun meanwhile, what is left of it
    /// is taken back.
    Withdraw {
        /// The key of the ledger entry that records what was taken back, if anything was.
        key: String,
        grant_ids: Vec<Id>,
    },
    /// Take back a part of a commitment's grant, because the commitment ended within its month.
    Reduce {
        /// The key of the ledger entry that records what was taken back, if anything was.
        key: String,
        grant_id: Id,
        /// The maximum number of credits to take back: less is taken if less is left.
        by: Amount,
    },
    /// Take back credits of a refunded or disputed pack: prepaid first, then expiring grants. The rest becomes debt.
    ClawBack(Amount),
    /// Set how much of an expiring grant the refunds and disputes of its payment take back in all (`claw_back`).
    ClawBackTo {
        /// The key of the waiting ledger entry that will record what was taken or returned, if anything was.
        key: String,
        grant_id: Id,
        /// The credits to be taken back of the grant in all.
        target: Credits,
    },
    /// Return credits of a refunded debit to grants, and as prepaid credits (`debit_refund`).
    Return {
        /// The refund's id. If credits of an ended grant return, it is the id of their grant, too.
        refund_id: Id,
        returned: ReturnedCredits,
    },
    /// Bill debt at the end of each month, for the first time at this instant; `None` ends the billing.
    Invoicing(Option<Timestamp>),
}
