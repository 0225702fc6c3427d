//! What we ask of the provider: a checkout, the card that it stored, and a charge of that card.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use credits_core::price::Unchargeable;
use credits_core::purchase::{Card, Checkout, Goods, Purchase};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::signature::Secret;
use crate::transport::{Transport, Unreachable};

/// The version of Stripe's API that the client is written against.
const API_VERSION: &str = "2026-10-28.endive";

/// How long the provider may take: a caller is waiting.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The provider's API.
#[derive(Debug, Clone)]
pub struct Provider {
    http: reqwest::Client,
    transport: Arc<dyn Transport>,
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

/// How a charge of a stored card ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// It is paid, by this payment.
    Succeeded(String),
    /// The card was declined.
    Declined,
}

impl ReturnUrls {
    /// Back to where people add credits.
    #[must_use]
    pub fn to(page: &str) -> Self {
        let back = |outcome: &str| format!("{page}?top_up={outcome}");
        Self { success: back("paid"), cancel: back("cancelled") }
    }
}

/// Why the provider did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It could not be reached, or its answer could not be read.
    #[error("the payment provider did not answer")]
    Unreachable(#[from] Unreachable),
    /// It refused.
    #[error("the payment provider answered {0}")]
    Refused(u16),
    /// It took a charge, and doesn't know yet how it ends.
    #[error("the payment provider has not settled the charge")]
    Unsettled,
    /// Stripe can't charge the price, so it was not asked.
    #[error(transparent)]
    Unchargeable(#[from] Unchargeable),
}

impl ProviderError {
    /// Whether asking again later may help: the provider is down, busy, or at it.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unsettled => true,
            Self::Refused(status) => matches!(status, 409 | 429 | 500..),
            Self::Unchargeable(_) => false,
        }
    }
}

#[derive(Deserialize)]
struct SessionAnswer {
    id: String,
    url: String,
}

#[derive(Deserialize)]
struct ListAnswer<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct MethodAnswer {
    id: String,
}

#[derive(Deserialize)]
struct IntentAnswer {
    id: String,
    status: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
struct FailedAnswer {
    error: FailedError,
}

#[derive(Deserialize)]
struct FailedError {
    #[serde(rename = "type")]
    kind: String,
}

impl Provider {
    /// A client of the provider at this base address, such as `https://api.stripe.com`.
    pub fn new(base: &str) -> Result<Self, ProviderError> {
        // It fails only where one is installed already, which will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let http = http.build().map_err(Unreachable::from)?;
        Ok(Self { transport: Arc::new(http.clone()), http, base: base.trim_end_matches('/').to_owned() })
    }

    /// The same over another transport.
    #[must_use]
    pub fn over(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Unreachable> {
        self.transport.send(request.header("stripe-version", API_VERSION).build()?).await
    }

    async fn answered<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ProviderError> {
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(ProviderError::Refused(response.status().as_u16()));
        }
        Ok(response.json().await.map_err(Unreachable::from)?)
    }

    /// Opens a checkout for a purchase. The purchase's id is the provider's idempotency key, so asking again after a
    /// crash gives the same checkout. Paying it stores the card with the customer, who is made if there is none yet.
    pub async fn open_checkout(
        &self,
        key: &Secret,
        purchase: &Purchase,
        customer: Option<&str>,
        urls: &ReturnUrls,
    ) -> Result<Checkout, ProviderError> {
        let request = self
            .http
            .post(format!("{}/v1/checkout/sessions", self.base))
            .bearer_auth(key.expose())
            .header("idempotency-key", purchase.purchase_id.as_str())
            .form(&checkout_form(purchase, customer, urls)?);
        let session: SessionAnswer = self.answered(request).await?;
        Ok(Checkout { checkout_id: session.id, checkout_url: session.url })
    }

    /// The card that the customer stored last; `None` where there is none, or no such customer any more.
    pub async fn card(&self, key: &Secret, customer: &str) -> Result<Option<Card>, ProviderError> {
        let url = format!("{}/v1/customers/{customer}/payment_methods?limit=1", self.base);
        let listed =
            self.answered::<ListAnswer<MethodAnswer>>(self.http.get(url).bearer_auth(key.expose())).await;
        let methods = match listed {
            Err(ProviderError::Refused(404)) => return Ok(None),
            listed => listed?.data,
        };
        let card = |method: MethodAnswer| Card { customer: customer.to_owned(), payment_method: method.id };
        Ok(methods.into_iter().next().map(card))
    }

    /// Charges a stored card for a purchase, whose id is the provider's idempotency key: however often it is asked, it
    /// charges once, and answers the same.
    pub async fn charge(
        &self,
        key: &Secret,
        purchase: &Purchase,
        card: &Card,
    ) -> Result<Charged, ProviderError> {
        let request = self
            .http
            .post(format!("{}/v1/payment_intents", self.base))
            .bearer_auth(key.expose())
            .header("idempotency-key", purchase.purchase_id.as_str())
            .form(&charge_form(purchase, card)?);
        let asked = Instant::now();
        let response = self.send(request).await;
        let took_micros = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
        metrics::histogram!("StepMicroseconds", "Step" => "Provider").record(took_micros);
        let response = response?;
        let status = response.status().as_u16();
        if status == 402 {
            let failed: FailedAnswer = response.json().await.map_err(Unreachable::from)?;
            let declined = failed.error.kind == "card_error";
            return if declined { Ok(Charged::Declined) } else { Err(ProviderError::Refused(status)) };
        }
        if !response.status().is_success() {
            return Err(ProviderError::Refused(status));
        }
        settled(response.json().await.map_err(Unreachable::from)?)
    }

    /// The charge that was made for a purchase, if there is one. The provider forgets an idempotency key after a day,
    /// so one that may have been made since an instant further back is looked for before it is asked for again.
    pub async fn find_charge(
        &self,
        key: &Secret,
        purchase: &Purchase,
        (card, since): (&Card, Timestamp),
    ) -> Result<Option<Charged>, ProviderError> {
        let since = since.as_second().saturating_sub(CLOCKS_DIFFER_BY_SECONDS);
        let url = format!(
            "{}/v1/payment_intents?customer={}&limit=100&created[gte]={since}",
            self.base, card.customer
        );
        let made: ListAnswer<IntentAnswer> =
            self.answered(self.http.get(url).bearer_auth(key.expose())).await?;
        let named = |made: &IntentAnswer| {
            made.metadata.get("purchase_id").is_some_and(|id| id == purchase.purchase_id.as_str())
        };
        made.data.into_iter().find(named).map(settled).transpose()
    }
}

/// How far our clock and the provider's may be apart. A charge is known by its purchase's id, so it costs nothing to look
/// further back.
const CLOCKS_DIFFER_BY_SECONDS: i64 = 3_600;

/// How long after a charge was begun the provider still knows its idempotency key: it says a day at least.
const KEY_LASTS: jiff::SignedDuration = jiff::SignedDuration::from_hours(20);

/// Whether the provider may have forgotten the idempotency key of a charge.
#[must_use]
pub fn is_forgotten(begun_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(begun_at) > KEY_LASTS
}

fn settled(intent: IntentAnswer) -> Result<Charged, ProviderError> {
    match intent.status.as_str() {
        "succeeded" => Ok(Charged::Succeeded(intent.id)),
        "requires_payment_method" | "requires_action" | "canceled" => Ok(Charged::Declined),
        _ => Err(ProviderError::Unsettled),
    }
}

/// The name under which a purchase's id stands in a payment's metadata.
fn reference(purchase: &Purchase) -> &'static str {
    if matches!(purchase.goods, Goods::Pack { .. }) { "top_up_id" } else { "purchase_id" }
}

/// The form of Stripe's `POST /v1/checkout/sessions` for one purchase. The payment carries the same metadata as the
/// session, so that either of their events tells what was paid.
fn checkout_form(
    purchase: &Purchase,
    customer: Option<&str>,
    urls: &ReturnUrls,
) -> Result<Vec<(String, String)>, Unchargeable> {
    let (workspace, id) = (purchase.workspace_id.to_string(), purchase.purchase_id.to_string());
    let named = reference(purchase);
    let payer = match customer {
        Some(customer) => ("customer".to_owned(), customer.to_owned()),
        None => ("customer_creation".to_owned(), "always".to_owned()),
    };
    let fixed = [
        ("mode", "payment".into()),
        ("client_reference_id", id.clone()),
        ("metadata[workspace_id]", workspace.clone()),
        ("payment_intent_data[metadata][workspace_id]", workspace),
        ("payment_intent_data[setup_future_usage]", "off_session".into()),
        ("line_items[0][quantity]", "1".into()),
        ("line_items[0][price_data][currency]", purchase.price.currency.as_str().to_ascii_lowercase()),
        ("line_items[0][price_data][unit_amount]", purchase.price.provider_amount()?.to_string()),
        ("line_items[0][price_data][product_data][name]", purchase.goods.description()),
        ("success_url", urls.success.clone()),
        ("cancel_url", urls.cancel.clone()),
    ];
    let mut form: Vec<(String, String)> =
        fixed.into_iter().map(|(name, value): (_, String)| (name.to_owned(), value)).collect();
    form.push((format!("metadata[{named}]"), id.clone()));
    form.push((format!("payment_intent_data[metadata][{named}]"), id));
    form.push(payer);
    Ok(form)
}

/// The form of Stripe's `POST /v1/payment_intents` for a charge while nobody is there to answer a question.
fn charge_form(purchase: &Purchase, card: &Card) -> Result<Vec<(&'static str, String)>, Unchargeable> {
    Ok(vec![
        ("amount", purchase.price.provider_amount()?.to_string()),
        ("currency", purchase.price.currency.as_str().to_ascii_lowercase()),
        ("customer", card.customer.clone()),
        ("payment_method", card.payment_method.clone()),
        ("automatic_payment_methods[enabled]", "true".into()),
        ("automatic_payment_methods[allow_redirects]", "never".into()),
        ("off_session", "true".into()),
        ("confirm", "true".into()),
        ("error_on_requires_action", "true".into()),
        ("description", purchase.goods.description()),
        ("metadata[workspace_id]", purchase.workspace_id.to_string()),
        ("metadata[purchase_id]", purchase.purchase_id.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::{ReturnUrls, charge_form, checkout_form};
    use credits_core::price::Price;
    use credits_core::purchase::{Card, Goods, Purchase};
    use credits_core::subscription::Terms;
    use jiff::Timestamp;

    fn purchase(id: &str, goods: Goods) -> Purchase {
        Purchase {
            purchase_id: id.parse().unwrap(),
            workspace_id: "acme".parse().unwrap(),
            goods,
            price: price(),
            begun_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn price() -> Price {
        Price { amount_minor: 900, currency: "USD".parse().unwrap() }
    }

    fn lines(form: &[(impl AsRef<str>, String)]) -> String {
        let lines = form.iter().map(|(name, value)| format!("{}={value}", name.as_ref()));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_checkout_is_opened_for_the_catalogues_price_and_names_its_top_up() {
        let pack = Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() };
        let urls =
            ReturnUrls { success: "https://hub.test/ok".into(), cancel: "https://hub.test/back".into() };
        insta::assert_snapshot!(lines(&checkout_form(&purchase("top_1", pack), None, &urls).unwrap()), @r"
        mode=payment
        client_reference_id=top_1
        metadata[workspace_id]=acme
        payment_intent_data[metadata][workspace_id]=acme
        payment_intent_data[setup_future_usage]=off_session
        line_items[0][quantity]=1
        line_items[0][price_data][currency]=usd
        line_items[0][price_data][unit_amount]=900
        line_items[0][price_data][product_data][name]=1000 AI credits
        success_url=https://hub.test/ok
        cancel_url=https://hub.test/back
        metadata[top_up_id]=top_1
        payment_intent_data[metadata][top_up_id]=top_1
        customer_creation=always
        ");
    }

    #[test]
    fn m06_a_stored_card_is_charged_with_nobody_there_and_names_its_purchase() {
        let (tier, monthly_credits) = ("tier_2k".parse().unwrap(), "2000".parse().unwrap());
        let goods = Goods::Period {
            subscription_id: "sub_1".parse().unwrap(),
            period: 2,
            terms: Terms { tier, monthly_credits, price: price() },
        };
        let card = Card { customer: "cus_1".into(), payment_method: "pm_1".into() };
        insta::assert_snapshot!(lines(&charge_form(&purchase("sub_1-2-0", goods), &card).unwrap()), @r"
        amount=900
        currency=usd
        customer=cus_1
        payment_method=pm_1
        automatic_payment_methods[enabled]=true
        automatic_payment_methods[allow_redirects]=never
        off_session=true
        confirm=true
        error_on_requires_action=true
        description=2000 AI credits a month
        metadata[workspace_id]=acme
        metadata[purchase_id]=sub_1-2-0
        ");
    }

    #[test]
    fn both_forms_state_the_price_in_stripes_unit() {
        let urls = ReturnUrls { success: String::new(), cancel: String::new() };
        let card = Card { customer: "cus_1".into(), payment_method: "pm_1".into() };
        let pack = || Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() };
        for (code, amount_minor, sent) in [("UGX", 37_000, "3700000"), ("MGA", 37_000, "370")] {
            let price = Price { amount_minor, currency: code.parse().unwrap() };
            let purchase = Purchase { price, ..purchase("top_1", pack()) };
            let checkout = lines(&checkout_form(&purchase, None, &urls).unwrap());
            assert!(checkout.contains(&format!("[unit_amount]={sent}\n")), "{checkout}");
            let charge = lines(&charge_form(&purchase, &card).unwrap());
            assert!(charge.starts_with(&format!("amount={sent}\n")), "{charge}");
        }
    }

    #[test]
    fn a_price_that_stripe_cannot_charge_is_not_sent() {
        let price = Price { amount_minor: 1_605, currency: "KWD".parse().unwrap() };
        let pack = Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() };
        let purchase = Purchase { price, ..purchase("top_1", pack) };
        let card = Card { customer: "cus_1".into(), payment_method: "pm_1".into() };
        let refused = charge_form(&purchase, &card).unwrap_err();
        assert_eq!(refused, price.check_chargeable().unwrap_err());
    }
}
