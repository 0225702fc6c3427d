//! The ladder: the throughput of one workspace with single debits, with batches, with captures of one hold, and with
//! captures of many holds placed together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use credits_core::batch::PricedCall;
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{MAX_CAPTURES, MAX_HOLDS, Purpose};
use credits_core::id::{Id, WorkspaceId};
use credits_core::ledger::Cause;
use credits_core::metadata::Metadata;
use credits_core::rate_card::PriceVersion;
use credits_core::workspace::{Plan, Profile};
use credits_store::batches::BatchOrder;
use credits_store::debits::DebitRefusal;
use credits_store::grants::{GrantOrder, Term};
use credits_store::holds::capture::CaptureOrder;
use credits_store::holds::settle::SettleOrder;
use credits_store::holds::{HoldOrder, HoldRefusal, NamedHolds, OnExcess};
use credits_store::{Claim, Fault, Fingerprint, Store};
use jiff::SignedDuration;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::busy::{Busy, Seen};

/// The measurements of one rung.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The name of the rung.
    pub rung: String,
    /// The number of concurrent callers.
    pub callers: usize,
    /// The paid AI calls per second.
    pub calls_a_second: f64,
    /// The median and the 99th percentile of the requests' durations, in milliseconds.
    pub millis: (f64, f64),
    /// The requests that were answered with 503, for the caller to retry.
    pub given_up: u64,
    /// The requests that were refused for insufficient credits, and those of the measurement per second.
    pub refused: u64,
    pub refused_a_second: f64,
    /// The counters of the table.
    pub seen: Seen,
    /// The write units per AI call.
    pub units_a_call: f64,
    /// The credits paid, first as the callers count them, then as the balance shows.
    pub paid: (Credits, Credits),
}

/// How long the callers of a rung run.
#[derive(Debug, Clone, Copy)]
pub struct Duty {
    /// The time before the measurement.
    pub ramp: Duration,
    /// The time of the measurement.
    pub measured: Duration,
    pub seed: u64,
}

/// Callers of one workspace, with their counters.
struct Crowd {
    busy: Busy,
    workspace: WorkspaceId,
    measured_from: Instant,
    until: Instant,
    /// All paid calls, and those of the measurement.
    calls: AtomicU64,
    measured_calls: AtomicU64,
    given_up: AtomicU64,
    refused: AtomicU64,
    measured_refused: AtomicU64,
    keys: AtomicU64,
    micros: std::sync::Mutex<Vec<u64>>,
    /// The paid calls of each tenth of a second since the callers began.
    tenths: std::sync::Mutex<Vec<u64>>,
    began: Instant,
}

/// How the callers of a rung pay for their AI calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Each call is a debit.
    Debits,
    /// Each call is a debit that an empty balance refuses.
    Refusals,
    /// A debit pays for this many calls.
    Batches(usize),
    /// Calls are captures of one hold at a time, which all callers share.
    OneHold,
    /// Calls are captures of `MAX_HOLDS` holds that are placed and settled together.
    ManyHolds,
}

/// Runs the callers for some virtual time on a balance of `granted` credits.
pub async fn reach(rung: Rung, callers: usize, duty: Duty, granted: &str) -> Reached {
    let busy = Busy::new(duty.seed).await;
    let workspace: WorkspaceId = "acme".parse().unwrap();
    let granted: Amount = granted.parse().unwrap();
    begin(&busy, &workspace, granted).await;
    busy.forget();
    let measured_from = Instant::now() + duty.ramp;
    let crowd = Arc::new(Crowd::new(busy, workspace, measured_from, duty.measured));
    match rung {
        Rung::Debits | Rung::Refusals => Crowd::debit(&crowd, callers, 1).await,
        Rung::Batches(lines) => Crowd::debit(&crowd, callers, lines).await,
        Rung::OneHold => Crowd::capture(&crowd, callers, 1).await,
        Rung::ManyHolds => Crowd::capture(&crowd, callers, MAX_HOLDS).await,
    }
    let took = measured_from.elapsed().as_secs_f64();
    Arc::into_inner(crowd).unwrap().reached(rung, callers, took, granted).await
}

/// Lets callers make this many debits of one credit each, on a balance of `granted` credits. Each caller has a store of its
/// own, as separate processes have.
pub async fn spend_all(callers: usize, debits_each: usize, seed: u64, granted: &str) -> Reached {
    let busy = Busy::new(seed).await;
    let workspace: WorkspaceId = "acme".parse().unwrap();
    let granted: Amount = granted.parse().unwrap();
    begin(&busy, &workspace, granted).await;
    busy.forget();
    let began = Instant::now();
    let crowd = Arc::new(Crowd::new(busy, workspace, began, Duration::MAX));
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let crowd = Arc::clone(&crowd);
        running.spawn(async move {
            let store = crowd.store(caller);
            for _ in 0..debits_each {
                crowd.debit_once(&store, &[line()]).await;
            }
        });
    }
    drop(running.join_all().await);
    let took = began.elapsed().as_secs_f64();
    Arc::into_inner(crowd).unwrap().reached(Rung::Debits, callers, took, granted).await
}

/// How a quiet workspace becomes busy, and quiet again.
#[derive(Debug)]
pub struct Ramp {
    /// The debits of each tenth of a second since the callers began.
    pub tenths: Vec<u64>,
    /// How long after the last debit the sweep has left one item, in seconds.
    pub quiet_after: u64,
}

/// Lets callers debit for some virtual time. Then a sweep each minute ends the lanes.
pub async fn ramp(callers: usize, duty: Duty, granted: &str) -> Ramp {
    let busy = Busy::new(duty.seed).await;
    let workspace: WorkspaceId = "acme".parse().unwrap();
    begin(&busy, &workspace, granted.parse().unwrap()).await;
    let crowd = Arc::new(Crowd::new(busy, workspace.clone(), Instant::now(), duty.measured));
    Crowd::debit(&crowd, callers, 1).await;
    let (store, ended) = (crowd.store(0), Instant::now());
    while store.lanes().end_idle(&workspace).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let tenths = crowd.tenths.lock().unwrap().clone();
    Ramp { tenths, quiet_after: ended.elapsed().as_secs() }
}

async fn begin(busy: &Busy, workspace: &WorkspaceId, granted: Amount) {
    let store = busy.store(1);
    let profile =
        Profile { name: "Acme".into(), plan: Plan::Team, billing_email: "billing@acme.example".into() };
    store.workspaces().put(workspace, &profile).await.unwrap();
    let grant = GrantOrder { amount: granted, term: Term::Prepaid, reason: "bench".into() };
    store.grants().grant(&claim(workspace, "grant"), &grant).await.unwrap();
}

fn claim(workspace: &WorkspaceId, key: &str) -> Claim {
    let fingerprint = Fingerprint::of(&[key.as_bytes()]);
    Claim { workspace_id: workspace.clone(), key: key.parse().unwrap(), fingerprint }
}

fn line() -> PricedCall {
    let id = |text: &str| text.parse::<Id>().unwrap();
    let consumer = Consumer::Bulk {
        job_id: id("job-1"),
        feature: id("enrichment"),
        list_id: Some(id("leads")),
        user_id: None,
    };
    PricedCall::stated("record.enrich".parse().unwrap(), consumer, "1".parse().unwrap())
}

fn card() -> PriceVersion {
    PriceVersion::of("2026-11".parse().unwrap())
}

impl Crowd {
    fn new(busy: Busy, workspace: WorkspaceId, measured_from: Instant, measured: Duration) -> Self {
        let until = measured_from.checked_add(measured).unwrap_or(measured_from);
        Self {
            busy,
            workspace,
            measured_from,
            until,
            calls: AtomicU64::new(0),
            measured_calls: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            measured_refused: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            micros: std::sync::Mutex::default(),
            tenths: std::sync::Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Returns a store of its own for each caller, as separate processes have.
    fn store(&self, caller: usize) -> Store {
        self.busy.store(1_000 + caller as u64)
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn claim(&self) -> Claim {
        claim(&self.workspace, &format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed)))
    }

    fn took(&self, since: Instant) {
        if since >= self.measured_from {
            self.micros.lock().unwrap().push(since.elapsed().as_micros() as u64);
        }
    }

    fn paid(&self, since: Instant, calls: u64) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
        let (mut tenths, tenth) =
            (self.tenths.lock().unwrap(), self.began.elapsed().as_millis() as usize / 100);
        let length = tenths.len().max(tenth + 1);
        tenths.resize(length, 0);
        tenths[tenth] += calls;
        if since >= self.measured_from {
            self.measured_calls.fetch_add(calls, Ordering::Relaxed);
        }
    }

    /// Counts a request, and returns its result if it succeeded.
    fn count<T>(&self, since: Instant, calls: u64, outcome: Result<T, DebitRefusal>) -> Option<T> {
        self.took(since);
        match outcome {
            Ok(done) => {
                self.paid(since, calls);
                Some(done)
            }
            Err(DebitRefusal::Fault(Fault::Contended)) => {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(DebitRefusal::Insufficient { .. }) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let is_measured = since >= self.measured_from;
                self.measured_refused.fetch_add(u64::from(is_measured), Ordering::Relaxed);
                None
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn debit(self: &Arc<Self>, callers: usize, lines: usize) {
        let mut running = JoinSet::new();
        for caller in 0..callers {
            let crowd = Arc::clone(self);
            running.spawn(async move {
                let (store, content) = (crowd.store(caller), vec![line(); lines]);
                while crowd.goes_on() {
                    crowd.debit_once(&store, &content).await;
                }
            });
        }
        drop(running.join_all().await);
    }

    async fn debit_once(&self, store: &Store, lines: &[PricedCall]) {
        let (claim, since, priced_by) = (self.claim(), Instant::now(), card());
        // An invocation ends after ten seconds at most.
        let store = store.until(since + Duration::from_secs(10));
        let posted = if let [line] = lines {
            store.debits().debit(&claim, line.amount, Cause::debit(line.clone(), priced_by)).await
        } else {
            let order = BatchOrder { priced_by: &priced_by, lines, partial: false };
            store.debits().debit_batch(&claim, order).await
        };
        self.count(since, lines.len() as u64, posted);
    }

    /// Runs rounds: places holds together, captures them with all callers at once, and settles them together.
    async fn capture(self: &Arc<Self>, callers: usize, holds: usize) {
        let store = self.store(0);
        let PricedCall { operation, consumer, .. } = line();
        let purpose = Purpose { operation, priced_by: card(), consumer, metadata: Metadata::default() };
        let mut settling = JoinSet::new();
        while self.goes_on() {
            let amount = Amount::new(Credits::from_micros(MAX_CAPTURES as i128 * 1_000_000).unwrap());
            let (count, lasts) =
                (u8::try_from(holds).ok().filter(|it| *it > 1), SignedDuration::from_mins(10));
            let order = HoldOrder {
                amount: amount.unwrap(),
                priced_with: None,
                lasts,
                named: NamedHolds { count, purpose: &purpose },
            };
            let since = Instant::now();
            let placed = store.holds().place(&self.claim(), order).await;
            let Some(placed) = self.count(since, 0, placed) else { continue };
            let hold_ids: Vec<Id> = placed.holds.into_iter().map(|hold| hold.hold_id).collect();
            self.capture_all(callers, &hold_ids).await;
            let (crowd, store) = (Arc::clone(self), store.clone());
            // The next round begins while this one is settled.
            settling.spawn(async move {
                let order = SettleOrder::of(&hold_ids);
                let claim = crowd.claim();
                while let Err(refused) = store.holds().settle(&claim, order).await {
                    assert!(matches!(refused, HoldRefusal::Fault(Fault::Contended)), "{refused:?}");
                }
            });
        }
        drop(settling.join_all().await);
    }

    async fn capture_all(self: &Arc<Self>, callers: usize, hold_ids: &[Id]) {
        let mut running = JoinSet::new();
        let next = Arc::new(AtomicU64::new(0));
        let all = (hold_ids.len() * MAX_CAPTURES) as u64;
        for caller in 0..callers {
            let (crowd, next, hold_ids) = (Arc::clone(self), Arc::clone(&next), hold_ids.to_vec());
            running.spawn(async move {
                let (store, line, card) = (crowd.store(caller), line(), card());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= all {
                        break;
                    }
                    let hold_id = &hold_ids[number as usize % hold_ids.len()];
                    let order =
                        CaptureOrder { hold_id, line: &line, priced_by: &card, on_excess: OnExcess::Refuse };
                    let (claim, since) = (crowd.claim(), Instant::now());
                    loop {
                        match store.holds().capture(&claim, order).await {
                            Ok(_) => break,
                            Err(HoldRefusal::Fault(Fault::Contended)) => {
                                crowd.given_up.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    crowd.took(since);
                    crowd.paid(since, 1);
                }
            });
        }
        drop(running.join_all().await);
    }

    async fn reached(self, rung: Rung, callers: usize, took: f64, granted: Amount) -> Reached {
        let seen = self.busy.seen();
        let balance = self.store(0).balances().get(&self.workspace).await.unwrap().unwrap();
        assert!(balance.is_consistent().unwrap(), "{balance:?}");
        assert!(balance.all_held().unwrap().is_zero(), "{balance:?}");
        let spent = granted.credits().minus(balance.available().unwrap()).unwrap();
        let calls = self.calls.into_inner();
        let mut micros = self.micros.into_inner().unwrap();
        micros.sort_unstable();
        let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0);
        Reached {
            rung: rung.to_string(),
            callers,
            calls_a_second: self.measured_calls.into_inner() as f64 / took,
            millis: (at(0.5) as f64 / 1_000.0, at(0.99) as f64 / 1_000.0),
            given_up: self.given_up.into_inner(),
            refused: self.refused.into_inner(),
            refused_a_second: self.measured_refused.into_inner() as f64 / took,
            units_a_call: seen.write_units / calls.max(1) as f64,
            seen,
            paid: (Credits::from_micros(i128::from(calls) * 1_000_000).unwrap(), spent),
        }
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Debits => write!(f, "plain debits"),
            Self::Refusals => write!(f, "refusals of plain debits"),
            Self::Batches(lines) => write!(f, "batches of {lines}"),
            Self::OneHold => write!(f, "captures of one hold"),
            Self::ManyHolds => write!(f, "captures of {MAX_HOLDS} holds, placed together"),
        }
    }
}
