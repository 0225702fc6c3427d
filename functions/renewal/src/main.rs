//! The renewal function's Lambda binary.

fn main() -> Result<(), credits_aws::StartError> {
    credits_runtime::run_on_events(renewal::Renewal::start)
}
