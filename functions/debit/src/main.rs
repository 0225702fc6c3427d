//! The debit function's Lambda binary.

fn main() -> Result<(), credits_aws::StartError> {
    credits_runtime::run(debit::DebitFunction::start)
}
