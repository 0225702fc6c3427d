//! Implementations in separate processes: our function's binary, Python with Powertools, `PostgreSQL`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::runtime_api::Process;
use serde_json::Value;

use crate::measure::{Bench, Measured};

/// The number of starts that are measured.
const STARTS: usize = 20;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// Measures the deployed binary: its cold start, memory and size.
pub fn debit_function(endpoint: &str) -> Result<Measured, String> {
    let missing = "no cold start of ours: build the binary with `cargo build --release -p debit`".to_owned();
    let folder = std::env::current_exe().ok().and_then(|bench| Some(bench.parent()?.parent()?.to_owned()));
    let binary = folder.ok_or(missing.clone())?.join("debit");
    let size = std::fs::metadata(&binary).map_err(|_| missing)?.len();
    let settings =
        [("TABLE_NAME", Bench::TABLE.to_owned()), ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.to_owned())];
    let mut inits = Vec::new();
    let mut memory_kb = 0;
    for start in 0..STARTS {
        let process = Process::start(&binary, &settings);
        inits.push(process.init.as_secs_f64() * 1_000.0);
        let event =
            include_str!("../debit.json").replace("/one/", "/ours-one/").replace("\"one\"", "\"ours-one\"");
        let answer = process.invoke(&event.replace("KEY", &format!("start-{start}")));
        assert!(answer.contains("\"statusCode\":201") || answer.contains("\"statusCode\":402"), "{answer}");
        memory_kb = memory_kb.max(process.most_memory_kb());
    }
    inits.sort_by(f64::total_cmp);
    Ok(Measured {
        cold_start_ms: Some(inits[STARTS / 2]),
        memory_mb: Some(memory_kb as f64 / 1_024.0),
        size_mb: Some(size as f64 / 1_048_576.0),
        ..Measured::default()
    })
}

/// Measures Python with AWS Lambda Powertools, in a new virtual environment.
pub fn python(endpoint: &str) -> Result<Measured, String> {
    let folder = Folder::new("powertools");
    let venv = folder.0.join("venv");
    let requirements = here().join("requirements.txt");
    let python = venv.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .and_then(|_| {
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))
        })
        .map_err(|why| format!("Python with Powertools: {why}"))?;
    let work = folder.0.join("work");
    let script = here().join("powertools.py");
    let told = run(Command::new(&python).arg(script).args([endpoint, Bench::TABLE]).arg(&work));
    read("Powertools, Python", &told.map_err(|why| format!("Python with Powertools: {why}"))?)
}

/// Measures `PostgreSQL` with a row lock, if it is installed.
pub fn postgres() -> Result<Measured, String> {
    let folder = Folder::new("postgres");
    let told = run(Command::new("python3").arg(here().join("postgres.py")).arg(&folder.0));
    read("PostgreSQL, row lock", &told.map_err(|why| format!("PostgreSQL: {why}"))?)
}

fn read(name: &str, told: &str) -> Result<Measured, String> {
    let told: Value = serde_json::from_str(told.trim()).map_err(|error| format!("{name}: {error}"))?;
    if let Some(why) = told["skipped"].as_str() {
        return Err(format!("{name}: {why}"));
    }
    let count = |field: &str| told[field].as_i64().unwrap_or_default();
    Ok(Measured {
        name: name.to_owned(),
        requests: told["requests_per_debit"].as_f64(),
        write_units: told["write_units"].as_f64(),
        read_units: None,
        throughput: told["throughput"].as_f64(),
        p50_ms: told["p50_ms"].as_f64(),
        p99_ms: told["p99_ms"].as_f64(),
        cold_start_ms: told["cold_start_ms"].as_f64(),
        memory_mb: told["rss_mb"].as_f64(),
        size_mb: told["size_mb"].as_f64(),
        overspent: count("overspent"),
        charged_twice: count("double_charged"),
        refused_falsely: count("false_refusals"),
    })
}

fn run(command: &mut Command) -> Result<String, String> {
    let ended = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(said.lines().last().unwrap_or("the command failed without a message").to_owned())
}

/// A temporary folder, deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ai-credits-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
