//! Draws credits for an AI call: `debit KEY`, with `CREDITS_URL` and `CREDITS_TOKEN` in the environment.
#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use ai_credits_client::{Client, Consumer, DebitOrder, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let setting = |name: &str| std::env::var(name).unwrap_or_default();
    let credits = Client::new(&setting("CREDITS_URL"), setting("CREDITS_TOKEN"))?;
    let key = std::env::args().nth(1).unwrap_or_default();
    let order = DebitOrder::of("text.generate", Consumer::action("assistant", "ada"))
        .model("standard")
        .unit("input_tokens", 1_200)
        .unit("output_tokens", 800);
    match credits.workspace("demo").create_debit(&order).idempotency_key(key).await {
        Ok(debit) => println!("it cost {}", debit.credits),
        Err(Error::InsufficientCredits(refusal)) => println!("{} {}", refusal.prompt, refusal.top_up_url),
        Err(error) => return Err(error),
    }
    Ok(())
}
