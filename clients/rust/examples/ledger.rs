#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;

use ai_credits_client::{BoxError, Client, LedgerEntryDetails};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    let mut entries = credits.workspace("demo").list_ledger_entries().items();
    while let Some(entry) = entries.try_next().await? {
        match entry.details {
            LedgerEntryDetails::TopUp { pack, .. } => println!("{}: bought {pack}", entry.at),
            LedgerEntryDetails::Debit { operation: Some(name), .. } => println!("{}: {name}", entry.at),
            _ => println!("{}: {} credits", entry.at, entry.credits),
        }
    }
    Ok(())
}
