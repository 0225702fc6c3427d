#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;

use ai_credits_client::{BoxError, Client, Consumer, HoldOrder};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    // The most that the call may use.
    let order = HoldOrder::of("text.generate", Consumer::action("assistant", "ada"))
        .model("standard")
        .unit("input_tokens", 100)
        .unit("output_tokens", 500);
    let workspace = credits.workspace("demo");
    let answer = workspace
        .gate(&order, |call| async move {
            let answer = ask_the_model("Say hello.").await?;
            call.record([("input_tokens", answer.input_tokens), ("output_tokens", answer.output_tokens)]);
            Ok::<_, BoxError>(answer.text)
        })
        .await?;
    println!("{answer}");
    Ok(())
}

struct Answer {
    text: String,
    input_tokens: u64,
    output_tokens: u64,
}

/// Stands for the client of your model's provider.
async fn ask_the_model(prompt: &str) -> Result<Answer, BoxError> {
    tokio::task::yield_now().await;
    Ok(Answer { text: format!("{prompt} Hello!"), input_tokens: 80, output_tokens: 210 })
}
