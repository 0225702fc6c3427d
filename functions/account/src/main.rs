//! The account function's Lambda binary.

fn main() -> Result<(), credits_aws::StartError> {
    credits_runtime::run(account::Account::start)
}
