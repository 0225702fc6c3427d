//! The Lambda binary.

fn main() -> Result<(), credits_aws::StartError> {
    credits_runtime::run_on_events(notify::Notify::start)
}
