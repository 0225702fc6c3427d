//! `cargo bench --bench busy`: measures the throughput of one workspace on a model of a busy table, for each rung of
//! the ladder.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its measurements")]

use std::time::Duration;

use model::ladder::{Duty, Reached, Rung, reach};
use model::report::{measured_on, table, write_bars, write_section};

/// The virtual time of each row.
const MEASURED: Duration = Duration::from_secs(2);
/// The virtual time of the rows of plain debits, after the workspace has become busy.
const MEASURED_DEBITS: Duration = Duration::from_secs(10);
/// The virtual time until the rows of plain debits are measured.
const RAMP: Duration = Duration::from_secs(2);

const SEED: u64 = 7;

const COLUMNS: [&str; 8] = [
    "by",
    "callers",
    "calls a second",
    "p50 of a request, ms",
    "p99, ms",
    "503",
    "conflicts",
    "write units a call",
];

fn main() {
    // `cargo test --benches` runs this too. It must not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let debits = [1, 4, 16, 64, 256, 1_000].map(|callers| (Rung::Debits, callers));
    let batches = [(Rung::Batches(100), 16), (Rung::Batches(500), 16)];
    let holds = [1, 4, 16].map(|callers| (Rung::OneHold, callers));
    let many = [50, 100, 200, 400].map(|callers| (Rung::ManyHolds, callers));
    let steps = debits.into_iter().chain(batches).chain(holds).chain(many);
    let reached: Vec<Reached> = steps.map(|(rung, callers)| measure(rung, callers)).collect();
    let rows: Vec<Vec<String>> = reached.iter().map(row).collect();
    let table = table(&COLUMNS, &rows);
    println!("{table}");
    write_section(
        "busy",
        &format!(
            "{table}\nSeed {SEED}, {} seconds of virtual time a row, for debits {} seconds \
             after a ramp of {}. {}\n",
            MEASURED.as_secs(),
            MEASURED_DEBITS.as_secs(),
            RAMP.as_secs(),
            measured_on()
        ),
    );
    let bars: Vec<(String, f64)> = reached
        .iter()
        .map(|it| (format!("{}, {} callers", it.rung, it.callers), it.calls_a_second))
        .collect();
    write_bars("busy", "AI calls a second on one workspace (logarithmic)", &bars);
}

fn measure(rung: Rung, callers: usize) -> Reached {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let (ramp, measured) =
        if rung == Rung::Debits { (RAMP, MEASURED_DEBITS) } else { (Duration::ZERO, MEASURED) };
    let reached = runtime.block_on(reach(rung, callers, Duty { ramp, measured, seed: SEED }, "100000000"));
    assert_eq!(reached.paid.0, reached.paid.1, "the balance and the callers count the same");
    assert_eq!(reached.refused, 0, "no request is refused");
    reached
}

fn row(reached: &Reached) -> Vec<String> {
    vec![
        reached.rung.clone(),
        reached.callers.to_string(),
        format!("{:.0}", reached.calls_a_second),
        format!("{:.1}", reached.millis.0),
        format!("{:.1}", reached.millis.1),
        reached.given_up.to_string(),
        reached.seen.conflicts.to_string(),
        format!("{:.2}", reached.units_a_call),
    ]
}
