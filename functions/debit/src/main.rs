//! The debit function's bootstrap.

fn main() -> Result<(), credits_runtime::StartError> {
    credits_runtime::run(debit::Debits::start)
}
