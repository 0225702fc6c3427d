//! The account function's bootstrap.

fn main() -> Result<(), credits_runtime::StartError> {
    credits_runtime::run(account::Account::start)
}
