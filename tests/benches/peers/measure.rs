//! The measurements of each implementation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use credits_aws::connection::loopback_client;
use credits_aws::sources::{SystemClock, SystemRandomness};
use credits_local::database::{Database, Stream, create_table};
use credits_store::Sources;
use model::counted::{Counted, Counts};
use tokio::task::JoinSet;

use crate::contenders::Contender;

/// The price of a million write or read units, in dollars: us-east-1, on demand, November 2026.
const WRITE_UNIT: f64 = 0.625;
const READ_UNIT: f64 = 0.125;

const CALLERS: usize = 4;
const DEBITS: usize = 400;

/// A storm on one balance: more calls than credits, and some keys used twice.
const STORM_CALLERS: usize = 64;
const STORM_CREDITS: u32 = 500;
const STORM_KEYS: usize = 1_000;
const STORM_TWICE: usize = 200;

/// The result of a debit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The credit is debited, now or by an earlier call with the key.
    Done,
    /// The credits are insufficient.
    Refused,
    /// Neither: the caller must retry.
    Failed,
}

/// The measurements of an implementation. A value that could not be measured is absent.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub name: String,
    pub requests: Option<f64>,
    pub write_units: Option<f64>,
    pub read_units: Option<f64>,
    pub throughput: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub cold_start_ms: Option<f64>,
    pub memory_mb: Option<f64>,
    pub size_mb: Option<f64>,
    pub overspent: i64,
    pub charged_twice: i64,
    pub refused_falsely: i64,
}

/// The table that all implementations share.
pub struct Bench {
    database: Database,
}

impl Bench {
    pub const TABLE: &'static str = "credits";

    pub async fn start() -> Self {
        let bench = Self { database: Database::start(None).unwrap() };
        create_table(&bench.client().0, Self::TABLE, Stream::Off).await.unwrap();
        bench
    }

    pub fn endpoint(&self) -> String {
        self.database.endpoint()
    }

    fn client(&self) -> (Client, Counted) {
        let counted = Counted::around(loopback_client());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(self.endpoint())
            .http_client(counted.client())
            .build();
        (Client::from_conf(config), counted)
    }

    pub async fn measure<C: Contender>(&self) -> Measured {
        let counts = self.one::<C>().await;
        let (p50_ms, p99_ms) = self.alone::<C>().await;
        let measured = Measured {
            name: C::NAME.to_owned(),
            requests: Some(counts.requests as f64),
            write_units: Some(counts.write_units),
            read_units: Some(counts.read_units),
            throughput: Some(self.side_by_side::<C>().await),
            p50_ms: Some(p50_ms),
            p99_ms: Some(p99_ms),
            ..Measured::default()
        };
        self.storm::<C>(measured).await
    }

    /// Counts the requests and units of one debit.
    async fn one<C: Contender>(&self) -> Counts {
        let (client, counted) = self.client();
        let contender = C::begin(client, &C::workspace("one"), 10).await;
        let before = counted.counts();
        assert_eq!(contender.debit("key").await, Outcome::Done);
        let after = counted.counts();
        Counts {
            requests: after.requests - before.requests,
            write_units: after.write_units - before.write_units,
            read_units: after.read_units - before.read_units,
        }
    }

    async fn alone<C: Contender>(&self) -> (f64, f64) {
        let contender = C::begin(self.client().0, &C::workspace("alone"), 100_000).await;
        let mut took = Vec::new();
        for number in 0..DEBITS {
            let since = Instant::now();
            assert_eq!(contender.debit(&format!("key-{number}")).await, Outcome::Done);
            took.push(since.elapsed());
        }
        took.sort_unstable();
        let at = |share: f64| took[(took.len() as f64 * share) as usize].as_secs_f64() * 1_000.0;
        (at(0.5), at(0.99))
    }

    async fn side_by_side<C: Contender>(&self) -> f64 {
        let mut running = JoinSet::new();
        let mut contenders = Vec::new();
        for caller in 0..CALLERS {
            contenders
                .push(C::begin(self.client().0, &C::workspace(&format!("side-{caller}")), 100_000).await);
        }
        let since = Instant::now();
        for contender in contenders {
            running.spawn(async move {
                for number in 0..DEBITS / CALLERS {
                    assert_eq!(contender.debit(&format!("key-{number}")).await, Outcome::Done);
                }
            });
        }
        drop(running.join_all().await);
        DEBITS as f64 / since.elapsed().as_secs_f64()
    }

    async fn storm<C: Contender>(&self, measured: Measured) -> Measured {
        let contender = Arc::new(C::begin(self.client().0, &C::workspace("storm"), STORM_CREDITS).await);
        let keys: Vec<String> = (0..STORM_KEYS).map(|number| format!("key-{number}")).collect();
        let calls: Vec<String> = keys[..STORM_TWICE].iter().chain(&keys).cloned().collect();
        let calls = Arc::new(std::sync::Mutex::new(calls));
        let mut running = JoinSet::new();
        for _ in 0..STORM_CALLERS {
            let (contender, calls) = (Arc::clone(&contender), Arc::clone(&calls));
            running.spawn(async move {
                let mut unpaid = 0;
                loop {
                    let Some(key) = calls.lock().unwrap().pop() else { return unpaid };
                    let mut outcome = contender.debit(&key).await;
                    for _ in 0..50 {
                        if outcome != Outcome::Failed {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        outcome = contender.debit(&key).await;
                    }
                    unpaid += i64::from(outcome != Outcome::Done);
                }
            });
        }
        let unpaid: i64 = running.join_all().await.into_iter().sum();
        let (left, entries) = contender.end(&keys).await;
        let (entries, credits) = (entries as i64, i64::from(STORM_CREDITS));
        Measured {
            // Entries without a decrease of the balance are overspent credits. A decrease without an entry is a double
            // charge.
            overspent: (entries - (credits - left)).max(0),
            charged_twice: (credits - left - entries).max(0),
            refused_falsely: if left > 0 { unpaid.min(left) } else { 0 },
            ..measured
        }
    }
}

pub fn sources() -> Sources {
    Sources::new(Arc::new(SystemClock), Arc::new(SystemRandomness))
}

impl Measured {
    pub fn with_process(self, process: &Self) -> Self {
        Self {
            cold_start_ms: process.cold_start_ms,
            memory_mb: process.memory_mb,
            size_mb: process.size_mb,
            ..self
        }
    }

    pub fn row(&self) -> Vec<String> {
        let told = |value: Option<f64>, digits: usize| {
            value.map_or_else(String::new, |value| format!("{value:.digits$}"))
        };
        let dollars = self
            .write_units
            .map(|written| written * WRITE_UNIT + self.read_units.unwrap_or_default() * READ_UNIT);
        vec![
            self.name.clone(),
            told(self.requests, 0),
            told(self.write_units, 0),
            told(dollars, 2),
            told(self.throughput, 0),
            told(self.p50_ms, 1),
            told(self.p99_ms, 1),
            told(self.cold_start_ms, 1),
            told(self.memory_mb, 1),
            told(self.size_mb, 1),
            self.overspent.to_string(),
            self.charged_twice.to_string(),
            self.refused_falsely.to_string(),
        ]
    }
}
