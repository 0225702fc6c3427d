//! `cargo bench --bench init`: measures what a caller feels of the debit function's start, beside a bare function in the
//! same run.
//!
//! Both are the deployed release binaries:
//! `cargo build --release -p debit --bin debit --example hello` builds them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench calculates, and prints its measurements"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use credits_aws::connection::loopback_client;
use credits_aws::sources::{SystemClock, SystemRandomness};
use credits_core::id::WorkspaceId;
use credits_core::workspace::{Plan, Profile};
use credits_local::database::{Database, Stream, create_table};
use credits_store::grants::{GrantOrder, Term};
use credits_store::{Claim, Fingerprint, Sources, Store};
use model::report::{measured_on, table, write_section};
use model::runtime_api::Process;

const TABLE: &str = "credits";

const STARTS: usize = 40;

/// The number of warm invocations whose processor time is measured.
const WARM: usize = 1_000;

const COLUMNS: [&str; 7] = [
    "function",
    "init p50 ms",
    "first answer p50 ms",
    "first answer p99 ms",
    "memory MB",
    "gzipped MB",
    "warm CPU ms",
];

/// The measurements of a function.
struct Row {
    name: &'static str,
    binary: PathBuf,
    inits: Vec<f64>,
    /// The times from the start of the process to its first answer.
    first_answers: Vec<f64>,
    memory_kb: u64,
    warm_cpu_ms: f64,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let release = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let (debit, hello) = (release.join("debit"), release.join("examples/hello"));
    if !debit.exists() || !hello.exists() {
        println!("The binaries are missing. Run: cargo build --release -p debit --bin debit --example hello");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let database = runtime.block_on(table_with_credits());
    let settings = [("TABLE_NAME", TABLE.to_owned()), ("AWS_ENDPOINT_URL_DYNAMODB", database.endpoint())];
    let (mut bare, mut ours) = (Row::of("bare `lambda_runtime`", hello), Row::of("debit", debit));
    // The functions start in turn, so that other load on the machine affects both alike.
    for start in 0..STARTS {
        bare.start(&[], "{}");
        ours.start(&settings, &event(&format!("start-{start}")));
    }
    bare.keep_warm(&[], |_| "{}".to_owned());
    ours.keep_warm(&settings, |number| event(&format!("warm-{number}")));
    let above = p50(&ours.first_answers) - p50(&bare.first_answers);
    let table = table(&COLUMNS, &[bare.row(), ours.row()]);
    let measured = measured_on();
    let said = format!(
        "{table}\nThe debit function's first answer comes {above:.1} ms after the bare one's. {measured}\n"
    );
    println!("{said}");
    write_section("init", &said);
}

fn event(key: &str) -> String {
    include_str!("debit.json").replace("KEY", key)
}

/// Creates a table with a workspace that has credits.
async fn table_with_credits() -> Database {
    let database = Database::start(None).unwrap();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::for_tests())
        .endpoint_url(database.endpoint())
        .http_client(loopback_client())
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    create_table(&client, TABLE, Stream::Off).await.unwrap();
    let store = Store::new(client, TABLE, Sources::new(Arc::new(SystemClock), Arc::new(SystemRandomness)));
    let workspace_id: WorkspaceId = "one".parse().unwrap();
    let profile =
        Profile { name: "One".into(), plan: Plan::Team, billing_email: "billing@one.example".into() };
    store.workspaces().put(&workspace_id, &profile).await.unwrap();
    let grant = GrantOrder { amount: "100000".parse().unwrap(), term: Term::Prepaid, reason: "bench".into() };
    let (key, fingerprint) = ("grant".parse().unwrap(), Fingerprint::of(&[b"grant"]));
    store.grants().grant(&Claim { workspace_id, key, fingerprint }, &grant).await.unwrap();
    database
}

impl Row {
    fn of(name: &'static str, binary: PathBuf) -> Self {
        Self { name, binary, inits: Vec::new(), first_answers: Vec::new(), memory_kb: 0, warm_cpu_ms: 0.0 }
    }

    fn start(&mut self, settings: &[(&str, String)], event: &str) {
        let began = Instant::now();
        let process = Process::start(&self.binary, settings);
        drop(process.invoke(event));
        self.first_answers.push(began.elapsed().as_secs_f64() * 1_000.0);
        self.inits.push(process.init.as_secs_f64() * 1_000.0);
        self.memory_kb = self.memory_kb.max(process.most_memory_kb());
    }

    /// Measures the processor time of warm invocations.
    fn keep_warm(&mut self, settings: &[(&str, String)], event: impl Fn(usize) -> String) {
        let process = Process::start(&self.binary, settings);
        drop(process.invoke(&event(WARM)));
        let before = process.cpu_time();
        for number in 0..WARM {
            drop(process.invoke(&event(number)));
        }
        self.warm_cpu_ms = process.cpu_time().saturating_sub(before).as_secs_f64() * 1_000.0 / WARM as f64;
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            format!("{:.1}", p50(&self.inits)),
            format!("{:.1}", p50(&self.first_answers)),
            format!("{:.1}", percentile(&self.first_answers, 99)),
            format!("{:.1}", self.memory_kb as f64 / 1_024.0),
            format!("{:.2}", gzipped(&self.binary) / 1_048_576.0),
            format!("{:.2}", self.warm_cpu_ms),
        ]
    }
}

fn p50(times: &[f64]) -> f64 {
    percentile(times, 50)
}

fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() * percent / 100]
}

fn gzipped(binary: &Path) -> f64 {
    let zipped = Command::new("gzip").args(["-9", "-c"]).arg(binary).output().unwrap();
    zipped.stdout.len() as f64
}
