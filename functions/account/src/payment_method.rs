//! `GET`, `POST` and `DELETE /v1/workspaces/{workspace_id}/payment-method`: the method that off-session charges use.

use credits_core::purchase::Checkout;
use credits_payments::provider::PaymentMethod;
use credits_runtime::fields::Fields;
use credits_runtime::{Answer, Call, Problem, Scope};
use credits_store::Store;
use serde::Serialize;
use serde_json::Value;

use crate::Account;

/// The parts of a payment method by which people recognise it. A member that the method's type lacks is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MethodBody {
    #[serde(rename = "type")]
    kind: String,
    brand: Option<String>,
    last4: Option<String>,
    exp_month: Option<u64>,
    exp_year: Option<u64>,
}

#[derive(Debug, Serialize)]
struct StoredMethodBody {
    payment_method: Option<MethodBody>,
}

#[derive(Debug, Serialize)]
struct SetupBody {
    #[serde(flatten)]
    checkout: Checkout,
}

impl Account {
    pub(crate) async fn payment_method(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        store.workspaces().get(&workspace).await?.ok_or_else(Problem::workspace_not_found)?;
        let method = self.billing(call, store).await?.stored_method(&workspace).await?;
        Ok(Answer::ok(&StoredMethodBody { payment_method: method.map(MethodBody::from) }))
    }

    pub(crate) async fn replace_payment_method(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        let body = call.json_if_any()?;
        let claim = call.claim(&workspace, &body)?;
        let return_url = self.read_return_url(call, &body)?;
        if let Some(checkout) = store.payment_methods().earlier_setup(&claim).await? {
            return Ok(Answer::replay(&SetupBody { checkout }));
        }
        let billing = self.billing(call, store).await?;
        let urls = self.return_urls(call, return_url.as_deref());
        let opened = billing.replace_method(&workspace, &claim.key, &urls).await?;
        let (checkout, key_use) = store.payment_methods().record_setup(&claim, &opened.0).await?;
        Ok(Answer::created_once(key_use, &SetupBody { checkout }))
    }

    pub(crate) async fn remove_payment_method(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Manage)?;
        self.billing(call, store).await?.remove_method(&workspace).await?;
        Ok(Answer::ok(&StoredMethodBody { payment_method: None }))
    }

    fn read_return_url(&self, call: &Call, body: &Value) -> Result<Option<String>, Problem> {
        let mut fields = Fields::of(body)?;
        let return_url = fields.optional("return_url", |value| self.return_url(call, value));
        fields.finish(Some(return_url))
    }
}

impl From<PaymentMethod> for MethodBody {
    fn from(method: PaymentMethod) -> Self {
        let PaymentMethod { kind, brand, last4, exp_month, exp_year, .. } = method;
        Self { kind, brand, last4, exp_month, exp_year }
    }
}
