//! `cargo bench --bench renewals`: renews ten thousand subscriptions due at once, and counts the table requests per
//! renewal.
#![allow(clippy::print_stdout, reason = "a bench prints its measurements")]

use credits_local::database::Stream;
use credits_local::{Options, Stack};
use model::renewals::{SweepCost, renew_all};
use model::report::{measured_on, table, write_section};

const SUBSCRIPTIONS: usize = 10_000;

const COLUMNS: [&str; 5] = ["sweep", "renewals", "requests a renewal", "write units a renewal", "requests"];

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs this too. It must not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let stack = Stack::start(&Options { stream: Stream::Off, ..Options::default() }).await;
    let stack = stack.unwrap_or_else(|error| panic!("the stack did not start: {error}"));
    let costs = Box::pin(renew_all(&stack, SUBSCRIPTIONS)).await;
    let rows = [row("before the date", &costs.charging), row("on the date", &costs.beginning)];
    let table = table(&COLUMNS, &rows);
    println!("{table}");
    write_section("renewals", &format!("{table}\n{}\n", measured_on()));
}

fn row(sweep: &str, cost: &SweepCost) -> Vec<String> {
    let operations: Vec<String> =
        cost.operations.iter().map(|(operation, count)| format!("{count} {operation}")).collect();
    vec![
        sweep.to_owned(),
        cost.renewals.to_string(),
        format!("{:.2}", cost.requests_each()),
        format!("{:.2}", cost.write_units_each()),
        operations.join(", "),
    ]
}
