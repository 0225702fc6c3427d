//! What goes wrong, and how often: each kind at a rate of its own, which the seed draws.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::Dice;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A request to the table is lost before it gets there.
    RequestLost,
    /// The table's answer is lost after the commit.
    AnswerLost,
    /// A request takes up to two seconds longer, so that others overtake it.
    Delayed,
    /// The table answers 500, after it has committed or refused.
    ServerError,
    /// A partition is throttled.
    Throttled,
    /// A write meets a transaction that we do not see.
    Conflict,
    /// A cancelled transaction names a conflict beside a failed condition.
    MixedReasons,
    /// A transaction arrives once more, after its token's ten minutes.
    Duplicated,
    /// An index or a read that is eventually consistent shows what was a while ago.
    Stale,
    /// An invocation dies between two awaits.
    Crash,
    /// A caller that got no answer does not call again.
    CallerGone,
    /// A call is made once more a quarter of an hour later, with the same key.
    CalledLater,
    /// A schedule fires twice at once.
    TwoSchedulers,
    /// The provider's event is delivered twice.
    WebhookTwice,
    /// The provider's event comes up to three days late.
    WebhookLate,
    /// The provider can't be reached.
    ProviderDown,
    /// The provider has charged, and its answer is lost.
    ChargeUnanswered,
    /// Stripe answers 500, before or after it carries the request out, and keeps that answer under the key.
    ProviderFails,
    /// Stripe answers 409 or 429, and keeps no answer.
    ProviderBusy,
    /// A batch of the stream is delivered again after it was worked off.
    BatchAgain,
    /// A batch is cut short.
    BatchSplit,
    /// A record of the stream that can't be read.
    Poison,
    /// The bus takes a part of what it is sent.
    BusInPart,
    /// An event of the bus is delivered twice.
    EventTwice,
    /// A mail is refused, as SES does when it is asked too fast.
    MailThrottled,
}

/// Every kind, with its name and its highest rate in ten thousand.
pub const ALL: [(Fault, &str, u64); 25] = [
    (Fault::RequestLost, "request lost", 300),
    (Fault::AnswerLost, "answer lost", 300),
    (Fault::Delayed, "delayed", 500),
    (Fault::ServerError, "server error", 200),
    (Fault::Throttled, "throttled", 300),
    (Fault::Conflict, "conflict", 500),
    (Fault::MixedReasons, "mixed reasons", 3_000),
    (Fault::Duplicated, "duplicated", 200),
    (Fault::Stale, "stale", 3_000),
    (Fault::Crash, "crash", 500),
    (Fault::CallerGone, "caller gone", 3_000),
    (Fault::CalledLater, "called later", 500),
    (Fault::TwoSchedulers, "two schedulers", 3_000),
    (Fault::WebhookTwice, "webhook twice", 3_000),
    (Fault::WebhookLate, "webhook late", 3_000),
    (Fault::ProviderDown, "provider down", 2_000),
    (Fault::ChargeUnanswered, "charge unanswered", 2_000),
    (Fault::ProviderFails, "provider fails", 2_000),
    (Fault::ProviderBusy, "provider busy", 1_000),
    (Fault::BatchAgain, "batch again", 2_000),
    (Fault::BatchSplit, "batch split", 3_000),
    (Fault::Poison, "poison record", 100),
    (Fault::BusInPart, "bus in part", 1_000),
    (Fault::EventTwice, "event twice", 2_000),
    (Fault::MailThrottled, "mail throttled", 2_000),
];

/// The faults of a run.
#[derive(Debug)]
pub struct Faults {
    dice: Dice,
    rates: Vec<u64>,
    counts: Vec<AtomicU64>,
    off: AtomicBool,
}

impl Faults {
    /// Draws the rates: a kind is off in a third of all seeds, and those that are named always.
    #[must_use]
    pub fn of(seed: u64, calm: &BTreeSet<usize>) -> Self {
        let dice = Dice::of(seed ^ 0xFA17);
        let rate = |most: u64| if dice.between(0, 2) == 0 { 0 } else { dice.between(1, most) };
        let rates = ALL.iter().map(|(_, _, most)| rate(*most)).enumerate();
        let rates = rates.map(|(kind, rate)| if calm.contains(&kind) { 0 } else { rate }).collect();
        let counts = ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { dice, rates, counts, off: AtomicBool::new(true) }
    }

    /// Which kinds can happen.
    #[must_use]
    pub fn kinds(&self) -> Vec<usize> {
        self.rates.iter().enumerate().filter(|(_, rate)| **rate > 0).map(|(kind, _)| kind).collect()
    }

    /// Switches all of them off, or on again.
    pub fn switch(&self, on: bool) {
        self.off.store(!on, Ordering::SeqCst);
    }

    /// Whether they are switched off.
    #[must_use]
    pub fn are_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// Whether a fault happens now.
    pub fn strikes(&self, fault: Fault) -> bool {
        let at = fault as usize;
        if self.are_off() || self.rates[at] == 0 {
            return false;
        }
        let strikes = self.dice.between(1, 10_000) <= self.rates[at];
        self.counts[at].fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }

    /// A number of a range, for how hard a fault strikes.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        self.dice.between(least, most)
    }

    /// How often each kind has struck.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}
