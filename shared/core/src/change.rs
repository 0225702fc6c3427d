//! Changes that reorder or shrink the waterfall, and so wait behind the fence for the next close (DESIGN.md).

use jiff::Timestamp;

use crate::credits::{Amount, Credits};
use crate::grant::{ExpiringGrant, NextGrant};
use crate::id::Id;

/// A change that waits for the next close, with the time of its write.
///
/// A close applies it at its place among the dates that have passed since it was written. So a late close comes to what a
/// timely one would have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedChange {
    /// When it was written.
    pub at: Timestamp,
    /// What changes.
    pub change: Change,
}

/// What waits for the next close, in order.
///
/// Such a change can't be a read and a conditional write: under a stream of debits it would starve. It is appended
/// blindly, together with the fence that lets no debit pass before a close has applied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An expiring grant pays debt first, then joins the waterfall.
    Grant(ExpiringGrant),
    /// A grant that was paid ahead waits in the balance for its first second, and joins then.
    Next(NextGrant),
    /// What is left of a grant is taken back; how much, only the close can say.
    Void {
        /// The idempotency key under which it was asked for, and under which its ledger entry will stand.
        key: String,
        /// The expiring grant, or the prepaid one if `prepaid` is given.
        grant_id: Id,
        /// For a prepaid grant, what was granted: at most so much is taken from the prepaid sum.
        prepaid: Option<Amount>,
    },
    /// Grants that were paid ahead are withdrawn because their payments are refunded.
    ///
    /// Those that have not begun leave nothing behind. If one has begun meanwhile, what is left of it is taken back.
    Withdraw {
        /// The key under which the ledger entry stands that lists what was taken back, if anything was.
        key: String,
        /// The grants.
        grant_ids: Vec<Id>,
    },
    /// A commitment ended within its month: of its grant at most so much is taken back.
    Reduce {
        /// The key under which the ledger entry stands that lists what was taken back, if anything was.
        key: String,
        /// The expiring grant.
        grant_id: Id,
        /// How much is taken back if so much is left.
        by: Amount,
    },
    /// A refund or dispute of a pack takes credits back: prepaid first, then expiring grants, the rest becomes debt.
    ClawBack(Amount),
    /// The refunds and disputes of a payment now come to this much of the expiring grant that it bought (`claw_back`).
    ClawBackTo {
        /// The key under which the ledger entry waits that says what was taken or returned, if anything was.
        key: String,
        /// The grant.
        grant_id: Id,
        /// What is to be taken back of the grant in all, in credits.
        target: Credits,
    },
    /// From now on debt is billed at the end of each month, for the first time at this instant; `None` ends that.
    Invoicing(Option<Timestamp>),
}
