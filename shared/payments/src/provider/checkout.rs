//! Checkout Sessions: Stripe's page on which a person pays or stores a payment method.

use credits_core::id::WorkspaceId;
use credits_core::price::{Currency, Unchargeable};
use credits_core::purchase::{Checkout, CheckoutForm, CheckoutOptions, Goods, Purchase};
use credits_core::top_up_page::TopUpPage;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::charge::metadata;
use super::client::{Provider, ProviderError, fields};
use crate::event::{self, StripeEvent};
use crate::signature::Secret;

/// The URLs to which Stripe sends a payer back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnUrls {
    /// The URL after the payment.
    pub success: String,
    /// The URL after the payer cancelled.
    pub cancel: String,
}

/// The input of a checkout that stores a payment method.
#[derive(Debug, Clone)]
pub struct SetupOrder<'a> {
    /// The workspace that pays by the method.
    pub workspace_id: &'a WorkspaceId,
    /// Stripe's id of the customer; if absent, Stripe creates one.
    pub customer: Option<&'a str>,
    /// The e-mail address that prefills the form if there is no customer yet.
    pub email: &'a str,
    /// The currency of later charges of the method.
    pub currency: Currency,
    pub urls: &'a ReturnUrls,
}

/// The status of a checkout at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckoutStatus {
    /// The checkout can still be paid.
    Open,
    /// The checkout timed out, was expired, or does not exist at Stripe.
    Expired,
    /// The payer completed the checkout. Holds the event that follows from it.
    Complete(Box<StripeEvent>),
}

#[derive(Deserialize)]
struct OpenedSession {
    id: String,
    url: String,
}

#[derive(Deserialize)]
struct Expired {}

impl SetupOrder<'_> {
    /// Derives Stripe's idempotency key from the caller's key and the form, because Stripe refuses one key with two
    /// forms.
    #[must_use]
    pub fn idempotency_key(&self, callers_key: &str) -> String {
        let form = setup_form(self).into_iter().flat_map(|(name, value)| [name, value]);
        let parts = form.chain([callers_key.to_owned()]);
        let mut digest = Sha256::new();
        parts.for_each(|part| {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        });
        format!("setup-{:x}", digest.finalize())
    }
}

impl ReturnUrls {
    /// Builds the URLs back to a page. The query parameter `top_up` has the outcome for the page: `paid` or
    /// `cancelled`.
    #[must_use]
    pub fn to(page: &str) -> Self {
        let (address, fragment) = page.split_once('#').unwrap_or((page, ""));
        let separator = if address.contains('?') { '&' } else { '?' };
        let hash = if fragment.is_empty() { "" } else { "#" };
        let back = |outcome: &str| format!("{address}{separator}top_up={outcome}{hash}{fragment}");
        Self { success: back("paid"), cancel: back("cancelled") }
    }

    /// Returns the URLs for a workspace: `{workspace}` is replaced by its id.
    #[must_use]
    pub fn of(&self, workspace: &WorkspaceId) -> Self {
        let url = |page: &String| TopUpPage::at(page.clone()).url_for(workspace.as_str());
        Self { success: url(&self.success), cancel: url(&self.cancel) }
    }
}

impl Provider {
    /// Opens a checkout for a purchase. Under one idempotency key with one form, Stripe opens one checkout.
    pub async fn open_checkout(
        &self,
        key: &Secret,
        purchase: &Purchase,
        idempotency_key: &str,
        form: &CheckoutForm,
    ) -> Result<Checkout, ProviderError> {
        let form = checkout_form(purchase, form)?;
        let request = self.post_once(key, "/v1/checkout/sessions", idempotency_key, &form);
        let OpenedSession { id, url } = self.answer(request).await?;
        Ok(Checkout { checkout_id: id, checkout_url: url })
    }

    /// Opens a checkout that stores a payment method and charges nothing. After a 5xx it opens another without an
    /// idempotency key: no payer sees the first, and Stripe repeats the failure under its key.
    pub async fn open_setup(
        &self,
        key: &Secret,
        order: &SetupOrder<'_>,
        idempotency_key: &str,
    ) -> Result<Checkout, ProviderError> {
        let (path, form) = ("/v1/checkout/sessions", setup_form(order));
        let OpenedSession { id, url } =
            match self.answer(self.post_once(key, path, idempotency_key, &form)).await {
                Err(ProviderError::Failed(_)) => self.answer(self.post(key, path, &form)).await?,
                opened => opened?,
            };
        Ok(Checkout { checkout_id: id, checkout_url: url })
    }

    /// Returns whether Stripe refused a checkout because its customer no longer exists. The checkout can then be opened
    /// for a new customer.
    #[must_use]
    pub fn lacks_customer(error: &ProviderError) -> bool {
        match error {
            ProviderError::Refused(refusal) => {
                refusal.is_missing() && refusal.param.as_deref() == Some("customer")
            }
            _ => false,
        }
    }

    /// Returns the status of a checkout.
    pub async fn checkout(&self, key: &Secret, checkout_id: &str) -> Result<CheckoutStatus, ProviderError> {
        let request = self.get(
            key,
            &format!("/v1/checkout/sessions/{checkout_id}"),
            &[("expand[]", "payment_intent".to_owned())],
        );
        let session: Value = match self.answer(request).await {
            Err(error) if error.is_missing() => return Ok(CheckoutStatus::Expired),
            session => session?,
        };
        match session["status"].as_str() {
            Some("open") => Ok(CheckoutStatus::Open),
            Some("expired") => Ok(CheckoutStatus::Expired),
            _ => {
                let event = event::of_session(&session).map_err(|_| ProviderError::Unsettled)?;
                Ok(CheckoutStatus::Complete(Box::new(event)))
            }
        }
    }

    /// Expires a checkout, so that it can no longer be paid. A complete or expired checkout stays unchanged.
    pub async fn expire_checkout(&self, key: &Secret, checkout_id: &str) -> Result<(), ProviderError> {
        let path = format!("/v1/checkout/sessions/{checkout_id}/expire");
        match self.answer::<Expired>(self.post(key, &path, &[])).await {
            Ok(Expired {}) | Err(ProviderError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Builds the form of `POST /v1/checkout/sessions` for one purchase.
///
/// The payment carries the same metadata as the session, so that the events of either name the purchase. The form
/// offers only payment methods that can be charged off-session later. Stripe does not convert the price.
fn checkout_form(purchase: &Purchase, form: &CheckoutForm) -> Result<Vec<(String, String)>, Unchargeable> {
    let mut sent = fields([
        ("mode", "payment".into()),
        ("client_reference_id", purchase.purchase_id.to_string()),
        ("payment_intent_data[setup_future_usage]", "off_session".into()),
        ("payment_intent_data[description]", purchase.goods.description()),
        ("line_items[0][quantity]", "1".into()),
        ("line_items[0][price_data][currency]", purchase.price.currency.as_str().to_ascii_lowercase()),
        ("line_items[0][price_data][unit_amount]", purchase.price.provider_amount()?.to_string()),
        ("line_items[0][price_data][product_data][name]", purchase.goods.description()),
        ("adaptive_pricing[enabled]", "false".into()),
        ("success_url", form.success_url.clone()),
        ("cancel_url", form.cancel_url.clone()),
    ]);
    // The contract names the purchase id of a top-up `top_up_id`.
    let named = if matches!(purchase.goods, Goods::Pack { .. }) { "top_up_id" } else { "purchase_id" };
    for (name, value) in metadata(purchase, named) {
        sent.push((format!("metadata[{name}]"), value.clone()));
        sent.push((format!("payment_intent_data[metadata][{name}]"), value));
    }
    sent.extend(payer(form.customer.as_deref(), form.email.as_deref()));
    if matches!(purchase.goods, Goods::Pack { .. }) {
        sent.extend(options(form.options, form.customer.as_deref()));
    }
    Ok(sent)
}

/// Builds the payer's fields: a known customer, or a new one with a prefilled e-mail address.
fn payer(customer: Option<&str>, email: Option<&str>) -> Vec<(String, String)> {
    let Some(customer) = customer else {
        let email = email.map(|email| ("customer_email".to_owned(), email.to_owned()));
        let new = ("customer_creation".to_owned(), "always".to_owned());
        return std::iter::once(new).chain(email).collect();
    };
    vec![("customer".to_owned(), customer.to_owned())]
}

/// Builds the fields of the enabled options. For a known customer, Stripe also needs permission to update the address
/// and name.
fn options(options: CheckoutOptions, customer: Option<&str>) -> Vec<(String, String)> {
    let CheckoutOptions { automatic_tax, tax_id_collection, allow_promotion_codes } = options;
    let asked = [
        ("automatic_tax[enabled]", automatic_tax, "true"),
        ("customer_update[address]", automatic_tax && customer.is_some(), "auto"),
        ("tax_id_collection[enabled]", tax_id_collection, "true"),
        ("customer_update[name]", tax_id_collection && customer.is_some(), "auto"),
        ("allow_promotion_codes", allow_promotion_codes, "true"),
    ];
    let switched_on = asked.into_iter().filter(|(_, on, _)| *on);
    switched_on.map(|(name, _, value)| (name.to_owned(), value.to_owned())).collect()
}

fn setup_form(order: &SetupOrder<'_>) -> Vec<(String, String)> {
    let workspace = order.workspace_id.to_string();
    let mut sent = fields([
        ("mode", "setup".into()),
        ("currency", order.currency.as_str().to_ascii_lowercase()),
        ("client_reference_id", workspace.clone()),
        ("metadata[workspace_id]", workspace.clone()),
        ("setup_intent_data[metadata][workspace_id]", workspace),
        ("success_url", order.urls.success.clone()),
        ("cancel_url", order.urls.cancel.clone()),
    ]);
    sent.extend(payer(order.customer, Some(order.email)));
    sent
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ReturnUrls, SetupOrder, checkout_form, setup_form};
    use credits_core::price::Price;
    use credits_core::purchase::{CheckoutForm, CheckoutOptions, Goods, Purchase};
    use jiff::Timestamp;

    pub fn purchase(id: &str, goods: Goods) -> Purchase {
        Purchase {
            purchase_id: id.parse().unwrap(),
            workspace_id: "acme".parse().unwrap(),
            goods,
            price: price(),
            begun_at: Timestamp::UNIX_EPOCH,
        }
    }

    pub fn price() -> Price {
        Price { amount_minor: 900, currency: "USD".parse().unwrap() }
    }

    pub fn lines(form: &[(String, String)]) -> String {
        form.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
    }

    fn pack() -> Goods {
        Goods::Pack { pack: "pack_1k".parse().unwrap(), credits: "1000".parse().unwrap() }
    }

    fn form() -> CheckoutForm {
        CheckoutForm {
            customer: None,
            email: Some("billing@acme.example".into()),
            success_url: "https://hub.test/ok".into(),
            cancel_url: "https://hub.test/back".into(),
            options: CheckoutOptions::default(),
        }
    }

    #[test]
    fn m05_checkout_form_has_the_price_and_the_top_up_id() {
        insta::assert_snapshot!(lines(&checkout_form(&purchase("top_1", pack()), &form()).unwrap()), @r"
        mode=payment
        client_reference_id=top_1
        payment_intent_data[setup_future_usage]=off_session
        payment_intent_data[description]=1000 AI credits
        line_items[0][quantity]=1
        line_items[0][price_data][currency]=usd
        line_items[0][price_data][unit_amount]=900
        line_items[0][price_data][product_data][name]=1000 AI credits
        adaptive_pricing[enabled]=false
        success_url=https://hub.test/ok
        cancel_url=https://hub.test/back
        metadata[workspace_id]=acme
        payment_intent_data[metadata][workspace_id]=acme
        metadata[top_up_id]=top_1
        payment_intent_data[metadata][top_up_id]=top_1
        customer_creation=always
        customer_email=billing@acme.example
        ");
    }

    #[test]
    fn checkout_form_has_the_customer_and_enabled_options() {
        let all =
            CheckoutOptions { automatic_tax: true, tax_id_collection: true, allow_promotion_codes: true };
        let known = CheckoutForm { customer: Some("cus_1".into()), options: all, ..form() };
        let sent = lines(&checkout_form(&purchase("top_1", pack()), &known).unwrap());
        let (_, end) = sent.split_once("payment_intent_data[metadata][top_up_id]=top_1\n").unwrap();
        insta::assert_snapshot!(end, @r"
        customer=cus_1
        automatic_tax[enabled]=true
        customer_update[address]=auto
        tax_id_collection[enabled]=true
        customer_update[name]=auto
        allow_promotion_codes=true
        ");
    }

    #[test]
    fn setup_form_charges_nothing() {
        let urls = ReturnUrls::to("https://hub.test/credits?tab=billing#top");
        let workspace = "acme".parse().unwrap();
        let order = SetupOrder {
            workspace_id: &workspace,
            customer: None,
            email: "billing@acme.example",
            currency: price().currency,
            urls: &urls,
        };
        insta::assert_snapshot!(lines(&setup_form(&order)), @r"
        mode=setup
        currency=usd
        client_reference_id=acme
        metadata[workspace_id]=acme
        setup_intent_data[metadata][workspace_id]=acme
        success_url=https://hub.test/credits?tab=billing&top_up=paid#top
        cancel_url=https://hub.test/credits?tab=billing&top_up=cancelled#top
        customer_creation=always
        customer_email=billing@acme.example
        ");
    }
}
