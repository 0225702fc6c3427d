//! `PaymentIntents`: off-session charges of a stored payment method.

use std::collections::HashMap;
use std::time::Instant;

use credits_core::price::Unchargeable;
use credits_core::purchase::{Goods, Purchase, StoredMethod};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::client::{Provider, ProviderError, ProviderRefusal, StripeList, fields};
use crate::signature::Secret;

/// The outcome of a charge of a stored payment method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The charge is paid. Holds Stripe's id of the payment.
    Succeeded(String),
    /// The charge is processing. A bank debit takes days.
    Processing,
    /// The customer has to authenticate the charge, which requires a checkout.
    ActionRequired,
    /// The charge was declined. Holds Stripe's reason.
    Declined(String),
    /// Stripe no longer has the customer or the payment method.
    MethodGone,
}

/// The maximum difference between our clock and Stripe's. A charge is matched by its metadata, so the extra hour of
/// search is safe.
const CLOCK_DIFFERENCE_SECONDS: i64 = 3_600;

/// How long an idempotency key is relied on after the charge began. Stripe keeps a key for at least 24 hours.
const KEY_RETENTION: SignedDuration = SignedDuration::from_hours(20);

/// Returns whether Stripe may have forgotten the idempotency key of a charge.
#[must_use]
pub fn is_forgotten(begun_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(begun_at) > KEY_RETENTION
}

#[derive(Deserialize)]
struct Intent {
    id: String,
    status: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
    last_payment_error: Option<LastError>,
}

#[derive(Deserialize)]
struct LastError {
    code: Option<String>,
    decline_code: Option<String>,
}

/// Stripe's code for a charge that the customer has to authenticate.
const AUTHENTICATION_REQUIRED: &str = "authentication_required";

impl Provider {
    /// Charges a stored payment method for a purchase. Under one idempotency key, Stripe charges once and repeats its
    /// response.
    pub async fn charge(
        &self,
        key: &Secret,
        purchase: &Purchase,
        idempotency_key: &str,
        method: &StoredMethod,
    ) -> Result<ChargeOutcome, ProviderError> {
        let form = charge_form(purchase, method)?;
        let asked = Instant::now();
        let answered =
            self.answer::<Intent>(self.post_once(key, "/v1/payment_intents", idempotency_key, &form)).await;
        let took_micros = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
        metrics::histogram!("StepMicroseconds", "Step" => "Provider").record(took_micros);
        match answered {
            Ok(intent) => intent.outcome(),
            Err(ProviderError::Refused(refusal)) => refused(refusal),
            Err(error) => Err(error),
        }
    }

    /// Finds the charge of a purchase among those made since an instant.
    ///
    /// Stripe repeats a 500 under its idempotency key and forgets every key after a day. So the caller looks for a
    /// charge that may exist before it charges under another key.
    pub async fn find_charge(
        &self,
        key: &Secret,
        purchase: &Purchase,
        method: &StoredMethod,
        since: Timestamp,
    ) -> Result<Option<ChargeOutcome>, ProviderError> {
        let names = |made: &Intent| made.names("purchase_id", purchase.purchase_id.as_str());
        self.find_intent(key, method, since, &names).await
    }

    /// Finds the charge that paid for a subscription's period since an instant, whatever the id of its purchase. A
    /// charge that is still processing counts.
    pub async fn find_period(
        &self,
        key: &Secret,
        purchase: &Purchase,
        method: &StoredMethod,
        since: Timestamp,
    ) -> Result<Option<ChargeOutcome>, ProviderError> {
        let Goods::Period { subscription_id, period, .. } = &purchase.goods else { return Ok(None) };
        let period = period.to_string();
        let names = |made: &Intent| {
            made.names("subscription_id", subscription_id.as_str())
                && made.names("period", &period)
                && matches!(made.status.as_str(), "succeeded" | "processing")
        };
        self.find_intent(key, method, since, &names).await
    }

    async fn find_intent(
        &self,
        key: &Secret,
        method: &StoredMethod,
        since: Timestamp,
        fits: &(dyn Fn(&Intent) -> bool + Sync),
    ) -> Result<Option<ChargeOutcome>, ProviderError> {
        let since = since.as_second().saturating_sub(CLOCK_DIFFERENCE_SECONDS);
        let mut query = vec![
            ("customer", method.customer.clone()),
            ("created[gte]", since.to_string()),
            ("limit", "100".to_owned()),
        ];
        loop {
            let request = self.get(key, "/v1/payment_intents", &query);
            let page: StripeList<Intent> = match self.answer(request).await {
                Err(error) if error.is_missing() => return Ok(None),
                page => page?,
            };
            let last = page.data.last().map(|intent| intent.id.clone());
            if let Some(made) = page.data.into_iter().find(|intent| fits(intent)) {
                return made.outcome().map(Some);
            }
            let Some(last) = last.filter(|_| page.has_more) else { return Ok(None) };
            query.retain(|(name, _)| *name != "starting_after");
            query.push(("starting_after", last));
        }
    }
}

impl Intent {
    fn names(&self, name: &str, value: &str) -> bool {
        self.metadata.get(name).is_some_and(|named| named == value)
    }

    fn outcome(self) -> Result<ChargeOutcome, ProviderError> {
        match self.status.as_str() {
            "succeeded" => Ok(ChargeOutcome::Succeeded(self.id)),
            "processing" => Ok(ChargeOutcome::Processing),
            "requires_action" => Ok(ChargeOutcome::ActionRequired),
            "requires_payment_method" | "canceled" => {
                let error = self.last_payment_error;
                let reason = error.and_then(|error| error.decline_code.or(error.code));
                Ok(declined(reason.unwrap_or(self.status)))
            }
            _ => Err(ProviderError::Unsettled),
        }
    }
}

fn declined(reason: String) -> ChargeOutcome {
    if reason == AUTHENTICATION_REQUIRED {
        ChargeOutcome::ActionRequired
    } else {
        ChargeOutcome::Declined(reason)
    }
}

fn refused(refusal: Box<ProviderRefusal>) -> Result<ChargeOutcome, ProviderError> {
    if refusal.kind.as_deref() == Some("card_error") {
        let authenticates = refusal.code.as_deref() == Some(AUTHENTICATION_REQUIRED);
        let reason = if authenticates { AUTHENTICATION_REQUIRED } else { refusal.reason() };
        return Ok(declined(reason.to_owned()));
    }
    let of_method = matches!(refusal.param.as_deref(), Some("customer" | "payment_method"));
    if refusal.is_missing() && of_method {
        return Ok(ChargeOutcome::MethodGone);
    }
    Err(ProviderError::Refused(refusal))
}

/// Builds a payment's metadata. It identifies our events on a shared Stripe account, and a charge can be found by it.
pub(super) fn metadata(purchase: &Purchase, purchase_name: &'static str) -> Vec<(&'static str, String)> {
    let mut named = vec![("workspace_id", purchase.workspace_id.to_string())];
    named.push((purchase_name, purchase.purchase_id.to_string()));
    match &purchase.goods {
        Goods::Pack { .. } => {}
        Goods::Period { subscription_id, period, .. } => {
            named.push(("subscription_id", subscription_id.to_string()));
            named.push(("period", period.to_string()));
        }
        Goods::Upgrade { subscription_id, .. } => {
            named.push(("subscription_id", subscription_id.to_string()));
        }
    }
    named
}

/// Builds the form of `POST /v1/payment_intents` for an off-session charge. Methods that redirect can't be charged
/// off-session, and the pinned API version no longer has `payment_method_types`.
fn charge_form(purchase: &Purchase, method: &StoredMethod) -> Result<Vec<(String, String)>, Unchargeable> {
    let mut form = fields([
        ("amount", purchase.price.provider_amount()?.to_string()),
        ("currency", purchase.price.currency.as_str().to_ascii_lowercase()),
        ("customer", method.customer.clone()),
        ("payment_method", method.payment_method.clone()),
        ("automatic_payment_methods[enabled]", "true".into()),
        ("automatic_payment_methods[allow_redirects]", "never".into()),
        ("off_session", "true".into()),
        ("confirm", "true".into()),
        ("error_on_requires_action", "true".into()),
        ("description", purchase.goods.description()),
    ]);
    let named = metadata(purchase, "purchase_id").into_iter();
    form.extend(named.map(|(name, value)| (format!("metadata[{name}]"), value)));
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::{ChargeOutcome, Intent, charge_form, refused};
    use crate::provider::ProviderRefusal;
    use crate::provider::checkout::tests::{lines, price, purchase};
    use credits_core::purchase::{Goods, StoredMethod};
    use credits_core::subscription::Terms;

    #[test]
    fn m06_charge_form_has_the_method_and_metadata() {
        let (tier, monthly_credits) = ("tier_2k".parse().unwrap(), "2000".parse().unwrap());
        let goods = Goods::Period {
            subscription_id: "sub_1".parse().unwrap(),
            period: 2,
            terms: Terms { tier, monthly_credits, price: price() },
        };
        let method = StoredMethod { customer: "cus_1".into(), payment_method: "pm_1".into() };
        insta::assert_snapshot!(lines(&charge_form(&purchase("sub_1-2-p2", goods), &method).unwrap()), @r"
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
        metadata[purchase_id]=sub_1-2-p2
        metadata[subscription_id]=sub_1
        metadata[period]=2
        ");
    }

    #[test]
    fn intent_status_determines_the_charge_outcome() {
        let outcome = |json: &str| serde_json::from_str::<Intent>(json).unwrap().outcome();
        let succeeded = ChargeOutcome::Succeeded("pi_1".into());
        assert_eq!(outcome(r#"{"id":"pi_1","status":"succeeded"}"#).unwrap(), succeeded);
        let processing = r#"{"id":"pi_1","status":"processing"}"#;
        assert_eq!(outcome(processing).unwrap(), ChargeOutcome::Processing);
        let action = r#"{"id":"pi_1","status":"requires_action"}"#;
        assert_eq!(outcome(action).unwrap(), ChargeOutcome::ActionRequired);
        let unauthenticated = r#"{"id":"pi_1","status":"requires_payment_method",
            "last_payment_error":{"code":"authentication_required","decline_code":"authentication_required"}}"#;
        assert_eq!(outcome(unauthenticated).unwrap(), ChargeOutcome::ActionRequired);
        let canceled = r#"{"id":"pi_1","status":"canceled","last_payment_error":null}"#;
        assert_eq!(outcome(canceled).unwrap(), ChargeOutcome::Declined("canceled".into()));
        assert!(outcome(r#"{"id":"pi_1","status":"requires_capture"}"#).is_err());
    }

    #[test]
    fn charge_error_is_a_decline_a_missing_method_or_an_error() {
        let refusal = |kind: &str, code: &str, param: Option<&str>| {
            let text = |text: &str| Some(text.to_owned());
            let (kind, code, param) = (text(kind), text(code), param.map(str::to_owned));
            refused(Box::new(ProviderRefusal {
                status: 402,
                kind,
                code,
                param,
                ..ProviderRefusal::default()
            }))
        };
        let declined = refusal("card_error", "expired_card", None).unwrap();
        assert_eq!(declined, ChargeOutcome::Declined("expired_card".into()));
        let action = refusal("card_error", "authentication_required", None).unwrap();
        assert_eq!(action, ChargeOutcome::ActionRequired);
        let gone = refusal("invalid_request_error", "resource_missing", Some("customer")).unwrap();
        assert_eq!(gone, ChargeOutcome::MethodGone);
        assert!(refusal("invalid_request_error", "amount_too_small", Some("amount")).is_err());
    }
}
