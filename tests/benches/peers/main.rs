//! `cargo bench --bench peers`: measures an idempotent debit with its ledger entry, in our store and in its
//! alternatives, in one run on one table.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_arithmetic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a bench calculates and prints its measurements; peers bypass the store"
)]

mod contenders;
mod elsewhere;
mod measure;

use model::report::{measured_on, table, write_bars, write_section};

use contenders::{GetThenPut, Ours, Powertools};
use measure::{Bench, Measured};

const COLUMNS: [&str; 13] = [
    "by",
    "requests",
    "write units",
    "$ a million",
    "debits a second",
    "p50 ms",
    "p99 ms",
    "cold start ms",
    "memory MB",
    "size MB",
    "overspent",
    "charged twice",
    "refused falsely",
];

fn main() {
    // `cargo test --benches` runs this too. It must not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (rows, skipped) = runtime.block_on(run());
    let bars = rows.iter().filter_map(|row| Some((row.name.clone(), row.throughput?)));
    write_bars("peers", "Debits a second, each with its ledger entry, by", &bars.collect::<Vec<_>>());
    let rows: Vec<Vec<String>> = rows.iter().map(Measured::row).collect();
    let table = table(&COLUMNS, &rows);
    let skipped: Vec<String> = skipped.iter().map(|said| format!("- {said}")).collect();
    let skipped = skipped.join("\n");
    println!("{table}\n{skipped}");
    write_section("peers", &format!("{table}\n{skipped}\n{}\n", measured_on()));
}

async fn run() -> (Vec<Measured>, Vec<String>) {
    let bench = Bench::start().await;
    let mut rows = vec![
        bench.measure::<Ours>().await,
        bench.measure::<GetThenPut>().await,
        bench.measure::<Powertools>().await,
    ];
    let mut skipped = Vec::new();
    match elsewhere::debit_function(&bench.endpoint()) {
        Ok(process) => rows[0] = rows[0].clone().with_process(&process),
        Err(why) => skipped.push(why),
    }
    for measured in [elsewhere::python(&bench.endpoint()), elsewhere::postgres()] {
        match measured {
            Ok(row) => rows.push(row),
            Err(why) => skipped.push(why),
        }
    }
    (rows, skipped)
}
