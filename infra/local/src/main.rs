//! `cargo local`: the whole product on one machine.

fn main() -> std::process::ExitCode {
    credits_local::command::run()
}
