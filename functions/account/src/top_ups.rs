//! `POST /v1/workspaces/{workspace_id}/top-ups`: a pack is chosen, and a checkout opened for it (M5).

use credits_core::catalogue::Pack;
use credits_core::credits::Amount;
use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::top_up::{Checkout, TopUp};
use credits_payments::checkout::ReturnUrls;
use credits_payments::signature::Secret;
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::secrets::SecretError;
use credits_runtime::{Answer, Call, Problem, Scope};
use serde::Serialize;
use serde_json::Value;

use crate::Account;

#[derive(Debug, Serialize)]
struct TopUpBody {
    top_up_id: Id,
    pack: Id,
    credits: Amount,
    price: Price,
    #[serde(flatten)]
    checkout: Checkout,
}

impl Account {
    pub(crate) async fn top_up(&self, call: &Call) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let store = self.store.until(call.deadline());
        let top_up = match self.read_pack(&body)? {
            Ok(pack) => store.begin_top_up(&claim, pack).await?,
            // It may have been in the catalogue when the key was first used.
            Err(problem) => store.earlier_top_up(&claim).await?.ok_or(problem)?,
        };
        if let Some(checkout) = top_up.checkout.clone() {
            return Ok(Answer::once(true, &TopUpBody::of(top_up, checkout)));
        }
        let key = self.provider_key().await?;
        let checkout = self.provider.open_checkout(&key, &top_up, &self.return_urls()).await?;
        let first = store.open_checkout(&top_up, &checkout).await?;
        Ok(Answer::once(!first, &TopUpBody::of(top_up, checkout)))
    }

    /// The pack that is asked for; the inner error is a body that is right but for the catalogue.
    fn read_pack(&self, body: &Value) -> Result<Result<&Pack, Problem>, Problem> {
        let mut fields = Fields::of(body)?;
        let id = fields.required("pack", parsed::<Id>);
        let sound = fields.is_sound();
        let pack = id.and_then(|id| self.catalogue.pack(&id));
        if sound && pack.is_none() {
            fields.refuse("pack", "is not a pack of the catalogue");
        }
        match fields.finish(pack) {
            Err(problem) if !sound => Err(problem),
            read => Ok(read),
        }
    }

    async fn provider_key(&self) -> Result<Secret, SecretError> {
        self.provider_key.active().await?.into_iter().next().ok_or(SecretError::Empty)
    }

    fn return_urls(&self) -> ReturnUrls {
        let back = |outcome: &str| format!("{}?top_up={outcome}", self.top_up_url);
        ReturnUrls { success: back("paid"), cancel: back("cancelled") }
    }
}

impl TopUpBody {
    fn of(top_up: TopUp, checkout: Checkout) -> Self {
        let TopUp { top_up_id, pack, credits, price, .. } = top_up;
        Self { top_up_id, pack, credits, price, checkout }
    }
}
