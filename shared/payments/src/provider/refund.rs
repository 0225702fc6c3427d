//! Refunds that we start.

use std::collections::HashMap;

use credits_core::price::Price;
use credits_core::refund::RefundStatus;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Page, Provider, ProviderError, fields};
use crate::event::refund_status;
use crate::signature::Secret;

/// The member of a refund's metadata by which it is found again.
const NAME: &str = "refund_id";

/// A refund of a part of a payment.
#[derive(Debug, Clone, Copy)]
pub struct PartialRefund<'a> {
    /// Stripe's id of the payment.
    pub payment_id: &'a str,
    /// How much is refunded.
    pub amount: Price,
    /// Our id of the refund.
    pub name: &'a str,
}

/// A refund as Stripe answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundedBy {
    /// Stripe's id of the refund; `None` if everything had been refunded before.
    pub refund_id: Option<String>,
    /// How it stands.
    pub status: RefundStatus,
    /// When Stripe made it.
    pub made_at: Option<Timestamp>,
}

/// Why Stripe does not make a refund.
#[derive(Debug, thiserror::Error)]
pub enum RefundRefusal {
    /// It is more than is left of the payment.
    #[error("more is to be refunded than is left")]
    ExceedsPayment,
    /// A dispute of the payment decides about the money.
    #[error("the payment is disputed")]
    Disputed,
    /// Stripe failed.
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
    /// Refunds all that is left of a payment. Repeated, it refunds nothing more: Stripe refuses what is refunded whole. While a
    /// dispute withholds the money, the dispute decides.
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

    /// Refunds a part of a payment. However often it is asked under one idempotency key, Stripe refunds once.
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
                    _ => ProviderError::Refused(refusal).into(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the refund of a payment that has our id, if it was made.
    ///
    /// Stripe keeps a 500 under its idempotency key and forgets every key after a day, so a refund that may have been made is
    /// looked for before it is asked for again.
    pub async fn find_refund(
        &self,
        key: &Secret,
        order: PartialRefund<'_>,
    ) -> Result<Option<RefundedBy>, ProviderError> {
        let mut query = vec![("payment_intent", order.payment_id.to_owned()), ("limit", "100".to_owned())];
        loop {
            let page: Page<RefundAnswer> = self.answer(self.get(key, "/v1/refunds", &query)).await?;
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
