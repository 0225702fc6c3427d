#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;

use ai_credits_client::{BoxError, Client, Consumer, DebitOrder};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    let order = DebitOrder::of("text.generate", Consumer::action("assistant", "ada"))
        .unit("input_tokens", 1_200)
        .unit("output_tokens", 800);
    let debit = credits.workspace("demo").create_debit(&order).await?;
    println!("It cost {} credits.", debit.credits);
    Ok(())
}
