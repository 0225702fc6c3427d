//! `cargo bench --bench busy`: measures the throughput of one workspace on a model of a busy table, for each rung of
//! the ladder.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench calculates and prints its measurements"
)]

use std::time::Duration;

use model::ladder::{Duty, Reached, Rung, ramp, reach};
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
    let refusals = [(Rung::Refusals, 64)];
    let batches = [(Rung::Batches(100), 16), (Rung::Batches(500), 16)];
    let holds = [1, 4, 16].map(|callers| (Rung::OneHold, callers));
    let many = [50, 100, 200, 400].map(|callers| (Rung::ManyHolds, callers));
    let steps = debits.into_iter().chain(refusals).chain(batches).chain(holds).chain(many);
    let reached: Vec<Reached> = steps.map(|(rung, callers)| measure(rung, callers)).collect();
    let rows: Vec<Vec<String>> = reached.iter().map(row).collect();
    let table = table(&COLUMNS, &rows);
    println!("{table}");
    write_ramp();
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
        .map(|it| {
            (format!("{}, {} callers", it.rung, it.callers), it.calls_a_second.max(it.refused_a_second))
        })
        .collect();
    write_bars("busy", "AI calls a second on one workspace (logarithmic)", &bars);
}

fn measure(rung: Rung, callers: usize) -> Reached {
    let (ramp, measured) = match rung {
        Rung::Debits => (RAMP, MEASURED_DEBITS),
        Rung::Refusals => (RAMP, MEASURED),
        _ => (Duration::ZERO, MEASURED),
    };
    let granted = if rung == Rung::Refusals { "0.5" } else { "100000000" };
    let reached = on_virtual_time(reach(rung, callers, Duty { ramp, measured, seed: SEED }, granted));
    assert_eq!(reached.paid.0, reached.paid.1, "the balance and the callers count the same");
    assert!(rung == Rung::Refusals || reached.refused == 0, "no request is refused");
    reached
}

/// Writes how fast a quiet workspace becomes busy, and when it has one item again.
fn write_ramp() {
    let duty = Duty { ramp: Duration::ZERO, measured: RAMP, seed: SEED };
    let ramp = on_virtual_time(ramp(64, duty, "100000000"));
    let row = |tenth: usize| {
        let debits = ramp.tenths.get(tenth).copied().unwrap_or_default();
        vec![format!("{:.1}", (tenth as f64 + 1.0) / 10.0), (debits * 10).to_string()]
    };
    let rows: Vec<Vec<String>> = [0, 1, 2, 3, 4, 6, 8, 10, 14, 19].map(row).into();
    let table = table(&["after seconds", "debits a second"], &rows);
    println!("{table}");
    let ended = format!("{} seconds after the last debit, a sweep has left one item.", ramp.quiet_after);
    write_section("busy-ramp", &format!("{table}\n64 callers begin at once, seed {SEED}. {ended}\n"));
}

fn on_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(work)
}

fn row(reached: &Reached) -> Vec<String> {
    vec![
        reached.rung.clone(),
        reached.callers.to_string(),
        format!("{:.0}", reached.calls_a_second.max(reached.refused_a_second)),
        format!("{:.1}", reached.millis.0),
        format!("{:.1}", reached.millis.1),
        reached.given_up.to_string(),
        reached.seen.conflicts.to_string(),
        format!("{:.2}", reached.units_a_call),
    ]
}
