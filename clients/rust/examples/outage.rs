#![expect(clippy::disallowed_methods, reason = "an example has no settings module and reads the environment")]

use std::env;
use std::time::Duration;

use ai_credits_client::{BoxError, Client, Consumer, Debit, DebitOrder, Error, Retry};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (missed, mut to_repeat) = mpsc::unbounded_channel();
    // Nothing listens there.
    let credits = Client::new("http://127.0.0.1:1", env::var("CREDITS_KEY")?)?
        .with_retry(Retry { deadline: Duration::from_secs(1), ..Retry::default() })
        .on_outage(move |outage| {
            let sent = missed.send(outage);
            async { Ok(sent?) }
        });
    let order =
        DebitOrder::of("text.generate", Consumer::action("assistant", "ada")).unit("input_tokens", 80);
    let result = credits.workspace("demo").create_debit(&order).await;
    assert!(matches!(result, Err(Error::Unavailable(_))));

    let credits = Client::new(&env::var("CREDITS_URL")?, env::var("CREDITS_KEY")?)?;
    let outage = to_repeat.try_recv()?;
    let request = credits.request::<Debit>(outage.method, &outage.path).body(outage.order);
    let debit = request.idempotency_key(outage.idempotency_key).await?;
    println!("It was made later, and cost {} credits.", debit.credits);
    Ok(())
}
