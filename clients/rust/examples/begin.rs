#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;

use ai_credits_client::{BoxError, Client, Consumer, HoldOrder};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    let order = HoldOrder::of("text.generate", Consumer::action("assistant", "ada"))
        .model("standard")
        .unit("input_tokens", 100)
        .unit("output_tokens", 500);
    let call = credits.workspace("demo").begin(&order).await?;
    // Here the model answers. If it fails: `call.cancel().await?`.
    let used = [("input_tokens", 80), ("output_tokens", 210), ("reasoning_tokens", 40)];
    let settled = call.finish(used).await?;
    println!("It cost {} credits.", settled.captured);
    Ok(())
}
