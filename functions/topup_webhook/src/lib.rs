//! `POST /v1/webhooks/stripe`: applies Stripe's signed events. A payment adds credits; a refund or dispute claws them
//! back (M5).
//!
//! The function verifies the signature over the raw body before it parses anything. When it answers 200, the balance
//! includes the event's credits.

use credits_aws::secrets::Secrets;
use credits_aws::{Settings, StartError, dynamodb};
use credits_core::id::{Id, WorkspaceId};
use credits_core::payment::News;
use credits_payments::event::{self, CheckoutNews, Mode, NewMethod, StripeEvent};
use credits_payments::signature::{SignatureInvalid, verify};
use credits_runtime::{Answer, Call, Function, Problem, Route};
use credits_store::payments::Applied;
use credits_store::payments::methods::MethodStored;
use credits_store::payments::purchases::PurchaseState;
use credits_store::{Fault, Store};
use serde_json::json;

/// The calls of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookRoute {
    Stripe,
}

impl Route for WebhookRoute {
    const KEYS: &'static [(&'static str, Self)] = &[("POST /v1/webhooks/stripe", Self::Stripe)];

    /// Accepts any parameters: an operator may have added some to the webhook's address at Stripe.
    fn has_query(self) -> bool {
        true
    }
}

/// The webhook function with its store, its signing secrets, and the Stripe mode whose events it applies.
#[derive(Debug)]
pub struct TopUpWebhook {
    store: Store,
    secrets: Secrets,
    mode: Mode,
}

impl TopUpWebhook {
    /// Creates the function.
    #[must_use]
    pub fn new(store: Store, secrets: Secrets, mode: Mode) -> Self {
        Self { store, secrets, mode }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let secrets = Secrets::from_setting(settings.webhook_secret()?, settings)?;
        Ok(Self::new(dynamodb::store(settings)?, secrets, settings.provider_mode()))
    }

    async fn verify(&self, header: &str, body: &[u8]) -> Result<(), Problem> {
        let now = self.store.now();
        if verify(header, body, &self.secrets.active().await?, now).is_ok() {
            return Ok(());
        }
        // The secret may have been rotated since the function read it.
        Ok(verify(header, body, &self.secrets.reread().await?, now)?)
    }
}

impl Function for TopUpWebhook {
    type Route = WebhookRoute;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn answer(
        &self,
        WebhookRoute::Stripe: WebhookRoute,
        call: &Call,
        store: &Store,
    ) -> Result<Answer, Problem> {
        let body = call.raw_body()?;
        let header = call.header("stripe-signature").ok_or(SignatureInvalid)?;
        self.verify(header, body).await?;
        match event::read(body, self.mode)? {
            StripeEvent::Payment { payment_id, news } => apply(store, &payment_id, &news).await?,
            StripeEvent::Checkout { checkout_id, purchase_id, news } => {
                end_checkout(store, &checkout_id, &purchase_id, news).await?;
            }
            StripeEvent::Method(method) => choose_method(store, &method).await?,
            StripeEvent::Ignored(ignored) => {
                metrics::counter!("EventsIgnored", "Reason" => ignored.name()).increment(1);
            }
        }
        Ok(Answer::ok(&json!({ "received": true })))
    }
}

async fn apply(store: &Store, payment_id: &str, news: &News) -> Result<(), Fault> {
    match Box::pin(store.payments().apply(payment_id, news)).await? {
        Applied::Unmatched(reason) => {
            tracing::error!(payment_id, %reason, "a payment is unmatched and waits for an operator");
        }
        Applied::Changed => tracing::info!(payment_id, "a payment's event was applied"),
        Applied::Unchanged => {}
    }
    Ok(())
}

/// Records the state of an unpaid checkout. Ignores a checkout whose purchase id is not one of ours.
async fn end_checkout(
    store: &Store,
    checkout_id: &str,
    purchase_id: &str,
    news: CheckoutNews,
) -> Result<(), Fault> {
    let Ok(purchase_id) = purchase_id.parse::<Id>() else { return Ok(()) };
    let state = match news {
        CheckoutNews::Processing => PurchaseState::Processing,
        CheckoutNews::Failed => PurchaseState::Failed,
        CheckoutNews::Expired => PurchaseState::Expired,
    };
    store.subscriptions().end_checkout(&purchase_id, checkout_id, state).await
}

async fn choose_method(store: &Store, method: &NewMethod) -> Result<(), Fault> {
    let Ok(workspace) = method.workspace_id.parse::<WorkspaceId>() else { return Ok(()) };
    let at = method.at.unwrap_or_else(|| store.now());
    let chosen = method.payment_method.as_deref();
    match store.payment_methods().choose(&workspace, &method.customer, chosen, at).await? {
        MethodStored::Chosen => tracing::info!(%workspace, "a new payment method was stored"),
        MethodStored::Outdated => {}
        MethodStored::WorkspaceUnknown => {
            tracing::warn!(%workspace, "a payment method was stored for an unknown workspace");
        }
    }
    Ok(())
}
