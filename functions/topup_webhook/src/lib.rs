//! `POST /v1/webhooks/stripe`: a signed event tops a workspace up, or takes back what was refunded (M5).
//!
//! The signature is verified over the raw body before anything is parsed, and the credits are in the balance when the
//! answer is 200.

use credits_payments::event::{self, Event};
use credits_payments::signature::{SignatureInvalid, verify};
use credits_runtime::secrets::Secrets;
use credits_runtime::{Answer, Call, Function, Problem, Settings, StartError, start};
use credits_store::Store;
use credits_store::payments::Told;
use serde_json::json;

/// The function's routes, as template.yaml has them.
pub const ROUTES: [&str; 1] = ["POST /v1/webhooks/stripe"];

/// The function: a store and the signing secrets.
#[derive(Debug)]
pub struct TopUpWebhook {
    store: Store,
    secrets: Secrets,
}

impl TopUpWebhook {
    /// Puts the function together.
    #[must_use]
    pub fn new(store: Store, secrets: Secrets) -> Self {
        Self { store, secrets }
    }

    /// Puts the deployed function together.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let secrets = Secrets::from_setting(settings.webhook_secret()?, settings)?;
        Ok(Self::new(start::store(settings)?, secrets))
    }

    async fn verify(&self, header: &str, body: &[u8]) -> Result<(), Problem> {
        let now = self.store.now();
        if verify(header, body, &self.secrets.active().await?, now).is_ok() {
            return Ok(());
        }
        // A secret may have been rotated since it was read.
        Ok(verify(header, body, &self.secrets.reread().await?, now)?)
    }

    async fn tell(&self, call: &Call, event: Event) -> Result<(), Problem> {
        let Event::Payment { payment_id, news } = event else { return Ok(()) };
        match self.store.until(call.deadline()).tell(&payment_id, &news).await? {
            Told::Unmatched(reason) => {
                tracing::error!(payment_id, %reason, "a payment fits nothing and waits for an operator");
            }
            Told::Settled => tracing::info!(payment_id, "a payment was settled"),
            Told::Nothing => {}
        }
        Ok(())
    }
}

impl Function for TopUpWebhook {
    async fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        let body = call.raw_body()?;
        let header = call.header("stripe-signature").ok_or(SignatureInvalid)?;
        self.verify(header, body).await?;
        self.tell(call, event::read(body)?).await?;
        Ok(Answer::ok(&json!({ "received": true })))
    }
}
