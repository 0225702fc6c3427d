//! The debit function: prices AI calls by the rate card and draws their credits from the workspace (M2, M4, M11).
//!
//! A debit is one DynamoDB request. To start fast, this function contains no client but that of DynamoDB.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions))]

use std::sync::Arc;

use credits_aws::{Settings, StartError, dynamodb};
use credits_core::batch::PricedCall;
use credits_core::catalogue::Catalogue;
use credits_core::ledger::Cause;
use credits_runtime::{Answer, Call, Function, Problem, Scope, TopUpUrl, catalogue};
use credits_store::batches::BatchOrder;
use credits_store::{Fault, Store};

mod hold_request;
mod holds;
mod refusal;
mod request;
mod response;
mod route;
mod top_up;

pub use route::DebitRoute;

use request::PricedBody;
use response::{BatchBody, DebitBody, QuoteBody};

/// The debit function with its store, its prices, and the page on which people add credits.
#[derive(Debug)]
pub struct DebitFunction {
    /// The store without a deadline. Handlers use their `store` parameter, which stops at the request's deadline.
    store: Store,
    catalogue: Arc<Catalogue>,
    top_up_url: TopUpUrl,
}

impl DebitFunction {
    /// Creates the function.
    #[must_use]
    pub fn new(store: Store, catalogue: Arc<Catalogue>, top_up_url: TopUpUrl) -> Self {
        Self { store, catalogue, top_up_url }
    }

    /// Creates the deployed function from its settings.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let catalogue = Arc::new(catalogue::deployed()?);
        Ok(Self::new(dynamodb::store(settings)?, catalogue, TopUpUrl::from_settings(settings)))
    }

    async fn debit(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let posted = match request::read(&body, self.catalogue.rate_card())? {
            PricedBody::Priced(line) => {
                match store.debits().debit(&claim, line.amount, self.cause_of(&line)).await {
                    Ok(posted) => posted,
                    Err(refusal) => {
                        let lines = std::slice::from_ref(&line);
                        return Err(self.problem_for(call, store, &workspace, lines, refusal).await?);
                    }
                }
            }
            // A retry of a call that was posted while the rate card still had a price for it gets its first answer.
            PricedBody::Unpriced(problem) => store.debits().earlier_posting(&claim).await?.ok_or(problem)?,
        };
        // `None` only if the stored entry is of another kind.
        let body = DebitBody::of(&workspace, posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(posted.key_use, &body))
    }

    async fn debit_batch(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let body = call.json()?;
        let claim = call.claim(&workspace, &body)?;
        let card = self.catalogue.rate_card();
        let posted = match request::read_batch(&body, card)? {
            PricedBody::Priced(batch) => {
                let (lines, partial) = (batch.lines.as_slice(), batch.partial);
                let order = BatchOrder { rate_card: card.version(), lines, partial };
                match store.debits().debit_batch(&claim, order).await {
                    Ok(posted) => posted,
                    Err(refusal) => {
                        return Err(self.problem_for(call, store, &workspace, lines, refusal).await?);
                    }
                }
            }
            PricedBody::Unpriced(problem) => store.debits().earlier_posting(&claim).await?.ok_or(problem)?,
        };
        // `None` only if the stored entry is of another kind.
        let body = BatchBody::of(posted.entry).ok_or_else(Problem::unavailable)?;
        Ok(Answer::created_once(posted.key_use, &body))
    }

    fn cause_of(&self, line: &PricedCall) -> Cause {
        let PricedCall { operation, model, units, consumer, .. } = line.clone();
        let rate_card = self.catalogue.rate_card().version().clone();
        Cause::Debit { operation, model, units, rate_card, consumer }
    }

    async fn quote(&self, call: &Call, store: &Store) -> Result<Answer, Problem> {
        let workspace = call.workspace(Scope::Spend)?;
        let line = match request::read(&call.json()?, self.catalogue.rate_card())? {
            PricedBody::Priced(line) => line,
            PricedBody::Unpriced(problem) => return Err(problem),
        };
        let balance = store.balances().peek(&workspace).await?;
        let balance = balance.ok_or_else(Problem::workspace_not_found)?;
        let card = self.catalogue.rate_card().version().clone();
        let body = QuoteBody::of(line.amount, card, &balance).map_err(|sum| Fault::Corrupt(sum.into()))?;
        Ok(Answer::ok(&body))
    }
}

impl Function for DebitFunction {
    type Route = DebitRoute;

    fn store(&self) -> &Store {
        &self.store
    }

    async fn answer(&self, route: DebitRoute, call: &Call, store: &Store) -> Result<Answer, Problem> {
        match route {
            DebitRoute::Debit => self.debit(call, store).await,
            DebitRoute::DebitBatch => self.debit_batch(call, store).await,
            DebitRoute::Quote => self.quote(call, store).await,
            DebitRoute::PlaceHold => self.place_hold(call, store).await,
            DebitRoute::PlaceHolds => self.place_holds(call, store).await,
            DebitRoute::SettleHolds => self.settle_holds(call, store).await,
            DebitRoute::GetHold => self.get_hold(call, store).await,
            DebitRoute::Capture => self.capture(call, store).await,
            DebitRoute::SettleHold => self.settle_hold(call, store).await,
        }
    }
}
