//! Slips: mistakes of calculation that the simulation plants, one at a time, to show that it finds them (docs/testing.md).
//!
//! Without the feature `planted` there is none, and a question costs nothing. The feature is the simulation's alone, and
//! whatever is built without debug assertions, as a release is, does not compile with it.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("the feature `planted` is the simulation's: no release may contain it");

/// What is calculated wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// A price is rounded down (M2).
    RoundedDown,
    /// A price is rounded before the model's multiplier, and again after it (M2).
    RoundedTwice,
    /// Prepaid credits are spent before those that expire (M16).
    PrepaidFirst,
    /// Of grants, the one that expires last is spent first (M16).
    LatestFirst,
    /// A new grant leaves debt as it is.
    DebtStays,
    /// A refund of a pack takes expiring credits first.
    GrantsClawedFirst,
    /// A refund of a period takes bought credits first.
    PrepaidClawedFirst,
    /// A refund of a period takes what has expired of it, too.
    ExpiredIsConsumed,
    /// What a refund takes is rounded up.
    ClawedUp,
    /// A refund that failed still counts.
    FailedRefundCounts,
    /// A dispute that was won still counts.
    WonIsLost,
    /// A hold gives back what has expired meanwhile.
    ExpiredComesBack,
    /// An inquiry takes credits as a dispute does.
    InquiryWithholds,
    /// A period begins a day after its billing day (M6).
    BillingDayLate,
    /// A billing day that a short month cut stays cut (M6).
    ShortMonthSticks,
    /// A month begins a day late (M9).
    MonthLate,
    /// A charge that is still open is replaced by another (M6).
    OpenChargeReplaced,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Slip>> = const { std::cell::Cell::new(None) };
}

/// Plants a slip in all that this thread calculates, or none.
#[cfg(feature = "planted")]
pub fn plant(slip: Option<Slip>) {
    PLANTED.set(slip);
}

/// Whether this slip is planted.
#[cfg(feature = "planted")]
pub(crate) fn slips(slip: Slip) -> bool {
    PLANTED.get() == Some(slip)
}

/// Whether this slip is planted: never.
#[cfg(not(feature = "planted"))]
pub(crate) const fn slips(_: Slip) -> bool {
    false
}
