//! The `cargo local` binary.

fn main() -> std::process::ExitCode {
    credits_local::command::run()
}
