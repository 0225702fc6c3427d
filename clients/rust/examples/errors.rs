#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;

use ai_credits_client::{BoxError, Client, Consumer, DebitOrder, Error};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    let order = DebitOrder::of("text.generate", Consumer::action("assistant", "ada"))
        .unit("input_tokens", 900_000_000);
    match credits.workspace("demo").create_debit(&order).idempotency_key("message-4711").await {
        Ok(debit) => println!("It cost {} credits.", debit.credits),
        Err(Error::InsufficientCredits(refusal)) => println!("{} {}", refusal.prompt, refusal.top_up_url),
        Err(Error::Refused(problem)) => println!("{} {:?}", problem.code, problem.errors),
        Err(Error::Unavailable(outage)) => println!("Try again: {outage}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
