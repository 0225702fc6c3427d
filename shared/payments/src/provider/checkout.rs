//! Checkout Sessions: Stripe's page on which a person pays, or stores another payment method.

use credits_core::id::WorkspaceId;
use credits_core::price::{Currency, Unchargeable};
use credits_core::purchase::{Checkout, CheckoutForm, CheckoutOptions, Goods, Purchase};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::charge::metadata;
use super::{Provider, ProviderError, fields};
use crate::event::{self, Event};
use crate::signature::Secret;

/// Where Stripe sends a payer back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnUrls {
    /// After paying.
    pub success: String,
    /// After turning back.
    pub cancel: String,
}

/// What a checkout that stores a payment method is opened with.
#[derive(Debug, Clone)]
pub struct SetupOrder<'a> {
    /// The workspace that will be charged.
    pub workspace_id: &'a WorkspaceId,
    /// The customer who stores it; Stripe makes a new one if absent.
    pub customer: Option<&'a str>,
    /// The address that the form is prefilled with where there is no customer yet.
    pub email: &'a str,
    /// The currency in which the method will be charged.
    pub currency: Currency,
    /// Where Stripe sends the person back to.
    pub urls: &'a ReturnUrls,
}

/// How a checkout stands at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckoutStatus {
    /// It can still be paid.
    Open,
    /// Its time has run out, or it was expired.
    Expired,
    /// It was completed, and this follows from it.
    Complete(Box<Event>),
}

#[derive(Deserialize)]
struct OpenedSession {
    id: String,
    url: String,
}

#[derive(Deserialize)]
struct Expired {}

impl SetupOrder<'_> {
    /// Stripe's idempotency key for the caller's: a form of its own has a key of its own.
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
    /// Back to this page, which learns the outcome from `top_up` in the query.
    #[must_use]
    pub fn to(page: &str) -> Self {
        let (address, fragment) = page.split_once('#').unwrap_or((page, ""));
        let separator = if address.contains('?') { '&' } else { '?' };
        let hash = if fragment.is_empty() { "" } else { "#" };
        let back = |outcome: &str| format!("{address}{separator}top_up={outcome}{hash}{fragment}");
        Self { success: back("paid"), cancel: back("cancelled") }
    }
}

impl Provider {
    /// Opens a checkout for a purchase. However often it is asked under one idempotency key and with one form, Stripe opens
    /// one.
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

    /// Opens a checkout that stores a payment method and charges nothing. Where Stripe has failed, another is opened: the first
    /// is shown to no one, and the failure is kept under its key.
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

    /// Whether a refusal of a checkout says that its customer is gone, so that it may be opened for a new one.
    #[must_use]
    pub fn lacks_customer(error: &ProviderError) -> bool {
        match error {
            ProviderError::Refused(refusal) => {
                refusal.is_missing() && refusal.param.as_deref() == Some("customer")
            }
            _ => false,
        }
    }

    /// Asks how a checkout stands.
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

    /// Expires a checkout, so that it can't be paid any more. One that is complete or has expired stays as it is.
    pub async fn expire_checkout(&self, key: &Secret, checkout_id: &str) -> Result<(), ProviderError> {
        let path = format!("/v1/checkout/sessions/{checkout_id}/expire");
        match self.answer::<Expired>(self.post(key, &path, &[])).await {
            Ok(Expired {}) | Err(ProviderError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The form of `POST /v1/checkout/sessions` for one purchase. The payment carries the same metadata as the session, so that
/// either of their events says what was paid. Only methods are offered that can be charged again off-session, and Stripe
/// does not convert the price.
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
    // A top-up's purchase goes by a name of its own in the contract.
    let named = if matches!(purchase.goods, Goods::Pack { .. }) { "top_up_id" } else { "purchase_id" };
    for (name, value) in metadata(purchase, named) {
        sent.push((format!("metadata[{name}]"), value.clone()));
        sent.push((format!("payment_intent_data[metadata][{name}]"), value));
    }
    sent.extend(payer(form.customer.as_deref(), form.email.as_deref()));
    if matches!(purchase.goods, Goods::Pack { .. }) {
        sent.extend(options(form.options, form.customer.is_some()));
    }
    Ok(sent)
}

/// Who pays: a known customer, or a new one, whose address is prefilled.
fn payer(customer: Option<&str>, email: Option<&str>) -> Vec<(String, String)> {
    let Some(customer) = customer else {
        let email = email.map(|email| ("customer_email".to_owned(), email.to_owned()));
        let new = ("customer_creation".to_owned(), "always".to_owned());
        return std::iter::once(new).chain(email).collect();
    };
    vec![("customer".to_owned(), customer.to_owned())]
}

/// What the operator has switched on. Stripe needs leave to keep a known customer's address and name for it.
fn options(options: CheckoutOptions, known: bool) -> Vec<(String, String)> {
    let CheckoutOptions { automatic_tax, tax_id_collection, allow_promotion_codes } = options;
    let asked = [
        ("automatic_tax[enabled]", automatic_tax, "true"),
        ("customer_update[address]", automatic_tax && known, "auto"),
        ("tax_id_collection[enabled]", tax_id_collection, "true"),
        ("customer_update[name]", tax_id_collection && known, "auto"),
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
    fn m05_a_checkout_has_the_price_and_names_its_top_up() {
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
    fn a_known_customer_and_what_is_switched_on_are_sent() {
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
    fn a_checkout_that_stores_a_method_charges_nothing() {
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
