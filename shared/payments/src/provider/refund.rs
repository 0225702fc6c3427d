//! Refunds: the requests that create and find them.

use std::collections::HashMap;

use credits_core::price::Price;
use credits_core::refund::RefundStatus;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Provider, ProviderError, StripeList, fields};
use crate::event::refund_status;
use crate::signature::Secret;

/// The metadata member that holds our id of the refund, by which [`Provider::find_refund`] finds it.
const NAME: &str = "refund_id";

/// A request to refund a part of a payment.
#[derive(Debug, Clone, Copy)]
pub struct PartialRefund<'a> {
    pub payment_id: &'a str,
    pub amount: Price,
    /// Our id of the refund, which its metadata carries.
    pub name: &'a str,
}

/// A refund in Stripe's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundedBy {
    /// Stripe's id of the refund. `None` if [`Provider::refund_all`] created none: the payment was refunded before or
    /// is disputed.
    pub refund_id: Option<String>,
    pub status: RefundStatus,
    /// When Stripe created the refund.
    pub made_at: Option<Timestamp>,
}

/// The reason why Stripe did not create a refund.
#[derive(Debug, thiserror::Error)]
pub enum RefundRefusal {
    /// The amount exceeds what is left of the payment.
    #[error("the refund exceeds what is left of the payment")]
    ExceedsPayment,
    /// The payment is disputed, and the dispute decides about the money.
    #[error("the payment is disputed")]
    Disputed,
    /// Stripe has no such payment.
    #[error("Stripe has no such payment")]
    PaymentMissing,
    /// Any other failure of the request.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

#[derive(Deserialize)]
struct RefundAnswer {
    id: String,
    status: Option<String>,
    created: Option<i64>,
    #[serde(default)]
    metadata: Option<HashMap<String, String>>,
}

impl Provider {
    /// Refunds all that is left of a payment. A repeated call refunds nothing more: Stripe refuses a payment that is
    /// fully refunded. While a dispute withholds the money, this refunds nothing and the dispute decides.
    pub async fn refund_all(&self, key: &Secret, payment_id: &str) -> Result<RefundedBy, ProviderError> {
        let form = fields([
            ("payment_intent", payment_id.to_owned()),
            ("reason", "requested_by_customer".to_owned()),
        ]);
        match self.answer::<RefundAnswer>(self.post(key, "/v1/refunds", &form)).await {
            Ok(answer) => Ok(answer.into()),
            Err(ProviderError::Refused(refusal))
                if matches!(refusal.code.as_deref(), Some("charge_already_refunded" | "charge_disputed")) =>
            {
                Ok(RefundedBy { refund_id: None, status: RefundStatus::Succeeded, made_at: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Refunds a part of a payment. Under one idempotency key, Stripe refunds once.
    pub async fn refund(
        &self,
        key: &Secret,
        order: PartialRefund<'_>,
        idempotency_key: &str,
    ) -> Result<RefundedBy, RefundRefusal> {
        let amount = order.amount.provider_refund().map_err(ProviderError::from)?;
        let mut form = fields([
            ("payment_intent", order.payment_id.to_owned()),
            ("amount", amount.to_string()),
            ("reason", "requested_by_customer".to_owned()),
        ]);
        form.push((format!("metadata[{NAME}]"), order.name.to_owned()));
        let request = self.post_once(key, "/v1/refunds", idempotency_key, &form);
        match self.answer::<RefundAnswer>(request).await {
            Ok(answer) => Ok(answer.into()),
            Err(ProviderError::Refused(refusal)) => {
                let exceeds = refusal.param.as_deref() == Some("amount");
                Err(match refusal.code.as_deref() {
                    Some("charge_disputed") => RefundRefusal::Disputed,
                    Some("charge_already_refunded") => RefundRefusal::ExceedsPayment,
                    _ if exceeds => RefundRefusal::ExceedsPayment,
                    _ if refusal.is_missing() => RefundRefusal::PaymentMissing,
                    _ => ProviderError::Refused(refusal).into(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the refund of a payment that carries our id.
    ///
    /// Stripe repeats a 500 under its idempotency key and forgets every key after a day. So the caller looks for a
    /// refund that may exist before it asks for it again.
    pub async fn find_refund(
        &self,
        key: &Secret,
        order: PartialRefund<'_>,
    ) -> Result<Option<RefundedBy>, ProviderError> {
        let mut query = vec![("payment_intent", order.payment_id.to_owned()), ("limit", "100".to_owned())];
        loop {
            let page: StripeList<RefundAnswer> = self.answer(self.get(key, "/v1/refunds", &query)).await?;
            let last = page.data.last().map(|refund| refund.id.clone());
            let mut made = page.data.into_iter();
            if let Some(made) = made.find(|refund| refund.name() == Some(order.name)) {
                return Ok(Some(made.into()));
            }
            let Some(last) = last.filter(|_| page.has_more) else { return Ok(None) };
            query.retain(|(name, _)| *name != "starting_after");
            query.push(("starting_after", last));
        }
    }
}

impl RefundAnswer {
    fn name(&self) -> Option<&str> {
        self.metadata.as_ref()?.get(NAME).map(String::as_str)
    }
}

impl From<RefundAnswer> for RefundedBy {
    fn from(answer: RefundAnswer) -> Self {
        let status = answer.status.as_deref().map_or(RefundStatus::Pending, refund_status);
        let made_at = answer.created.and_then(|created| Timestamp::from_second(created).ok());
        Self { refund_id: Some(answer.id), status, made_at }
    }
}
