//! Opening a checkout at the provider.

use std::time::Duration;

use credits_core::top_up::{Checkout, TopUp};
use serde::Deserialize;

use crate::signature::Secret;

/// How long the provider may take: a caller is waiting.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The provider's API.
#[derive(Debug, Clone)]
pub struct Provider {
    http: reqwest::Client,
    base: String,
}

/// Where the payer comes back to.
#[derive(Debug, Clone)]
pub struct ReturnUrls {
    /// After paying.
    pub success: String,
    /// After turning back.
    pub cancel: String,
}

/// Why the provider opened no checkout.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It could not be reached, or its answer could not be read.
    #[error("the payment provider did not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It refused.
    #[error("the payment provider answered {0}")]
    Refused(u16),
}

#[derive(Deserialize)]
struct SessionAnswer {
    id: String,
    url: String,
}

impl Provider {
    /// A client of the provider at this base address, such as `https://api.stripe.com`.
    pub fn new(base: &str) -> Result<Self, ProviderError> {
        // It fails only where one is installed already, which will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let http = http.build().map_err(ProviderError::Unreachable)?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Opens a checkout for a top-up. The top-up's id is the provider's idempotency key, so asking again after a
    /// crash gives the same checkout.
    pub async fn open_checkout(
        &self,
        key: &Secret,
        top_up: &TopUp,
        urls: &ReturnUrls,
    ) -> Result<Checkout, ProviderError> {
        let request = self
            .http
            .post(format!("{}/v1/checkout/sessions", self.base))
            .bearer_auth(key.expose())
            .header("idempotency-key", top_up.top_up_id.as_str())
            .form(&checkout_form(top_up, urls));
        let response = request.send().await.map_err(ProviderError::Unreachable)?;
        if !response.status().is_success() {
            return Err(ProviderError::Refused(response.status().as_u16()));
        }
        let session: SessionAnswer = response.json().await.map_err(ProviderError::Unreachable)?;
        Ok(Checkout { checkout_id: session.id, checkout_url: session.url })
    }
}

/// The form of Stripe's `POST /v1/checkout/sessions` for one pack. The payment carries the same metadata as the
/// session, so that either of their events tells which top-up was paid.
fn checkout_form(top_up: &TopUp, urls: &ReturnUrls) -> Vec<(&'static str, String)> {
    let (workspace, id) = (top_up.workspace_id.to_string(), top_up.top_up_id.to_string());
    vec![
        ("mode", "payment".into()),
        ("client_reference_id", id.clone()),
        ("metadata[workspace_id]", workspace.clone()),
        ("metadata[top_up_id]", id.clone()),
        ("payment_intent_data[metadata][workspace_id]", workspace),
        ("payment_intent_data[metadata][top_up_id]", id),
        ("line_items[0][quantity]", "1".into()),
        ("line_items[0][price_data][currency]", top_up.price.currency.as_str().to_ascii_lowercase()),
        ("line_items[0][price_data][unit_amount]", top_up.price.amount_minor.to_string()),
        ("line_items[0][price_data][product_data][name]", format!("{} AI credits", top_up.credits)),
        ("success_url", urls.success.clone()),
        ("cancel_url", urls.cancel.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::{ReturnUrls, checkout_form};
    use credits_core::price::Price;
    use credits_core::top_up::TopUp;

    #[test]
    fn a_checkout_is_opened_for_the_catalogues_price_and_names_its_top_up() {
        let top_up = TopUp {
            top_up_id: "top_1".parse().unwrap(),
            workspace_id: "acme".parse().unwrap(),
            pack: "pack_1k".parse().unwrap(),
            credits: "1000".parse().unwrap(),
            price: Price { amount_minor: 900, currency: "USD".parse().unwrap() },
            checkout: None,
            paid_by: None,
        };
        let urls =
            ReturnUrls { success: "https://hub.test/ok".into(), cancel: "https://hub.test/back".into() };
        let form: Vec<String> = checkout_form(&top_up, &urls)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        insta::assert_snapshot!(form.join("\n"), @r"
        mode=payment
        client_reference_id=top_1
        metadata[workspace_id]=acme
        metadata[top_up_id]=top_1
        payment_intent_data[metadata][workspace_id]=acme
        payment_intent_data[metadata][top_up_id]=top_1
        line_items[0][quantity]=1
        line_items[0][price_data][currency]=usd
        line_items[0][price_data][unit_amount]=900
        line_items[0][price_data][product_data][name]=1000 AI credits
        success_url=https://hub.test/ok
        cancel_url=https://hub.test/back
        ");
    }
}
