//! Holds: credits set aside for calls whose price is known only afterwards.

use reqwest::Method;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Workspace;
use crate::error::Error;
use crate::key::IdempotencyKey;
use crate::types::{Answered, Consumer, DebitOrder};

/// A request to set credits aside for calls of one operation and one consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldOrder {
    credits: Decimal,
    ttl_seconds: u32,
    operation: String,
    consumer: Consumer,
}

impl HoldOrder {
    /// Creates an order that keeps `credits` for at most `ttl_seconds`, 1 to 86,400.
    #[must_use]
    pub fn of(credits: Decimal, ttl_seconds: u32, operation: &str, consumer: Consumer) -> Self {
        Self { credits: credits.normalize(), ttl_seconds, operation: operation.to_owned(), consumer }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// The hold keeps credits.
    Open,
    Settled,
    /// The hold expired: its captures were settled, and the rest was released.
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hold {
    pub hold_id: String,
    /// The credits set aside, including captured ones.
    pub credits: Decimal,
    pub captured: Decimal,
    /// The credits that can still be captured; zero once the hold is settled or expired.
    pub remaining: Decimal,
    pub status: HoldStatus,
    pub expires_at: String,
}

/// A call that was paid from a hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Capture {
    pub capture_id: String,
    pub credits: Decimal,
    /// The credits that the hold still kept after this capture.
    pub remaining: Decimal,
}

#[derive(Deserialize)]
struct Holds {
    holds: Vec<Hold>,
}

impl Workspace {
    /// Sets credits aside. If the balance does not cover them, sets none aside and returns
    /// [`Error::InsufficientCredits`].
    pub async fn place_hold(
        &self,
        key: impl Into<IdempotencyKey>,
        order: &HoldOrder,
    ) -> Result<Answered<Hold>, Error> {
        self.post(&["holds"], key.into(), json!(order)).await
    }

    /// Sets credits aside in 2 to 50 holds of the same amount: either all holds or none.
    pub async fn place_holds(
        &self,
        key: impl Into<IdempotencyKey>,
        order: &HoldOrder,
        count: u8,
    ) -> Result<Answered<Vec<Hold>>, Error> {
        let mut body = json!(order);
        if let Some(body) = body.as_object_mut() {
            body.insert("count".to_owned(), json!(count));
        }
        Ok(listed(self.post(&["holds", "batch"], key.into(), body).await?))
    }

    /// Pays a call from a hold. With `extend`, the balance pays what exceeds the hold.
    pub async fn capture(
        &self,
        hold_id: &str,
        key: impl Into<IdempotencyKey>,
        order: &DebitOrder,
        extend: bool,
    ) -> Result<Answered<Capture>, Error> {
        let mut body = json!(order);
        if let Some(body) = body.as_object_mut().filter(|_| extend) {
            body.insert("extend".to_owned(), json!(true));
        }
        self.post(&["holds", hold_id, "captures"], key.into(), body).await
    }

    /// Settles a hold, after a last capture of `last` credits if given: posts the captures, and releases the rest.
    pub async fn settle_hold(
        &self,
        hold_id: &str,
        key: impl Into<IdempotencyKey>,
        last: Option<Decimal>,
    ) -> Result<Answered<Hold>, Error> {
        let body = last.map_or_else(|| json!({}), |last| json!({ "credits": last.normalize() }));
        self.post(&["holds", hold_id, "settle"], key.into(), body).await
    }

    /// Settles up to 50 holds in one ledger entry.
    pub async fn settle_holds(
        &self,
        key: impl Into<IdempotencyKey>,
        hold_ids: &[String],
    ) -> Result<Answered<Vec<Hold>>, Error> {
        let body = json!({ "hold_ids": hold_ids });
        Ok(listed(self.post(&["holds", "batch", "settle"], key.into(), body).await?))
    }

    /// Returns a hold.
    pub async fn hold(&self, hold_id: &str) -> Result<Hold, Error> {
        Ok(self.client.send(Method::GET, &self.path(&["holds", hold_id]), None, None).await?.body)
    }
}

fn listed(answered: Answered<Holds>) -> Answered<Vec<Hold>> {
    Answered { body: answered.body.holds, replayed: answered.replayed }
}
