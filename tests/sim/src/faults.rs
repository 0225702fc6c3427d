//! The faults and their rates. The seed draws the rate of each kind.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::Dice;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WireFault {
    /// A request to the table is lost before it arrives.
    RequestLost,
    /// The table's response is lost after the commit.
    AnswerLost,
    /// A request takes up to ten seconds longer, so that others overtake it.
    Delayed,
    /// The table answers 500 after it has committed or refused.
    ServerError,
    /// A partition is throttled.
    Throttled,
    /// A write meets a transaction from outside the simulation.
    Conflict,
    /// A cancelled transaction reports a conflict beside a failed condition.
    MixedReasons,
    /// A transaction arrives again after its token has expired, which takes ten minutes.
    Duplicated,
    /// An index or an eventually consistent read shows an earlier state.
    Stale,
    /// An invocation dies between two awaits.
    Crash,
    /// A caller without a response does not retry.
    CallerGone,
    /// A call is repeated 11 to 40 minutes later, with the same key.
    CalledLater,
    /// A schedule fires twice at once.
    TwoSchedulers,
    /// Stripe delivers an event twice.
    WebhookTwice,
    /// Stripe delivers an event up to three days late.
    WebhookLate,
    /// Stripe can't be reached.
    ProviderDown,
    /// Stripe has executed a request, and its response is lost.
    ChargeUnanswered,
    /// Stripe answers 500, before or after it executes the request, and keeps that response under the key.
    ProviderFails,
    /// Stripe answers 409 or 429, and keeps no response.
    ProviderBusy,
    /// A batch of the stream is delivered again after it was processed.
    BatchAgain,
    /// A batch has only a part of the waiting records.
    BatchSplit,
    /// The stream has a record that can't be read.
    Poison,
    /// The bus accepts only a part of a request.
    BusInPart,
    /// The bus delivers an event twice.
    EventTwice,
    /// SES throttles a mail.
    MailThrottled,
}

/// All kinds, each with its name and its highest rate, in ten-thousandths.
pub const ALL: [(WireFault, &str, u64); 25] = [
    (WireFault::RequestLost, "request lost", 300),
    (WireFault::AnswerLost, "answer lost", 300),
    (WireFault::Delayed, "delayed", 500),
    (WireFault::ServerError, "server error", 200),
    (WireFault::Throttled, "throttled", 300),
    (WireFault::Conflict, "conflict", 500),
    (WireFault::MixedReasons, "mixed reasons", 3_000),
    (WireFault::Duplicated, "duplicated", 200),
    (WireFault::Stale, "stale", 3_000),
    (WireFault::Crash, "crash", 500),
    (WireFault::CallerGone, "caller gone", 3_000),
    (WireFault::CalledLater, "called later", 500),
    (WireFault::TwoSchedulers, "two schedulers", 3_000),
    (WireFault::WebhookTwice, "webhook twice", 3_000),
    (WireFault::WebhookLate, "webhook late", 3_000),
    (WireFault::ProviderDown, "provider down", 2_000),
    (WireFault::ChargeUnanswered, "charge unanswered", 2_000),
    (WireFault::ProviderFails, "provider fails", 2_000),
    (WireFault::ProviderBusy, "provider busy", 1_000),
    (WireFault::BatchAgain, "batch again", 2_000),
    (WireFault::BatchSplit, "batch split", 3_000),
    (WireFault::Poison, "poison record", 100),
    (WireFault::BusInPart, "bus in part", 1_000),
    (WireFault::EventTwice, "event twice", 2_000),
    (WireFault::MailThrottled, "mail throttled", 2_000),
];

/// The state of the faults in a run.
#[derive(Debug)]
pub struct Faults {
    dice: Dice,
    rates: Vec<u64>,
    counts: Vec<AtomicU64>,
    off: AtomicBool,
}

impl Faults {
    /// Draws the rates. A kind is off in a third of all seeds, and if `calm` contains it.
    #[must_use]
    pub fn of(seed: u64, calm: &BTreeSet<usize>) -> Self {
        let dice = Dice::of(seed ^ 0xFA17);
        let rate = |most: u64| if dice.between(0, 2) == 0 { 0 } else { dice.between(1, most) };
        let rates = ALL.iter().map(|(_, _, most)| rate(*most)).enumerate();
        let rates = rates.map(|(kind, rate)| if calm.contains(&kind) { 0 } else { rate }).collect();
        let counts = ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { dice, rates, counts, off: AtomicBool::new(true) }
    }

    /// Returns the kinds that can occur, as indexes into [`ALL`].
    #[must_use]
    pub fn kinds(&self) -> Vec<usize> {
        self.rates.iter().enumerate().filter(|(_, rate)| **rate > 0).map(|(kind, _)| kind).collect()
    }

    /// Switches all faults on or off.
    pub fn switch(&self, on: bool) {
        self.off.store(!on, Ordering::SeqCst);
    }

    /// Returns whether the faults are switched off.
    #[must_use]
    pub fn are_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// Draws whether a fault occurs now, and counts it.
    pub fn strikes(&self, fault: WireFault) -> bool {
        let at = fault as usize;
        if self.are_off() || self.rates[at] == 0 {
            return false;
        }
        let strikes = self.dice.between(1, 10_000) <= self.rates[at];
        self.counts[at].fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }

    /// Draws a number for the severity of a fault; both bounds are included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        self.dice.between(least, most)
    }

    /// Returns how often each kind has occurred.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}
