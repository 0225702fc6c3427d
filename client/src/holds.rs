//! Holds: credits set aside for calls whose cost is known only afterwards.

use reqwest::Method;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Workspace;
use crate::error::Error;
use crate::key::IdempotencyKey;
use crate::types::{Answered, Consumer, DebitOrder};

/// What is to be set aside, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldOrder {
    credits: Decimal,
    ttl_seconds: u32,
    operation: String,
    consumer: Consumer,
}

impl HoldOrder {
    /// So many credits, for at most so many seconds (a day at most).
    #[must_use]
    pub fn of(credits: Decimal, ttl_seconds: u32, operation: &str, consumer: Consumer) -> Self {
        Self { credits: credits.normalize(), ttl_seconds, operation: operation.to_owned(), consumer }
    }
}

/// Whether a hold still keeps credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// It does.
    Open,
    /// It was settled.
    Settled,
    /// Its time ran out: what was captured is settled, the rest was given back.
    Expired,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hold {
    /// Its id.
    pub hold_id: String,
    /// What it keeps, or has kept.
    pub credits: Decimal,
    /// What was captured of it.
    pub captured: Decimal,
    /// What can still be captured.
    pub remaining: Decimal,
    /// Whether it still does.
    pub status: HoldStatus,
    /// Until when.
    pub expires_at: String,
}

/// A call that was paid from a hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Capture {
    /// Its id.
    pub capture_id: String,
    /// What it took.
    pub credits: Decimal,
    /// What the hold kept after it.
    pub remaining: Decimal,
}

#[derive(Deserialize)]
struct Holds {
    holds: Vec<Hold>,
}

impl Workspace {
    /// Sets credits aside, or nothing and [`Error::InsufficientCredits`].
    pub async fn place_hold(
        &self,
        key: impl Into<IdempotencyKey>,
        order: &HoldOrder,
    ) -> Result<Answered<Hold>, Error> {
        self.post(&["holds"], key.into(), json!(order)).await
    }

    /// Sets credits aside in 2 to 50 holds of the same amount: all of them or none.
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

    /// Pays a call from a hold. With `extend`, the balance pays what the hold doesn't keep.
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

    /// Settles a hold, with a last capture if there is one: what was captured is posted, the rest goes back.
    pub async fn settle_hold(
        &self,
        hold_id: &str,
        key: impl Into<IdempotencyKey>,
        last: Option<Decimal>,
    ) -> Result<Answered<Hold>, Error> {
        let body = last.map_or_else(|| json!({}), |last| json!({ "credits": last.normalize() }));
        self.post(&["holds", hold_id, "settle"], key.into(), body).await
    }

    /// Settles up to 50 holds by one posting.
    pub async fn settle_holds(
        &self,
        key: impl Into<IdempotencyKey>,
        hold_ids: &[String],
    ) -> Result<Answered<Vec<Hold>>, Error> {
        let body = json!({ "hold_ids": hold_ids });
        Ok(listed(self.post(&["holds", "batch", "settle"], key.into(), body).await?))
    }

    /// A hold.
    pub async fn hold(&self, hold_id: &str) -> Result<Hold, Error> {
        Ok(self.client.send(Method::GET, &self.path(&["holds", hold_id]), None, None).await?.body)
    }
}

fn listed(answered: Answered<Holds>) -> Answered<Vec<Hold>> {
    Answered { body: answered.body.holds, replayed: answered.replayed }
}
