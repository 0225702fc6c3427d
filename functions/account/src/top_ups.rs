//! Top-ups: `POST /v1/workspaces/{workspace_id}/top-ups` opens a checkout for a pack (M5), and
//! `GET …/top-ups/{top_up_id}` returns its status.

use credits_core::catalogue::Pack;
use credits_core::credits::Amount;
use credits_core::id::Id;
use credits_core::price::Price;
use credits_core::purchase::{Checkout, Goods, Purchase};
use credits_runtime::fields::{Fields, parsed};
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::payments::purchases::{PurchaseState, StoredPurchase};
use credits_store::{KeyUse, Store};
use jiff::Timestamp;
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

#[derive(Debug, Serialize)]
struct TopUpStatusBody {
    top_up_id: Id,
    pack: Id,
    credits: Amount,
    price: Price,
    status: TopUpStatus,
    paid_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TopUpStatus {
    Open,
    Processing,
    Paid,
    Failed,
    Expired,
    Refunded,
}

/// A request for a pack.
struct TopUpOrder<'a> {
    /// The pack; `Err` if the body is well-formed but the catalogue has no such pack.
    pack: Result<&'a Pack, Problem>,
    /// Where the checkout returns to; `None` for the settings page.
    return_url: Option<String>,
}

impl Account {
    pub(crate) async fn top_up(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let order = self.read_top_up(call, &body)?;
        let billing = self.billing_returning(call, store, order.return_url.as_deref()).await?;
        let stored = match order.pack {
            Ok(pack) => {
                let purchase = billing.pack_of(&workspace, pack);
                let form = billing.checkout_form(&workspace, self.checkout_options).await?;
                store.purchases().begin_top_up(&claim, &purchase, &form).await?
            }
            // A retry of a call that was made while the catalogue still had the pack gets its first answer.
            Err(problem) => store.purchases().earlier_top_up(&claim).await?.ok_or(problem)?,
        };
        let purchase = stored.purchase.clone();
        let (checkout, first) = billing.open_checkout(stored).await?;
        let body = TopUpBody::of(purchase, checkout).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(KeyUse::first_if(first), &body))
    }

    pub(crate) async fn top_up_status(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let id: Id = call.path_parameter("top_up_id").parse().map_err(|_| Problem::not_found())?;
        let stored = store.purchases().get(&id).await?;
        let stored = stored.filter(|stored| stored.purchase.workspace_id == workspace);
        let stored = stored.ok_or_else(Problem::not_found)?;
        let refunded = match &stored.paid_by {
            Some(payment_id) => {
                store.payments().get(payment_id).await?.is_some_and(|payment| payment.is_refunded_whole())
            }
            None => false,
        };
        let status = if refunded { TopUpStatus::Refunded } else { TopUpStatus::of(&stored) };
        let Goods::Pack { pack, credits } = stored.purchase.goods.clone() else {
            return Err(Problem::not_found());
        };
        let (price, paid_at) = (stored.purchase.price, stored.paid_at);
        Ok(Answer::ok(&TopUpStatusBody { top_up_id: id, pack, credits, price, status, paid_at }))
    }

    fn read_top_up(&self, call: &Call, body: &Value) -> Result<TopUpOrder<'_>, Problem> {
        let mut fields = Fields::of(body)?;
        let id = fields.required("pack", parsed::<Id>);
        let return_url = fields.optional("return_url", |value| self.return_url(call, value));
        let sound = fields.is_sound();
        let pack = id.and_then(|id| self.catalogue.pack(&id));
        if pack.is_none() && body.get("pack").is_some_and(Value::is_string) {
            fields.refuse("pack", "is not a pack of the catalogue");
        }
        match fields.finish(pack) {
            Err(problem) if !sound => Err(problem),
            pack => Ok(TopUpOrder { pack, return_url }),
        }
    }
}

impl TopUpStatus {
    fn of(stored: &StoredPurchase) -> Self {
        match stored.state {
            _ if stored.paid_by.is_some() => Self::Paid,
            PurchaseState::Open => Self::Open,
            PurchaseState::Processing => Self::Processing,
            PurchaseState::Failed => Self::Failed,
            PurchaseState::Expired | PurchaseState::Withdrawn => Self::Expired,
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
