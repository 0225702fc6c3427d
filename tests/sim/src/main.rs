//! `cargo sim`: simulates months of the product with injected faults, from a seed (docs/testing.md).

use std::process::ExitCode;

fn main() -> ExitCode {
    simulation::command::run_command(&std::env::args().skip(1).collect::<Vec<_>>())
}
