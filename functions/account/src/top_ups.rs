//! `POST /v1/workspaces/{workspace_id}/top-ups`: a pack is chosen, and a checkout opened for it (M5).

use credits_core::catalogue::Pack;
use credits_core::credits::Amount;
use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::purchase::{Checkout, Goods, Purchase};
use credits_payments::provider::ReturnUrls;
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
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
        let kept = match self.read_pack(&body)? {
            Ok(pack) => store.begin_top_up(&claim, pack).await?,
            // It may have been in the catalogue when the key was first used.
            Err(problem) => store.earlier_top_up(&claim).await?.ok_or(problem)?,
        };
        let (first, checkout) = match kept.checkout {
            Some(checkout) => (false, checkout),
            None => self.open_checkout(call, &store, &kept.purchase).await?,
        };
        let body = TopUpBody::of(kept.purchase, checkout).ok_or_else(Problem::unavailable)?;
        Ok(Answer::once(!first, &body))
    }

    async fn open_checkout(
        &self,
        call: &Call,
        store: &Store,
        purchase: &Purchase,
    ) -> Result<(bool, Checkout), Problem> {
        let key = self.provider_key.first().await?;
        let customer = store.customer(&purchase.workspace_id).await?;
        let urls = ReturnUrls::to(&self.top_up_url.of(call));
        let checkout = self.provider.open_checkout(&key, purchase, customer.as_deref(), &urls).await?;
        Ok((store.open_checkout(purchase, &checkout).await?, checkout))
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
}

impl TopUpBody {
    fn of(purchase: Purchase, checkout: Checkout) -> Option<Self> {
        let Purchase { purchase_id: top_up_id, goods, price, .. } = purchase;
        let Goods::Pack { pack, credits } = goods else { return None };
        Some(Self { top_up_id, pack, credits, price, checkout })
    }
}
