//! `cargo bench --bench init`: measures the startup of the debit function beside a bare function in the same run.
//!
//! Both are the deployed release binaries:
//! `cargo build --release -p debit --bin debit --example hello` builds them. The third row is the same function on the
//! AWS SDK with its default features; `cargo build --release` in `tests/benches/plain` builds it.
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

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use credits_core::id::WorkspaceId;
use credits_core::workspace::{Plan, Profile};
use credits_local::database::{Database, Stream, create_table};
use credits_runtime::connection::loopback_client;
use credits_runtime::sources::{SystemClock, SystemRandomness};
use credits_store::grants::{GrantOrder, Term};
use credits_store::{Claim, Fingerprint, Sources, Store};
use model::report::{measured_on, table, write_section};
use model::runtime_api::Process;

const TABLE: &str = "credits";

const STARTS: usize = 40;

/// The number of invocations for the instruction count. A second run without them is subtracted.
const COUNTED: usize = 20;

const COLUMNS: [&str; 7] = [
    "function",
    "init p50 ms",
    "init p99 ms",
    "memory MB",
    "binary MB",
    "gzipped MB",
    "instructions an invocation",
];

/// The measurements of a function.
struct Row {
    name: &'static str,
    inits: Vec<f64>,
    memory_kb: u64,
    binary: PathBuf,
    instructions: Option<u64>,
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
    let needed = [("TABLE_NAME", TABLE.to_owned()), ("AWS_ENDPOINT_URL_DYNAMODB", database.endpoint())];
    let (mut bare, mut ours) = (Row::of("bare `lambda_runtime`", hello), Row::of("debit", debit));
    let settings = needed.clone().into_iter().chain(deployed_tunables()).collect::<Vec<_>>();
    let plain = release.join("plain");
    let mut plain = plain.exists().then(|| Row::of("debit on the SDK as it comes", plain));
    // The functions start in turn, so that other load on the machine affects all of them alike.
    for start in 0..STARTS {
        bare.start(&[], "{}");
        ours.start(&settings, &event(&format!("ours-{start}")));
        if let Some(plain) = &mut plain {
            plain.start(&needed, &event(&format!("plain-{start}")));
        }
    }
    bare.count(&[], |_| "{}".to_owned());
    ours.count(&settings, |number| event(&format!("ours-counted-{number}")));
    if let Some(plain) = &mut plain {
        plain.count(&needed, |number| event(&format!("plain-counted-{number}")));
    }
    let ratio = ours.p50() / bare.p50();
    let rows: Vec<_> = [&bare, &ours].into_iter().chain(&plain).map(Row::row).collect();
    let table = table(&COLUMNS, &rows);
    let work = plain.and_then(|plain| Some((ours.instructions? as f64, plain.instructions? as f64)));
    let work = work.map(|(ours, plain)| {
        format!(" An invocation is {:.2} × the instructions of the SDK as it comes.", ours / plain)
    });
    let work = work.unwrap_or_default();
    let said = format!(
        "{table}\nInit of the debit function is {ratio:.2} × that of the bare one.{work} {}\n",
        measured_on()
    );
    println!("{said}");
    write_section("init", &said);
}

/// Returns the allocator's setting in template.yaml.
fn deployed_tunables() -> Option<(&'static str, String)> {
    let template = include_str!("../../template.yaml");
    let tunables = template.lines().find_map(|line| line.trim().strip_prefix("GLIBC_TUNABLES: "));
    tunables.map(|tunables| ("GLIBC_TUNABLES", tunables.to_owned()))
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
    store.put_workspace(&workspace_id, &profile).await.unwrap();
    let grant = GrantOrder { amount: "100000".parse().unwrap(), term: Term::Prepaid, reason: "bench".into() };
    let (key, fingerprint) = ("grant".parse().unwrap(), Fingerprint::of(&[b"grant"]));
    store.grant(&Claim { workspace_id, key, fingerprint }, &grant).await.unwrap();
    database
}

impl Row {
    fn of(name: &'static str, binary: PathBuf) -> Self {
        Self { name, inits: Vec::new(), memory_kb: 0, binary, instructions: None }
    }

    fn start(&mut self, settings: &[(&str, String)], event: &str) {
        let process = Process::start(&self.binary, settings);
        self.inits.push(process.init.as_secs_f64() * 1_000.0);
        drop(process.invoke(event));
        self.memory_kb = self.memory_kb.max(process.most_memory_kb());
        self.inits.sort_by(f64::total_cmp);
    }

    /// Counts the instructions of an invocation with callgrind, if it is installed: a run with invocations minus one
    /// without.
    fn count(&mut self, settings: &[(&str, String)], event: impl Fn(usize) -> String) {
        let Some(valgrind) = found("valgrind") else { return };
        let run = |invocations: usize| -> Option<u64> {
            let mut tool = Command::new(&valgrind);
            tool.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.binary);
            let events = (0..invocations).map(|number| event(invocations * 1_000 + number));
            let said = Process::told_by(tool, settings, events);
            said.lines().find_map(|line| line.split("Collected :").nth(1))?.trim().parse().ok()
        };
        self.instructions =
            run(COUNTED + 2).zip(run(2)).map(|(with, without)| (with - without) / COUNTED as u64);
    }

    fn p50(&self) -> f64 {
        self.inits[self.inits.len() / 2]
    }

    fn row(&self) -> Vec<String> {
        let size = std::fs::metadata(&self.binary).unwrap().len() as f64 / 1_048_576.0;
        let instructions =
            self.instructions.map_or_else(|| "valgrind is not installed".to_owned(), |it| it.to_string());
        vec![
            self.name.to_owned(),
            format!("{:.2}", self.p50()),
            format!("{:.2}", self.inits[self.inits.len() * 99 / 100]),
            format!("{:.1}", self.memory_kb as f64 / 1_024.0),
            format!("{size:.2}"),
            format!("{:.2}", gzipped(&self.binary) / 1_048_576.0),
            instructions,
        ]
    }
}

fn gzipped(binary: &Path) -> f64 {
    let zipped = Command::new("gzip").args(["-9", "-c"]).arg(binary).output().unwrap();
    zipped.stdout.len() as f64
}

fn found(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|file| file.exists())
}
