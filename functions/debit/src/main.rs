//! The debit function's Lambda binary.

fn main() -> Result<(), credits_runtime::StartError> {
    credits_runtime::run(debit::Debits::start)
}
