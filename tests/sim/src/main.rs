//! `cargo sim`: the product through months of everything going wrong, from a seed (docs/testing.md).

use std::process::ExitCode;

fn main() -> ExitCode {
    simulation::command::run_command(&std::env::args().skip(1).collect::<Vec<_>>())
}
