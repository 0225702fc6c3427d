//! `PaymentMethods`: the stored payment methods of a customer.

use credits_core::purchase::StoredMethod;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::{Provider, ProviderError, StripeList};
use crate::signature::Secret;

/// A stored payment method with the details that people recognise. Details that its type lacks are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethod {
    /// The ids for a charge.
    pub stored: StoredMethod,
    /// Stripe's type, such as `card` or `sepa_debit`.
    pub kind: String,
    /// The card's brand, or the bank's name.
    pub brand: Option<String>,
    pub last4: Option<String>,
    /// The month in which the card expires, 1 to 12.
    pub exp_month: Option<u64>,
    pub exp_year: Option<u64>,
}

#[derive(Deserialize)]
struct MethodAnswer {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// The details are a member with the type's name.
    #[serde(flatten)]
    details: Map<String, Value>,
}

#[derive(Deserialize)]
struct Detached {}

impl Provider {
    /// Returns the payment method to charge: the chosen one while it is attached, else the one that was attached last.
    /// Returns `None` if the customer has no method or does not exist.
    ///
    /// Methods that can't be charged again are not attached. For a payment by iDEAL or Bancontact, Stripe attaches a
    /// SEPA debit instead, which is then the last one.
    pub async fn stored_method(
        &self,
        key: &Secret,
        customer: &str,
        chosen: Option<&str>,
    ) -> Result<Option<PaymentMethod>, ProviderError> {
        let path = format!("/v1/customers/{customer}/payment_methods");
        if let Some(chosen) = chosen {
            let request = self.get(key, &format!("{path}/{chosen}"), &[]);
            match self.answer::<MethodAnswer>(request).await {
                Ok(method) => return Ok(Some(method.of(customer))),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        let request = self.get(key, &path, &[("limit", "1".to_owned())]);
        match self.answer::<StripeList<MethodAnswer>>(request).await {
            Ok(page) => Ok(page.data.into_iter().next().map(|method| method.of(customer))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Detaches a payment method from its customer, so that it can no longer be charged.
    pub async fn detach(&self, key: &Secret, method: &StoredMethod) -> Result<(), ProviderError> {
        let path = format!("/v1/payment_methods/{}/detach", method.payment_method);
        match self.answer::<Detached>(self.post(key, &path, &[])).await {
            // Stripe refuses to detach a method that is unknown or not attached.
            Ok(Detached {}) | Err(ProviderError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl MethodAnswer {
    fn of(self, customer: &str) -> PaymentMethod {
        let details = self.details.get(&self.kind);
        let text = |name: &str| details.and_then(|it| it.get(name)?.as_str()).map(str::to_owned);
        let number = |name: &str| details.and_then(|it| it.get(name)?.as_u64());
        PaymentMethod {
            stored: StoredMethod { customer: customer.to_owned(), payment_method: self.id },
            brand: text("brand").or_else(|| text("bank_name")),
            last4: text("last4"),
            exp_month: number("exp_month"),
            exp_year: number("exp_year"),
            kind: self.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MethodAnswer;

    #[test]
    fn method_has_the_details_of_its_type() {
        let shown = |json: &str| {
            let method = serde_json::from_str::<MethodAnswer>(json).unwrap().of("cus_1");
            let text = |text: Option<String>| text.unwrap_or_default();
            (method.kind, text(method.brand), text(method.last4), method.exp_year)
        };
        let card = r#"{"id":"pm_1","type":"card","card":{"brand":"visa","last4":"4242","exp_month":8,"exp_year":2030}}"#;
        assert_eq!(shown(card), ("card".into(), "visa".into(), "4242".into(), Some(2030)));
        let sepa = r#"{"id":"pm_1","type":"sepa_debit","sepa_debit":{"bank_code":"370","last4":"3000"}}"#;
        assert_eq!(shown(sepa), ("sepa_debit".into(), String::new(), "3000".into(), None));
        let bank = r#"{"id":"pm_1","type":"us_bank_account","us_bank_account":{"bank_name":"STRIPE BANK","last4":"6789"}}"#;
        assert_eq!(shown(bank), ("us_bank_account".into(), "STRIPE BANK".into(), "6789".into(), None));
        assert_eq!(shown(r#"{"id":"pm_1","type":"link","link":{}}"#).0, "link");
    }
}
